//! Races: two addresses are dialled at the same time, or three with a trial, because the client must not wait until an attempt at the first one
//! times out.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::pending;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::spawn_local;
use tokio::time::sleep_until;
use tracing::info;

use super::attempt::{Dial, Failure};
use super::ruled_out::RuledOut;
use super::{Dialled, Family, Missed, is_spent};
use crate::backend::{Address, Candidate};

/// Time that an address on trial gets before the others are dialled beside it. Its last dial
/// failed, so it may well be dead.
const OF_TRIAL: Duration = Duration::from_millis(50);

/// Time that an address gets before one of the other family is dialled beside it: the Connection Attempt Delay of RFC 8305
/// section 5. A dial that has less than twice this time left gives it half of that.
const OF_FAMILY: Duration = Duration::from_millis(250);

/// An address that has connected so lately is not slow: a packet was lost, or the dial waited for its turn.
const LATELY: Duration = Duration::from_secs(10);

/// The end of an attempt. A failure comes with the candidates that it makes useless.
type Ended = Result<Dialled, (Failure, Option<RuledOut>)>;
type Attempt<'r> = Pin<Box<dyn Future<Output = Ended> + 'r>>;

/// Whether a dial of these candidates may have to be a race. Where all addresses are of one family, and none is on trial,
/// it is none, and needs neither its memory nor its timer.
pub(super) fn is_due(candidates: &[Candidate]) -> bool {
    let Some((first, others)) = candidates.split_first() else {
        return false;
    };
    let is_ipv4 = first.address.at().is_ipv4();
    let mut others = others.iter();
    (first.on_trial() && !others.as_slice().is_empty())
        || others.any(|other| other.address.at().is_ipv4() != is_ipv4)
}

/// The candidates that wait, and what is known of the others.
struct Queue {
    waiting: VecDeque<Candidate>,
    tried: Vec<Family>,
    ruled_out: Vec<RuledOut>,
}

/// An attempt in progress.
struct Running<'r> {
    attempt: Attempt<'r>,
    family: Family,
    address: Arc<Address>,
    on_trial: bool,
    has_failed: bool,
    /// When another one is dialled beside it, if one is.
    patience: Option<Instant>,
}

impl Queue {
    /// The next candidate that is worth an attempt.
    fn next(&mut self) -> Option<Candidate> {
        while let Some(candidate) = self.waiting.pop_front() {
            let tried = self.tried.iter().copied();
            if !is_spent(tried, &candidate, &self.ruled_out) {
                self.tried.push(Family::of(&candidate));
                return Some(candidate);
            }
        }
        None
    }

    /// The next candidate to dial beside an attempt.
    fn next_beside(&mut self, running: &Running<'_>) -> Option<Candidate> {
        let position = self.waiting.iter().position(|candidate| {
            let tried = self.tried.iter().copied();
            may_race(candidate, running.family, running.has_failed)
                && !is_spent(tried, candidate, &self.ruled_out)
        })?;
        let candidate = self.waiting.remove(position)?;
        self.tried.push(Family::of(&candidate));
        Some(candidate)
    }

    /// How long the client waits for an attempt at this candidate alone, if another one can be made.
    fn head_start(&self, candidate: &Candidate, left: Duration) -> Option<Duration> {
        if candidate.on_trial() {
            return (!self.waiting.is_empty()).then_some(OF_TRIAL);
        }
        let family = Family::of(candidate);
        let mut waiting = self.waiting.iter();
        // The answer of a proxy takes longer than a connection, so its time says nothing.
        let is_raced = candidate.endpoint.is_dialled_itself()
            && waiting.any(|other| may_race(other, family, candidate.has_failed()));
        is_raced.then(|| OF_FAMILY.min(left / 2))
    }
}

/// Whether a candidate may be dialled beside an attempt at this family of an endpoint, at an address that `has_failed`
/// before or not. It must be of the other family. Where that is known to be dead, the address has all its time: if another
/// endpoint won against it instead, it would be dropped before it can fail, and again for each client.
fn may_race(candidate: &Candidate, family: Family, has_failed: bool) -> bool {
    Family::of(candidate).is_beside(family) && (has_failed || !candidate.has_failed())
}

impl Dial<'_> {
    /// Tries the candidates, at most two at a time beside a trial. A second one begins when the first has an alternative of
    /// the other family, and has not connected within its head start. Beside a trial the next one begins after that of the
    /// trial. An attempt that fails lets the next one begin at once, if it may run beside those that are left. The first that connects wins, and the others are
    /// dropped: they were neither failures nor successes. A trial goes on without the client instead, so that its result is
    /// known: otherwise an address that is merely slower would never return to use.
    pub(super) async fn race(
        &self,
        candidates: Vec<Candidate>,
        missed: Missed<'_>,
    ) -> Result<Dialled, Failure> {
        let mut queue = Queue {
            waiting: candidates.into(),
            tried: Vec::new(),
            ruled_out: Vec::new(),
        };
        let mut worst = Failure::Untried;
        let (mut trial, mut elder, mut younger) = (None, None::<Running<'_>>, None);
        loop {
            if elder.is_none() {
                let next = || Some(self.run(queue.next()?, &queue, missed));
                elder = younger.take().or_else(next);
            }
            if elder.is_none() && trial.is_none() {
                return Err(worst);
            }
            let patience = elder.as_ref().and_then(|elder| elder.patience);
            let patience = patience.filter(|_| younger.is_none());
            let ended = tokio::select! {
                biased;
                ended = end_of(&mut trial) => ended,
                ended = end_of(&mut elder) => ended,
                ended = end_of(&mut younger) => {
                    if let Some(elder) = &mut elder {
                        match &ended {
                            Ok(dialled) => note_outrun(elder, dialled),
                            Err(_) => elder.patience = Some(Instant::now()),
                        }
                    }
                    ended
                }
                () = passed(patience) => {
                    if let Some(first) = elder.take_if(|elder| elder.on_trial) {
                        trial = Some(first);
                    } else if let Some(elder) = &mut elder {
                        elder.patience = None;
                        let next = queue.next_beside(elder);
                        younger = next.map(|next| self.run(next, &queue, missed));
                    }
                    continue;
                }
            };
            match ended {
                Ok(dialled) => return Ok(dialled),
                Err((failure, ruled_out)) => {
                    worst = worst.max(failure);
                    queue.ruled_out.extend(ruled_out);
                }
            }
        }
    }

    /// Begins an attempt, which ends with the value.
    fn run<'r>(&'r self, candidate: Candidate, queue: &Queue, missed: Missed<'r>) -> Running<'r> {
        let now = Instant::now();
        let left = self.deadline.saturating_duration_since(now);
        let head_start = queue.head_start(&candidate, left);
        Running {
            family: Family::of(&candidate),
            address: Arc::clone(&candidate.address),
            on_trial: candidate.on_trial(),
            has_failed: candidate.has_failed(),
            patience: head_start.map(|head_start| now + head_start),
            attempt: if candidate.on_trial() {
                self.on_its_own(candidate, missed)
            } else {
                Box::pin(async move {
                    let dialled = self.attempt(&candidate, missed).await;
                    dialled.map_err(|failure| rule_out(failure, &candidate))
                })
            },
        }
    }

    /// An attempt that goes on if nobody waits for it any more.
    fn on_its_own<'r>(&self, trial: Candidate, missed: Missed<'r>) -> Attempt<'r> {
        let (endpoints, resources) = (Arc::clone(self.endpoints), Rc::clone(self.resources));
        let (connect_timeout, deadline) = (self.connect_timeout, self.deadline);
        let wished = self.wished.clone();
        let task = spawn_local(async move {
            let dial = Dial {
                connect_timeout,
                deadline,
                endpoints: &endpoints,
                resources: &resources,
                wished,
            };
            let late = RefCell::new(Vec::new());
            let missed = |attempt| late.borrow_mut().push(attempt);
            let dialled = dial.attempt(&trial, &missed).await;
            let dialled = dialled.map_err(|failure| rule_out(failure, &trial));
            (dialled, late.into_inner())
        });
        Box::pin(async move {
            // A panic in the task is raised again here, so that the connection ends with outcome `error`.
            let ended = task.await;
            let (dialled, late) = ended.unwrap_or_else(|error| resume_unwind(error.into_panic()));
            late.into_iter().for_each(missed);
            dialled
        })
    }
}

fn rule_out(failure: Failure, candidate: &Candidate) -> (Failure, Option<RuledOut>) {
    let ruled_out = RuledOut::by(&failure, candidate);
    (failure, ruled_out)
}

/// Waits for the end of an attempt, and clears its place; for ever, if there is none.
async fn end_of(place: &mut Option<Running<'_>>) -> Ended {
    let Some(running) = place else {
        return pending().await;
    };
    let ended = (&mut running.attempt).await;
    *place = None;
    ended
}

/// Waits for this time; for ever, if there is none.
async fn passed(at: Option<Instant>) {
    match at {
        Some(at) if at > Instant::now() => sleep_until(at.into()).await,
        Some(_) => {}
        None => pending().await,
    }
}

/// Notes that an attempt at the other family of the endpoint has won against this one: new connections use that of the
/// winner first for a while.
fn note_outrun(loser: &Running<'_>, winner: &Dialled) {
    let (used, now) = (&winner.endpoint, Instant::now());
    let is_well = now
        .checked_sub(LATELY)
        .is_some_and(|since| loser.address.has_connected(since));
    if is_well {
        return;
    }
    let endpoint = used.endpoint();
    // Clients may invent names without end.
    if used.outran(now) && endpoint.is_written() {
        info!(
            backend = endpoint.stats().backend(),
            endpoint = %endpoint.name(),
            address = %used.address().at(),
            "the address connected before one of the other family, which had been dialled earlier: new connections use its \
             family first for 10 minutes"
        );
    }
}
