//! The time after a takeover. The old process keeps the listening sockets without accepting at them, and accepts
//! again if its successor ends.

use std::mem;
use std::net::SocketAddr;
use std::process;
use std::time::Duration;

use humantime::format_duration;
use tokio::time::{Instant, interval, sleep_until, timeout};
use tracing::field::display;

use super::drain::{Begun, CUT_TIME, DRAINING, ended, tell};
use super::entering::refuse;
use super::socket::{Link, Successor, Word};
use super::upgrade::ANOTHER;
use super::{Control, FIRST, Request, Stopped, lost};
use crate::status::Stage;
use crate::worker::Message;

/// Why this process does not reload after a takeover.
const SUCCEEDED: &str = "a successor has taken the listeners over: reload that one";

/// Time between two checks whether connections are left.
pub(super) const LOOK: Duration = Duration::from_millis(100);

/// The predecessor, whose listening sockets this process has.
pub(super) enum Predecessor {
    /// There is none, or it needs no more messages.
    None,
    /// It does not know yet that we accept. These are the addresses that it must close then.
    Awaited(Vec<SocketAddr>),
    /// It holds the sockets too, and accepts again if this connection ends.
    Linked(Link),
}

/// The end of a drain.
struct Limit {
    /// The key in `[limits]` that sets it.
    key: &'static str,
    over: Duration,
    at: Instant,
}

impl Limit {
    fn new(key: &'static str, over: Duration) -> Self {
        let at = Instant::now() + over;
        Self { key, over, at }
    }
}

impl Control {
    /// Makes the predecessor close these addresses too, so that they really close.
    pub(super) fn release(&mut self, closed: &[SocketAddr]) {
        match &mut self.predecessor {
            Predecessor::None => {}
            Predecessor::Awaited(later) => later.extend(closed),
            Predecessor::Linked(link) => link.tell_closed(closed),
        }
    }

    /// Takes over from the predecessor, which has stopped accepting.
    pub(super) fn succeed(&mut self, link: Option<Link>) {
        let before = mem::replace(&mut self.predecessor, Predecessor::None);
        self.state.succeed(link.as_ref().map(Link::questions));
        // Without a predecessor, the process that gets the control socket is the main one.
        if link.is_some() {
            self.service.begin();
        }
        if let (Some(link), Predecessor::Awaited(closed)) = (link, before) {
            link.tell_closed(&closed);
            self.predecessor = Predecessor::Linked(link);
        }
    }

    /// Notifies the predecessor that it need not accept again, because a successor does.
    pub(super) fn say_farewell(&mut self) {
        if let Predecessor::Linked(link) = mem::replace(&mut self.predecessor, Predecessor::None) {
            link.say_farewell();
        }
    }

    /// Leaves the listeners to a successor, and drains. `None` if this process must accept again.
    pub(super) async fn yield_to(&mut self, mut successor: Option<Successor>) -> Option<Stopped> {
        let is_last = successor.is_none();
        let mut limit = self.begin_to_yield(successor.as_ref());
        let (mut looks, mut is_cut, mut is_told) = (interval(LOOK), false, false);
        loop {
            tokio::select! {
                biased;
                request = self.stops.next() => {
                    let request = request.unwrap_or(Request::Stop);
                    if let Some(why) = self.heed(request, &mut successor, &mut limit) {
                        return Some(self.stop_at_once(why).await);
                    }
                }
                word = word(&mut successor) => if self.obey(word, &mut successor) { return None },
                what = lost(&mut self.workers, &self.registry) => return Some(Stopped::Lost(what)),
                never = self.names.run() => match never {},
                () = sleep_until(limit.at), if !is_cut && !self.loads.are_over() => is_cut = self.cut(&limit),
                _ = looks.tick() => {}
            }
            let is_stuck = is_cut && limit.at.elapsed() > CUT_TIME;
            if !self.loads.are_over() && !is_stuck {
                continue;
            }
            self.end_drain();
            if is_last || self.may_end(limit.at, &mut is_told) {
                break;
            }
        }
        self.let_go();
        drop(successor);
        Some(self.end_workers(limit.at).await)
    }

    /// Ends the workers, which have no connection any more.
    async fn end_workers(&mut self, limit: Instant) -> Stopped {
        tell(&self.mailboxes, || Message::Close);
        _ = timeout(CUT_TIME, ended(&mut self.workers)).await;
        self.outlive_parent(limit).await
    }

    /// Whether the process may end once it has drained.
    fn may_end(&mut self, limit: Instant, is_told: &mut bool) -> bool {
        // Until an upgrade has its answer, the successor that has just begun may end.
        if self.stops.has_come() || !self.has_answered_upgrade() {
            return self.stops.has_come();
        }
        // A container that ends would be started again, and would take the listeners back.
        let is_first = process::id() == FIRST;
        // When all processes of a unit are stopped, each waits for its parent: without this one, nobody waits for ours.
        let is_between = self.living_parent().is_some() && Instant::now() < limit;
        let must_stay = is_first || is_between;
        if must_stay && !mem::replace(is_told, true) {
            if is_between {
                self.tell_wait();
            } else {
                tracing::info!("drained: waiting to be stopped");
            }
        }
        !must_stay
    }

    /// Makes the workers stop accepting, and begins to drain. Without a successor this process cannot come back.
    /// Returns the limit of the drain.
    fn begin_to_yield(&mut self, successor: Option<&Successor>) -> Limit {
        tracing::info!("a successor has taken the listeners over");
        self.settle_upgrade(ANOTHER);
        self.say_farewell();
        if let Some(successor) = successor {
            self.leave_reload_to(successor);
        } else {
            // The other process is the main one, and the unit does not stop.
            self.service.leave();
        }
        let limit = Limit::new("takeover_timeout", self.in_force.drain.takeover_timeout);
        self.begin_to_drain("takeover", Duration::ZERO, limit.over);
        self.leave_admin();
        self.in_force.pause(&self.mailboxes);
        tell(&self.mailboxes, || Message::Spread { over: limit.over });
        if successor.is_none() {
            // The sockets are only for coming back.
            self.let_go();
        }
        limit
    }

    /// Passes a signal to reload on that came while the takeover was under way.
    pub(super) fn leave_reload_to(&mut self, successor: &Successor) {
        if self.again.take().is_some() {
            successor.pass_reload_on();
        }
    }

    /// Answers a request after a takeover. Returns why this process must end at once, if it must.
    fn heed(
        &mut self,
        request: Request,
        successor: &mut Option<Successor>,
        limit: &mut Limit,
    ) -> Option<Stopped> {
        match request {
            Request::Stop if self.stops.is_second() => return Some(Stopped::AtOnce),
            Request::Stop => {
                // From now on this process does not come back.
                if let Some(successor) = successor.take() {
                    successor.only_show();
                }
                self.let_go();
                let stopped = Limit::new("drain_timeout", self.in_force.drain.timeout);
                if stopped.at < limit.at {
                    *limit = stopped;
                    tell(&self.mailboxes, || Message::Spread { over: limit.over });
                }
            }
            Request::Reload(Some(asker)) => refuse(asker, SUCCEEDED),
            Request::Reload(None) => {
                if let Some(successor) = successor {
                    successor.pass_reload_on();
                } else {
                    tracing::warn!("{SUCCEEDED}");
                }
            }
            Request::Configuration(asker) => self.show_configuration(asker),
            Request::Addresses(of, asker) => self.show_addresses(&of, asker),
            Request::Upgrade(asker) => asker.refuse(ANOTHER),
            // A process that may come back does so when it sees that the successor is gone.
            Request::Unserved(_) if successor.is_none() => return self.replace_successor(),
            Request::Unserved(_)
            | Request::Sockets(_)
            | Request::TakenOver(_)
            | Request::Succeeds(_) => {}
        }
        None
    }

    /// Follows a message of the successor. True if this process comes back.
    fn obey(&mut self, word: Word, successor: &mut Option<Successor>) -> bool {
        match word {
            Word::Closed(address) => self.close_also(address),
            Word::Farewell => {
                *successor = None;
                self.let_go();
            }
            Word::Return => {
                self.come_back(successor.take());
                return true;
            }
            Word::Gone => {
                tracing::warn!("the successor has ended: this process accepts again");
                self.come_back(None);
                return true;
            }
        }
        false
    }

    fn cut(&self, Limit { key, over, .. }: &Limit) -> bool {
        tracing::warn!(
            limit = %format_duration(*over),
            "{key} is over: resetting the connections that are left"
        );
        tell(&self.mailboxes, || Message::Cut);
        true
    }

    /// Drops all sockets. The workers and the successor still hold them.
    pub(super) fn let_go(&mut self) {
        self.in_force.close();
        self.admin = None;
    }

    /// Begins to drain, because of this cause.
    pub(super) fn begin_to_drain(
        &mut self,
        cause: &'static str,
        delay: Duration,
        timeout: Duration,
    ) {
        self.state.begin_drain(cause, delay + timeout);
        self.state.enter(Stage::Draining);
        for asker in self.reload.end() {
            refuse(asker, DRAINING);
        }
        (self.entering, self.waiting) = (None, None);
        // If the predecessor does not know yet that we accept, it goes on.
        self.given = None;
        self.drain = Some(Begun::now(&self.registry));
        // Usually there is no delay.
        let shown = (!delay.is_zero()).then(|| display(format_duration(delay)));
        let connections = self.loads.connections();
        tracing::info!(cause, connections, delay = shown, timeout = %format_duration(timeout), "draining");
        let may_return = matches!(self.predecessor, Predecessor::Linked(_));
        self.service.stopping(delay + timeout, may_return);
    }

    /// Logs the end of the drain, once.
    pub(super) fn end_drain(&mut self) {
        if let Some(drain) = self.drain.take() {
            drain.tell_end(&self.registry);
        }
    }
}

/// Waits for the next message of the successor, or for ever if there is none.
async fn word(successor: &mut Option<Successor>) -> Word {
    match successor {
        Some(successor) => successor.word().await,
        None => std::future::pending().await,
    }
}
