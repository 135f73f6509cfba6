//! One direction of a relay.

use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};

use super::{Flow, Resources, Splicing};
use crate::net::{Broken, Leg, Pipe};
use crate::outcome::Direction;
use crate::tls::ends_with_alert;

/// More than socket buffers can absorb for a peer that reads nothing. A flow that has moved that much
/// has a reader, and deserves a pipe.
const BULK_AFTER: u64 = 16 << 20;

/// A read of this size makes a flow bulk. Above it a pipe costs less than copying, below it more
/// (the crossover is between 4 and 16 KiB).
const BULK_READ: usize = 16 << 10;

/// Bytes that a pump may move before the relay lets others have the thread.
#[derive(Debug)]
pub(super) struct Turn(usize);

impl Turn {
    /// Bytes that up to four busy relays together move each way before the first one has its next
    /// turn. That bounds how long a message waits behind them: 4 MiB take a millisecond.
    const ROUND: usize = 4 << 20;

    /// Shorter turns cost more by changing than they gain.
    const LEAST: usize = 1 << 20;

    /// The turn of a relay if other relays had `others` turns since its last one. A relay alone gets
    /// a long turn: at each change of turns both peers fall asleep, and waking them takes most of a
    /// relay's CPU. Bulk both ways in turns of 4 MiB costs two thirds to three quarters of what it
    /// costs in turns of 1 MiB.
    pub(super) fn among(others: u32) -> Self {
        let all = usize::try_from(others).map_or(usize::MAX, |others| others.saturating_add(1));
        Self((Self::ROUND / all).max(Self::LEAST))
    }

    pub(super) const fn unlimited() -> Self {
        Self(usize::MAX)
    }

    /// Whether less than a large read is left: a splice of that size would look like a small read.
    pub(super) const fn is_used_up(&self) -> bool {
        self.0 < BULK_READ
    }

    const fn spend(&mut self, bytes: usize) {
        self.0 = self.0.saturating_sub(bytes);
    }
}

/// Where the bytes of a pump come from and go to.
pub(super) struct Way<'a> {
    pub(super) from: &'a Leg,
    pub(super) to: &'a Leg,
    pub(super) direction: Direction,
    pub(super) flow: &'a Flow,
    pub(super) resources: &'a Resources,
    pub(super) splicing: Splicing,
}

impl Way<'_> {
    /// Counts bytes that the receiver has taken.
    fn moved(&self, bytes: usize) {
        self.flow
            .add(self.direction, bytes as u64, self.resources.now());
        if self.direction == Direction::BackendToClient {
            self.resources.hellos.answered(self.flow);
        }
    }
}

/// The result of a splice out of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spliced {
    /// A pipe holds bytes.
    Bytes,
    /// Nothing was spliced; a receive tells more.
    Nothing,
    /// The flow deserves a pipe, but none was free.
    NoPipe,
}

/// Bytes that one side has sent and the other has not taken.
#[derive(Debug)]
enum Held {
    Bytes(Bytes),
    Pipe(Pipe),
}

impl Held {
    /// Passes everything on.
    fn poll_send(&mut self, cx: &mut Context<'_>, way: &Way<'_>) -> Poll<Result<(), Broken>> {
        loop {
            match self {
                Self::Bytes(bytes) if bytes.is_empty() => return Poll::Ready(Ok(())),
                Self::Bytes(bytes) => {
                    let sent = ready!(way.to.poll_send(cx, bytes))?;
                    bytes.advance(sent);
                    way.moved(sent);
                }
                Self::Pipe(pipe) if pipe.held() == 0 => return Poll::Ready(Ok(())),
                Self::Pipe(pipe) => match ready!(way.to.poll_drain(cx, pipe))? {
                    0 => *self = Self::Bytes(way.to.reclaim(pipe)?.into()),
                    sent => way.moved(sent),
                },
            }
        }
    }
}

/// One direction. It reads only while it holds nothing, so that each EAGAIN has one meaning: from a
/// read, that the sender has sent nothing; from a write, that the receiver is full. An idle pump
/// holds neither a pipe nor a buffer.
#[derive(Debug, Default)]
pub(super) struct Pump {
    held: Option<Box<Held>>,
    /// How much had been moved, in [`Pump::PROOF_UNIT`], when it lost a pipe that it had kept for too
    /// long. From there it has to qualify for a pipe again.
    unproven: u32,
    /// The last read was large, so the next one is better spliced.
    bulk: bool,
    /// The last read ended with an alert: the sender has announced that it closes.
    said_close: bool,
    ended: bool,
}

impl Pump {
    /// The unit, in bytes, of [`Pump::unproven`].
    const PROOF_UNIT: u64 = 64 << 10;

    /// Moves bytes until it has to wait, the turn is used up, or it has read the end and passed on
    /// everything before it. A broken leg is an error; the leg remembers it.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        way: &Way<'_>,
        turn: &mut Turn,
    ) -> Poll<Result<(), Broken>> {
        loop {
            if let Some(held) = &mut self.held {
                if held.poll_send(cx, way)?.is_pending() {
                    way.flow.block(way.direction, way.resources.now());
                    ready!(self.poll_give_back(way))?;
                    continue;
                }
                self.held = None;
                way.flow.give_back(way.direction);
            }
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            if turn.is_used_up() {
                return Poll::Pending;
            }
            let spliced = ready!(self.poll_splice(cx, way, turn));
            if spliced == Spliced::Bytes {
                continue;
            }
            ready!(self.poll_copy(cx, way, turn))?;
            if spliced == Spliced::NoPipe && !self.ended {
                way.resources.pipes.fell_back();
            }
        }
    }

    /// Whether the sender has announced that it closes, and the announcement has been passed on.
    /// portway does not see bytes in a pipe, so an alert right behind bulk data goes unnoticed.
    pub(super) const fn has_said_close(&self) -> bool {
        self.said_close && self.held.is_none()
    }

    /// Whether it holds bytes that its receiver has not taken.
    pub(super) const fn is_holding(&self) -> bool {
        self.held.is_some()
    }

    /// Whether it waits for its sender. An error of that leg then wakes it.
    pub(super) const fn is_reading(&self) -> bool {
        self.held.is_none() && !self.ended
    }

    /// Takes the bytes out of a pipe that has been held for too long, so that others can use the
    /// pipe. Pending if there is no such pipe.
    fn poll_give_back(&mut self, way: &Way<'_>) -> Poll<Result<(), Broken>> {
        if !way.flow.is_overdue(way.direction, way.resources.now()) {
            return Poll::Pending;
        }
        // Also if a failed splice has moved the bytes out of the pipe before.
        way.flow.give_back(way.direction);
        let Some(Held::Pipe(pipe)) = self.held.as_deref_mut() else {
            return Poll::Pending;
        };
        let bytes = way.to.reclaim(pipe)?;
        self.held = Some(Box::new(Held::Bytes(bytes.into())));
        let moved = way.flow.moved(way.direction) / Self::PROOF_UNIT;
        self.unproven = u32::try_from(moved).unwrap_or(u32::MAX);
        Poll::Ready(Ok(()))
    }

    fn deserves_pipe(&self, way: &Way<'_>) -> bool {
        let unproven = u64::from(self.unproven) * Self::PROOF_UNIT;
        match way.splicing {
            Splicing::Bulk => self.bulk && way.flow.moved(way.direction) - unproven >= BULK_AFTER,
            Splicing::Always => true,
            Splicing::Never => false,
            Splicing::Alternating => self.bulk,
        }
    }

    /// Fills a pipe if the flow deserves one.
    fn poll_splice(
        &mut self,
        cx: &mut Context<'_>,
        way: &Way<'_>,
        turn: &mut Turn,
    ) -> Poll<Spliced> {
        // The last bytes of a broken leg come only from a receive; readiness does not report them.
        if way.from.broken().is_some() || !self.deserves_pipe(way) {
            return Poll::Ready(Spliced::Nothing);
        }
        let Some(mut pipe) = way.resources.pipes.lend() else {
            return Poll::Ready(Spliced::NoPipe);
        };
        let count = ready!(way.from.poll_fill(cx, &mut pipe, turn.0));
        self.bulk = count >= BULK_READ && way.splicing != Splicing::Alternating;
        self.said_close &= count == 0;
        turn.spend(count);
        if count == 0 {
            return Poll::Ready(Spliced::Nothing);
        }
        self.held = Some(Box::new(Held::Pipe(pipe)));
        way.flow.lend(way.direction, way.resources.now());
        Poll::Ready(Spliced::Bytes)
    }

    /// Receives into the worker's buffer, sends at once, and holds what the receiver did not take.
    fn poll_copy(
        &mut self,
        cx: &mut Context<'_>,
        way: &Way<'_>,
        turn: &mut Turn,
    ) -> Poll<Result<(), Broken>> {
        let mut buffer = way.resources.buffer.borrow_mut();
        let bytes = ready!(way.from.poll_receive(cx, &mut buffer))?;
        turn.spend(bytes.len());
        self.bulk = bytes.len() >= BULK_READ || way.splicing == Splicing::Alternating;
        self.ended = bytes.is_empty();
        self.said_close = ends_with_alert(bytes);
        if bytes.is_empty() {
            way.flow.close(way.direction);
            return Poll::Ready(Ok(()));
        }
        way.flow.pass(way.direction, bytes, way.resources.now());
        let sent = match way.to.poll_send(cx, bytes)? {
            Poll::Ready(sent) => sent,
            Poll::Pending => 0,
        };
        if sent > 0 {
            way.moved(sent);
        }
        if let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
            self.held = Some(Box::new(Held::Bytes(Bytes::copy_from_slice(rest))));
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_relay_alone_has_long_turns_and_one_among_others_short_ones() {
        let resources = Resources::new(1024, Arc::default());
        let mut mine = 0;
        let mut turn = || Turn::among(resources.take_turn(&mut mine)).0;
        let first = turn();
        assert_eq!(turn(), 4 << 20, "alone");
        assert_eq!(first, 4 << 20);
        let mut another = 0;
        resources.take_turn(&mut another);
        assert_eq!(turn(), 2 << 20, "one other");
        for _ in 0..1000 {
            resources.take_turn(&mut another);
        }
        assert_eq!(turn(), 1 << 20, "a thousand others");
    }
}
