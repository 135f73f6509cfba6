//! One thread of the backend.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SocketFlags};
use slab::Slab;

use super::super::hello::{Command, Hellos, Mode, server_hello};
use super::super::socket::{EventFlags, Poll, Ready, send_whole};
use super::super::stream::{BulkEnd, Content, Exchange, Step};
use super::{Counts, Lane, Shared, lock};

/// Keys of epoll that do not belong to a connection.
const LISTENER: usize = usize::MAX;
const BELL: usize = usize::MAX - 1;

/// Most connections accepted in one turn.
const ACCEPTS: usize = 64;

/// Longest wait of a thread, in case that the bell does not wake it.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// The state of a thread.
pub(super) struct Serving {
    shared: Arc<Shared>,
    listener: Option<OwnedFd>,
    poll: Poll,
    connections: Slab<Connection>,
    hellos: Hellos,
    bulk: BulkEnd,
    /// The messages of this run, and their size.
    content: (usize, Content),
    buffer: Vec<u8>,
}

pub(super) struct Connection {
    socket: OwnedFd,
    /// Present once the command has come.
    counts: Option<Counted>,
    role: Role,
}

/// A connection in the counts of its run.
struct Counted(Arc<Counts>);

/// The role of a connection.
enum Role {
    /// The bytes before the end of the command.
    Hello(Vec<u8>),
    Bulk {
        sends: bool,
        drinks: bool,
        /// Bytes that it has sent behind its ServerHello.
        sent: u64,
    },
    Echo(Exchange),
    /// The client has everything, and closes when it likes.
    Rest,
}

impl Counted {
    fn new(counts: Arc<Counts>) -> Self {
        counts.opened.fetch_add(1, Ordering::Relaxed);
        Self(counts)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.closed.fetch_add(1, Ordering::Relaxed);
    }
}

/// The next step of a connection after an event.
enum Next {
    Stays,
    /// It is done, even if the client or the relay has aborted it: the client counts such faults.
    Closes,
    GoesAside,
}

impl Serving {
    /// Creates the state of a thread. The thread with the listener has the front lane.
    pub(super) fn new(listener: Option<OwnedFd>, shared: Arc<Shared>) -> Result<Self, Errno> {
        /// Bytes that a socket receives at once for messages and hellos.
        const BUFFER: usize = 256 << 10;
        let serving = Self {
            shared,
            listener,
            poll: Poll::new()?,
            connections: Slab::new(),
            hellos: Hellos::new(),
            bulk: BulkEnd::new()?,
            content: (0, Content::new(0)),
            buffer: vec![0; BUFFER],
        };
        serving
            .poll
            .add(&serving.lane().bell, BELL, EventFlags::IN)?;
        if let Some(listener) = &serving.listener {
            serving.poll.add(listener, LISTENER, EventFlags::IN)?;
        }
        Ok(serving)
    }

    fn lane(&self) -> &Lane {
        if self.listener.is_some() {
            &self.shared.front
        } else {
            &self.shared.aside
        }
    }

    pub(super) fn run(mut self) {
        let mut ready = Vec::new();
        while !self.shared.ends.load(Ordering::Relaxed) {
            let turn = self.turn(&mut ready);
            if let Err(error) = turn {
                self.shared.fail(format!("the backend: {error}"));
            }
        }
    }

    fn turn(&mut self, ready: &mut Vec<Ready>) -> Result<(), Errno> {
        self.poll.wait(LONGEST_WAIT, ready)?;
        for event in ready.drain(..) {
            match event.key {
                LISTENER => self.accept()?,
                BELL => self.take_over()?,
                _ => self.serve(event)?,
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> Result<(), Errno> {
        let Some(listener) = &self.listener else {
            return Ok(());
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        for _ in 0..ACCEPTS {
            let socket = match rustix::net::accept_with(listener, flags) {
                Ok(socket) => socket,
                Err(Errno::AGAIN) => break,
                // The client was gone before it was accepted.
                Err(Errno::CONNABORTED) => continue,
                Err(error) => return Err(error),
            };
            let entry = self.connections.vacant_entry();
            self.poll.add(&socket, entry.key(), EventFlags::IN)?;
            entry.insert(Connection {
                socket,
                counts: None,
                role: Role::Hello(Vec::new()),
            });
        }
        Ok(())
    }

    /// Takes over the connections that the other thread has put into the inbox.
    fn take_over(&mut self) -> Result<(), Errno> {
        self.lane().hear();
        let arrived = std::mem::take(&mut *lock(&self.lane().inbox));
        for connection in arrived {
            let entry = self.connections.vacant_entry();
            let interest = connection.role.interest();
            self.poll.add(&connection.socket, entry.key(), interest)?;
            entry.insert(connection);
        }
        Ok(())
    }

    fn serve(&mut self, event: Ready) -> Result<(), Errno> {
        let Some(connection) = self.connections.get_mut(event.key) else {
            return Ok(());
        };
        let next = match &mut connection.role {
            Role::Hello(_) => self.read_command(event.key),
            Role::Bulk { .. } => connection.move_bulk(event, &self.poll, &mut self.bulk),
            Role::Echo(exchange) => {
                let (content, buffer) = (&self.content.1, &mut self.buffer);
                echo(exchange, &connection.socket, event, content, buffer)
            }
            Role::Rest => rest(&connection.socket, &mut self.buffer),
        };
        match next.unwrap_or(Next::Closes) {
            Next::Stays => Ok(()),
            Next::Closes => {
                drop(self.connections.remove(event.key));
                Ok(())
            }
            Next::GoesAside => self.hand_over(event.key),
        }
    }

    fn hand_over(&mut self, key: usize) -> Result<(), Errno> {
        let Some(connection) = self.connections.try_remove(key) else {
            return Ok(());
        };
        self.poll.remove(&connection.socket)?;
        lock(&self.shared.aside.inbox).push(connection);
        self.shared.aside.ring()
    }

    /// Reads the hello and the command, and begins what it asks for.
    fn read_command(&mut self, key: usize) -> Result<Next, Errno> {
        let Some(connection) = self.connections.get_mut(key) else {
            return Ok(Next::Stays);
        };
        let Role::Hello(bytes) = &mut connection.role else {
            return Ok(Next::Stays);
        };
        let flags = RecvFlags::empty();
        match rustix::net::recv(&connection.socket, self.buffer.as_mut_slice(), flags) {
            // There is no command: a health check, or a client that gave up.
            Ok((_, 0)) => return Ok(Next::Closes),
            Ok((_, length)) => bytes.extend(self.buffer.iter().take(length)),
            Err(Errno::AGAIN) => return Ok(Next::Stays),
            Err(error) => return Err(error),
        }
        let (command, behind) = match self.hellos.command(bytes) {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(Next::Stays),
            Err(why) => {
                self.shared.fail(why);
                return Ok(Next::Closes);
            }
        };
        let counts = Arc::clone(&lock(&self.shared.counts));
        if counts.run != command.run {
            return Ok(Next::Closes);
        }
        let received = &counts.backend.received;
        received.fetch_add(behind as u64, Ordering::Relaxed);
        connection.counts = Some(Counted::new(counts));
        connection.role = Role::new(command, behind);
        self.begin(key, command)?;
        Ok(if command.aside {
            Next::GoesAside
        } else {
            Next::Stays
        })
    }

    /// Sends the first bytes of the backend, and waits for what comes next.
    fn begin(&mut self, key: usize, command: Command) -> Result<(), Errno> {
        let Some(connection) = self.connections.get(key) else {
            return Ok(());
        };
        // A bulk flow has no messages, and leaves those of others as they are.
        if matches!(command.mode, Mode::Echo | Mode::Answer) && self.content.0 != command.size {
            self.content = (command.size, Content::new(command.size));
        }
        match (command.mode, &connection.counts) {
            (Mode::Download | Mode::Upload | Mode::Both, Some(Counted(counts))) => {
                let hello = server_hello();
                send_whole(&connection.socket, &hello)?;
                let sent = &counts.backend.sent;
                sent.fetch_add(hello.len() as u64, Ordering::Relaxed);
            }
            (Mode::Answer, _) => send_whole(&connection.socket, self.content.1.answer())?,
            (Mode::Idle, _) => send_whole(&connection.socket, &server_hello())?,
            _ => {}
        }
        let interest = connection.role.interest();
        if !command.aside && interest != EventFlags::IN {
            self.poll.change(&connection.socket, key, interest)?;
        }
        Ok(())
    }
}

impl Role {
    /// `behind`: bytes that came with the command.
    fn new(command: Command, behind: usize) -> Self {
        match command.mode {
            Mode::Download | Mode::Upload | Mode::Both => Self::Bulk {
                sends: command.mode != Mode::Upload,
                drinks: command.mode != Mode::Download,
                sent: 0,
            },
            Mode::Echo => {
                let mut exchange = Exchange::new(command.size, false);
                exchange.has_received(behind);
                Self::Echo(exchange)
            }
            Mode::Answer | Mode::Idle => Self::Rest,
        }
    }

    fn interest(&self) -> EventFlags {
        match self {
            Self::Bulk { sends, drinks, .. } => {
                let mut interest = EventFlags::empty();
                interest.set(EventFlags::OUT, *sends);
                // If it only sends, it sees the end of the client once it stops sending.
                interest.set(EventFlags::IN, *drinks || !*sends);
                interest
            }
            Self::Echo(_) => EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET,
            Self::Hello(_) | Self::Rest => EventFlags::IN,
        }
    }
}

impl Connection {
    fn move_bulk(&mut self, event: Ready, poll: &Poll, end: &mut BulkEnd) -> Result<Next, Errno> {
        let (
            Role::Bulk {
                sends,
                drinks,
                sent,
            },
            Some(Counted(counts)),
        ) = (&mut self.role, &self.counts)
        else {
            return Ok(Next::Closes);
        };
        if event.readable() && (*drinks || !*sends) {
            let Some(received) = end.receive(&self.socket)? else {
                return Ok(Next::Closes);
            };
            let count = &counts.backend.received;
            count.fetch_add(received, Ordering::Relaxed);
        }
        if event.writable() && *sends {
            if counts.stopped.load(Ordering::Relaxed) {
                *sends = false;
                poll.change(&self.socket, event.key, self.role.interest())?;
            } else {
                let bytes = end.send(&self.socket, *sent)?;
                *sent += bytes;
                counts.backend.sent.fetch_add(bytes, Ordering::Relaxed);
            }
        }
        Ok(Next::Stays)
    }
}

fn echo(
    exchange: &mut Exchange,
    socket: &OwnedFd,
    event: Ready,
    content: &Content,
    buffer: &mut [u8],
) -> Result<Next, Errno> {
    let mut due = if exchange.sends() {
        event.writable()
    } else {
        event.readable()
    };
    // An end that came with the last message has no event of its own.
    let ended = event.flags.contains(EventFlags::RDHUP);
    while due {
        due = match exchange.advance(socket, content, buffer)? {
            Step::Received => true,
            Step::Sent => ended,
            Step::Waits => false,
        };
    }
    Ok(Next::Stays)
}

/// Waits for the end of a connection on which nothing more is sent.
fn rest(socket: &OwnedFd, buffer: &mut [u8]) -> Result<Next, Errno> {
    match rustix::net::recv(socket, buffer, RecvFlags::empty()) {
        Ok((_, 0)) => Ok(Next::Closes),
        Ok(_) | Err(Errno::AGAIN) => Ok(Next::Stays),
        Err(error) => Err(error),
    }
}
