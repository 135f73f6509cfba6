//! A path between two networks of a test whose packets pass through this process: it delays, loses, repeats, reorders or
//! damages them, as its conduct says at that moment. It needs no module of the kernel but tun.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, PipeReader, PipeWriter, Read, Write, pipe};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::ioctl::{Setter, ioctl};

use super::far::{Far, shell};
use super::namespace::{granted, in_a_network};
use super::random::Random;

/// The address of the test's network on the path.
pub(crate) const NEAR: &str = "10.0.2.1";

/// The address of the other network on the path.
pub(crate) const FAR: &str = "10.0.2.2";

/// The kernel's TUNSETIFF: `_IOW('T', 202, int)` of `linux/if_tun.h`.
const TUNSETIFF: rustix::ioctl::Opcode = 0x4004_54ca;

/// `IFF_TUN` and `IFF_NO_PI`: packets of IP, with nothing in front of them.
const PLAIN_PACKETS: u16 = 0x1001;

/// A packet that overtakes nothing waits so long in addition where it is to be overtaken.
const OVERTAKEN: Duration = Duration::from_millis(3);

/// Packets whose headers are remembered.
const TRACED: usize = 256;

/// The fate of the packets of a path. Shares are of a thousand packets, in each direction.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Conduct {
    /// One way; a round trip takes twice as long.
    pub(crate) delay: Duration,
    /// A packet takes up to so much longer, and none overtakes another one by that.
    pub(crate) jitter: Duration,
    pub(crate) lost: u64,
    pub(crate) repeated: u64,
    pub(crate) reordered: u64,
    /// One bit of them is changed. The checksums of TCP and IP notice it.
    pub(crate) damaged: u64,
}

impl Conduct {
    /// Nothing arrives.
    pub(crate) fn cut() -> Self {
        Self {
            lost: 1000,
            ..Self::default()
        }
    }

    /// A path that only takes time.
    pub(crate) fn round_trip(time: Duration) -> Self {
        Self {
            delay: time / 2,
            ..Self::default()
        }
    }
}

/// The direction of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Heading {
    Near,
    Far,
}

/// A packet of TCP, as far as tests ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) heading: Heading,
    pub(crate) is_syn: bool,
    /// Bytes of the payload.
    pub(crate) bytes: usize,
}

/// The path and the network at its other end.
pub(crate) struct Emulator {
    pub(crate) far: Far,
    conduct: Arc<Mutex<Conduct>>,
    trace: Arc<Mutex<Vec<Segment>>>,
    /// The thread ends when this is closed.
    stop: Option<PipeWriter>,
    carrying: Option<JoinHandle<()>>,
}

/// Runs a test in a network of its own, with another one at the end of a path that behaves so; says so where the machine
/// does not allow them.
pub(crate) fn over_a_path(conduct: Conduct, test: impl FnOnce(&Emulator) + Send) {
    in_a_network(|| {
        if let Some(emulator) = granted(Emulator::start(conduct)) {
            test(&emulator);
        }
    });
}

impl Emulator {
    fn start(conduct: Conduct) -> Result<Self, String> {
        let far = Far::without_a_cable()?;
        let near_end = end("near", NEAR)?;
        let far_end = far.run(|| end("far", FAR))?;
        let (stopped, stop) = pipe().map_err(|error| error.to_string())?;
        let conduct = Arc::new(Mutex::new(conduct));
        let trace = Arc::default();
        let mut carrier = Carrier {
            ends: [near_end, far_end],
            conduct: Arc::clone(&conduct),
            trace: Arc::clone(&trace),
            chance: Random::new(1, 1),
            latest: [Instant::now(); 2],
            on_the_way: BinaryHeap::new(),
            count: 0,
        };
        let carrying = thread::spawn(move || carrier.carry(&stopped));
        Ok(Self {
            far,
            conduct,
            trace,
            stop: Some(stop),
            carrying: Some(carrying),
        })
    }

    /// From now on the path behaves so.
    pub(crate) fn set(&self, conduct: Conduct) {
        *self.conduct.lock().unwrap() = conduct;
    }

    /// The first packets of TCP, in the order in which they entered the path.
    pub(crate) fn trace(&self) -> Vec<Segment> {
        self.trace.lock().unwrap().clone()
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(carrying) = self.carrying.take() {
            drop(carrying.join());
        }
    }
}

/// A new interface of this thread's network, whose packets come out of the file.
fn end(name: &str, address: &str) -> Result<File, String> {
    let device = "/dev/net/tun";
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(device)
        .map_err(|error| format!("{device}: {error}"))?;
    attach(&file, name).map_err(|error| format!("{device}: {error}"))?;
    // Packets wait in the path, so many that none is lost but by its conduct.
    shell(&format!(
        "ip address add {address}/24 dev {name} && ip link set {name} txqueuelen 10000 up"
    ))?;
    Ok(file)
}

fn attach(file: &File, name: &str) -> io::Result<()> {
    // `struct ifreq`: a name of 16 bytes, flags, and the rest of its union.
    let mut request = [0; 40];
    request[..name.len()].copy_from_slice(name.as_bytes());
    request[16..18].copy_from_slice(&PLAIN_PACKETS.to_ne_bytes());
    #[expect(unsafe_code, reason = "rustix has no call for this request")]
    // SAFETY: the kernel reads and writes a `struct ifreq`, which has 40 bytes.
    unsafe {
        ioctl(file, Setter::<TUNSETIFF, [u8; 40]>::new(request))?;
    }
    Ok(())
}

/// A packet on the way: when it is due, its number, where to and its bytes.
type Packet = Reverse<(Instant, u64, Heading, Vec<u8>)>;

struct Carrier {
    /// The interfaces in the near and in the far network.
    ends: [File; 2],
    conduct: Arc<Mutex<Conduct>>,
    trace: Arc<Mutex<Vec<Segment>>>,
    chance: Random,
    /// When the latest packet of each direction is due.
    latest: [Instant; 2],
    on_the_way: BinaryHeap<Packet>,
    count: u64,
}

impl Carrier {
    fn carry(&mut self, stopped: &PipeReader) {
        loop {
            let wait = self.on_the_way.peek().map(|Reverse((due, ..))| {
                let wait = due.saturating_duration_since(Instant::now());
                Timespec::try_from(wait).unwrap()
            });
            let mut fds = [
                PollFd::new(&self.ends[0], PollFlags::IN),
                PollFd::new(&self.ends[1], PollFlags::IN),
                PollFd::from_borrowed_fd(stopped.as_fd(), PollFlags::IN),
            ];
            poll(&mut fds, wait.as_ref()).unwrap();
            if !fds[2].revents().is_empty() {
                return;
            }
            self.take(Heading::Far);
            self.take(Heading::Near);
            self.deliver();
        }
    }

    /// Takes what waits to go there.
    fn take(&mut self, heading: Heading) {
        let mut buffer = [0; 2048];
        loop {
            let mut from = match heading {
                Heading::Far => &self.ends[0],
                Heading::Near => &self.ends[1],
            };
            match from.read(&mut buffer) {
                Ok(count) => self.enter(heading, &buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("a packet: {error}"),
            }
        }
    }

    fn enter(&mut self, heading: Heading, packet: &[u8]) {
        if let Some(segment) = segment(heading, packet) {
            let mut trace = self.trace.lock().unwrap();
            if trace.len() < TRACED {
                trace.push(segment);
            }
        }
        let conduct = *self.conduct.lock().unwrap();
        if self.happens(conduct.lost) {
            return;
        }
        let mut packet = packet.to_vec();
        if self.happens(conduct.damaged) {
            let bit = self.chance.below(packet.len() as u64 * 8);
            packet[usize::try_from(bit / 8).unwrap()] ^= 1 << (bit % 8);
        }
        if self.happens(conduct.repeated) {
            self.send(heading, conduct, packet.clone());
        }
        self.send(heading, conduct, packet);
    }

    fn send(&mut self, heading: Heading, conduct: Conduct, packet: Vec<u8>) {
        let jitter = u64::try_from(conduct.jitter.as_micros()).unwrap();
        let jitter = Duration::from_micros(self.chance.below(jitter + 1));
        let due = Instant::now() + conduct.delay + jitter;
        let due = if self.happens(conduct.reordered) {
            due + OVERTAKEN
        } else {
            let latest = &mut self.latest[heading as usize];
            *latest = due.max(*latest);
            *latest
        };
        self.count += 1;
        self.on_the_way
            .push(Reverse((due, self.count, heading, packet)));
    }

    fn happens(&mut self, of_a_thousand: u64) -> bool {
        self.chance.below(1000) < of_a_thousand
    }

    /// Lets those out that are due.
    fn deliver(&mut self) {
        let now = Instant::now();
        while let Some(Reverse((due, ..))) = self.on_the_way.peek()
            && *due <= now
            && let Some(Reverse((_, _, heading, packet))) = self.on_the_way.pop()
        {
            // The kernel refuses a packet whose damaged header it does not understand, as a host would.
            drop((&self.ends[heading as usize]).write(&packet));
        }
    }
}

/// The segment in a packet of IPv4, if it has one of TCP.
fn segment(heading: Heading, packet: &[u8]) -> Option<Segment> {
    const TCP: u8 = 6;
    if packet.first()? >> 4 != 4 || *packet.get(9)? != TCP {
        return None;
    }
    let header = usize::from(packet[0] & 0xf) * 4;
    let tcp = packet.get(header..)?;
    let payload = usize::from(tcp.get(12)? >> 4) * 4;
    Some(Segment {
        heading,
        is_syn: tcp.get(13)? & 2 != 0,
        bytes: tcp.len().checked_sub(payload)?,
    })
}
