//! Messages that are answered with as many bytes, alone and beside downloads.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::bulk::{self, Flows};
use super::hello::Mode;
use super::socket::{EventFlags, Poll, Ready};
use super::stream::{Content, Exchange, Step};
use super::{Run, Value, WARM_UP, float, percentiles, told};
use crate::results::Figure;

/// Beside downloads: the number of connections, the bytes of a message, and the period. Each connection sends
/// one message per period, spread over it. 10,000 messages per second do not keep a relay busy.
pub(crate) const CONNECTIONS: usize = 1000;
const SIZE: usize = 100;
const PERIOD: Duration = Duration::from_millis(100);

/// Most bytes that one call receives.
const BUFFER: usize = 256 << 10;

/// A message that has no answer after this time is lost.
const LONGEST: Duration = Duration::from_secs(10);

/// How long clients go on before they check whether they still should.
const SLICE: Duration = Duration::from_millis(10);

/// Clients that send a message and wait for the answer, over and over.
struct Clients {
    poll: Poll,
    all: Vec<Client>,
    /// Time between the starts of two messages of a client; without it the next follows at once.
    period: Option<Duration>,
    /// When a client sends next, and which.
    due: BinaryHeap<Reverse<(Instant, usize)>>,
    content: Content,
    buffer: Vec<u8>,
    latencies: Vec<Duration>,
    ready: Vec<Ready>,
}

struct Client {
    socket: OwnedFd,
    exchange: Exchange,
    /// When this message was due, or the next one is. With a period, latency counts from here: a message
    /// that waits for the previous answer is late for its receiver too.
    due: Instant,
    /// When it was sent.
    sent: Instant,
    /// Whether an answer is still to come.
    waits: bool,
}

/// Measures messages as fast as they are answered.
pub(super) fn run(run: &Run<'_>, size: usize, at_a_time: usize) -> Result<Vec<Value>, String> {
    let mut clients = Clients::open(run, size, at_a_time, None)?;
    clients.go_on(Instant::now() + WARM_UP)?;
    clients.latencies.clear();
    let begin = run.mark()?;
    clients.go_on(begin.at + run.window())?;
    let end = run.mark()?;
    let mut latencies = std::mem::take(&mut clients.latencies);
    clients.finish(end.at)?;
    let count = float(latencies.len() as u64);
    let mut values = percentiles(&mut latencies)?;
    let cpu = end.cpu_seconds(begin) * 1e6 / count;
    values.push((Figure::CpuMicrosecondsPerMessage, cpu));
    Ok(values)
}

/// Measures few and small messages, with downloads in their own threads at both ends.
pub(super) fn beside(run: &Run<'_>, downloads: usize) -> Result<Vec<Value>, String> {
    let mut clients = Clients::open(run, SIZE, CONNECTIONS, Some(PERIOD))?;
    let mut flows = Flows::open(run, bulk::DOWN, downloads, true)?;
    let ends = AtomicBool::new(false);
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            while !ends.load(Ordering::Relaxed) {
                flows.pump(Instant::now() + SLICE)?;
            }
            flows.finish()
        });
        let measured = clients.measure(run);
        ends.store(true, Ordering::Relaxed);
        let finished = thread.join();
        finished.map_err(|_panic| "the thread of the downloads has panicked")??;
        let (mut values, rate) = measured?;
        if downloads > 0 {
            values.push((Figure::GigabytesPerSecond, rate));
        }
        Ok(values)
    })
}

impl Clients {
    fn open(
        run: &Run<'_>,
        size: usize,
        count: usize,
        period: Option<Duration>,
    ) -> Result<Self, String> {
        let sockets = run.open(run.command(Mode::Echo, size), count)?;
        let poll = Poll::new().map_err(told("epoll"))?;
        let interest = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
        for (key, socket) in sockets.iter().enumerate() {
            poll.add(socket, key, interest).map_err(told("epoll"))?;
        }
        let now = Instant::now();
        let apart = period.unwrap_or_default() / u32::try_from(count.max(1)).unwrap_or(u32::MAX);
        let mut at = now;
        let mut all = Vec::with_capacity(count);
        let mut due = BinaryHeap::with_capacity(count);
        for (key, socket) in sockets.into_iter().enumerate() {
            all.push(Client {
                socket,
                exchange: Exchange::new(size, true),
                due: at,
                sent: at,
                waits: false,
            });
            due.push(Reverse((at, key)));
            at += apart;
        }
        Ok(Self {
            poll,
            all,
            period,
            due,
            content: Content::new(size),
            buffer: vec![0; BUFFER],
            latencies: Vec::new(),
            ready: Vec::new(),
        })
    }

    /// The latencies in the window, and the rate of the downloads beside them.
    fn measure(&mut self, run: &Run<'_>) -> Result<(Vec<Value>, f64), String> {
        self.go_on(Instant::now() + WARM_UP)?;
        self.latencies.clear();
        let (begin, before) = (run.mark()?, bulk::received(&run.counts));
        self.go_on(begin.at + run.window())?;
        let (end, after) = (run.mark()?, bulk::received(&run.counts));
        let rate = float(after - before) / end.seconds(begin) / 1e9;
        let mut latencies = std::mem::take(&mut self.latencies);
        latencies.extend(self.late(end.at));
        self.finish(end.at)?;
        Ok((percentiles(&mut latencies)?, rate))
    }

    /// How long each message that was due before `end` and has no answer has waited by then.
    fn late(&self, end: Instant) -> Vec<Duration> {
        let mut late = Vec::new();
        for client in &self.all {
            let mut due = client.due;
            while due < end {
                late.push(end - due);
                due += PERIOD;
            }
        }
        late
    }

    fn go_on(&mut self, until: Instant) -> Result<(), String> {
        loop {
            let mut now = Instant::now();
            while let Some(Reverse((due, key))) = self.due.peek().copied()
                && due <= now
            {
                self.due.pop();
                self.send(key, now)?;
                now = Instant::now();
            }
            if now >= until {
                return Ok(());
            }
            let next = self.due.peek().map_or(until, |due| until.min(due.0.0));
            let mut ready = std::mem::take(&mut self.ready);
            let waited = self
                .poll
                .wait(next.saturating_duration_since(now), &mut ready);
            waited.map_err(told("epoll"))?;
            for event in ready.drain(..) {
                self.advance(event)?;
            }
            self.ready = ready;
        }
    }

    /// Goes on until all messages sent before `end` are answered: the relay may have lost one.
    fn finish(&mut self, end: Instant) -> Result<(), String> {
        let deadline = Instant::now() + LONGEST;
        let open = |client: &&Client| client.waits && client.sent < end;
        while self.all.iter().any(|client| open(&client)) {
            if Instant::now() >= deadline {
                let lost = self.all.iter().filter(open).count();
                let seconds = LONGEST.as_secs();
                return Err(format!("no answer to {lost} messages in {seconds} s"));
            }
            self.go_on(Instant::now() + SLICE)?;
        }
        Ok(())
    }

    fn send(&mut self, key: usize, now: Instant) -> Result<(), String> {
        if let Some(client) = self.all.get_mut(key) {
            client.sent = now;
            client.waits = true;
        }
        self.exchange(key)
    }

    fn advance(&mut self, event: Ready) -> Result<(), String> {
        let Some(client) = self.all.get(event.key) else {
            return Ok(());
        };
        let due = if client.exchange.sends() {
            client.waits && event.writable()
        } else {
            event.readable()
        };
        if due {
            self.exchange(event.key)
        } else {
            Ok(())
        }
    }

    /// Continues what a client sends or receives. After an answer its next message is due.
    fn exchange(&mut self, key: usize) -> Result<(), String> {
        let Some(client) = self.all.get_mut(key) else {
            return Ok(());
        };
        loop {
            let exchange = &mut client.exchange;
            let step = exchange.advance(&client.socket, &self.content, &mut self.buffer);
            if step.map_err(told("a message"))? != Step::Received {
                return Ok(());
            }
            let now = Instant::now();
            if let Some(period) = self.period {
                self.latencies.push(now - client.due);
                client.waits = false;
                // A message that became due while the answer was late is sent at once.
                client.due += period;
                self.due.push(Reverse((client.due, key)));
                return Ok(());
            }
            self.latencies.push(now - client.sent);
            client.sent = now;
        }
    }
}
