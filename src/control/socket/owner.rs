//! Which process has the control socket.

use std::path::Path;
use std::time::Duration;

use rustix::process::geteuid;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use crate::net;

/// Longest time until the name of a process that has ended is free, or has its next owner.
pub(super) const NAME_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest time until a successor that accepts has the control socket, and the time between two looks.
const LONGEST_TURN: Duration = Duration::from_secs(5);
const TURN_RETRY: Duration = Duration::from_millis(20);

/// The process id of this user's portway that runs with this file, if there is one: 0 if it runs in
/// another container.
pub fn running(file: &Path) -> Option<i32> {
    let stream = super::connect(file).ok()??;
    let peer = net::peer(&stream).ok()?;
    (peer.user == geteuid().as_raw()).then_some(peer.pid)
}

/// The process of this user that has the control socket.
pub(super) async fn owner(file: &Path) -> Option<i32> {
    let file = file.to_owned();
    let running = spawn_blocking(move || running(&file)).await;
    running.ok().flatten()
}

/// Whether no process has the control socket, for as long as it takes another one to get it.
pub(in crate::control) async fn is_free(file: &Path) -> bool {
    let end = Instant::now() + NAME_TIMEOUT;
    while Instant::now() < end {
        let file = file.to_owned();
        let connected = spawn_blocking(move || super::connect(&file)).await;
        // An error does not say that nobody has it.
        if !matches!(connected, Ok(Ok(None))) {
            return false;
        }
        sleep(TURN_RETRY).await;
    }
    true
}

/// Waits until this process has the control socket, for [`LONGEST_TURN`] at most.
pub(in crate::control) async fn until_served_by(file: &Path, pid: i32) {
    let end = Instant::now() + LONGEST_TURN;
    while Instant::now() < end {
        if owner(file).await == Some(pid) {
            return;
        }
        sleep(TURN_RETRY).await;
    }
}
