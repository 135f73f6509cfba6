//! Asks the kernel about a TCP connection (TCP_INFO, tcp(7)): when it has failed or is about to end, and when a peer may
//! have left something unanswered for too long.

#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::mem::zeroed;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

use super::socket::send_queue;
use super::{Broken, Leg};

/// The kernel waits no longer before it repeats a packet or a window probe (`TCP_RTO_MAX`).
const LONGEST_WAIT: Duration = Duration::from_mins(2);
/// The shortest wait, of some milliseconds, is longer than [`LONGEST_WAIT`] once it has doubled so often.
const MOST_DOUBLED: u32 = 16;

/// A kind of packets without an answer.
const KEEPALIVE: &str = "keepalive probes";

impl Leg {
    /// The smoothed time from a packet to its acknowledgement.
    pub fn round_trip(&self) -> io::Result<Duration> {
        let micros = tcp_info(self)?.tcpi_rtt;
        Ok(Duration::from_micros(micros.into()))
    }

    /// Packets from the peer that arrived behind a gap, up to now; 0 if the kernel does not count them (before
    /// Linux 5.4).
    pub fn out_of_order(&self) -> u32 {
        tcp_info(self).map_or(0, |info| info.tcpi_rcv_ooopack)
    }

    /// Whether the peer has left something unanswered: bytes or a FIN that it has not acknowledged, or probes of its
    /// closed window. `None` if nothing is, or if the kernel does not say. A peer whose packets still come is alive,
    /// whatever it has acknowledged.
    pub fn unanswered(&self) -> Option<Unanswered> {
        let info = tcp_info(self).ok()?;
        unanswered(&info, self.shut_down.get() && self.queued() == 0)
    }

    /// Its socket, which stays open as long as this lives.
    pub fn path(&self) -> Path {
        Path(self.io())
    }

    /// How this machine gave the connection up; `None` if the peer reset it, or for another error.
    pub fn given_up(&self, broken: Broken) -> Option<GivenUp> {
        let Broken(error) = broken;
        if broken.is_reset() {
            return None;
        }
        if error == Errno::CONNABORTED {
            return Some(GivenUp::Destroyed);
        }
        let info = tcp_info(self).ok()?;
        let (kind, count) = match (info.tcpi_retransmits, info.tcpi_probes) {
            (0, 0) => return None,
            // If bytes wait behind a closed window, these are window probes; otherwise they are keepalive probes.
            (0, probes) if send_queue(self).unwrap_or(0) > 0 => ("window probes", probes),
            (0, probes) => (KEEPALIVE, probes),
            (retransmits, _) => ("retransmissions", retransmits),
        };
        Some(GivenUp::Unanswered {
            kind,
            count,
            silent: silence(&info),
            error,
        })
    }
}

/// The socket of a leg at the end of its connection, with the figures of its path.
#[derive(Debug)]
pub struct Path(Rc<AsyncFd<OwnedFd>>);

impl Path {
    /// The figures up to now; a connection that has failed still has them.
    pub fn figures(&self) -> Figures {
        let Ok(info) = tcp_info(self.0.get_ref()) else {
            return Figures::default();
        };
        let micros = u64::from(info.tcpi_rtt);
        Figures {
            round_trip: (micros > 0).then(|| Duration::from_micros(micros)),
            retransmits: Some(info.tcpi_total_retrans),
        }
    }
}

/// How well the path to a peer carries packets, as far as the kernel says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// The smoothed time from a packet to its acknowledgement.
    pub round_trip: Option<Duration>,
    /// Packets that were sent again.
    pub retransmits: Option<u32>,
}

/// The time since the last packet of the peer.
fn silence(info: &libc::tcp_info) -> Duration {
    let silent = info.tcpi_last_data_recv.min(info.tcpi_last_ack_recv);
    Duration::from_millis(silent.into())
}

/// Something that a peer has left unanswered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unanswered {
    /// It has been for so long at least. The kernel does not say exactly.
    pub at_least: Duration,
    /// Nothing has come from the peer for so long.
    pub silent: Duration,
}

/// `is_fin` says that nothing but a FIN can be in flight.
fn unanswered(info: &libc::tcp_info, is_fin: bool) -> Option<Unanswered> {
    let silent = silence(info);
    let at_least = if info.tcpi_unacked > 0 && is_fin {
        // The kernel stores no time for packets without data.
        Duration::ZERO
    } else if info.tcpi_unacked > 0 {
        in_flight(info, silent)?
    } else if info.tcpi_notsent_bytes > 0 && info.tcpi_probes > 0 {
        // Each probe doubles the wait for the next one, answered or not. The first of those without an answer came after
        // no longer wait than the next one will.
        silent.saturating_sub(wait(info.tcpi_rto, info.tcpi_backoff.into()))
    } else {
        // Everything is acknowledged, or the peer has answered the last probe of its closed window.
        return None;
    };
    Some(Unanswered { at_least, silent })
}

/// For how long packets in flight have been unanswered at least; `None` if something has come since the last one.
fn in_flight(info: &libc::tcp_info, silent: Duration) -> Option<Duration> {
    let sent = Duration::from_millis(info.tcpi_last_data_sent.into());
    if sent >= silent {
        return None;
    }
    if info.tcpi_snd_wnd == 0 {
        // The peer has taken its window back, so packets that are sent again are probes of it, and it answers them without
        // an acknowledgement. The kernels that do not know the window (before Linux 5.4) are here too.
        return Some(sent);
    }
    // A packet is sent again after waits that double.
    let backoff = u32::from(info.tcpi_backoff);
    let first = info.tcpi_rto.checked_shr(backoff).unwrap_or(0);
    let waited: Duration = (0..backoff).map(|doubled| wait(first, doubled)).sum();
    Some(silent.min(waited + sent))
}

/// A wait of so many microseconds that has doubled so often, as far as the kernel lets it.
fn wait(micros: u32, doubled: u32) -> Duration {
    let doubled = 1 << doubled.min(MOST_DOUBLED);
    let wait = Duration::from_micros(micros.into()) * doubled;
    wait.min(LONGEST_WAIT)
}

/// How this machine gave a connection up, in words that follow the name of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivenUp {
    /// The peer left packets unanswered.
    Unanswered {
        /// The kind of packets.
        kind: &'static str,
        /// How many in a row.
        count: u8,
        /// How long nothing has arrived from the peer.
        silent: Duration,
        /// ETIMEDOUT, or the error that a router or the link reported meanwhile.
        error: Errno,
    },
    /// A program on this machine destroyed the socket.
    Destroyed,
}

impl GivenUp {
    /// Whether the peer has left something unanswered for so long. The first probe of keepalive comes after `idle`.
    pub fn is_after(&self, limit: Duration, idle: Duration) -> bool {
        match *self {
            Self::Unanswered { kind, silent, .. } if kind == KEEPALIVE => silent >= idle + limit,
            Self::Unanswered { silent, .. } => silent >= limit,
            Self::Destroyed => false,
        }
    }
}

impl fmt::Display for GivenUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Unanswered {
                kind,
                count,
                silent,
                error,
            } => {
                let silent = humantime::format_duration(Duration::from_secs(silent.as_secs()));
                write!(f, "answered none of {count} {kind}; nothing has come from it for {silent}")?;
                if error != Errno::TIMEDOUT {
                    write!(f, "; the network reports: {error}")?;
                }
                Ok(())
            }
            Self::Destroyed => f.write_str(
                "was cut off on this machine: its socket was destroyed by `ss --kill` or by a network policy",
            ),
        }
    }
}

/// Fields that the kernel does not know are 0.
fn tcp_info(socket: impl AsFd) -> io::Result<libc::tcp_info> {
    #[expect(clippy::cast_possible_truncation, reason = "it is below 300")]
    const LENGTH: libc::socklen_t = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: its fields are integers, for which zero is a value.
    #[expect(unsafe_code, reason = "libc has no other constructor")]
    let mut info: libc::tcp_info = unsafe { zeroed() };
    let mut length = LENGTH;
    // SAFETY: the descriptor is borrowed, so it is open for the whole call. The pointer and the length
    // describe `info`, and the kernel writes at most that many bytes.
    #[expect(unsafe_code, reason = "neither socket2 nor rustix has TCP_INFO")]
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    if result == 0 {
        Ok(info)
    } else {
        Err(io::Error::last_os_error())
    }
}
