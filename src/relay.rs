//! Both directions of a connection, until both sides have closed.
//!
//! One hand-written future serves both directions. Two async pumps under a `select!` make a future
//! of 1,000 bytes; this one takes a fifth of that, and has one waker.

mod answers;
mod end;
mod failed;
mod flow;
mod gap;
mod handshake;
mod hellos;
mod part;
mod pump;
mod resources;
mod seen;
mod small;
mod talk;
mod terms;
#[cfg(test)]
mod tests;
mod words;

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use enum_map::EnumMap;
use strum::VariantArray;
use tokio::task::{unconstrained, yield_now};

pub use end::{End, Parting};
use end::{Ended, Side};
pub use flow::{Flow, HandshakeSeen};
use gap::Stage;
pub use hellos::{Back, Digest, Hellos, Tag};
use pump::{Pump, Turn, Way};
pub use resources::Resources;
use seen::{Answer, Seen};
pub use small::Micros;
pub use terms::{Terms, Verdict};

use crate::net::{Broken, Leg, LegOptions, Path, any_readable};
use crate::outcome::Direction;

/// The rules of a relay: its limits, and how it carries bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Longest time without a byte in either direction.
    pub idle_timeout: Duration,
    /// Longest time without a byte in the open direction once the other has closed.
    pub half_close_timeout: Duration,
    /// Longest time in which a peer takes no byte while bytes wait for it, here or in the kernel.
    pub stall_timeout: Duration,
    /// Longest time in which a peer answers nothing of what was sent to it, neither bytes nor probes.
    pub peer_timeout: Option<Duration>,
    /// Options of both legs.
    pub leg: LegOptions,
    /// When a direction splices. It is not a key of routes.toml.
    pub splicing: Splicing,
}

/// When a direction splices instead of copying. Only tests choose other values than the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Splicing {
    /// While it reads in large pieces, and has moved more than socket buffers can absorb for a peer
    /// that reads nothing.
    #[default]
    Bulk,
    /// Always.
    Always,
    /// Never.
    Never,
    /// At every second read.
    Alternating,
}

/// For each leg, by the direction that it sends: a future that resolves when it has an error.
type Watches = EnumMap<Direction, Option<Pin<Box<dyn Future<Output = ()>>>>>;

/// The future that carries bytes both ways.
pub struct Relay<'a> {
    client: Leg,
    backend: Leg,
    flow: &'a Flow,
    resources: &'a Resources,
    splicing: Splicing,
    /// The options of its legs have been set, because it has lived long enough.
    settled: bool,
    pumps: EnumMap<Direction, Pump>,
    /// The number of this relay's last turn among all turns of its worker.
    last_turn: u32,
    /// A request of the client has crossed the FIN of a gap.
    crossed: bool,
    /// Present while a leg is not read; boxed, because both are read most of the time.
    watches: Option<Box<Watches>>,
    ended: Ended,
}

impl<'a> Relay<'a> {
    /// Joins two connected legs. It uses the flow that the connection shares with its worker, the
    /// worker's resources, and the terms of the backend. The limits begin to run.
    pub fn new(
        client: Leg,
        backend: Leg,
        flow: &'a Flow,
        resources: &'a Resources,
        terms: Arc<Terms>,
    ) -> Self {
        let splicing = terms.rules.splicing;
        flow.begin(terms, resources.now());
        Self {
            client,
            backend,
            flow,
            resources,
            splicing,
            settled: false,
            pumps: EnumMap::default(),
            last_turn: 0,
            crossed: false,
            watches: None,
            ended: Ended::default(),
        }
    }

    /// Sets the options of the legs once the worker has reviewed the flow. The client's leg has the
    /// default ones from its listener already.
    fn settle(&mut self) {
        let Some(options) = self.flow.leg_options().filter(|_| !self.settled) else {
            return;
        };
        self.settled = true;
        self.backend.set_options(options);
        if options != LegOptions::DEFAULT {
            self.client.set_options(options);
        }
    }

    /// Lets the pump of a direction run until it waits, its turn is used up, or it has ended.
    fn pump(&mut self, direction: Direction, turn: &mut Turn, cx: &mut Context<'_>) {
        let (from, to) = match direction {
            Direction::ClientToBackend => (&self.client, &self.backend),
            Direction::BackendToClient => (&self.backend, &self.client),
        };
        let way = Way {
            from,
            to,
            direction,
            flow: self.flow,
            resources: self.resources,
            splicing: self.splicing,
        };
        let pump = &mut self.pumps[direction];
        if let Poll::Ready(Ok(())) = pump.poll(cx, &way, turn)
            && self.ended.direction(direction, self.flow)
        {
            self.flow.half_close(direction, self.resources.now());
            to.shut_down_writing();
        }
    }

    /// Watches each leg that nobody reads, because its pump is blocked or has ended. Nothing else
    /// reports a reset of such a leg.
    fn watch(&mut self, cx: &mut Context<'_>) {
        if self.pumps.values().all(Pump::is_reading) {
            self.watches = None;
            return;
        }
        let watches = self.watches.get_or_insert_default();
        for (side, leg) in [(Side::Client, &self.client), (Side::Backend, &self.backend)] {
            let watch = &mut watches[side.sends()];
            if self.pumps[side.sends()].is_reading() {
                *watch = None;
            } else if watch
                .get_or_insert_with(|| leg.watch())
                .as_mut()
                .poll(cx)
                .is_ready()
            {
                *watch = None;
                leg.fail_watched();
            }
        }
    }

    /// The side whose leg is broken, if one is.
    fn broken(&self) -> Option<(Side, Broken)> {
        let sides = [(Side::Client, &self.client), (Side::Backend, &self.backend)];
        let mut broken = sides
            .into_iter()
            .filter_map(|(side, leg)| Some((side, leg.broken()?)));
        broken.next()
    }

    /// The leg that receives the bytes of a direction.
    const fn receiver(&self, direction: Direction) -> &Leg {
        match direction {
            Direction::ClientToBackend => &self.backend,
            Direction::BackendToClient => &self.client,
        }
    }

    /// Looks at both sockets, without taking anything.
    fn look(&self) -> Seen {
        let mut seen = Seen::default();
        for &direction in Direction::VARIANTS {
            seen.unacknowledged[direction] = self.receiver(direction).unacknowledged();
            seen.held[direction] = self.pumps[direction].is_holding();
            if self.flow.is_answer_due(direction, self.resources.now()) {
                let unanswered = self.receiver(direction).unanswered();
                seen.answer[direction] = unanswered.map_or(Answer::Complete, Answer::Missing);
            }
        }
        let sides = [(Side::Client, &self.client), (Side::Backend, &self.backend)];
        let read = sides.into_iter();
        let read = read.filter(|(side, _)| self.pumps[side.sends()].is_reading());
        seen.arrived = any_readable(read.map(|(_, leg)| leg));
        seen.is_in_gap = self.is_in_gap();
        seen
    }

    /// The bytes that are still on their way although both directions have ended, if the end has to
    /// wait for them. A process that ends with its last connection may take the kernel's queues with
    /// it, as the last process of a container does.
    fn unfinished(&self) -> Option<Seen> {
        let seen = self.resources.is_draining().then(|| self.look())?;
        if !seen.is_any_unacknowledged() {
            return None;
        }
        self.client.shut_down_writing();
        self.backend.shut_down_writing();
        Some(seen)
    }

    /// Closes both legs after both directions have ended: the kernel delivers what it still holds.
    fn close(&self) -> End {
        self.client.close_in_order();
        self.backend.close_in_order();
        self.ended.in_order(self.flow)
    }

    /// Ends the connection with a verdict, by a reset unless both directions have ended already.
    fn cut(&self, verdict: Verdict, seen: &Seen) -> End {
        if self.ended.both() {
            self.close()
        } else {
            End::cut(verdict, seen, self.flow)
        }
    }

    /// Passes on what a broken leg had received, without waiting. The reset that follows discards
    /// the send queue in any case, and must not wait for a stuck reader.
    fn hand_on_rest(&mut self, side: Side, cx: &mut Context<'_>) {
        self.pump(side.sends(), &mut Turn::unlimited(), cx);
    }

    /// Gives both directions a turn.
    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if self.flow.gap.stage() == Stage::Parting {
            return self.part(cx);
        }
        if let Some(verdict) = self.flow.poll_verdict(cx) {
            return Poll::Ready(self.cut(verdict, &self.look()));
        }
        self.settle();
        let others = self.resources.take_turn(&mut self.last_turn);
        let mut is_used_up = false;
        for &direction in Direction::VARIANTS {
            let mut turn = Turn::among(others);
            self.pump(direction, &mut turn, cx);
            is_used_up |= turn.is_used_up();
        }
        let mut seen = None;
        if self.ended.both() {
            seen = self.unfinished();
            if seen.is_none() {
                return Poll::Ready(self.close());
            }
        }
        self.watch(cx);
        // Once both have ended, a broken leg does not matter: the rest for the other one is delivered.
        if seen.is_none()
            && let Some((side, broken)) = self.broken()
        {
            self.hand_on_rest(side, cx);
            return Poll::Ready(self.failed(side, broken));
        }
        if let Some(seen) = seen.or_else(|| self.flow.is_asked().then(|| self.look()))
            && let Some(verdict) = self.flow.judge(&seen, self.resources.now())
        {
            if verdict == Verdict::Gap {
                self.begin_to_part();
                return self.part(cx);
            }
            return Poll::Ready(self.cut(verdict, &seen));
        }
        if is_used_up {
            // `wake_by_ref` would run this task up to 61 times before the runtime looks at epoll.
            _ = pin!(yield_now()).poll(cx);
        }
        Poll::Pending
    }
}

impl Future for Relay<'_> {
    /// Beside the end, the path to the client and that to the backend. The sockets close with them.
    type Output = (End, [Path; 2]);

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        // A turn has its own bound. tokio's budget is 128 reads and writes for each time that a task
        // has the thread; the first direction alone could use it up every time.
        let end = ready!(pin!(unconstrained(poll_fn(|cx| this.turn(cx)))).poll(cx));
        let end = handshake::explain(end, this.flow.gap.talk());
        Poll::Ready((end, [this.client.path(), this.backend.path()]))
    }
}
