//! Asks the kernel about a TCP connection (TCP_INFO, tcp(7)), only when it has failed or is about to end.

use std::fmt;
use std::io;
use std::mem::zeroed;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use rustix::io::Errno;

use super::socket::send_queue;
use super::{Broken, Leg};

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
            (0, probes) => ("keepalive probes", probes),
            (retransmits, _) => ("retransmissions", retransmits),
        };
        let silent = info.tcpi_last_data_recv.min(info.tcpi_last_ack_recv);
        Some(GivenUp::Unanswered {
            kind,
            count,
            silent: Duration::from_millis(silent.into()),
            error,
        })
    }
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
