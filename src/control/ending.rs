//! The orderly end after a request to stop: the listeners stay open for a while, and connections end.

use std::mem;
use std::time::Duration;

use humantime::format_duration;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::drain::{CUT_TIME, CUT_TIME_AT_ONCE, DRAINING, cut, ended, tell};
use super::entering::refuse;
use super::socket::{Asked, Before, Link};
use super::succession::{LOOK, Predecessor};
use super::upgrade::STOPPING;
use super::{Control, Request, Stopped, Workers};
use crate::config::Drain;
use crate::worker::Message;

#[cfg(test)]
mod tests;

/// How long the end waits for a successor that has the sockets and does not accept yet. Until then it is not
/// known whether that one or the predecessor goes on.
const TAKEOVER_TIME: Duration = Duration::from_secs(10);

/// An event that ends a wait during a drain.
enum Heard {
    /// This process must end at once, for this reason.
    Now(Stopped),
    /// A successor accepts at our sockets.
    TakenOver,
    /// The predecessor has the addresses again.
    Back,
    /// The predecessor waits for our end, and accepts again then.
    Linked,
    /// Nothing happened until the time was up.
    Time,
}

impl Control {
    /// Ends in order. A successor may come until the end.
    pub(super) async fn stop(&mut self) -> Stopped {
        let Drain {
            delay,
            timeout: over,
            ..
        } = self.in_force.drain;
        let closes = Instant::now() + delay;
        self.settle_upgrade(STOPPING);
        self.stop_coming_back();
        self.begin_to_drain("stop", delay, over);
        match self.until_closing(closes).await {
            Heard::Now(stopped) => return self.stop_at_once(stopped).await,
            Heard::Back => self.give_admin_back(),
            Heard::TakenOver | Heard::Linked | Heard::Time => {}
        }
        self.in_force.close();
        tell(&self.mailboxes, || Message::Close);
        tell(&self.mailboxes, || Message::Spread { over });
        if self.admin.is_none() {
            // Nothing is left to take over: the next process to start may have the name.
            self.leave_socket();
        }
        let limit = Instant::now() + over;
        let stopped = self.end(over).await;
        if stopped == Stopped::Drained {
            return self.outlive_parent(limit).await;
        }
        stopped
    }

    /// If this process was asked to stop, waits for the end of its parent, until `limit` at most. systemd sends all
    /// processes of the unit a signal to stop, and a second one to those that are left when the main process has ended.
    pub(super) async fn outlive_parent(&mut self, limit: Instant) -> Stopped {
        if self.stops.has_come() && self.living_parent().is_some() {
            self.tell_wait();
        }
        while self.stops.has_come() && self.living_parent().is_some() && Instant::now() < limit {
            if let Ok(Heard::Now(stopped)) = timeout(LOOK, self.hear()).await {
                return self.stop_at_once(stopped).await;
            }
        }
        Stopped::Drained
    }

    /// The predecessor that has started this process, if this one must end after it and it is still there.
    pub(super) fn living_parent(&self) -> Option<i32> {
        let now = rustix::process::getppid().map(|parent| parent.as_raw_nonzero().get());
        self.parent.filter(|_| self.parent == now)
    }

    pub(super) fn tell_wait(&self) {
        let pid = self.parent;
        tracing::info!(
            pid,
            "drained: waiting for the end of the process before this one"
        );
    }

    /// If the successor has just crashed, waits until it is known whether another process accepts, although this one has
    /// drained. Returns how it ends.
    pub(super) async fn await_next(&mut self) -> Stopped {
        // The main process ends the unit anyway.
        while self.heir.has_just_crashed() && !self.service.is_main() {
            if let Ok(Heard::Now(stopped)) = timeout(LOOK, self.hear()).await {
                return stopped;
            }
        }
        Stopped::Drained
    }

    /// Waits until the last connection has ended, for at most `over`.
    async fn end(&mut self, over: Duration) -> Stopped {
        let mut workers: Workers = mem::take(&mut self.workers);
        let limit = Instant::now() + over;
        let is_over = loop {
            tokio::select! {
                biased;
                heard = self.hear() => match heard {
                    Heard::Now(stopped) => {
                        self.workers = workers;
                        return self.stop_at_once(stopped).await;
                    }
                    Heard::Linked => {
                        // Our listeners are closed, so the predecessor accepts from now on.
                        self.predecessor = Predecessor::None;
                        self.leave_service();
                        self.give_admin_back();
                        self.leave_socket();
                    }
                    Heard::TakenOver | Heard::Back | Heard::Time => {}
                },
                drained = timeout_at(limit, ended(&mut workers)) => break drained.is_err(),
            }
        };
        if is_over {
            let limit = format_duration(over);
            tracing::warn!(%limit, "drain_timeout is over: resetting the connections that are left");
            cut(&self.mailboxes, &mut workers, CUT_TIME).await;
        }
        self.end_drain();
        Stopped::Drained
    }

    /// Waits until it is time to close the listeners. If a predecessor is still alive, asks it to accept again.
    async fn until_closing(&mut self, closes: Instant) -> Heard {
        loop {
            if matches!(self.predecessor, Predecessor::Linked(_))
                && let Some(heard) = self.until_known().await
            {
                return heard;
            }
            let heard = match mem::replace(&mut self.predecessor, Predecessor::None) {
                Predecessor::Linked(link) => self.give_back(link, closes).await,
                before @ (Predecessor::None | Predecessor::Awaited(_)) => {
                    self.predecessor = before;
                    tokio::select! {
                        biased;
                        heard = self.hear() => Some(heard),
                        () = sleep_until(closes) => Some(Heard::Time),
                    }
                }
            };
            match heard {
                Some(Heard::Linked) | None => {}
                Some(heard) => return heard,
            }
        }
    }

    /// Waits until a successor that has the sockets accepts or has given up. If it gives up, the predecessor
    /// goes on.
    async fn until_known(&mut self) -> Option<Heard> {
        let limit = Instant::now() + TAKEOVER_TIME;
        // systemd signals the main process first. A predecessor that must stop too does not come back.
        let least = Instant::now() + self.parent.map_or(Duration::ZERO, |_| LOOK);
        while Instant::now() < least || self.takeover.upgrade().is_some() && Instant::now() < limit
        {
            match timeout(LOOK, self.hear()).await {
                Ok(Heard::Linked) | Err(_) => {}
                Ok(heard) => return Some(heard),
            }
        }
        None
    }

    /// Asks the predecessor to accept again. `None` if it has ended.
    async fn give_back(&mut self, mut link: Link, closes: Instant) -> Option<Heard> {
        // The predecessor gets the name of the control socket too.
        self.leave_socket();
        let mut asked = tokio::select! {
            biased;
            heard = self.hear() => {
                if matches!(heard, Heard::TakenOver) {
                    link.say_farewell();
                }
                return Some(heard);
            }
            asked = link.ask_back() => asked,
        };
        if asked == Asked::Silent {
            tracing::warn!("the predecessor does not answer: it accepts again once it can");
            asked = tokio::select! {
                biased;
                heard = self.hear() => return Some(heard),
                asked = link.answer() => asked,
                () = sleep_until(closes) => asked,
            };
        }
        match asked {
            Asked::Ended => {
                self.take_socket(Before::Nobody);
                return None;
            }
            Asked::Back => tracing::info!("the predecessor accepts again"),
            // It does so when it sees that the link has ended.
            Asked::Silent => {}
        }
        self.leave_service();
        Some(Heard::Back)
    }

    /// Leaves the unit to the predecessor, which goes on as the main process and outlives this one.
    fn leave_service(&mut self) {
        self.service.leave();
        self.parent = None;
    }

    fn give_admin_back(&mut self) {
        self.leave_admin();
        self.admin = None;
    }

    /// Keeps a signal to reload for a successor that is taking over.
    fn keep_reload(&mut self) {
        if self.takeover.upgrade().is_some() {
            tracing::warn!("a successor is taking over: if it accepts, it reads the file again");
            self.again = Some(Instant::now());
        } else {
            tracing::warn!("{DRAINING}");
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
                Some(Request::Stop) if self.stops.is_second() => {
                    return Heard::Now(Stopped::AtOnce);
                }
                Some(Request::Stop) => {}
                // Not logged here, because `--watch` asks again and again.
                Some(Request::Reload(Some(asker))) => refuse(asker, DRAINING),
                Some(Request::Reload(None)) => self.keep_reload(),
                Some(Request::Configuration(asker)) => self.show_configuration(asker),
                Some(Request::Addresses(of, asker)) => self.show_addresses(&of, asker),
                Some(Request::Upgrade(asker)) => asker.refuse(STOPPING),
                Some(Request::Sockets(answer)) => self.hand_over(answer),
                Some(Request::TakenOver(successor)) => {
                    tracing::info!("a successor has taken the listeners over");
                    match successor {
                        Some(successor) => {
                            self.leave_reload_to(&successor);
                            successor.only_show();
                        }
                        // The other process is the main one.
                        None => self.leave_service(),
                    }
                    self.say_farewell();
                    self.give_admin_back();
                    return Heard::TakenOver;
                }
                Some(Request::Succeeds(link)) => {
                    let is_linked = link.is_some();
                    self.succeed(link);
                    if is_linked {
                        return Heard::Linked;
                    }
                }
                Some(Request::Unserved(_)) => {
                    if let Some(stopped) = self.replace_successor() {
                        return Heard::Now(stopped);
                    }
                }
                None => return std::future::pending().await,
            }
        }
    }

    /// Ends for this reason without waiting for connections.
    pub(super) async fn stop_at_once(&mut self, why: Stopped) -> Stopped {
        tell(&self.mailboxes, || Message::Close);
        cut(&self.mailboxes, &mut self.workers, CUT_TIME_AT_ONCE).await;
        self.end_drain();
        why
    }
}
