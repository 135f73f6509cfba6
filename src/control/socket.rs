//! The control socket: how `portway reload` and `run --takeover` reach the process that runs.
//!
//! It is an abstract Unix socket (see unix(7)), so there is no file that a crash leaves behind, and
//! pods of one network namespace find each other. Its name is the path of routes.toml. Only processes
//! of the same user, and root, are answered. A request is one line.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use rustix::process::geteuid;

use crate::net;

mod server;

pub(super) use server::serve;

/// The request to read the file again. The answer is an exit status on a line of its own, and a text.
const RELOAD: &str = "reload";
/// The request for the listening sockets. They follow, then [`END`]; once the other side accepts at
/// them it says [`READY`], and the connection closes when it may have the control socket too.
const TAKE_OVER: &str = "takeover";
const READY: &str = "ready";
/// Comes with descriptors.
const SOCKETS: u8 = b's';
/// Comes after the last descriptors.
const END: u8 = b'e';

/// The name of an abstract socket has 107 bytes.
const LONGEST_NAME: usize = 100;
/// A reload looks names up, for a second at most.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Of an answer: faults of one file.
const LONGEST_ANSWER: u64 = 4 << 20;

/// Status of an answer: as the exit status of `portway reload`.
pub const FINE: u8 = 0;
/// The same: it could not be done.
pub const FAILED: u8 = 1;
/// The same: the file has faults.
pub const BAD_CONFIGURATION: u8 = 78;

/// A process that runs with the same file.
pub struct Before(UnixStream);

/// What that process has given: its listening sockets, that of admin among them.
pub struct TakenOver {
    /// The process, to be told when we accept.
    pub before: Before,
    /// The sockets.
    pub sockets: Vec<OwnedFd>,
}

/// Asks the process that runs with this file to read it again. None if there is no such process.
pub fn reload(file: &Path) -> io::Result<Option<(u8, String)>> {
    let Some(mut stream) = connect(file)? else {
        return Ok(None);
    };
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    writeln!(stream, "{RELOAD}")?;
    let mut answer = BufReader::new(stream.take(LONGEST_ANSWER));
    let mut status = String::new();
    answer.read_line(&mut status)?;
    let status = status.trim_end().parse();
    let status =
        status.map_err(|_unreadable| io::Error::other("portway ended before it had answered"))?;
    let mut text = String::new();
    answer.read_to_string(&mut text)?;
    Ok(Some((status, text)))
}

/// Takes the listening sockets of the process that runs with this file. None if there is no such
/// process. It goes on accepting until [`Before`] is told, and if we end before that.
pub fn take_over(file: &Path) -> io::Result<Option<TakenOver>> {
    let Some(mut stream) = connect(file)? else {
        return Ok(None);
    };
    if net::peer(&stream)?.user != geteuid().as_raw() {
        return Err(io::Error::other(
            "the portway that runs belongs to another user",
        ));
    }
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    writeln!(stream, "{TAKE_OVER}")?;
    let mut sockets = Vec::new();
    loop {
        match net::receive_descriptors(&stream)? {
            (Some(SOCKETS), descriptors) => sockets.extend(descriptors),
            (Some(END), _) => break,
            _ => return Err(io::Error::other("portway ended before it had handed over")),
        }
    }
    let before = Before(stream);
    Ok(Some(TakenOver { before, sockets }))
}

/// The number of the process that runs with this file, if one does: 0 in another container.
pub fn running(file: &Path) -> Option<i32> {
    let stream = connect(file).ok()??;
    Some(net::peer(&stream).ok()?.pid)
}

fn connect(file: &Path) -> io::Result<Option<UnixStream>> {
    match UnixStream::connect_addr(&address(file)?) {
        Ok(stream) => Ok(Some(stream)),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(None),
        Err(error) => Err(error),
    }
}

fn listen(file: &Path) -> io::Result<UnixListener> {
    let listener = UnixListener::bind_addr(&address(file)?)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// The address. Links are not followed: what they point to changes with each update of a Kubernetes
/// volume.
fn address(file: &Path) -> io::Result<SocketAddr> {
    let path = std::path::absolute(file)?;
    let path = path.as_os_str().as_encoded_bytes();
    let mut name = b"portway:".to_vec();
    if path.len() > LONGEST_NAME - name.len() {
        name.extend(format!("{:08x}:", crc32fast::hash(path)).bytes());
    }
    let room = LONGEST_NAME - name.len();
    name.extend(path.iter().skip(path.len().saturating_sub(room)));
    SocketAddr::from_abstract_name(name)
}

/// Whether a process of this user may ask us for something.
fn may_ask(user: u32) -> bool {
    user == geteuid().as_raw() || user == 0
}
