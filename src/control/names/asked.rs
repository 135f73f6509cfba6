//! Answers the look-ups of names that clients ask for.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Bearer;
use super::name::{LOOKUP_TIMEOUT, sort_out};
use super::own::Own;
use super::resolver::{self, Found, LONGEST_NEGATIVE, NotFound, RETRY, Resolver};
use crate::backend::{Asked, Endpoint, Lookup, NameRules, Target, Unresolved};
use crate::outcome::ResolveFailure;

/// Look-ups of one endpoint at once: as many of new names as of names that were reached before.
const AT_ONCE: usize = 16;

/// An endpoint whose look-ups are answered, as long as a configuration or a connection holds it: connections that began
/// before a reload still ask for names by the endpoint that they took.
pub(super) struct Served {
    endpoint: Weak<Endpoint>,
    service: watch::Sender<Service>,
}

/// The resolver of an endpoint, and the rules for its names.
pub(super) struct Service {
    pub(super) resolver: Arc<Resolver>,
    pub(super) rules: NameRules,
}

impl Served {
    /// Begins to answer for an endpoint. The tasks end with the endpoint.
    pub(super) fn begin(
        endpoint: &Arc<Endpoint>,
        service: Service,
        tasks: &mut JoinSet<()>,
    ) -> Self {
        let (service, follows) = watch::channel(service);
        for lane in endpoint.names().into_iter().flat_map(Asked::serve) {
            let lane = Arc::new(Mutex::new(lane));
            for _ in 0..AT_ONCE {
                tasks.spawn(answer_all(Arc::clone(&lane), follows.clone()));
            }
        }
        Self {
            endpoint: Arc::downgrade(endpoint),
            service,
        }
    }

    pub(super) fn is_held(&self) -> bool {
        self.endpoint.strong_count() > 0
    }

    pub(super) fn is_of(&self, endpoint: &Arc<Endpoint>) -> bool {
        Weak::as_ptr(&self.endpoint) == Arc::as_ptr(endpoint)
    }

    /// Goes over to other rules. The names stay known, at those of their addresses that may still be dialled.
    pub(super) fn follow(&self, service: Service, own: &Own) {
        let before = self.service.send_replace(service);
        let rules = self.service.borrow().rules.clone();
        if before.rules == rules {
            return;
        }
        self.judge_again(own);
        if before.rules.resolver != rules.resolver
            && let Some(endpoint) = self.endpoint.upgrade()
            && let Some(names) = endpoint.names()
        {
            names.expire(None);
        }
    }

    /// Takes addresses away that must not be dialled any more. The names are looked up again when a client asks for
    /// them, because they may have others that were left out.
    pub(super) fn judge_again(&self, own: &Own) {
        let Some(endpoint) = self.endpoint.upgrade() else {
            return;
        };
        let Some(names) = endpoint.names() else {
            return;
        };
        // Many names have the same addresses, and it takes system calls to judge one.
        let mut judged = HashMap::new();
        for endpoint in names.endpoints() {
            let rules = self.service.borrow().rules.clone();
            let bearer = Bearer { endpoint, rules };
            bearer.leave_out(|address| {
                let judge = || bearer.excludes(address, own, false);
                *judged.entry(address).or_insert_with(judge)
            });
        }
        names.expire(Some(Instant::now()));
    }
}

async fn answer_all(
    lane: Arc<Mutex<mpsc::Receiver<Lookup>>>,
    mut service: watch::Receiver<Service>,
) {
    loop {
        let Some(lookup) = lane.lock().await.recv().await else {
            return;
        };
        // Those who waited may have gone meanwhile.
        if lookup.is_wanted() {
            answer(lookup, &mut service).await;
        }
    }
}

async fn answer(lookup: Lookup, service: &mut watch::Receiver<Service>) {
    let Target::Name { host, port } = lookup.endpoint().target() else {
        return;
    };
    let answer = loop {
        let resolver = Arc::clone(&service.borrow().resolver);
        let answer = timeout(LOOKUP_TIMEOUT, (resolver.lookup)(host.clone()));
        tokio::select! {
            biased;
            // After a reload the answer of the resolver before does not count.
            Ok(_) = service.wait_for(|now| !Arc::ptr_eq(&now.resolver, &resolver)) => {}
            answer = answer => break answer,
        }
    };
    let answer = answer.unwrap_or_else(|_late| Err(NotFound::late()));
    // These rules may be newer than the question.
    let fresh = {
        let Service { resolver, rules } = &*service.borrow();
        let bearer = Bearer {
            endpoint: Arc::clone(lookup.endpoint()),
            rules: rules.clone(),
        };
        match answer {
            Ok(found) if !found.addresses.is_empty() => publish(&bearer, *port, &found, resolver),
            Ok(_) => fail(&bearer, &NotFound::empty()),
            Err(not_found) => fail(&bearer, &not_found),
        }
    };
    lookup.answered(Instant::now() + fresh);
}

/// Gives the endpoint the addresses that can be dialled. Returns how long the answer is fresh. The program log has no line
/// about it: clients choose the names, and the line of each connection says what became of it.
fn publish(bearer: &Bearer, port: u16, found: &Found, resolver: &Resolver) -> Duration {
    let own = resolver.own.load();
    // Where nothing can be found out, as without descriptors, an address counts as our own.
    let judge = |address| bearer.excludes(address, &own, true);
    let (usable, excluded) = sort_out(&found.addresses, port, judge);
    resolver::put(&bearer.endpoint, &usable, excluded.first().copied());
    bearer.endpoint.note_answer();
    let resolution = bearer.endpoint.stats().resolution();
    match excluded.first() {
        Some((_, reason)) if usable.is_empty() => {
            resolution.failed(*reason);
            found.fresh.clamp(RETRY, LONGEST_NEGATIVE)
        }
        Some(_) | None => {
            resolution.resolved();
            found.fresh
        }
    }
}

/// The endpoint keeps the addresses that it has.
fn fail(bearer: &Bearer, NotFound { error, again }: &NotFound) -> Duration {
    let endpoint = &bearer.endpoint;
    if endpoint.addresses().is_empty() {
        endpoint.set_unresolved(Unresolved::failed(error.to_string().into()));
    }
    endpoint
        .stats()
        .resolution()
        .failed(ResolveFailure::Unresolved);
    (*again).clamp(RETRY, LONGEST_NEGATIVE)
}
