//! The time after a takeover, and the end. A process that has been succeeded keeps the listening sockets, without
//! accepting at them, and accepts again if its successor ends.

use std::mem;
use std::net::SocketAddr;
use std::process;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, interval, sleep_until, timeout, timeout_at};

use super::drain::{self, CUT_TIME, DRAINING, cut, ended, tell};
use super::entering::{Entering, Kind, Step, refuse};
use super::socket::{Link, Successor, Word};
use super::{Control, FIRST, Request, Stopped, Takeover, Workers};
use crate::admin::Stage;
use crate::worker::Message;

/// Why nothing is reloaded after a takeover.
const SUCCEEDED: &str = "a successor has taken the listeners over: reload that one";

/// Between two looks whether connections are left.
const LOOK: Duration = Duration::from_millis(100);

/// The process whose listening sockets this one has.
pub(super) enum Predecessor {
    /// There is none, or it needs to know nothing more.
    None,
    /// It has not been told yet that we accept; what it must close by then.
    Awaited(Vec<SocketAddr>),
    /// It holds the sockets too, and accepts again if this connection ends.
    Linked(Link),
}

/// What was heard during a drain.
enum Heard {
    /// A second request to stop.
    Stop,
    /// A successor accepts at our sockets.
    TakenOver,
    /// The predecessor can be asked to accept again.
    Linked,
    /// The predecessor accepts again.
    Back,
    /// Nothing, until it was time.
    Time,
}

impl Control {
    /// These addresses are no longer listened at: the predecessor closes them too, so that they really close.
    pub(super) fn release(&mut self, closed: &[SocketAddr]) {
        match &mut self.predecessor {
            Predecessor::None => {}
            Predecessor::Awaited(later) => later.extend(closed),
            Predecessor::Linked(link) => link.tell_closed(closed),
        }
    }

    /// The predecessor accepts no more.
    pub(super) fn succeed(&mut self, link: Option<Link>) {
        let before = mem::replace(&mut self.predecessor, Predecessor::None);
        if let (Some(link), Predecessor::Awaited(closed)) = (link, before) {
            link.tell_closed(&closed);
            self.predecessor = Predecessor::Linked(link);
        }
    }

    /// Leaves the listeners to a successor, and drains. None once this process is to accept again.
    pub(super) async fn yield_to(&mut self, successor: Successor) -> Option<Stopped> {
        let over = self.begin_to_yield();
        let mut successor = Some(successor);
        let (limit, mut looks) = (Instant::now() + over, interval(LOOK));
        let (mut is_cut, mut is_told) = (false, false);
        loop {
            tokio::select! {
                biased;
                request = self.stops.next() => {
                    if self.heed(request.unwrap_or(Request::Stop), &mut successor) {
                        return Some(self.stop_at_once().await);
                    }
                }
                word = word(&mut successor) => if self.obey(word, &mut successor) { return None },
                _ = self.workers.join_next() => return Some(Stopped::WorkerLost),
                never = self.names.run() => match never {},
                () = sleep_until(limit), if !is_cut && self.loads.total() > 0 => is_cut = self.cut(over),
                _ = looks.tick() => {}
            }
            let is_stuck = is_cut && limit.elapsed() > CUT_TIME;
            if self.loads.total() > 0 && !is_stuck {
                continue;
            }
            if self.may_end(&mut is_told) {
                break;
            }
        }
        self.let_go();
        drop(successor);
        tell(&self.mailboxes, || Message::Close);
        _ = timeout(CUT_TIME, ended(&mut self.workers)).await;
        Some(Stopped::Drained)
    }

    /// Whether the process may end once it has drained.
    fn may_end(&self, is_told: &mut bool) -> bool {
        // A container that ended would be started again, and take the listeners back.
        let may_end = process::id() != FIRST || self.stops.has_come();
        if !may_end && !mem::replace(is_told, true) {
            tracing::info!("drained: waiting to be stopped");
        }
        may_end
    }

    /// Lets the workers accept no more, and begins to drain. Returns the limit of the drain.
    fn begin_to_yield(&mut self) -> Duration {
        tracing::info!("a successor has taken the listeners over");
        if let Predecessor::Linked(link) = mem::replace(&mut self.predecessor, Predecessor::None) {
            link.say_farewell();
        }
        self.begin_to_drain(Duration::ZERO);
        self.leave_admin();
        self.in_force.pause(&self.mailboxes);
        let over = self.in_force.drain.timeout;
        tell(&self.mailboxes, || Message::Spread { over });
        over
    }

    /// Answers a request after a takeover. True if it is the second one to stop.
    fn heed(&mut self, request: Request, successor: &mut Option<Successor>) -> bool {
        match request {
            Request::Stop if self.stops.is_second() => return true,
            Request::Stop => {
                // From now on it does not come back.
                *successor = None;
                self.let_go();
            }
            Request::Reload(Some(asker)) => refuse(asker, SUCCEEDED),
            Request::Reload(None) => tracing::warn!("{SUCCEEDED}"),
            Request::Sockets(_) | Request::TakenOver(_) | Request::Succeeds(_) => {}
        }
        false
    }

    /// Does what the successor says. True if this process comes back.
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

    fn cut(&self, limit: Duration) -> bool {
        tracing::warn!(?limit, "drain_timeout: the connections left are reset");
        tell(&self.mailboxes, || Message::Cut);
        true
    }

    /// Accepts again, and tells the successor then, if that has asked for it.
    fn come_back(&mut self, successor: Option<Successor>) {
        tell(&self.mailboxes, || Message::Resume);
        self.entering = Some(Entering {
            generation: self.registry.config().generation(),
            step: Step::Listening(self.in_force.listen(&self.mailboxes)),
            askers: Vec::new(),
            kind: Kind::Back(successor),
        });
    }

    /// Closes what the successor has closed.
    fn close_also(&mut self, address: SocketAddr) {
        self.in_force.let_go(address);
        let is_it = |admin: &std::net::TcpListener| admin.local_addr().ok() == Some(address);
        if self.admin.as_deref().is_some_and(is_it) {
            self.admin = None;
        }
    }

    /// Lets go of all sockets: the queues are the workers' and the successor's.
    fn let_go(&mut self) {
        self.in_force.close();
        self.admin = None;
    }

    /// Gives a successor the sockets that are open. One that comes while another one has them is sent away,
    /// and asks again.
    pub(super) fn hand_over(&mut self, answer: oneshot::Sender<Takeover>) {
        if self.takeover.upgrade().is_some() {
            return;
        }
        let under_way = std::sync::Arc::new(());
        self.takeover = std::sync::Arc::downgrade(&under_way);
        // Who has asked may be gone.
        drop(answer.send(Takeover {
            listening: self.in_force.sockets(),
            admin: self.admin.clone(),
            under_way,
        }));
    }

    fn begin_to_drain(&mut self, delay: Duration) {
        let timeout = self.in_force.drain.timeout;
        self.state.enter(Stage::Draining);
        for asker in self.reload.end() {
            refuse(asker, DRAINING);
        }
        (self.entering, self.waiting) = (None, None);
        tracing::info!(?delay, ?timeout, "draining");
        super::service::stopping(delay + timeout);
    }

    /// Ends in order. Until the end a successor may come.
    pub(super) async fn stop(&mut self) -> Stopped {
        let drain::Limits {
            delay,
            timeout: over,
        } = self.in_force.drain;
        let closes = Instant::now() + delay;
        self.begin_to_drain(delay);
        match self.until_closing(closes).await {
            Heard::Stop => return self.stop_at_once().await,
            Heard::Back => {
                tracing::info!("the predecessor accepts again");
                self.leave_admin();
                self.admin = None;
            }
            Heard::TakenOver | Heard::Linked | Heard::Time => {}
        }
        // A predecessor that did not answer accepts again once this connection ends.
        self.predecessor = Predecessor::None;
        self.in_force.close();
        tell(&self.mailboxes, || Message::Close);
        tell(&self.mailboxes, || Message::Spread { over });
        if self.admin.is_none() {
            // There is nothing left to take over: who is started next may have the name.
            self.leave_socket();
        }
        self.end(over).await
    }

    /// Waits for the last connection, for so long at most.
    async fn end(&mut self, over: Duration) -> Stopped {
        let mut workers: Workers = mem::take(&mut self.workers);
        let limit = Instant::now() + over;
        let is_over = loop {
            tokio::select! {
                biased;
                heard = self.hear() => if matches!(heard, Heard::Stop) {
                    self.workers = workers;
                    return self.stop_at_once().await;
                },
                drained = timeout_at(limit, ended(&mut workers)) => break drained.is_err(),
            }
        };
        if is_over {
            tracing::warn!(limit = ?over, "drain_timeout: the connections left are reset");
            cut(&self.mailboxes, &mut workers, CUT_TIME).await;
        }
        Stopped::Drained
    }

    /// Waits until the listeners are to be closed. A predecessor that still lives is asked to accept again.
    async fn until_closing(&mut self, closes: Instant) -> Heard {
        loop {
            let before = mem::replace(&mut self.predecessor, Predecessor::None);
            let mut link = None;
            if let Predecessor::Linked(linked) = before {
                link = Some(linked);
            } else {
                self.predecessor = before;
            }
            if link.is_some() {
                // It is the predecessor's again.
                self.leave_socket();
            }
            let waits = async {
                if let Some(link) = &mut link
                    && link.ask_back().await
                {
                    return Heard::Back;
                }
                sleep_until(closes).await;
                Heard::Time
            };
            tokio::select! {
                biased;
                heard = self.hear() => if !matches!(heard, Heard::Linked) { return heard },
                heard = waits => return heard,
            }
        }
    }

    /// Answers requests until one of them changes how the drain goes on.
    async fn hear(&mut self) -> Heard {
        loop {
            let request = tokio::select! {
                request = self.stops.next() => request,
                never = self.names.run() => match never {},
            };
            match request {
                Some(Request::Stop) if self.stops.is_second() => return Heard::Stop,
                Some(Request::Stop) => {}
                Some(Request::Reload(asker)) => {
                    tracing::warn!("{DRAINING}");
                    if let Some(asker) = asker {
                        refuse(asker, DRAINING);
                    }
                }
                Some(Request::Sockets(answer)) => self.hand_over(answer),
                Some(Request::TakenOver(_)) => {
                    tracing::info!("a successor has taken the listeners over");
                    self.leave_admin();
                    self.admin = None;
                    return Heard::TakenOver;
                }
                Some(Request::Succeeds(link)) => {
                    self.succeed(link);
                    return Heard::Linked;
                }
                None => return std::future::pending().await,
            }
        }
    }

    async fn stop_at_once(&mut self) -> Stopped {
        tell(&self.mailboxes, || Message::Close);
        cut(&self.mailboxes, &mut self.workers, drain::CUT_TIME_AT_ONCE).await;
        Stopped::AtOnce
    }
}

/// The next word of the successor, if there is one.
async fn word(successor: &mut Option<Successor>) -> Word {
    match successor {
        Some(successor) => successor.word().await,
        None => std::future::pending().await,
    }
}
