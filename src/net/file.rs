//! Reads a small file that the user names. It may be a pipe, or something that never ends.

use std::fs::{File, FileType, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// Longest time that the writer of a pipe may take: less than a reload waits for its file.
const PIPE_TIMEOUT: Duration = Duration::from_secs(3);

/// Reads the first `most` bytes of a file, or of a pipe that ends soon: a named pipe, `/dev/stdin` or a
/// process substitution. It refuses an empty pipe and everything else.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_file() {
        whole(&file, most)
    } else if kind.is_fifo() {
        read_pipe(&file, most)
    } else {
        Err(refused(kind, "it is neither a file nor a pipe"))
    }
}

fn refused(kind: FileType, others: &'static str) -> io::Error {
    if kind.is_dir() {
        io::Error::new(ErrorKind::IsADirectory, "it is a directory")
    } else {
        io::Error::new(ErrorKind::InvalidInput, others)
    }
}

/// Reads the first `most` bytes of a file that can be read again: a pipe delivers its bytes only once.
pub fn read_regular(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_file() {
        whole(&file, most)
    } else {
        Err(refused(kind, "it is not a regular file"))
    }
}

/// Opens with O_NONBLOCK: without it, opening a named pipe would wait for a writer. Files ignore it.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_NONBLOCK);
    options.open(path)
}

fn whole(file: &File, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A pipe without a writer reads as ended, but the writer may still be to come. So this waits for the
/// first byte.
fn read_pipe(pipe: &File, most: u64) -> io::Result<Vec<u8>> {
    let end = Instant::now() + PIPE_TIMEOUT;
    let mut bytes = Vec::new();
    wait(pipe, end, "nobody has written to this pipe")?;
    loop {
        let left = most.saturating_sub(bytes.len() as u64);
        match pipe.take(left).read_to_end(&mut bytes) {
            Ok(_) if bytes.is_empty() => {
                let text = "it is a pipe that gave no bytes";
                return Err(io::Error::new(ErrorKind::UnexpectedEof, text));
            }
            Ok(_) => return Ok(bytes),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                wait(pipe, end, "the writer of this pipe has not closed it")?;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Waits until the pipe has bytes or has lost its writer.
fn wait(pipe: &File, end: Instant, late: &str) -> io::Result<()> {
    let left = || end.saturating_duration_since(Instant::now());
    while !left().is_zero() {
        let time = Timespec::try_from(left()).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(pipe, PollFlags::IN)], Some(&time)) {
            Ok(1..) => return Ok(()),
            // If a signal arrives this early, it is handled later.
            Ok(0) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let seconds = PIPE_TIMEOUT.as_secs();
    let text = format!("{late} within {seconds} s");
    Err(io::Error::new(ErrorKind::TimedOut, text))
}
