//! The control socket: how `portway reload`, `upgrade`, `explain` and `run --takeover` reach the process that runs.
//!
//! `place::Place` says where it is. It answers only processes of the same user, and root. A request is one
//! line.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::geteuid;

use crate::net;

mod answers;
mod asking;
mod link;
mod owner;
mod place;
mod server;

pub use asking::{
    Answered, addresses, configuration, connections, printable, reload, status, upgrade,
};
pub(super) use link::{Asked, Word};
pub use link::{Link, Successor};
pub use owner::running;
pub(super) use owner::{is_free, until_served_by};
use place::Place;
pub use server::Upgrading;
pub(super) use server::{Before, serve};

/// The request to read the file again. The answer is an exit status on its own line, and a text.
const RELOAD: &str = "reload";
/// The request for the configuration in force. The answer is [`FINE`] on a line of its own, the generation on
/// another, and the text of the file.
const CONFIGURATION: &str = "configuration";
/// The request for the addresses of a backend, whose name follows. The answer is [`FINE`] on a line of its own, and
/// a [`KnownAddresses`](crate::control::KnownAddresses) as JSON.
const ADDRESSES: &str = "addresses";
/// The request for the status. The answer is [`FINE`] on a line of its own, and a [`Status`](crate::status::Status) as
/// JSON.
const STATUS: &str = "status";
/// The request for live connections; a query as in the URL of `/connections` follows. The answer is [`FINE`] on a line of
/// its own, and [`Connections`](crate::status::Connections) as JSON.
const CONNECTIONS: &str = "connections";
/// The request for the listening sockets, of the same user only. They follow, then [`END`]. Once the
/// successor accepts at them it says [`READY`], and when it receives [`YOURS`] it has the control
/// socket too. Without that, the one that gets the control socket goes on, and the other one does not.
const TAKE_OVER: &str = "takeover";
const READY: &str = "ready";
/// A successor that does not start says why, in one line.
const NOT_STARTED: &str = "failed ";
/// The request to start a successor. The answer is [`FINE`] on its own line and an
/// [`Upgraded`](crate::control::upgrade::Upgraded) as JSON, or why there is none.
const UPGRADE: &str = "upgrade";
/// The beginning of the answer to a request that a process does not know.
const KNOWN: &str = "known requests: ";
/// Accompanies descriptors.
const SOCKETS: u8 = b's';
/// Follows the last descriptors.
const END: u8 = b'e';
/// The predecessor has stopped accepting.
const YOURS: u8 = b'y';

/// Longest wait for each message with sockets.
const SOCKETS_TIMEOUT: Duration = Duration::from_secs(5);
/// Characters of an answer that is not what was asked for, of which people read the reason.
const LONGEST_REFUSAL: usize = 1000;
/// Longest line in bytes that says why a successor does not start: the word, and a refusal in UTF-8.
const LONGEST_REASON: u64 = (NOT_STARTED.len() + LONGEST_REFUSAL * char::MAX_LEN_UTF8 + 1) as u64;

/// Before the generation in the answer to a reload that succeeded.
const RELOADED: &str = "reloaded: generation ";

/// Status of an answer: as the exit status of `portway reload`.
pub const FINE: u8 = 0;
/// The same: the request failed.
pub const FAILED: u8 = 1;
/// The same: the file has faults.
pub const BAD_CONFIGURATION: u8 = 78;

/// The predecessor, whose listening sockets this process has.
pub struct Giver(UnixStream);

impl Giver {
    /// The predecessor, if it has started this process.
    pub(super) fn parent(&self) -> Option<i32> {
        let parent = rustix::process::getppid()?.as_raw_nonzero().get();
        let giver = net::peer(&self.0).ok()?;
        (giver.pid == parent).then_some(parent)
    }

    /// The same connection, for the case that this process does not start.
    pub fn again(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// Says why this process does not start.
    pub fn say_why(mut self, why: &str) {
        let why: String = why
            .chars()
            .filter(|c| !c.is_control())
            .take(LONGEST_REFUSAL)
            .collect();
        // It may have ended, and the log has the reason too.
        drop(writeln!(self.0, "{NOT_STARTED}{why}"));
    }
}

/// The result of an attempt to take over.
pub enum Answer {
    /// No process runs with this file.
    Nobody,
    /// The owner of the name is another user, or does not accept. The text says why portway cannot take over.
    Stranger(String),
    /// Not now: another process is taking over, or has just done so, or the running one does not answer.
    Later,
    /// The sockets.
    Given(TakenOver),
}

/// The listening sockets that the predecessor has handed over, including that of admin.
pub struct TakenOver {
    /// The predecessor, which is notified when we accept.
    pub giver: Giver,
    /// The sockets.
    pub sockets: Vec<OwnedFd>,
}

/// Takes the listening sockets of the process that runs with this file. It goes on accepting until we notify
/// it that we accept, and for good if we end before that.
pub fn take_over(file: &Path) -> io::Result<Answer> {
    let mut stream = match connect(file) {
        Ok(Some(stream)) => stream,
        Ok(None) => return Ok(Answer::Nobody),
        // It belongs to another user, so it is not ours.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(Answer::Nobody),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            return Ok(Answer::Stranger(error.to_string()));
        }
        Err(error) => return Err(error),
    };
    if let Err(error) = only_of_user(&stream, geteuid().as_raw()) {
        return Ok(Answer::Stranger(error.to_string()));
    }
    stream.set_read_timeout(Some(SOCKETS_TIMEOUT))?;
    if writeln!(stream, "{TAKE_OVER}").is_err() {
        return Ok(Answer::Later);
    }
    let mut sockets = Vec::new();
    loop {
        match net::receive_descriptors(&stream) {
            Ok((Some(SOCKETS), descriptors)) => sockets.extend(descriptors),
            Ok((Some(END), _)) => break,
            Err(Errno::MFILE) => return Err(Errno::MFILE.into()),
            Ok(_) | Err(_) => return Ok(Answer::Later),
        }
    }
    let giver = Giver(stream);
    Ok(Answer::Given(TakenOver { giver, sockets }))
}

/// Fails if another user owns the control socket.
fn only_of_user(stream: &UnixStream, user: u32) -> io::Result<()> {
    let peer = net::peer(stream)?;
    if peer.user == user {
        return Ok(());
    }
    let (pid, other) = (peer.pid, peer.user);
    Err(io::Error::other(format!(
        "process {pid} of user {other} has the control socket, and this is user {user}: run the command as that user, or as root"
    )))
}

/// Connects to the control socket; `None` if no process has it. Connecting to a Unix socket can wait for its
/// owner to accept, so it has a timeout.
fn connect(file: &Path) -> io::Result<Option<UnixStream>> {
    let mut denied = None;
    for place in Place::all(file)? {
        match place.connect() {
            Ok(stream) => return Ok(Some(stream)),
            Err(Errno::CONNREFUSED | Errno::NOENT) => {}
            Err(Errno::AGAIN) => {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the owner of the control socket does not accept (`ss -xlp` shows it)",
                ));
            }
            // The directory of another user.
            Err(Errno::ACCESS) => {
                denied = Some(io::Error::new(
                    io::ErrorKind::PermissionDenied,
                    "the control socket belongs to another user: run this as root, or as that user",
                ));
            }
            Err(error) => return Err(error.into()),
        }
    }
    denied.map_or(Ok(None), Err)
}

fn listen(file: &Path) -> io::Result<UnixListener> {
    let listener = Place::own(file)?.listen()?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
