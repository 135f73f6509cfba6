//! The start of an attempt: its turn, its source address, and the connect.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use super::Missed;
use super::attempt::{Dial, Failure, Lost};
use crate::backend::{Candidate, Slot, Waiting};
use crate::net::{Leg, NotBegun, TimeIsUp, begin_connect, until};
use crate::outcome::{AttemptFailure, DialFailure, Resource, Shortage};
use crate::telemetry::{Attempt, Millis};

impl Dial<'_> {
    /// Waits for its turn until the end of the dial. If a dial of the address fails meanwhile, this one has failed too.
    pub(super) async fn wait(
        &self,
        candidate: &Candidate,
        mut waiting: Waiting,
        missed: Missed<'_>,
    ) -> Result<Slot, Failure> {
        let Candidate {
            endpoint, address, ..
        } = candidate;
        let began = Instant::now();
        let ended = { until(self.deadline, pin!(waiting.slot())).await };
        let (reason, error, failure) = match ended {
            Ok(Ok(slot)) => return Ok(slot),
            Ok(Err(reason)) => (reason, ANOTHER_FAILED.into(), Failure::Endpoint),
            Err(TimeIsUp) => {
                let words: Box<str> = format!(
                    "no turn to dial {} came within dial_timeout: {} dials of it were in progress (max_dials)",
                    address.at(),
                    self.endpoints.max_dials()
                )
                .into();
                (DialFailure::Timeout, words.clone(), Failure::Crowded(words))
            }
        };
        missed(Attempt {
            endpoint: Arc::clone(endpoint.name()),
            via: endpoint.via().map(|via| (**via.name()).into()),
            address: Some(address.at()),
            reason: AttemptFailure::Dial(reason),
            error: Some(error),
            took: Some(Millis(began.elapsed())),
        });
        Err(failure)
    }

    /// Begins to connect. If the backend has source addresses, it does so from the one whose turn it is. If that one has
    /// no port left, or this host does not have it, that is reported, and the next one is tried.
    pub(super) fn begin(&self, candidate: &Candidate, missed: Missed<'_>) -> Result<Leg, Lost> {
        let address = candidate.address.at();
        let mut sources = self.endpoints.sources(address);
        let mut source = sources.next();
        loop {
            let began = Instant::now();
            let (error, is_bind) = match begin_connect(address, source) {
                Ok(socket) => return Leg::register(socket).map_err(Lost::Connect),
                Err(NotBegun::Source(error)) => (error, true),
                Err(NotBegun::Other(error)) => (error, false),
            };
            let Some(shortage) = Shortage::behind(&error, candidate.endpoint.name(), address)
            else {
                return Err(Lost::Connect(error));
            };
            let is_foreign = is_bind && shortage.resource == Resource::Ports;
            let lost = Lost::Begin(Box::new(Shortage {
                resource: if is_foreign {
                    Resource::SourceAddress
                } else {
                    shortage.resource
                },
                source,
                ..shortage
            }));
            let is_of_source = source.is_some() && shortage.resource == Resource::Ports;
            match sources.next().filter(|_| is_of_source) {
                None => return Err(lost),
                next => {
                    drop(self.fail(candidate, lost, began, missed));
                    source = next;
                }
            }
        }
    }
}

/// Waits until a socket is connected.
pub(super) async fn finish(leg: &Leg, deadline: Instant) -> Result<(), Lost> {
    let connected = until(deadline, pin!(leg.connected())).await;
    let late = |TimeIsUp| Err(io::ErrorKind::TimedOut.into());
    connected.unwrap_or_else(late).map_err(Lost::Connect)
}

const ANOTHER_FAILED: &str = "not dialled: another dial of this address failed while this one waited for its turn (max_dials)";
