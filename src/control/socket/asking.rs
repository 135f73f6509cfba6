//! The requests to the running process, on the side of the one that asks.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::time::Duration;

use rustix::process::geteuid;

use super::{
    ADDRESSES, CONFIGURATION, CONNECTIONS, FAILED, FINE, KNOWN, LONGEST_REFUSAL, RELOAD, RELOADED,
    STATUS, UPGRADE, connect, only_of_user,
};
use crate::control::{Configuration, KnownAddresses};
use crate::net;
use crate::status::words;

/// A reload looks names up, for a second at most.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(30);
/// The configuration and the addresses are at hand.
const CONFIGURATION_TIMEOUT: Duration = Duration::from_secs(3);
/// The workers are asked for the status, one request after the other.
const STATUS_TIMEOUT: Duration = Duration::from_secs(10);
/// An upgrade runs the new program three times, each with a limit of its own.
const UPGRADE_TIMEOUT: Duration = Duration::from_mins(1);
/// Longest answer in bytes: the faults of one file, or its text.
const LONGEST_ANSWER: u64 = 4 << 20;

/// The answer of the process that runs with a file.
pub struct Answered {
    /// The process; 0 in another container.
    pub pid: i32,
    /// Its user.
    pub user: u32,
    /// [`FINE`], [`FAILED`] or [`BAD_CONFIGURATION`](super::BAD_CONFIGURATION).
    pub status: u8,
    /// For people.
    pub text: String,
}

impl Answered {
    /// The text, in which nothing controls a terminal: root may be answered by a process of another user.
    pub fn printable(&self) -> String {
        printable(&self.text)
    }

    /// Whether another user's process has answered, as it may to root: who has asked may have meant
    /// another one.
    pub fn is_of_another_user(&self) -> bool {
        self.user != geteuid().as_raw()
    }

    /// Whether the process is of a version that does not know the request.
    pub fn is_of_old_version(&self) -> bool {
        self.status == FAILED && self.text.starts_with(KNOWN)
    }

    /// The error for an answer that is not what was asked for.
    fn refusal(&self) -> io::Error {
        let text: String = self.printable().chars().take(LONGEST_REFUSAL).collect();
        io::Error::other(text.trim_end().to_owned())
    }

    /// The generation that a reload has brought.
    pub fn generation(&self) -> Option<u64> {
        self.text.strip_prefix(RELOADED)?.trim_end().parse().ok()
    }
}

/// The lines of a text in which nothing controls a terminal.
pub fn printable(text: &str) -> String {
    let lines = text.split('\n').map(words::printable);
    lines.collect::<Vec<_>>().join("\n")
}

/// Asks the process that runs with this file to read it again. None if there is no such process.
pub fn reload(file: &Path) -> io::Result<Option<Answered>> {
    ask(file, RELOAD, RELOAD_TIMEOUT)
}

/// Asks the process that runs with this file to start its successor, and waits until that one accepts. None if there
/// is no such process.
pub fn upgrade(file: &Path) -> io::Result<Option<Answered>> {
    ask(file, UPGRADE, UPGRADE_TIMEOUT)
}

/// Asks the process that runs with this file which configuration is in force. None if there is no such process.
pub fn configuration(file: &Path) -> io::Result<Option<(Configuration, Answered)>> {
    let Some(answered) = ask(file, CONFIGURATION, CONFIGURATION_TIMEOUT)? else {
        return Ok(None);
    };
    let parts = answered
        .text
        .split_once('\n')
        .filter(|_| answered.status == FINE);
    let read = parts.and_then(|(generation, text)| Some((generation.parse().ok()?, text)));
    let Some((generation, text)) = read else {
        return Err(answered.refusal());
    };
    // The end of the answer is not part of the file.
    let text = text.strip_suffix('\n').unwrap_or(text).into();
    Ok(Some((Configuration { generation, text }, answered)))
}

/// Asks the process that runs with this file for the addresses of a backend. None if there is no such process.
pub fn addresses(file: &Path, backend: &str) -> io::Result<Option<(KnownAddresses, Answered)>> {
    let request = format!("{ADDRESSES} {backend}");
    let Some(answered) = ask(file, &request, CONFIGURATION_TIMEOUT)? else {
        return Ok(None);
    };
    if answered.status != FINE {
        return Err(answered.refusal());
    }
    // The error quotes the answer, which another user's process may have sent.
    let unreadable = |error: serde_json::Error| io::Error::other(printable(&error.to_string()));
    let known = serde_json::from_str(&answered.text).map_err(unreadable)?;
    Ok(Some((known, answered)))
}

/// Asks the process that runs with this file for its status, as JSON. None if there is no such process.
pub fn status(file: &Path) -> io::Result<Option<Answered>> {
    ask(file, STATUS, STATUS_TIMEOUT)
}

/// Asks the process that runs with this file for its connections that a query selects, as JSON. None if there is no
/// such process.
pub fn connections(file: &Path, query: &str) -> io::Result<Option<Answered>> {
    ask(file, &format!("{CONNECTIONS} {query}"), STATUS_TIMEOUT)
}

fn ask(file: &Path, request: &str, limit: Duration) -> io::Result<Option<Answered>> {
    let Some(mut stream) = connect(file)? else {
        return Ok(None);
    };
    if !geteuid().is_root() {
        only_of_user(&stream, geteuid().as_raw())?;
    }
    stream.set_read_timeout(Some(limit))?;
    writeln!(stream, "{request}")?;
    let peer = net::peer(&stream)?;
    let mut answer = BufReader::new(stream.take(LONGEST_ANSWER));
    let mut status = String::new();
    let read = answer.read_line(&mut status);
    read.map_err(|error| unanswered(error, peer.pid, limit))?;
    let status = status.trim_end().parse();
    let status =
        status.map_err(|_unreadable| io::Error::other("portway ended before it answered"))?;
    let mut text = String::new();
    answer.read_to_string(&mut text)?;
    Ok(Some(Answered {
        pid: peer.pid,
        user: peer.user,
        status,
        text,
    }))
}

/// The error for a request that got no answer.
fn unanswered(error: io::Error, pid: i32, limit: Duration) -> io::Error {
    if error.kind() != io::ErrorKind::WouldBlock {
        return error;
    }
    let seconds = limit.as_secs();
    io::Error::other(if pid == 0 {
        format!(
            "the portway of another container has not answered within {seconds} s: it is stopped, \
             frozen or very busy"
        )
    } else {
        format!(
            "process {pid} has not answered within {seconds} s: it is stopped, frozen or very busy \
             (`ps -o stat,wchan -p {pid}`; T is stopped, and `kill -CONT {pid}` lets it go on)"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn an_answer_keeps_its_lines_and_cannot_turn_its_text() {
        let text = "one\ntwo\u{202e}\u{9b}2J\r\n";
        assert_eq!(printable(text), "one\ntwo\\u{202e}\\u{9b}2J\\u{d}\n");
    }
}
