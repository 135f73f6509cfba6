//! Flows that move bytes as fast as they can.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::backend::Counts;
use super::hello::Mode;
use super::socket::{EventFlags, Poll, Ready};
use super::stream::BulkEnd;
use super::{Mark, Run, Value, WARM_UP, float, told};
use crate::results::Figure;

/// Longest time until everything that was sent has come out at the other end, once both ends have stopped
/// sending.
const DRAINING: Duration = Duration::from_secs(10);

/// How long the counts must stay equal until they are final.
const SETTLED: Duration = Duration::from_millis(20);

/// Time without a byte sent after which the buffers of clients that do not read are full.
const FULL: Duration = Duration::from_millis(200);

/// The directions in which bytes go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ways {
    mode: Mode,
    down: bool,
    up: bool,
}

pub(super) const DOWN: Ways = Ways {
    mode: Mode::Download,
    down: true,
    up: false,
};
pub(super) const UP: Ways = Ways {
    mode: Mode::Upload,
    down: false,
    up: true,
};
pub(super) const BOTH: Ways = Ways {
    mode: Mode::Both,
    down: true,
    up: true,
};

/// The client's end of flows.
pub(super) struct Flows {
    poll: Poll,
    /// Each, and how many bytes it has sent.
    sockets: Vec<(OwnedFd, u64)>,
    end: BulkEnd,
    counts: Arc<Counts>,
    ways: Ways,
    ready: Vec<Ready>,
}

/// Measures flows of one kind.
pub(super) fn run(run: &Run<'_>, ways: Ways, count: usize) -> Result<Vec<Value>, String> {
    let mut flows = Flows::open(run, ways, count, false)?;
    flows.pump(Instant::now() + WARM_UP)?;
    let (begin, before) = (run.mark()?, received(&run.counts));
    flows.pump(begin.at + run.window())?;
    let (end, after) = (run.mark()?, received(&run.counts));
    flows.finish()?;
    figures(begin, end, after - before)
}

/// Measures one download while clients want as much, and read nothing.
pub(super) fn beside_slow_readers(run: &mut Run<'_>, readers: usize) -> Result<Vec<Value>, String> {
    let _readers = run.open(run.command(Mode::Download, 0), readers)?;
    run.settled(FULL, 5.0, |run| {
        Ok(run.counts.backend.sent.load(Ordering::Relaxed))
    })?;
    let of_readers = std::mem::replace(&mut run.counts, run.backend.begin());
    let figures = self::run(run, DOWN, 1)?;
    if of_readers.open() < readers as u64 {
        return Err("slow readers were closed while they were to be there".into());
    }
    Ok(figures)
}

/// Bytes that have come out, both ways.
pub(super) fn received(counts: &Counts) -> u64 {
    let client = counts.client.received.load(Ordering::Relaxed);
    client + counts.backend.received.load(Ordering::Relaxed)
}

fn figures(begin: Mark, end: Mark, bytes: u64) -> Result<Vec<Value>, String> {
    const GIB: f64 = 1_073_741_824.0;
    if bytes == 0 {
        return Err("no byte came through in the window: the relay stalls".into());
    }
    let bytes = float(bytes);
    Ok(vec![
        (Figure::GigabytesPerSecond, bytes / end.seconds(begin) / 1e9),
        (
            Figure::CpuSecondsPerGib,
            end.cpu_seconds(begin) / (bytes / GIB),
        ),
    ])
}

impl Flows {
    /// Opens flows. If `aside`, the backend serves them in its second thread.
    pub(super) fn open(
        run: &Run<'_>,
        ways: Ways,
        count: usize,
        aside: bool,
    ) -> Result<Self, String> {
        let mut command = run.command(ways.mode, 0);
        command.aside = aside;
        let flows = Self {
            poll: Poll::new().map_err(told("epoll"))?,
            sockets: (run.open(command, count)?.into_iter())
                .map(|socket| (socket, 0))
                .collect(),
            end: BulkEnd::new().map_err(told("a file in memory"))?,
            counts: Arc::clone(&run.counts),
            ways,
            ready: Vec::new(),
        };
        let mut interest = EventFlags::empty();
        interest.set(EventFlags::IN, ways.down);
        interest.set(EventFlags::OUT, ways.up);
        for (key, (socket, _)) in flows.sockets.iter().enumerate() {
            let added = flows.poll.add(socket, key, interest);
            added.map_err(told("epoll"))?;
        }
        Ok(flows)
    }

    /// Moves bytes until `until`.
    pub(super) fn pump(&mut self, until: Instant) -> Result<(), String> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            let waited = self.poll.wait(left, &mut self.ready);
            waited.map_err(told("epoll"))?;
            for event in std::mem::take(&mut self.ready) {
                self.move_bytes(event)?;
            }
        }
    }

    fn move_bytes(&mut self, event: Ready) -> Result<(), String> {
        let Some((socket, before)) = self.sockets.get_mut(event.key) else {
            return Ok(());
        };
        let tally = &self.counts.client;
        if event.readable() {
            match self.end.receive(socket).map_err(told("a bulk flow"))? {
                Some(bytes) => tally.received.fetch_add(bytes, Ordering::Relaxed),
                None => {
                    return Err("the relay ended a bulk flow that its backend did not end".into());
                }
            };
        }
        if event.writable() && self.ways.up {
            let sent = self.end.send(socket, *before);
            let sent = sent.map_err(told("a bulk flow"))?;
            *before += sent;
            tally.sent.fetch_add(sent, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Makes both ends stop sending, and checks that every byte comes out.
    pub(super) fn finish(mut self) -> Result<(), String> {
        self.counts.stopped.store(true, Ordering::Relaxed);
        self.ways.up = false;
        for (key, (socket, _)) in self.sockets.iter().enumerate() {
            let changed = self.poll.change(socket, key, EventFlags::IN);
            changed.map_err(told("epoll"))?;
        }
        let deadline = Instant::now() + DRAINING;
        let mut was_equal = false;
        loop {
            self.pump(Instant::now() + SETTLED)?;
            let (client, backend) = (&self.counts.client, &self.counts.backend);
            let [down, got_down, up, got_up] = [
                &backend.sent,
                &client.received,
                &client.sent,
                &backend.received,
            ]
            .map(|count| count.load(Ordering::Relaxed));
            let is_equal = down == got_down && up == got_up;
            if is_equal && was_equal {
                return Ok(());
            }
            was_equal = is_equal;
            if Instant::now() >= deadline {
                return Err(format!(
                    "the relay keeps or loses bytes: down {down} sent, {got_down} received; up {up} \
                     sent, {got_up} received"
                ));
            }
        }
    }
}
