//! The backend behind the relay: one thread for all connections, and a second one for those that must not
//! delay the first.

mod serving;

use std::net::{SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::{io, thread};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

use self::serving::{Connection, Serving};
use super::socket;

/// Serves connections on loopback until it is dropped.
pub(crate) struct Backend {
    address: SocketAddrV4,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// The counts of both ends of a run. Both ends are in one process, so they need not ask each other through
/// the relay.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// The number that commands of this run carry.
    pub(crate) run: u32,
    /// Set by the client to make the backend stop sending.
    pub(crate) stopped: AtomicBool,
    /// Commands that the backend has received.
    pub(crate) opened: AtomicU64,
    /// How many of these connections the backend has closed.
    pub(crate) closed: AtomicU64,
    pub(crate) backend: Tally,
    pub(crate) client: Tally,
}

/// Bytes of bulk flows at one end.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) sent: AtomicU64,
    pub(crate) received: AtomicU64,
}

impl Counts {
    /// Connections of the run that are open at the backend.
    pub(crate) fn open(&self) -> u64 {
        let closed = self.closed.load(Ordering::Relaxed);
        self.opened.load(Ordering::Relaxed).saturating_sub(closed)
    }
}

/// The state that the threads share.
struct Shared {
    /// The counts of the current run.
    counts: Mutex<Arc<Counts>>,
    /// The first fault of this run.
    fault: Mutex<Option<String>>,
    /// Set when the backend ends.
    ends: AtomicBool,
    front: Lane,
    aside: Lane,
}

/// How connections come to a thread, other than from the listener.
struct Lane {
    inbox: Mutex<Vec<Connection>>,
    /// Readable once there is something to do.
    bell: OwnedFd,
}

impl Lane {
    fn new() -> Result<Self, Errno> {
        Ok(Self {
            inbox: Mutex::default(),
            bell: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?,
        })
    }

    fn ring(&self) -> Result<(), Errno> {
        rustix::io::write(&self.bell, &1_u64.to_ne_bytes())?;
        Ok(())
    }

    fn hear(&self) {
        // It does no harm if another thread has rung it meanwhile.
        let _ = rustix::io::read(&self.bell, &mut [0; 8]);
    }
}

impl Shared {
    /// Keeps the first fault of a run, which is the cause of the others.
    fn fail(&self, why: String) {
        lock(&self.fault).get_or_insert(why);
    }
}

impl Backend {
    /// Starts the threads.
    pub(crate) fn start() -> io::Result<Self> {
        let listener = socket::listen()?;
        let address = rustix::net::getsockname(&listener)?;
        let address = SocketAddrV4::try_from(address)?;
        let shared = Arc::new(Shared {
            counts: Mutex::default(),
            fault: Mutex::default(),
            ends: AtomicBool::new(false),
            front: Lane::new()?,
            aside: Lane::new()?,
        });
        let front = Serving::new(Some(listener), Arc::clone(&shared))?;
        let aside = Serving::new(None, Arc::clone(&shared))?;
        // From here on a drop ends the threads.
        let mut backend = Self {
            address,
            shared,
            threads: Vec::new(),
        };
        for (name, serving) in [("backend", front), ("backend-aside", aside)] {
            let thread = thread::Builder::new().name(name.into());
            backend.threads.push(thread.spawn(|| serving.run())?);
        }
        Ok(backend)
    }

    /// The address at which it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address.into()
    }

    /// Begins a run. Late connections of earlier runs are closed and not counted.
    pub(crate) fn begin(&self) -> Arc<Counts> {
        let mut current = lock(&self.shared.counts);
        let counts = Arc::new(Counts {
            run: current.run + 1,
            ..Counts::default()
        });
        *current = Arc::clone(&counts);
        *lock(&self.shared.fault) = None;
        counts
    }

    /// The fault of this run, if there is one.
    pub(crate) fn fault(&self) -> Option<String> {
        lock(&self.shared.fault).clone()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::Relaxed);
        for lane in [&self.shared.front, &self.shared.aside] {
            // A full bell has been rung already, and no thread waits for ever without it.
            let _ = lane.ring();
        }
        for thread in self.threads.drain(..) {
            // A thread that has panicked has reported it.
            drop(thread.join());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
