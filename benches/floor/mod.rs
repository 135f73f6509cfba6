//! The floor: what relaying costs in the kernel, without any function. It waits for one whole TLS
//! record, connects to the one backend, and moves bytes. It routes nothing, limits nothing, counts
//! nothing and logs nothing. Real relays are measured against it.
//!
//! Each thread has its own listening socket, its own edge-triggered epoll and its own pipes. It
//! watches writability only after a socket was full, and a client only once its backend is connected:
//! anything registered earlier costs a wake-up per connection.

mod connection;
mod side;
mod way;

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::thread;

use clap::Args;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};
use rustix::process::{Signal, set_parent_process_death_signal};
use slab::Slab;
use socket2::{Domain, Socket, Type};

use connection::Connection;
use way::{Shared, Turn};

/// Run the bare loop against which relays are measured, until killed
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Where every connection goes
    #[arg(long, value_name = "ADDRESS")]
    backend: SocketAddr,
    /// Threads, each with its own listening socket
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    threads: usize,
}

/// Listens on a loopback port that the kernel chooses, prints it to stdout, and relays.
pub fn run(options: &Options) -> io::Result<()> {
    // The program that started this may be killed.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let mut address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut workers = Vec::new();
    for _ in 0..options.threads.max(1) {
        let listener = listen(address)?;
        let bound = listener.local_addr()?.as_socket();
        address = bound.ok_or(io::ErrorKind::AddrNotAvailable)?;
        workers.push(Worker::new(listener.into(), options)?);
    }
    let mut stdout = io::stdout();
    writeln!(stdout, "{address}")?;
    stdout.flush()?;
    let threads: Vec<_> = workers
        .into_iter()
        .map(|worker| thread::spawn(|| worker.run()))
        .collect();
    for thread in threads {
        thread
            .join()
            .map_err(|_panic| io::Error::other("a thread panicked"))??;
    }
    Ok(())
}

fn listen(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    // Accepted sockets inherit it.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::from(u16::MAX))?;
    Ok(socket)
}

/// The epoll data of the listening socket. A connection has twice its key plus its side.
const LISTENER: u64 = u64::MAX;

/// Events of one wait.
const EVENTS: usize = 256;

struct Worker {
    epoll: OwnedFd,
    listener: OwnedFd,
    backend: SocketAddr,
    connections: Slab<Connection>,
    shared: Shared,
    /// Connections that had more to do, but let others have the thread.
    again: Vec<usize>,
}

impl Worker {
    fn new(listener: OwnedFd, options: &Options) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let data = epoll::EventData::new_u64(LISTENER);
        // Level-triggered: then one accept per wake-up is enough, without a second that finds nothing.
        epoll::add(&epoll, &listener, data, epoll::EventFlags::IN)?;
        Ok(Self {
            epoll,
            listener,
            backend: options.backend,
            connections: Slab::new(),
            shared: Shared::new(),
            again: Vec::new(),
        })
    }

    fn run(mut self) -> io::Result<()> {
        const AT_ONCE: Timespec = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            events.clear();
            let timeout = (!self.again.is_empty()).then_some(&AT_ONCE);
            match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let mut arrived = false;
            let again = std::mem::take(&mut self.again);
            for event in &events {
                match event.data.u64() {
                    LISTENER => arrived = true,
                    data => self.take(data, event.flags),
                }
            }
            for key in again {
                self.advance(key);
            }
            // Accept last: no event of this wait may reach a new connection that has reused a key.
            if arrived {
                self.accept()?;
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        match accept_with(&self.listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok(socket) => {
                let key = self.connections.insert(Connection::new(socket));
                self.advance(key);
                Ok(())
            }
            Err(Errno::AGAIN | Errno::CONNABORTED | Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn take(&mut self, data: u64, flags: epoll::EventFlags) {
        let Ok(key) = usize::try_from(data >> 1) else {
            return;
        };
        if let Some(connection) = self.connections.get_mut(key) {
            connection.note(data & 1 == 1, flags);
            self.advance(key);
        }
    }

    /// Does what is possible now for a connection, which may be gone.
    fn advance(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let turn = connection.advance(key, &self.epoll, self.backend, &mut self.shared);
        match turn {
            Ok(Turn::Waits) => {}
            Ok(Turn::UsedUp) => self.again.push(key),
            Ok(Turn::Over) => drop(self.connections.remove(key)),
            Err(_) => self.connections.remove(key).reset(),
        }
    }
}
