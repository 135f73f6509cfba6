//! One side of a transfer: a thread that reads, compares and writes as its plan says.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::SockRef;

use super::plan::{Ending, Side};
use crate::it::peers::reset;

/// The observations of a side.
#[derive(Clone, Debug, Default)]
pub(super) struct Report {
    /// Bytes that it handed to its kernel.
    pub(super) sent: u64,
    /// Bytes that it received.
    pub(super) received: u64,
    /// The offset of the first piece with wrong bytes.
    pub(super) wrong_at: Option<u64>,
    /// A clean end has come.
    pub(super) fin: bool,
    /// ECONNRESET or EPIPE from a read or a write.
    pub(super) broken: Option<ErrorKind>,
    /// Nothing happened for too long.
    pub(super) hung: bool,
}

/// Longest time without progress, even on a busy machine.
const HUNG: Duration = Duration::from_secs(30);

/// Runs one side to its end.
pub(super) fn run(stream: TcpStream, mine: &Side, theirs: &Side) -> Report {
    stream.set_nonblocking(true).unwrap();
    let mut run = Running {
        stream: &stream,
        mine,
        theirs,
        report: Report::default(),
        finished: false,
        write_after: Instant::now(),
        read_after: None,
        writes: 0,
        buffer: vec![0; 64 << 10],
    };
    let aborts = run.turn_until_over();
    let report = run.report;
    if aborts {
        reset(stream);
    }
    report
}

struct Running<'a> {
    stream: &'a TcpStream,
    mine: &'a Side,
    theirs: &'a Side,
    report: Report,
    /// Its FIN is sent, or writing failed.
    finished: bool,
    write_after: Instant,
    /// Set while stuck, and afterwards in the past.
    read_after: Option<Instant>,
    writes: u64,
    buffer: Vec<u8>,
}

impl Running<'_> {
    /// True if the side must end with a RST.
    fn turn_until_over(&mut self) -> bool {
        loop {
            if self.aborts() {
                return true;
            }
            self.finish_if_due();
            if self.report.hung || self.over_reading() && self.finished {
                return false;
            }
            let (readable, writable) = self.wait();
            if readable {
                self.read();
            }
            if writable {
                self.write();
            }
        }
    }

    fn over_reading(&self) -> bool {
        self.report.fin || self.report.broken.is_some()
    }

    fn aborts(&self) -> bool {
        match self.mine.end {
            Ending::Fin => false,
            Ending::Reset(after) => self.report.sent >= after,
            Ending::FinThenReset(read) => {
                self.finished && !self.over_reading() && self.report.received >= read
            }
        }
    }

    fn finish_if_due(&mut self) {
        let due = self.report.sent == self.mine.size && (!self.mine.last || self.over_reading());
        if due && !self.finished {
            self.finished = true;
            if let Err(error) = self.stream.shutdown(Shutdown::Write) {
                // The connection is reset already; reading returns the error.
                assert_eq!(error.kind(), ErrorKind::NotConnected);
            }
        }
    }

    fn wait(&mut self) -> (bool, bool) {
        let now = Instant::now();
        let reads = !self.over_reading() && !self.stuck(now);
        let writes = !self.finished
            && self.report.sent < self.mine.size
            && (!self.mine.waits || self.over_reading());
        let paced = writes && now < self.write_after;
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, reads);
        flags.set(PollFlags::OUT, writes && !paced);
        let mut patience = HUNG;
        if paced {
            patience = patience.min(self.write_after - now);
        }
        if let Some(end) = self.read_after.filter(|end| *end > now) {
            patience = patience.min(end - now);
        }
        let mut wanted = [PollFd::new(self.stream, flags)];
        let timeout = Timespec::try_from(patience).unwrap();
        let told = poll(&mut wanted, Some(&timeout)).unwrap();
        self.report.hung = told == 0 && patience == HUNG;
        let events = wanted[0].revents();
        let broken = events.intersects(PollFlags::ERR | PollFlags::HUP);
        let readable = events.contains(PollFlags::IN) || broken && !self.over_reading();
        (
            readable,
            events.contains(PollFlags::OUT) || broken && writes,
        )
    }

    fn stuck(&mut self, now: Instant) -> bool {
        let Some((from, time)) = self.mine.stuck else {
            return false;
        };
        if self.report.received < from {
            return false;
        }
        now < *self.read_after.get_or_insert(now + time)
    }

    fn read(&mut self) {
        let most = usize::try_from(self.mine.read).unwrap();
        match self.stream.read(&mut self.buffer[..most]) {
            Ok(0) => self.report.fin = true,
            Ok(count) => {
                let offset = self.report.received;
                let count = u64::try_from(count).unwrap();
                let same = offset + count <= self.theirs.size
                    && self.theirs.content().at(offset, count)
                        == &self.buffer[..usize::try_from(count).unwrap()];
                if !same {
                    self.report.wrong_at.get_or_insert(offset);
                }
                self.report.received += count;
            }
            Err(error) => self.failed(&error),
        }
    }

    fn write(&mut self) {
        let offset = self.report.sent;
        let until = match self.mine.end {
            Ending::Reset(after) => after,
            Ending::Fin | Ending::FinThenReset(_) => self.mine.size,
        };
        let mut length = self.mine.chunk.min(until - offset);
        if let Some(urgent) = self.mine.urgent.filter(|urgent| *urgent > offset) {
            length = length.min(urgent - offset);
        }
        let written = if self.mine.urgent == Some(offset) {
            SockRef::from(self.stream).send_out_of_band(self.mine.content().at(offset, 1))
        } else {
            (&mut self.stream).write(self.mine.content().at(offset, length))
        };
        match written {
            Ok(count) => self.report.sent += u64::try_from(count).unwrap(),
            Err(error) => self.failed(&error),
        }
        self.writes += 1;
        if self.mine.pace > 0 && self.writes.is_multiple_of(32) {
            self.write_after = Instant::now() + Duration::from_millis(self.mine.pace);
        }
    }

    fn failed(&mut self, error: &std::io::Error) {
        if [ErrorKind::WouldBlock, ErrorKind::Interrupted].contains(&error.kind()) {
            return;
        }
        self.report.broken.get_or_insert(error.kind());
        self.finished = true;
    }
}
