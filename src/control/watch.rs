//! Notices that routes.toml has changed: by inotify on its directory, where an editor's rename and the
//! `..data` link of a Kubernetes volume show too; where that fails, by looking.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::{Request, Requests};
use crate::telemetry::{Registry, WatchMode};

/// Between two looks where inotify fails.
const POLL: Duration = Duration::from_secs(5);
/// Between two looks where it works: it does not see a change behind a link to another directory.
const RARE_POLL: Duration = Duration::from_mins(1);
/// What follows within this time belongs to the same change.
const SETTLED: Duration = Duration::from_millis(100);
/// More than any routes.toml may have.
const LARGEST: u64 = 1 << 21;
/// A directory in which something happens all the time must not hold a change up.
const LONGEST: u32 = 10;

/// Asks for a reload whenever the file has another content than what was `tried` last. Runs for ever.
pub(super) async fn watch(
    path: PathBuf,
    tried: Rc<Cell<Option<u32>>>,
    registry: Arc<Registry>,
    requests: Requests,
) {
    let (sender, mut events) = mpsc::unbounded_channel();
    // It ends with the value.
    let watcher = inotify(&path, sender);
    let (mode, pause) = match &watcher {
        Ok(_) => (WatchMode::Inotify, RARE_POLL),
        Err(error) => {
            tracing::warn!(
                %error,
                "inotify fails: changes of the file are noticed within {} s instead (raise \
                 fs.inotify.max_user_instances and max_user_watches)",
                POLL.as_secs()
            );
            (WatchMode::Poll, POLL)
        }
    };
    registry.config().watches(mode);
    loop {
        let content = hash(&path);
        if content != tried.get() {
            tried.set(content);
            if requests.send(Request::Reload(None)).is_err() {
                return;
            }
        }
        if timeout(pause, changed(&mut events)).await.is_ok() {
            settle(&mut events).await;
        }
    }
}

/// CRC-32 of the file's content; none if it cannot be read.
fn hash(path: &Path) -> Option<u32> {
    // To open a named pipe would wait for its writer.
    fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    let mut content = Vec::new();
    let file = File::open(path).ok()?;
    file.take(LARGEST).read_to_end(&mut content).ok()?;
    Some(crc32fast::hash(&content))
}

fn inotify(path: &Path, changed: mpsc::UnboundedSender<()>) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Our own reading is an event too.
        let reading = |kind: &EventKind| {
            kind.is_access() && *kind != EventKind::Access(AccessKind::Close(AccessMode::Write))
        };
        if event.is_ok_and(|event| !reading(&event.kind)) {
            // Nobody waits any more at the end of the program.
            _ = changed.send(());
        }
    })?;
    let directory = path.parent().filter(|parent| *parent != Path::new(""));
    watcher.watch(
        directory.unwrap_or(Path::new(".")),
        RecursiveMode::NonRecursive,
    )?;
    Ok(watcher)
}

/// Waits for an event; for ever where there are none.
async fn changed(events: &mut mpsc::UnboundedReceiver<()>) {
    if events.recv().await.is_none() {
        std::future::pending::<()>().await;
    }
}

/// Waits until nothing more happens.
async fn settle(events: &mut mpsc::UnboundedReceiver<()>) {
    for _ in 0..LONGEST {
        sleep(SETTLED).await;
        let mut quiet = true;
        while events.try_recv().is_ok() {
            quiet = false;
        }
        if quiet {
            return;
        }
    }
}
