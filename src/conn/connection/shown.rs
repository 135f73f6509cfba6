//! A live connection as the status pages show it, and the end of one that failed.

use std::borrow::Cow;
use std::time::{Instant, SystemTime};

use super::Connection;
use crate::outcome::{AttemptFailure, Direction, Outcome};
use crate::status::{self, Cause, End, Phase, Query, Sort};
use crate::telemetry::Id;
use crate::tls::ServerName;
use crate::wire::Target;

impl Connection {
    /// The step of its life.
    fn phase(&self) -> Phase {
        if self.reached.get().is_some() {
            return if self.flow.is_half_closed() {
                Phase::HalfClosed
            } else {
                Phase::Relay
            };
        }
        if self.route.get().is_some() {
            return Phase::Dial;
        }
        let waits_for_header = self.is_from_balancer() && self.ends().is_none();
        let waits_for_target = self.listener().protocol.is_proxy() && self.target().is_none();
        if self.hello.get().is_none() && (waits_for_header || waits_for_target) {
            Phase::Front
        } else {
            Phase::Hello
        }
    }

    /// The name that it asks for, if one is known.
    fn name(&self) -> Option<&ServerName> {
        let hello = self.hello.get();
        let name = hello.and_then(|hello| hello.server_name.as_ref());
        name.or_else(|| self.target().and_then(Target::name))
    }

    /// Whether it matches all filters of a query.
    pub(in crate::conn) fn matches(&self, query: &Query) -> bool {
        let routed = self.routed();
        let is = |wanted: &Option<Box<str>>, name: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| name == Some(wanted))
        };
        (query.client).is_none_or(|network| network.contains(&self.client()))
            && is(&query.server_name, self.name().map(ServerName::as_str))
            && is(&query.route, routed.map(|routed| &*routed.route.name))
            && is(
                &query.backend,
                routed.map(|routed| &**routed.backend.pool.name()),
            )
            && query.phase.is_none_or(|phase| phase == self.phase())
    }

    fn bytes(&self) -> [u64; 2] {
        [Direction::ClientToBackend, Direction::BackendToClient].map(|it| self.flow.moved(it))
    }

    /// Its place in an order, at this moment and second of the worker's clock: the lowest comes first.
    pub(in crate::conn) fn place(&self, sort: Sort, moment: Instant, second: u32) -> u64 {
        let age = || moment.saturating_duration_since(self.flow.accepted_at());
        match sort {
            Sort::Id => self.id,
            Sort::Age => u64::MAX - u64::try_from(age().as_nanos()).unwrap_or(u64::MAX),
            Sort::Bytes => {
                let [up, down] = self.bytes();
                u64::MAX - up.saturating_add(down)
            }
            Sort::Idle => u64::MAX - self.flow.idle(second).map_or(0, |idle| u64::from(idle) + 1),
        }
    }

    /// Everything that is shown of it, at this moment and second of the worker's clock.
    pub(in crate::conn) fn shown(&self, moment: Instant, second: u32) -> status::Connection {
        let (ends, peer, routed) = (self.ends(), self.peer(), self.routed());
        let reached = self.reached.get();
        let name = self.hello.get().and_then(|it| it.server_name.as_ref());
        let age = moment.saturating_duration_since(self.flow.accepted_at());
        let [bytes_client_to_backend, bytes_backend_to_client] = self.bytes();
        let trouble = self.trouble.take();
        let failed_attempts = trouble.as_ref().map_or(0, |trouble| trouble.attempts.len());
        self.trouble.set(trouble);
        status::Connection {
            id: Id(self.id).to_string(),
            client: ends.map_or(peer, |ends| ends.client),
            proxied_by: ends.map(|_| peer),
            listener: self.listener().name.to_string(),
            target: self.target().map(ToString::to_string),
            server_name: name.map(|name| name.as_str().to_owned()),
            route: routed.map(|routed| routed.route.name.to_string()),
            backend: routed.map(|routed| routed.backend.pool.name().to_string()),
            endpoint: reached.map(|reached| reached.endpoint.endpoint().name().to_string()),
            address: reached.map(|reached| reached.endpoint.address().at()),
            backend_local: reached.and_then(|reached| reached.local),
            phase: self.phase(),
            leaving: self.flow.is_draining(),
            age_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
            idle_s: self.flow.idle(second),
            bytes_client_to_backend,
            bytes_backend_to_client,
            failed_attempts,
            config: self.snapshot.generation,
        }
    }

    /// Calls `tell` with how it has failed, as far as the table of refusals needs it.
    pub(in crate::conn) fn tell_failure(&self, tell: impl FnOnce(&End<'_>)) {
        let trouble = self.trouble.take();
        {
            let known = trouble.as_deref();
            let last = known.and_then(|trouble| trouble.attempts.last());
            let outcome = self.outcome();
            let name = self
                .name()
                .map(|name| Cow::Borrowed(name.as_str().as_bytes()));
            let invalid = || Some(Cow::Borrowed(known?.invalid_name.as_deref()?));
            let address = || Some(Cow::Owned(self.target()?.to_string().into_bytes()));
            let name = name.or_else(invalid).or_else(address);
            let dial = match last.map(|attempt| attempt.reason) {
                Some(AttemptFailure::Dial(reason)) if outcome == Outcome::BackendUnavailable => {
                    Some(reason)
                }
                _ => None,
            };
            let detail = known.and_then(|trouble| trouble.detail.as_deref());
            tell(&End {
                client: self.client(),
                name: name.as_deref(),
                cause: Cause {
                    outcome,
                    limit: known.and_then(|trouble| trouble.limit),
                    dial,
                },
                listener: &self.listener().name,
                backend: self.routed().map(|routed| routed.backend.pool.name()),
                detail: detail.or_else(|| last?.error.as_deref()),
                at: SystemTime::now(),
            });
        }
        self.trouble.set(trouble);
    }
}
