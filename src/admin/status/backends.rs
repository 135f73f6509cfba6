//! The backends of a status: their endpoints, addresses, certificates and handshakes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use strum::VariantArray;

use super::collect::outcomes;
use crate::backend::{self, Endpoint, Presented, Role, Unseen};
use crate::outcome::{DialFailure, Direction, Handshake};
use crate::snapshot;
use crate::status::words::unresolved;
use crate::status::{Address, Backend, CertificateSeen, Rates};
use crate::telemetry::{BackendStats, Time};

/// Characters of a resolver's error.
const LONGEST_ERROR: usize = 200;

/// The room that is left in an answer.
pub(super) struct Room {
    endpoints: usize,
    addresses: usize,
    time: SystemTime,
    now: Instant,
}

impl Room {
    /// Room for so many endpoints, and for as many addresses.
    pub(super) fn new(most: usize) -> Self {
        Self {
            endpoints: most,
            addresses: most,
            time: SystemTime::now(),
            now: Instant::now(),
        }
    }

    pub(super) fn backend(
        &mut self,
        snapshot: &snapshot::Snapshot,
        position: usize,
        backend: &snapshot::Backend,
        rates: Rates,
    ) -> Backend {
        let listeners = snapshot.listeners.iter();
        let endings = listeners.filter_map(|listener| listener.backend_endings.get(&position));
        let endings: Vec<_> = endings.collect();
        let [up, down] = [Direction::ClientToBackend, Direction::BackendToClient]
            .map(|direction| backend.relay.stats.bytes(direction).get());
        let proxy = backend.pool.proxy();
        let proxy = proxy.map(|proxy| (proxy.endpoint(), Role::default()));
        let mut shown = Vec::new();
        let mut left_out = 0;
        for (endpoint, role) in backend.pool.members().chain(proxy) {
            if self.endpoints == 0 {
                left_out += 1;
            } else {
                self.endpoints -= 1;
                shown.push(self.endpoint(endpoint, role));
            }
        }
        Backend {
            name: backend.pool.name().to_string(),
            via: backend.pool.via().map(|via| via.name().to_string()),
            connections: endings.iter().map(|endings| endings.open()).sum(),
            outcomes: outcomes(endings.iter().copied()),
            handshakes: handshakes(&backend.relay.stats),
            bytes_client_to_backend: up,
            bytes_backend_to_client: down,
            rates,
            endpoints: shown,
            endpoints_not_shown: left_out,
        }
    }

    fn endpoint(&mut self, endpoint: &Endpoint, role: Role) -> crate::status::Endpoint {
        let states = endpoint.states(self.now);
        let room = self.addresses.min(states.len());
        self.addresses -= room;
        let addresses = states.iter().take(room);
        let addresses = addresses.map(|(address, state)| {
            let (dialling, waiting) = address.dials();
            let failures = address.failures(self.now);
            Address {
                address: address.at(),
                state: *state,
                unhealthy: address.standing().is_unhealthy(),
                connections: address.connections(),
                dialling,
                waiting: u32::try_from(waiting).unwrap_or(u32::MAX),
                failures: failures.map_or(0, |(count, _)| count),
                penalty_ms: failures.map(|(_, left)| left),
                certificate: address.presented().map(|it| certificate(&it, self.time)),
            }
        });
        let failures = DialFailure::VARIANTS.iter();
        let failures = failures.map(|reason| (reason, endpoint.stats().dial_failures(*reason)));
        let failures = failures.filter(|(_, count)| *count > 0);
        let why = endpoint.unresolved();
        crate::status::Endpoint {
            name: endpoint.name().to_string(),
            role: role_name(role).to_owned(),
            weight: role.weight,
            connections: endpoint.connections(),
            is_checked: endpoint.is_checked(),
            dial_failures: failures
                .map(|(reason, count)| (reason.name().to_owned(), count))
                .collect(),
            addresses: addresses.collect(),
            addresses_not_shown: states.len() - room,
            unresolved: why.map(|why| words(&why)),
        }
    }
}

const fn role_name(role: Role) -> &'static str {
    match (role.state, role.is_backup) {
        (backend::EndpointState::Drain, _) => "drain",
        (backend::EndpointState::Ready, true) => "backup",
        (backend::EndpointState::Ready, false) => "active",
    }
}

/// Why an endpoint has no address, or none of a new look-up.
fn words(why: &backend::Unresolved) -> String {
    let error = why.error.as_deref();
    let error: Option<String> = error.map(|error| error.chars().take(LONGEST_ERROR).collect());
    unresolved(why.reason, why.address, error.as_deref())
}

/// The certificates that an address has shown.
fn certificate(presented: &Presented, now: SystemTime) -> CertificateSeen {
    let state = match (&presented.certificates, presented.flaw(now)) {
        (Ok(_), Some(flaw)) => flaw.name(),
        (Ok(_), None) => "valid",
        (Err(Unseen::Encrypted), _) => "encrypted",
        (Err(Unseen::Unreadable), _) => "unreadable",
    };
    let not_after = presented.not_after();
    let not_after = not_after.map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds));
    CertificateSeen {
        state: state.to_owned(),
        not_after: not_after.map(|time| Time(time).to_string()),
        seen: Time(presented.seen_at).to_string(),
    }
}

/// The handshakes of a backend by result, without zeros.
fn handshakes(stats: &BackendStats) -> BTreeMap<String, u64> {
    let results = Handshake::VARIANTS.iter();
    let counts = results.map(|result| (result.name().to_owned(), stats.handshakes(*result)));
    counts.filter(|(_, count)| *count > 0).collect()
}
