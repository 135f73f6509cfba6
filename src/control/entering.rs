//! Puts a change in force: looks its names up, then sends messages to the workers. Nothing here waits;
//! only the loop of control does.

use std::{io, path};

use tokio::time::{Instant, timeout_at};

use super::change::Change;
use super::in_force::Listens;
use super::names::{self, Names};
use super::reload::Asker;
use super::socket::{Before, Successor};
use super::steps::Rejected;
use super::watch::Content;
use super::watch::RETRY;
use super::{Control, NotReloaded, TAKING_OVER};

/// The generation of the configuration at the start.
const FIRST_GENERATION: u64 = 1;

/// The change that is coming into force.
pub(super) struct Entering {
    pub(super) generation: u64,
    pub(super) step: Step,
    pub(super) askers: Vec<Asker>,
    pub(super) kind: Kind,
}

/// Why a change comes into force.
pub(super) enum Kind {
    /// portway starts.
    First,
    /// The file was read again.
    Reload,
    /// This process accepts again, because the successor has ended or asks for it.
    Back(Option<Successor>),
}

pub(super) enum Step {
    /// Its names are being looked up, until this time.
    Resolving(Box<Change>, Instant),
    /// The workers have their messages, and begin to listen.
    Listening(Listens),
}

impl Control {
    /// Begins to read the file again. A failure leaves everything as it was.
    pub(super) fn reload(&mut self, asker: Option<Asker>) {
        if self.is_taken_over() {
            if let Some(asker) = asker {
                // Not logged here, because `--watch` asks again and again.
                refuse(asker, TAKING_OVER);
            } else {
                tracing::warn!(
                    "a successor is taking over: the file is read again once it accepts, or has given up"
                );
                self.again = Some(Instant::now() + RETRY);
            }
            return;
        }
        if self.reload.is_idle() {
            self.service.reloading();
        }
        self.reload.ask(asker);
    }

    /// Reads the file again without a request, unless a reload is under way.
    pub(super) fn try_again(&mut self) {
        self.again = Some(Instant::now() + RETRY);
        if self.reload.is_idle() && !self.is_taken_over() {
            self.reload(None);
        }
    }

    pub(super) fn reject(&mut self, rejected: Rejected, askers: Vec<Asker>) {
        self.tried.set(if rejected.may_pass {
            Content::Unknown
        } else {
            Content::of(rejected.hash)
        });
        if self.failure.as_ref() != Some(&rejected.text) {
            self.registry.config().failed();
            self.state.refuse_reload(Some(&rejected.lines));
            rejected.log();
        }
        for asker in askers {
            drop(asker.send(Err(NotReloaded::Rejected(rejected.text.clone()))));
        }
        self.failure = Some(rejected.text);
        if rejected.may_pass || rejected.hash.is_none() {
            // A successor that is ending may still hold the addresses, or the resources to read a file.
            self.again = self.again.map(|_| Instant::now() + RETRY);
        } else {
            self.again = None;
        }
        self.service.ready();
        self.give_to_waiting();
    }

    /// Begins to put a change in force: looks new names up before a connection needs them.
    pub(super) fn enter(&mut self, change: Change, askers: Vec<Asker>) {
        let admin = self.admin.as_ref();
        let admin = admin.and_then(|admin| admin.local_addr().ok());
        let own = self.in_force.own(&change, admin);
        self.names.update(&change.bearers(), own);
        let kind = match change.snapshot.generation {
            FIRST_GENERATION => Kind::First,
            _ => Kind::Reload,
        };
        self.entering = Some(Entering {
            generation: change.snapshot.generation,
            step: Step::Resolving(Box::new(change), Instant::now() + names::FIRST_PASS),
            askers,
            kind,
        });
    }

    /// Goes on with the change, after it has finished a step.
    pub(super) fn entered(&mut self, result: io::Result<()>) -> io::Result<()> {
        let Some(entering) = self.entering.take() else {
            return Ok(());
        };
        let Entering {
            generation,
            step,
            askers,
            kind,
        } = entering;
        if let Step::Resolving(change, _) = step {
            self.tried.set(Content::Hash(change.source.fingerprint));
            let config = self.registry.config();
            config.loaded(generation, change.source.hash);
            let (listens, closed) = self.in_force.apply(*change, &self.mailboxes);
            self.release(&closed);
            self.show();
            self.entering = Some(Entering {
                generation,
                step: Step::Listening(listens),
                askers,
                kind,
            });
            return Ok(());
        }
        match kind {
            Kind::First => {
                result?;
                let before = self
                    .given
                    .take()
                    .map_or(Before::Nobody, Before::Predecessor);
                self.begin_to_serve(before);
                tracing::info!("ready");
                self.watch();
            }
            Kind::Reload => {
                tell_deaf(result);
                self.again = None;
                tracing::info!(generation, "reloaded");
            }
            Kind::Back(successor) => {
                tell_deaf(result);
                self.bind_admin_again();
                self.begin_to_serve(Before::Successor(successor));
                tracing::info!("accepting again");
                // Read the file that the successor had, with the addresses that it closed or opened.
                self.try_again();
            }
        }
        self.failure = None;
        self.state.refuse_reload(None);
        for asker in askers {
            drop(asker.send(Ok(generation)));
        }
        self.service.ready();
        self.give_to_waiting();
        Ok(())
    }

    /// Shows the configuration in force on the status pages.
    fn show(&self) {
        let file = self.file.as_ref().map(|(file, _)| &file.path);
        let file = file.map(|path| {
            // An operator may look from another directory.
            let absolute = path::absolute(path).unwrap_or_else(|_| path.clone());
            absolute.display().to_string()
        });
        if let Some(current) = self.in_force.shown(file) {
            self.state.adopt(current);
        }
    }

    fn give_to_waiting(&mut self) {
        if let Some(successor) = self.waiting.take() {
            self.give(successor);
        }
    }
}

/// Waits until the change has finished a step. Without a change it keeps the names resolved.
pub(super) async fn further(entering: &mut Option<Entering>, names: &mut Names) -> io::Result<()> {
    match entering.as_mut().map(|entering| &mut entering.step) {
        Some(Step::Resolving(_, until)) => {
            let _passed_or_late = timeout_at(*until, names.first_pass()).await;
            Ok(())
        }
        Some(Step::Listening(listens)) => listens.all().await,
        None => match names.run().await {},
    }
}

/// Logs that a worker does not accept at an address, or at one of its sockets.
fn tell_deaf(listens: io::Result<()>) {
    if let Err(error) = listens {
        tracing::error!(%error, "a worker cannot listen: restart portway");
    }
}

/// Answers a request for a reload with the reason why there is none now.
pub(super) fn refuse(asker: Asker, why: &'static str) {
    // The asker may be gone.
    drop(asker.send(Err(NotReloaded::NotNow(why))));
}
