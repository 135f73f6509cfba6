//! Notices a hello that comes back, because the way to its endpoint leads to portway itself: by a DNAT rule, or by another
//! relay. routes.toml and DNS do not show that.

use std::sync::Arc;

use super::record::Record;
use super::refuse::Refusal;
use crate::backend::{InUse, Pool};
use crate::outcome::{AttemptFailure, ResolveFailure};
use crate::relay::{Back, Digest};
use crate::telemetry::Attempt;

/// Lets the hello wait for the backend, unless it is one that has come back.
pub(super) fn notice(record: &Record, hello: Digest, pool: &Pool) -> Result<(), Refusal> {
    let Record {
        context,
        connection,
    } = record;
    let hellos = &context.resources.hellos;
    let Err(Back { waiting, endpoint }) = hellos.wait(&connection.flow, hello) else {
        return Ok(());
    };
    // A loop may lead through another backend: then its endpoint is none of these.
    let mut endpoints = pool.endpoints().iter();
    let reached = match endpoint {
        Some(tag) => endpoints.find(|one| hellos.tag(one.name()) == tag),
        None => endpoints.next().filter(|_| endpoints.len() == 0),
    };
    if let Some(endpoint) = reached {
        connection.missed(Attempt {
            endpoint: Arc::clone(endpoint.name()),
            via: endpoint.via().map(|via| (**via.name()).into()),
            address: None,
            reason: AttemptFailure::Resolve(ResolveFailure::Loop),
            error: None,
            took: None,
        });
    }
    Err(Refusal::looped(waiting))
}

/// Stores which endpoint the hello goes to, so that it can be named if the hello comes back.
pub(super) fn note(record: &Record, pool: &Pool, reached: &InUse) {
    let reached = reached.endpoint();
    // A name that a client asked for is not in the pool, but `{server_name}` is.
    let asked = || pool.endpoints().iter().find(|one| one.names().is_some());
    let endpoint = Some(reached).filter(|one| one.is_written()).or_else(asked);
    if let Some(endpoint) = endpoint {
        let hellos = &record.context.resources.hellos;
        hellos.reached(&record.connection.flow, endpoint.name());
    }
}
