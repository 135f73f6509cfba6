//! The answers of the running process to requests that only ask, or reload.

use std::io;
use std::sync::Arc;

use tokio::io::BufReader;
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::server::say;
use super::{BAD_CONFIGURATION, FAILED, FINE, RELOADED};
use crate::admin::State;
use crate::control::{Configuration, NotReloaded, Request, Requests};
use crate::status::Query;
use crate::telemetry::json;

const ENDING: &str = "portway is ending";

pub(super) async fn reload(
    stream: &mut BufReader<UnixStream>,
    requests: &Requests,
) -> io::Result<()> {
    let (answer, reloaded) = oneshot::channel();
    drop(requests.send(Request::Reload(Some(answer))));
    let (status, text) = match reloaded.await {
        Ok(Ok(generation)) => (FINE, format!("{RELOADED}{generation}")),
        Ok(Err(NotReloaded::Rejected(faults))) => (BAD_CONFIGURATION, faults),
        Ok(Err(NotReloaded::NotNow(why))) => (FAILED, why.to_owned()),
        Err(_) => (FAILED, ENDING.to_owned()),
    };
    say(stream, status, &text).await
}

pub(super) async fn tell_configuration(
    stream: &mut BufReader<UnixStream>,
    requests: &Requests,
) -> io::Result<()> {
    let (answer, configuration) = oneshot::channel();
    drop(requests.send(Request::Configuration(answer)));
    match configuration.await {
        Ok(Configuration { generation, text }) => {
            say(stream, FINE, &format!("{generation}\n{text}")).await
        }
        Err(_) => say(stream, FAILED, ENDING).await,
    }
}

pub(super) async fn tell_addresses(
    stream: &mut BufReader<UnixStream>,
    backend: &str,
    requests: &Requests,
) -> io::Result<()> {
    let (answer, addresses) = oneshot::channel();
    drop(requests.send(Request::Addresses(backend.to_owned(), answer)));
    match addresses.await {
        Ok(addresses) => say(stream, FINE, &serde_json::to_string(&addresses)?).await,
        Err(_) => say(stream, FAILED, ENDING).await,
    }
}

/// Answers with the status, or with the connections that a query selects. `_look` is its place.
pub(super) async fn tell_status(
    mut stream: BufReader<UnixStream>,
    query: Option<String>,
    state: Arc<State>,
    _look: OwnedSemaphorePermit,
) {
    let shown = match query {
        None => state.status().await.map(|status| json(&status)),
        Some(query) => match Query::parse(&query) {
            Ok(query) => state.connections(query).await.map(|it| json(&it)),
            Err(error) => {
                // The asker may be gone, here and below.
                drop(say(&mut stream, FAILED, &error.to_string()).await);
                return;
            }
        },
    };
    let (status, text) = match shown {
        Ok(json) => (FINE, String::from_utf8_lossy(&json).into_owned()),
        Err(error) => (FAILED, error.to_string()),
    };
    drop(say(&mut stream, status, text.trim_end()).await);
}
