//! Collects what the status pages show: from the snapshot, the counters, and the mailboxes of the workers.

mod access;
mod backends;
mod collect;
mod descriptors;
mod rates;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::{timeout, timeout_at};

use crate::admission::Admission;
use crate::config::StatusPages;
use crate::snapshot::{AddressId, Snapshot};
use crate::status::{self, Connections, Predecessor, Query, Refusals, Status};
use crate::telemetry::{Registry, Time};
use crate::worker::{Look, Mailbox, Message};
pub(super) use access::denial;
use collect::Collected;
use descriptors::Descriptors;
use rates::Samples;

/// How long a look waits for the workers, and for the looks before it.
const LOOK_TIMEOUT: Duration = Duration::from_secs(1);
const TURN_TIMEOUT: Duration = Duration::from_secs(5);
/// Faults of a refused reload, and characters of each.
const FAULTS: usize = 20;
const LONGEST_FAULT: usize = 500;

/// The parts of a relay that are asked.
pub struct Relay {
    /// The counters.
    pub registry: Arc<Registry>,
    /// The limits and their use.
    pub admission: Arc<Admission>,
    /// The mailboxes of the workers.
    pub mailboxes: Arc<[Mailbox]>,
}

/// The configuration in force, for the pages.
pub struct Current {
    /// The snapshot that new connections take.
    pub snapshot: Arc<Snapshot>,
    /// The bound addresses.
    pub addresses: Vec<(AddressId, SocketAddr)>,
    /// The path of its file, if there is one.
    pub file: Option<String>,
    /// CRC-32 of its text.
    pub hash: u32,
    /// When it came into force.
    pub loaded: SystemTime,
    /// The clients that may see the pages.
    pub pages: StatusPages,
}

/// Collects the status, for one look at a time.
pub(super) struct Reporter {
    relay: Relay,
    started: SystemTime,
    current: Mutex<Option<Arc<Current>>>,
    refused_reload: Mutex<Option<status::Reload>>,
    drain: Mutex<Option<status::Drain>>,
    samples: Mutex<Samples>,
    descriptors: Descriptors,
    turn: Arc<Semaphore>,
}

/// The turn of a look. It lasts as long as the work for the look does, even if nobody waits for that any more.
pub(super) type Turn = Arc<OwnedSemaphorePermit>;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// No configuration is in force yet.
    #[error("starting: no configuration is in force yet; ask again in a moment")]
    Starting,
    /// Too many looks wait.
    #[error("too many requests for the status wait: ask again later")]
    Busy,
    /// An internal error.
    #[error("an internal error stopped the answer (please report the panic in the program log)")]
    Broken,
}

impl From<JoinError> for NoAnswer {
    fn from(_panic_that_is_logged: JoinError) -> Self {
        Self::Broken
    }
}

impl Reporter {
    pub(super) fn new(relay: Relay) -> Self {
        Self {
            relay,
            started: SystemTime::now(),
            current: Mutex::default(),
            refused_reload: Mutex::default(),
            drain: Mutex::default(),
            samples: Mutex::default(),
            descriptors: Descriptors::default(),
            turn: Arc::new(Semaphore::new(1)),
        }
    }

    /// Shows this configuration from now on.
    pub(super) fn adopt(&self, current: Current) {
        lock(&self.samples).adopt(&current.snapshot);
        *lock(&self.current) = Some(Arc::new(current));
        self.sample(Instant::now());
    }

    /// Shows that the last reload was refused for these faults, or that none is refused any more.
    pub(super) fn refuse_reload(&self, faults: Option<&[String]>) {
        let mut refused = lock(&self.refused_reload);
        let shown = |fault: &String| fault.chars().take(LONGEST_FAULT).collect();
        *refused = faults.map(|faults| status::Reload {
            time: now(),
            faults: faults.iter().take(FAULTS).map(shown).collect(),
            faults_not_shown: faults.len().saturating_sub(FAULTS),
        });
    }

    /// Shows the drain that has begun.
    pub(super) fn drain(&self, cause: &str, limit: Duration) {
        let begin = SystemTime::now();
        let until = begin.checked_add(limit).unwrap_or(begin);
        *lock(&self.drain) = Some(status::Drain {
            cause: cause.to_owned(),
            since: Time(begin).to_string(),
            until: Time(until).to_string(),
        });
    }

    /// Takes a sample for the rates, if one is due.
    pub(super) fn sample(&self, now: Instant) {
        let current = lock(&self.current).clone();
        if let Some(current) = current {
            lock(&self.samples).sample(&current.snapshot, &self.relay.registry, now);
        }
    }

    pub(super) fn current(&self) -> Result<Arc<Current>, NoAnswer> {
        lock(&self.current).clone().ok_or(NoAnswer::Starting)
    }

    /// Waits until the looks before this one are over.
    pub(super) async fn take_turn(&self) -> Result<Turn, NoAnswer> {
        let turn = timeout(TURN_TIMEOUT, Arc::clone(&self.turn).acquire_owned()).await;
        let Ok(Ok(turn)) = turn else {
            return Err(NoAnswer::Busy);
        };
        Ok(Arc::new(turn))
    }

    /// The status of this process.
    pub(super) async fn status(
        self: &Arc<Self>,
        turn: Turn,
        stage: status::Stage,
        predecessor: Predecessor,
    ) -> Result<Status, NoAnswer> {
        let current = self.current()?;
        let (parts, silent_workers) = self.ask_all(Look::Refusals).await;
        let this = Arc::clone(self);
        // It may take long if there are many things.
        let collected = spawn_blocking(move || {
            let _turn = turn;
            let (refused, refused_forgotten) = Refusals::join(parts);
            let mut status = Status {
                time: now(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                started: Time(this.started).to_string(),
                uptime_s: this.started.elapsed().unwrap_or_default().as_secs(),
                stage,
                drain: lock(&this.drain)
                    .clone()
                    .filter(|_| stage == status::Stage::Draining),
                predecessor,
                configuration: status::Configuration {
                    refused_reload: lock(&this.refused_reload).clone(),
                    ..status::Configuration::default()
                },
                refused,
                refused_forgotten,
                silent_workers,
                ..Status::default()
            };
            let rates = lock(&this.samples).rates(&current.snapshot, &this.relay.registry);
            Collected {
                status: &mut status,
                relay: &this.relay,
                current: &current,
                rates: &rates,
                descriptors: &this.descriptors,
            }
            .fill();
            status
        });
        Ok(collected.await?)
    }

    /// The connections that a query selects.
    pub(super) async fn connections(&self, _turn: &Turn, query: Query) -> Connections {
        let (limit, by_id) = (query.limit, query.sort == status::Sort::Id);
        let query = Arc::new(query);
        let look = |answer| Look::Connections {
            query: Arc::clone(&query),
            answer,
        };
        let (parts, silent) = self.ask_all(look).await;
        Connections::join(parts, silent, limit, by_id)
    }

    /// Asks all workers. Returns their answers, and how many have not answered in time.
    async fn ask_all<T>(&self, look: impl Fn(oneshot::Sender<T>) -> Look) -> (Vec<T>, usize) {
        let ask = |mailbox: &Mailbox| {
            let (answer, answered) = oneshot::channel();
            mailbox.send(Message::Look(look(answer)));
            answered
        };
        let asked: Vec<_> = self.relay.mailboxes.iter().map(ask).collect();
        let end = tokio::time::Instant::now() + LOOK_TIMEOUT;
        let (mut answers, mut silent) = (Vec::new(), 0);
        for answer in asked {
            match timeout_at(end, answer).await {
                Ok(Ok(answer)) => answers.push(answer),
                Ok(Err(_)) | Err(_) => silent += 1,
            }
        }
        (answers, silent)
    }
}

fn now() -> String {
    Time(SystemTime::now()).to_string()
}

// Every critical section leaves its data consistent, so a poisoned lock can be used.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
