//! Taking over: asks for the sockets, and waits for addresses that will soon be free.

use std::mem;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::StartError;
use super::inherited::Inherited;
use super::socket::{self, Answer, Giver};
use crate::config::Settings;
use crate::net;

/// Longest wait for addresses of another process, or for another takeover.
const LIMIT: Duration = Duration::from_secs(30);
/// The same if a predecessor has handed its sockets over: it goes on serving if we give up.
const LIMIT_BESIDE_PREDECESSOR: Duration = Duration::from_secs(5);
/// Time between two attempts.
const RETRY: Duration = Duration::from_millis(100);

/// Adds the sockets of the process that runs with this file, if there is one. Returns once all addresses can
/// be bound, or when the time for that is up: then binding them reports what is wrong.
pub async fn take_over(
    file: &Path,
    settings: &Settings,
    inherited: &mut Inherited,
) -> Result<Option<Giver>, StartError> {
    let begun = Instant::now();
    let (mut told, mut warned) = (false, false);
    loop {
        let path = file.to_owned();
        let asked = spawn_blocking(move || socket::take_over(&path)).await;
        let asked = asked.map_err(std::io::Error::from).flatten();
        let answer = asked.map_err(StartError::TakeOver)?;
        if let Answer::Stranger(who) = &answer
            && !mem::replace(&mut warned, true)
        {
            tracing::warn!("{who}: portway does not take over from it");
        }
        let why = match answer {
            Answer::Given(taken) => {
                inherited
                    .add(taken.sockets)
                    .map_err(StartError::Inherited)?;
                let given = Instant::now();
                while busy(settings, inherited).is_some()
                    && given.elapsed() < LIMIT_BESIDE_PREDECESSOR
                {
                    sleep(RETRY).await;
                }
                return Ok(Some(taken.giver));
            }
            Answer::Later => {
                "another process is taking over, or the running one does not answer".to_owned()
            }
            Answer::Nobody | Answer::Stranger(_) => match busy(settings, inherited) {
                None => return Ok(None),
                Some(_) if begun.elapsed() > LIMIT => return Ok(None),
                Some(address) => format!("another socket has {address}"),
            },
        };
        if begun.elapsed() > LIMIT {
            return Err(StartError::TakeOver(std::io::Error::other(why)));
        }
        if !mem::replace(&mut told, true) {
            tracing::info!("{why}: waiting for at most {} s", LIMIT.as_secs());
        }
        sleep(RETRY).await;
    }
}

/// An address that we need to bind and that another socket has.
fn busy(settings: &Settings, inherited: &Inherited) -> Option<SocketAddr> {
    let listeners = settings.listeners.iter().flat_map(|one| &one.bind);
    let mut addresses = listeners.copied().chain(settings.admin);
    addresses.find(|&address| !inherited.has_port(address.port()) && net::is_busy(address))
}
