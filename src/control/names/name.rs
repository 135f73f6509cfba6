//! A name that is looked up again and again.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::info;

use super::own;
use super::resolver::{self, Answer, Found, NotFound, RETRY, Resolver};
use super::told::{Told, backends, endpoints, warn_of_excluded, warn_of_failure};
use super::{Bearer, Bearers};
use crate::backend::{SHORTEST_REFRESH, Target, Unresolved};
use crate::outcome::ResolveFailure;

/// A look-up that takes longer counts as failed. Its answer is taken all the same, once it comes.
pub(super) const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a look-up that hangs counts as failed again, as if portway asked once more: rates of the counter must not say that
/// look-ups are well.
const LATE_AGAIN: Duration = Duration::from_secs(30);

/// A host name with the endpoints that bear it.
pub(super) struct Name {
    resolver: Arc<Resolver>,
    host: Box<str>,
    bearers: watch::Receiver<Bearers>,
    /// A look-up past its time limit. It still has its thread, so no other is begun.
    late: Option<Late>,
    /// When the last look-up started, after waiting for a permit.
    begun: Instant,
    /// From there to the next one: how long its answer is fresh, or when to ask again for one that it did not get.
    pause: Duration,
    /// Since when look-ups have failed.
    failing: Option<Told>,
    /// Addresses that must not be dialled.
    excluded: HashMap<SocketAddr, Told>,
}

/// A look-up past its time limit.
struct Late {
    answer: Answer,
    /// When it last counted as failed.
    counted: Instant,
}

impl Name {
    pub(super) fn new(
        resolver: Arc<Resolver>,
        host: Box<str>,
        bearers: watch::Receiver<Bearers>,
    ) -> Self {
        Self {
            resolver,
            host,
            bearers,
            late: None,
            begun: Instant::now(),
            pause: RETRY,
            failing: None,
            excluded: HashMap::new(),
        }
    }

    pub(super) async fn keep_fresh(mut self, first_pass: mpsc::Sender<()>) {
        let mut first_pass = Some(first_pass);
        loop {
            // A change from here on asks for another look-up.
            self.bearers.mark_unchanged();
            let (answer, is_counted) = self.look_up().await;
            if self.bearers.has_changed().is_err() {
                return;
            }
            self.take_answer(answer, is_counted);
            drop(first_pass.take());
            sleep_until(self.begun + SHORTEST_REFRESH).await;
            let bearers = self.bearers.borrow().clone();
            let is_missing = |bearer: &Bearer| bearer.endpoint.addresses().is_empty();
            let pause = match self.late {
                Some(_) => SHORTEST_REFRESH,
                None if self.failing.is_none() && bearers.iter().any(is_missing) => RETRY,
                None => self.pause,
            };
            tokio::select! {
                // The next look-up comes early: for a failed dial, or for new endpoints.
                () = any_stale(&bearers), if self.late.is_none() => {}
                changed = self.bearers.changed() => if changed.is_err() { return },
                () = sleep_until(self.begun + pause) => {}
            }
        }
    }

    /// Returns the answer, and whether its failure has been counted: a look-up that is late has been at its time limit.
    async fn look_up(&mut self) -> (Result<Found, NotFound>, bool) {
        let (mut answer, counted, _permit) = if let Some(late) = self.late.take() {
            (late.answer, Some(late.counted), None)
        } else {
            let permit = self.resolver.permits.acquire().await.ok();
            ((self.resolver.lookup)(self.host.clone()), None, permit)
        };
        self.begun = Instant::now();
        if let Ok(answer) = timeout(LOOKUP_TIMEOUT, &mut answer).await {
            return (answer, counted.is_some());
        }
        let counted = counted.filter(|counted| counted.elapsed() < LATE_AGAIN);
        self.late = Some(Late {
            answer,
            counted: counted.unwrap_or_else(Instant::now),
        });
        (Err(NotFound::late()), counted.is_some())
    }

    fn take_answer(&mut self, answer: Result<Found, NotFound>, is_counted: bool) {
        match answer {
            Ok(Found { addresses, fresh }) if !addresses.is_empty() => {
                self.pause = fresh;
                self.publish(&addresses, is_counted);
                if let Some(failing) = self.failing.take() {
                    let since = failing.since();
                    let bearers = self.bearers.borrow();
                    let (backend, endpoint) = (backends(&bearers), endpoints(&bearers));
                    info!(name = %self.host, backend, endpoint, %since, "the name resolves again");
                }
            }
            Ok(_) => self.fail(&NotFound::empty(), is_counted),
            Err(not_found) => self.fail(&not_found, is_counted),
        }
    }

    /// The endpoints keep the addresses that they have.
    fn fail(&mut self, NotFound { error, again }: &NotFound, is_counted: bool) {
        self.pause = *again;
        let text: Arc<str> = error.to_string().into();
        let mut kept = BTreeSet::new();
        for Bearer { endpoint, .. } in self.bearers.borrow().iter() {
            let addresses = resolver::addresses(endpoint);
            endpoint.set_unresolved(Unresolved::failed(Arc::clone(&text)));
            kept.extend(addresses.iter().map(SocketAddr::ip));
            if !is_counted {
                let resolution = endpoint.stats().resolution();
                resolution.failed(ResolveFailure::Unresolved);
            }
        }
        if let Some(told) = Told::when_due(&mut self.failing) {
            let bearers = self.bearers.borrow();
            let asked = (&*self.host, self.resolver.servers.as_ref());
            warn_of_failure(asked, &bearers, (error, &kept), told);
        }
    }

    fn publish(&mut self, addresses: &[SocketAddr], is_counted: bool) {
        let own = self.resolver.own.load();
        let mut still = HashMap::new();
        for bearer in self.bearers.borrow().iter() {
            let endpoint = &bearer.endpoint;
            let Target::Name { port, .. } = *endpoint.dialled() else {
                continue;
            };
            let before = |address| self.excluded.contains_key(&address);
            let judge = |address| bearer.excludes(address, &own, before(address));
            let (usable, excluded) = sort_out(addresses, port, judge);
            for &(address, reason) in &excluded {
                // Another endpoint may have the same address.
                if still.contains_key(&address) {
                    continue;
                }
                let mut told = self.excluded.get(&address).copied();
                let is_news = told.is_none() || usable.is_empty();
                if is_news && let Some(told) = Told::when_due(&mut told) {
                    warn_of_excluded(bearer, address, reason, told);
                }
                still.extend(told.map(|told| (address, told)));
            }
            let resolution = endpoint.stats().resolution();
            match excluded.first() {
                Some(_) if usable.is_empty() && is_counted => {}
                Some((_, reason)) if usable.is_empty() => resolution.failed(*reason),
                Some(_) | None => resolution.resolved(),
            }
            resolver::put(endpoint, &usable, excluded.first().copied());
            endpoint.note_answer();
        }
        self.excluded = still;
    }
}

/// Addresses that must not be dialled, and why.
type Excluded = Vec<(SocketAddr, ResolveFailure)>;

/// The most addresses of each family of one answer that are used: each connection ranks them all.
const MOST_USABLE: usize = 64;
/// The most addresses of one answer that are named as not dialled.
const MOST_EXCLUDED: usize = 8;

/// The first addresses of an answer with this port, each once: those that can be dialled, and the others.
pub(super) fn sort_out(
    answer: &[SocketAddr],
    port: u16,
    judge: impl Fn(SocketAddr) -> Option<ResolveFailure>,
) -> (Vec<SocketAddr>, Excluded) {
    let mut seen = HashSet::new();
    let (mut usable, mut excluded) = (Vec::new(), Vec::new());
    for address in answer {
        let address = own::canonical(*address, port);
        let alike = |it: &&SocketAddr| it.is_ipv4() == address.is_ipv4();
        let is_full = usable.iter().filter(alike).count() == MOST_USABLE;
        if is_full || !seen.insert(address) {
            continue;
        }
        match judge(address) {
            Some(reason) => excluded.push((address, reason)),
            None => usable.push(address),
        }
    }
    excluded.truncate(MOST_EXCLUDED);
    (usable, excluded)
}

/// Completes once a dial to any of the endpoints has failed.
async fn any_stale(bearers: &[Bearer]) {
    let mut stale: Vec<_> = bearers
        .iter()
        .map(|bearer| Box::pin(bearer.endpoint.stale()))
        .collect();
    poll_fn(|context| {
        if stale
            .iter_mut()
            .any(|stale| stale.as_mut().poll(context).is_ready())
        {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}
