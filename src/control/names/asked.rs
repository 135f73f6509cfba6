//! Answers the look-ups of names that clients ask for.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Bearer;
use super::name::{LOOKUP_TIMEOUT, sort_out};
use super::resolver::{self, Found, NotFound, RETRY, Resolver};
use crate::backend::{Lookup, NameRules, Target, Unresolved};
use crate::outcome::ResolveFailure;

/// Look-ups of one endpoint at once: as many of new names as of names that were reached before.
const AT_ONCE: usize = 16;
/// The longest time for which a name without an address that can be dialled is not asked for again.
const LONGEST_NEGATIVE: Duration = Duration::from_secs(30);

/// Begins to answer for an endpoint. The tasks end when others answer for it, or nobody does.
pub(super) fn serve(bearer: &Bearer, resolver: &Arc<Resolver>, tasks: &mut JoinSet<()>) {
    let Some(names) = bearer.endpoint.names() else {
        return;
    };
    for lane in names.serve() {
        let lane = Arc::new(Mutex::new(lane));
        for _ in 0..AT_ONCE {
            let (lane, resolver) = (Arc::clone(&lane), Arc::clone(resolver));
            tasks.spawn(answer_all(lane, resolver, bearer.rules.clone()));
        }
    }
}

async fn answer_all(
    lane: Arc<Mutex<mpsc::Receiver<Lookup>>>,
    resolver: Arc<Resolver>,
    rules: NameRules,
) {
    loop {
        let Some(lookup) = lane.lock().await.recv().await else {
            return;
        };
        // Those who waited may have gone meanwhile.
        if lookup.is_wanted() {
            answer(lookup, &resolver, &rules).await;
        }
    }
}

async fn answer(lookup: Lookup, resolver: &Resolver, rules: &NameRules) {
    let bearer = Bearer {
        endpoint: Arc::clone(lookup.endpoint()),
        rules: rules.clone(),
    };
    let Target::Name { host, port } = bearer.endpoint.target() else {
        return;
    };
    let answer = timeout(LOOKUP_TIMEOUT, (resolver.lookup)(host.clone())).await;
    let answer = answer.unwrap_or_else(|_late| {
        let error = io::Error::new(io::ErrorKind::TimedOut, "the resolver does not answer");
        Err(NotFound::failed(error))
    });
    let fresh = match answer {
        Ok(found) if !found.addresses.is_empty() => publish(&bearer, *port, &found, resolver),
        Ok(_) => {
            let error = io::Error::other("the name has no address");
            fail(&bearer, &NotFound::failed(error))
        }
        Err(not_found) => fail(&bearer, &not_found),
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
