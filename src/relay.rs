//! Both directions of a connection, until both sides have closed.
//!
//! One hand-written future for both directions: two async pumps under a `select!` make a future of
//! 1,000 bytes, this one is a fifth of it, and it has one waker.

mod end;
mod flow;
mod pump;
#[cfg(test)]
mod tests;

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::task::{unconstrained, yield_now};

pub use end::End;
use end::{Ended, Side};
pub use flow::{Flow, Resources, Verdict};
use pump::{Pump, Turn, Way};

use crate::net::{Broken, Leg};
use crate::outcome::{ByDirection, Direction};
use crate::telemetry::BackendStats;

/// The limits of a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// No byte in either direction.
    pub idle_timeout: Duration,
    /// No byte in the open direction once the other has closed.
    pub half_close_timeout: Duration,
    /// A peer takes no byte while bytes wait for it.
    pub stall_timeout: Duration,
    /// Idle time before TCP probes, on both legs.
    pub keepalive: Duration,
    /// Bytes that a direction has moved before it may hold a pipe: 0 always splices, `u64::MAX`
    /// always copies. Not a key of routes.toml: [`BULK_AFTER`] is right for everybody but tests.
    pub bulk_after: u64,
}

/// More than socket buffers can swallow for a peer that reads nothing: a flow that moved so much
/// has a reader, and deserves a pipe.
pub const BULK_AFTER: u64 = 16 << 20;

/// Resolves when a leg has an error.
type Watch = Pin<Box<dyn Future<Output = ()>>>;

/// The future that carries bytes both ways.
pub struct Relay {
    client: Leg,
    backend: Leg,
    flow: Rc<Flow>,
    resources: Rc<Resources>,
    stats: Arc<BackendStats>,
    bulk_after: u64,
    pumps: ByDirection<Pump>,
    watches: ByDirection<Option<Watch>>,
    ended: Ended,
}

/// What a relay works with besides its two legs.
pub struct Means {
    /// What the connection shares with its worker.
    pub flow: Rc<Flow>,
    /// The worker's buffers, pipes and clock.
    pub resources: Rc<Resources>,
    /// The backend's counters.
    pub stats: Arc<BackendStats>,
    /// The backend's limits.
    pub limits: Limits,
}

impl Relay {
    /// Joins two connected legs. The limits begin to run.
    pub fn new(client: Leg, backend: Leg, means: Means) -> Self {
        let Means {
            flow,
            resources,
            stats,
            limits,
        } = means;
        flow.begin(&limits, resources.now());
        Self {
            client,
            backend,
            flow,
            resources,
            stats,
            bulk_after: limits.bulk_after,
            pumps: ByDirection::default(),
            watches: ByDirection::default(),
            ended: Ended::default(),
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
            flow: &self.flow,
            resources: &self.resources,
            stats: &self.stats,
            bulk_after: self.bulk_after,
        };
        let pump = &mut self.pumps[direction];
        if let Poll::Ready(Ok(())) = pump.poll(cx, &way, turn)
            && self.ended.direction(direction, &self.flow)
        {
            self.flow.half_close(self.resources.now());
            to.shut_down_writing();
        }
    }

    /// Watches each leg that nobody reads: its pump is blocked, or has ended. A reset of such a leg
    /// is told by nothing else.
    fn watch(&mut self, cx: &mut Context<'_>) {
        for (side, leg) in [(Side::Client, &self.client), (Side::Backend, &self.backend)] {
            let watch = &mut self.watches[side.sends()];
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

    /// Hands on what a broken leg had received, without waiting: the reset that follows throws the
    /// send queue away in any case, and must not wait for a stuck reader.
    fn last_turn(&mut self, side: Side, cx: &mut Context<'_>) {
        let mut turn = Turn::unlimited();
        let once = unconstrained(poll_fn(|cx| {
            self.pump(side.sends(), &mut turn, cx);
            Poll::Ready(())
        }));
        _ = pin!(once).poll(cx);
    }
}

impl Future for Relay {
    type Output = End;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<End> {
        let this = self.get_mut();
        if let Some(verdict) = this.flow.poll_verdict(cx) {
            return Poll::Ready(End::cut(verdict));
        }
        let mut turns = ByDirection::<Turn>::default();
        for direction in Direction::ALL {
            this.pump(direction, &mut turns[direction], cx);
        }
        if this.ended.both() {
            this.client.close_in_order();
            this.backend.close_in_order();
            return Poll::Ready(this.ended.in_order(&this.flow));
        }
        this.watch(cx);
        if let Some((side, broken)) = this.broken() {
            this.last_turn(side, cx);
            let said_close = this.pumps[side.sends()].has_said_close();
            return Poll::Ready(this.ended.broken(side, broken, said_close, &this.flow));
        }
        if turns.iter().any(Turn::is_used_up) {
            // `wake_by_ref` would run this task up to 61 times before epoll is looked at.
            _ = pin!(yield_now()).poll(cx);
        }
        Poll::Pending
    }
}
