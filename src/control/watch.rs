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
use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

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
    let changed = Arc::new(Notify::new());
    // It ends with the value.
    let watcher = inotify(&path, Arc::clone(&changed));
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
        let file = path.clone();
        // A disk may hang; then there is nothing to notice.
        let content = spawn_blocking(move || hash(&file))
            .await
            .unwrap_or_default();
        if content != tried.get() {
            tried.set(content);
            if requests.send(Request::Reload(None)).is_err() {
                return;
            }
        }
        if timeout(pause, changed.notified()).await.is_ok() {
            for _ in 0..LONGEST {
                if timeout(SETTLED, changed.notified()).await.is_err() {
                    break;
                }
            }
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

fn inotify(path: &Path, changed: Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Our own reading is an event too.
        let reading = |kind: &EventKind| {
            kind.is_access() && *kind != EventKind::Access(AccessKind::Close(AccessMode::Write))
        };
        if event.is_ok_and(|event| !reading(&event.kind)) {
            changed.notify_one();
        }
    })?;
    let directory = path.parent().filter(|parent| *parent != Path::new(""));
    watcher.watch(
        directory.unwrap_or(Path::new(".")),
        RecursiveMode::NonRecursive,
    )?;
    Ok(watcher)
}
