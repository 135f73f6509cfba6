//! Writes log lines. Logging never waits: lines go into a bounded queue, and a thread writes them.
//! When the reader is slow or gone, lines are dropped and counted.

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// Lines that wait for the writer: a few MB at most, and a second of a busy relay.
const QUEUE: usize = 8192;

/// Most bytes in one write.
const BATCH: usize = 64 * 1024;

/// How long the writer gathers lines after the first one. One wake-up and one write per batch, not per
/// line, save a relay under load some percent of its CPU.
const GATHER: Duration = Duration::from_millis(5);

/// The pause before the next try if an output says EAGAIN.
const RETRY: Duration = Duration::from_millis(5);

/// The way to one output. Clones share it.
#[derive(Clone)]
pub struct Lines {
    queue: SyncSender<Entry>,
    dropped: Arc<AtomicU64>,
}

enum Entry {
    Line(Vec<u8>),
    /// Reports when every line before it is written.
    Finish(SyncSender<()>),
}

impl Lines {
    /// Starts the writer's thread. Lines that are lost are counted in `dropped`.
    pub fn start(
        output: Box<dyn Write + Send>,
        name: &str,
        dropped: Arc<AtomicU64>,
    ) -> io::Result<Self> {
        let (queue, entries) = sync_channel(QUEUE);
        let mut writer = Writer {
            output,
            dropped: Arc::clone(&dropped),
            batch: Vec::new(),
            torn: false,
        };
        // The thread ends when the last sender is dropped, or with the process.
        let _detached = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || writer.run(&entries))?;
        Ok(Self { queue, dropped })
    }

    /// Queues a line, which ends in a newline. Never waits.
    pub fn send(&self, line: Vec<u8>) {
        if self.queue.try_send(Entry::Line(line)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until all lines sent so far are written; `false` if that takes longer than `timeout`. It blocks
    /// the thread, so call it only at the end of the program.
    pub fn finish(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let (done, finished) = sync_channel(1);
        let mut entry = Entry::Finish(done);
        while let Err(refused) = self.queue.try_send(entry) {
            match refused {
                TrySendError::Full(back) if Instant::now() < deadline => entry = back,
                TrySendError::Full(_) | TrySendError::Disconnected(_) => return false,
            }
            thread::park_timeout(RETRY);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        finished.recv_timeout(left).is_ok()
    }
}

/// Takes one whole line per call, as `tracing_subscriber` writes them.
impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.send(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Standard output without the buffer and the lock of [`io::stdout`].
pub fn stdout() -> io::Result<Box<dyn Write + Send>> {
    let output = io::stdout().as_fd().try_clone_to_owned()?;
    Ok(Box::new(File::from(output)))
}

/// Standard error, likewise.
pub fn stderr() -> io::Result<Box<dyn Write + Send>> {
    let output = io::stderr().as_fd().try_clone_to_owned()?;
    Ok(Box::new(File::from(output)))
}

/// Waits for [`GATHER`], so that lines collect. The queue sometimes unparks this thread for a line that it
/// has already taken, so this parks again until the time is over.
fn gather() {
    let until = Instant::now() + GATHER;
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        thread::park_timeout(left);
    }
}

struct Writer {
    output: Box<dyn Write + Send>,
    dropped: Arc<AtomicU64>,
    batch: Vec<u8>,
    /// Whether the last write failed inside a line: the next line must then begin on a new one.
    torn: bool,
}

impl Writer {
    fn run(&mut self, entries: &Receiver<Entry>) {
        while let Ok(first) = entries.recv() {
            if matches!(first, Entry::Line(_)) {
                gather();
            }
            let mut next = Some(first);
            while let Some(entry) = next {
                match entry {
                    Entry::Line(line) => self.batch.extend_from_slice(&line),
                    Entry::Finish(done) => {
                        self.write_batch();
                        // The caller may have given up.
                        let _ = done.try_send(());
                    }
                }
                if self.batch.len() >= BATCH {
                    self.write_batch();
                }
                next = entries.try_recv().ok();
            }
            self.write_batch();
        }
    }

    fn write_batch(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        if self.torn && !self.write(b"\n").is_empty() {
            self.lose(&self.batch);
        } else {
            let batch = std::mem::take(&mut self.batch);
            let rest = self.write(&batch);
            self.lose(rest);
            self.batch = batch;
        }
        self.batch.clear();
    }

    /// Writes until the end or an error, and returns what is left.
    fn write<'a>(&mut self, mut rest: &'a [u8]) -> &'a [u8] {
        while !rest.is_empty() {
            match self.output.write(rest) {
                Ok(0) => break,
                Ok(count) => {
                    let (written, left) = rest.split_at_checked(count).unwrap_or((rest, &[]));
                    self.torn = !written.ends_with(b"\n");
                    rest = left;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Another process that shares the terminal or pipe has made it non-blocking.
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::park_timeout(RETRY),
                Err(_) => break,
            }
        }
        // An unbuffered output has nothing to flush. A buffered one reports its error at the next write.
        drop(self.output.flush());
        rest
    }

    fn lose(&self, lines: &[u8]) {
        let lost = lines.split_inclusive(|byte| *byte == b'\n').count();
        self.dropped.fetch_add(lost as u64, Ordering::Relaxed);
    }
}
