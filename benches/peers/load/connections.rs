//! Short connections: connect, hello and command, a small answer, close.
//!
//! The hello of a post-quantum client comes in two segments, and on a wire some time passes between
//! them. On loopback both would be one segment, or be read at once. So the second part is sent at least
//! [`GAP`] later, and the relay under test sees two arrivals.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::RecvFlags;

use super::hello::{FIRST_SEGMENT, Mode, renew};
use super::socket::{EventFlags, Poll, Ready, connect, send_whole};
use super::{Run, Value, WARM_UP, float, percentiles, told};
use crate::results::Figure;

/// Shortest time between the two segments of a hello.
const GAP: Duration = Duration::from_micros(200);

/// Bytes of the answer.
const ANSWER: usize = 100;

/// A connection that takes longer has failed.
const LONGEST: Duration = Duration::from_secs(10);

/// Clients, each with one connection after the other.
struct Clients<'a> {
    run: &'a Run<'a>,
    poll: Poll,
    slots: Vec<Option<Slot>>,
    /// The part that is sent first.
    first: Vec<u8>,
    /// The part that is sent [`GAP`] later.
    rest: Vec<u8>,
    /// When the rest is due, and for which slot.
    due: VecDeque<(Instant, usize)>,
    latencies: Vec<Duration>,
    ready: Vec<Ready>,
}

struct Slot {
    socket: OwnedFd,
    began: Instant,
    state: State,
    /// Bytes of the answer that have come.
    received: usize,
}

#[derive(Clone, Copy)]
enum State {
    Connects,
    /// The rest of its hello is still to be sent.
    Pauses,
    IsAnswered,
}

/// Measures connections.
pub(super) fn run(run: &Run<'_>, at_a_time: usize, split: bool) -> Result<Vec<Value>, String> {
    let mut clients = Clients::new(run, split)?;
    clients.begin(at_a_time)?;
    clients.go_on(Instant::now() + WARM_UP)?;
    clients.latencies.clear();
    let begin = run.mark()?;
    clients.go_on(begin.at + run.window())?;
    let end = run.mark()?;
    let mut latencies = std::mem::take(&mut clients.latencies);
    clients.finish(end.at)?;
    let count = float(latencies.len() as u64);
    let mut values = percentiles(&mut latencies)?;
    values.push((Figure::ConnectionsPerSecond, count / end.seconds(begin)));
    let cpu = end.cpu_seconds(begin) * 1e6 / count;
    values.push((Figure::CpuMicrosecondsPerConnection, cpu));
    Ok(values)
}

/// Makes `count` connections, one after the other. Returns how long each took.
pub(super) fn one_by_one(run: &Run<'_>, count: usize) -> Result<Vec<Duration>, String> {
    let mut clients = Clients::new(run, false)?;
    clients.begin(1)?;
    while clients.latencies.len() < count {
        clients.turn(Instant::now() + LONGEST)?;
        clients.none_is_stuck()?;
    }
    Ok(clients.latencies)
}

impl<'a> Clients<'a> {
    fn new(run: &'a Run<'a>, split: bool) -> Result<Self, String> {
        let command = run.command(Mode::Answer, ANSWER);
        let (first, rest) = if split {
            let mut hello = run.hellos.post_quantum.clone();
            hello.extend(command.encode());
            let rest = hello.split_off(FIRST_SEGMENT);
            (hello, rest)
        } else {
            (run.classic(command), Vec::new())
        };
        Ok(Self {
            run,
            poll: Poll::new().map_err(told("epoll"))?,
            slots: Vec::new(),
            first,
            rest,
            due: VecDeque::new(),
            latencies: Vec::new(),
            ready: Vec::new(),
        })
    }

    /// Begins the first connection of each client.
    fn begin(&mut self, at_a_time: usize) -> Result<(), String> {
        for key in 0..at_a_time {
            let slot = self.connect(key).map_err(told("a connection"))?;
            self.slots.push(Some(slot));
        }
        Ok(())
    }

    fn connect(&self, key: usize) -> Result<Slot, Errno> {
        let began = Instant::now();
        let socket = connect(self.run.address)?;
        // One registration for its whole life.
        let interest = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
        self.poll.add(&socket, key, interest)?;
        Ok(Slot {
            socket,
            began,
            state: State::Connects,
            received: 0,
        })
    }

    fn go_on(&mut self, until: Instant) -> Result<(), String> {
        while Instant::now() < until {
            self.turn(until)?;
        }
        Ok(())
    }

    /// Goes on until all connections begun before `end` are done: the relay may have lost one.
    fn finish(&mut self, end: Instant) -> Result<(), String> {
        while self.slots.iter().flatten().any(|slot| slot.began < end) {
            self.turn(Instant::now() + LONGEST)?;
            self.none_is_stuck()?;
        }
        Ok(())
    }

    /// Waits for an event, at most until `until`, and does what is due.
    fn turn(&mut self, until: Instant) -> Result<(), String> {
        let until = self.due.front().map_or(until, |(due, _)| until.min(*due));
        let left = until.saturating_duration_since(Instant::now());
        let mut ready = std::mem::take(&mut self.ready);
        let waited = self.poll.wait(left, &mut ready);
        waited.map_err(told("epoll"))?;
        for event in ready.drain(..) {
            self.advance(event).map_err(told("a connection"))?;
        }
        self.ready = ready;
        let now = Instant::now();
        while let Some((_, key)) = self.due.pop_front_if(|(due, _)| *due <= now) {
            if let Some(Some(slot)) = self.slots.get_mut(key) {
                send_whole(&slot.socket, &self.rest).map_err(told("the rest of a hello"))?;
                slot.state = State::IsAnswered;
            }
        }
        Ok(())
    }

    fn advance(&mut self, event: Ready) -> Result<(), Errno> {
        let Some(Some(slot)) = self.slots.get_mut(event.key) else {
            return Ok(());
        };
        match slot.state {
            State::Connects if event.writable() => {
                renew(&mut self.first);
                send_whole(&slot.socket, &self.first)?;
                if self.rest.is_empty() {
                    slot.state = State::IsAnswered;
                } else {
                    slot.state = State::Pauses;
                    self.due.push_back((Instant::now() + GAP, event.key));
                }
                Ok(())
            }
            State::IsAnswered if event.readable() => {
                if slot.receive()? {
                    self.begin_next(event.key)?;
                }
                Ok(())
            }
            State::Pauses if event.readable() => Err(Errno::CONNRESET),
            State::Connects | State::Pauses | State::IsAnswered => Ok(()),
        }
    }

    /// Closes the connection of a client, and begins the next one.
    fn begin_next(&mut self, key: usize) -> Result<(), Errno> {
        if let Some(slot) = self.slots.get_mut(key).and_then(Option::take) {
            let began = slot.began;
            drop(slot);
            self.latencies.push(began.elapsed());
        }
        let next = self.connect(key)?;
        if let Some(slot) = self.slots.get_mut(key) {
            *slot = Some(next);
        }
        Ok(())
    }

    fn none_is_stuck(&self) -> Result<(), String> {
        let mut slots = self.slots.iter().flatten();
        match slots.find(|slot| slot.began.elapsed() > LONGEST) {
            Some(slot) => Err(format!(
                "a connection was not done in {} s: it {}",
                LONGEST.as_secs(),
                match slot.state {
                    State::Connects => "is not accepted",
                    State::Pauses => "has not sent all of its hello",
                    State::IsAnswered => "has no answer",
                }
            )),
            None => Ok(()),
        }
    }
}

impl Slot {
    /// Whether the whole answer has come.
    fn receive(&mut self) -> Result<bool, Errno> {
        let mut answer = [0; ANSWER];
        match rustix::net::recv(&self.socket, &mut answer, RecvFlags::empty()) {
            Ok((_, 0)) => Err(Errno::PIPE),
            Ok((_, length)) => {
                self.received += length;
                Ok(self.received >= ANSWER)
            }
            Err(Errno::AGAIN) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
