//! Notices that routes.toml has changed: by inotify on its directory, where an editor's rename and the
//! `..data` link of a Kubernetes volume show too; where that fails, by looking.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::{Notify, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use super::{Reloaded, Request, Requests};
use crate::config::MOST_READ;
use crate::net;
use crate::outcome::WatchMode;
use crate::telemetry::Registry;

/// Between two looks where inotify fails.
const POLL: Duration = Duration::from_secs(5);
/// Between two looks where it works: it does not see a change behind a link to another directory.
const RARE_POLL: Duration = Duration::from_mins(1);
/// Between a reload that failed for a reason that may pass and the next try.
pub(super) const RETRY: Duration = Duration::from_secs(2);
/// What follows within this time belongs to the same change.
const SETTLED: Duration = Duration::from_millis(100);
/// A directory in which something happens all the time must not hold a change up.
const LONGEST: u32 = 10;

/// What a file has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Content {
    /// Not known, or to be tried again.
    #[default]
    Unknown,
    /// It cannot be read.
    Unreadable,
    /// CRC-32 of what it has.
    Hash(u32),
}

impl Content {
    /// Of a file with this hash, if it can be read.
    pub(super) fn of(hash: Option<u32>) -> Self {
        hash.map_or(Self::Unreadable, Self::Hash)
    }
}

/// Asks for a reload as long as the file has another content than what was `tried` last: what fails for
/// another reason than its content is tried again. Runs for ever.
pub(super) async fn watch(
    path: PathBuf,
    tried: Rc<Cell<Content>>,
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
    let mut asked: Option<(Content, oneshot::Receiver<Reloaded>)> = None;
    loop {
        let file = path.clone();
        // A disk may hang; then there is nothing to notice.
        let found = spawn_blocking(move || hash(&file)).await;
        let content = Content::of(found.unwrap_or_default());
        let is_new = content != tried.get();
        // A newer content overtakes the one that was asked for; the same one does not.
        if is_new && asked.as_ref().is_none_or(|(asked, _)| *asked != content) {
            let (sender, answer) = oneshot::channel();
            if requests.send(Request::Reload(Some(sender))).is_err() {
                return;
            }
            asked = Some((content, answer));
        }
        let again = if is_new { POLL } else { pause };
        tokio::select! {
            () = changed.notified() => settle(&changed).await,
            () = answered(&mut asked) => {}
            () = sleep(again) => {}
        }
    }
}

/// Waits for the answer to what was asked for.
async fn answered(asked: &mut Option<(Content, oneshot::Receiver<Reloaded>)>) {
    let Some((_, answer)) = asked else {
        return std::future::pending().await;
    };
    let failed = !matches!(answer.await, Ok(Ok(_)));
    *asked = None;
    if failed {
        // What was judged is not asked for again; the rest is, a little later.
        sleep(RETRY).await;
    }
}

/// Waits until nothing has happened for a moment.
async fn settle(changed: &Notify) {
    for _ in 0..LONGEST {
        if timeout(SETTLED, changed.notified()).await.is_err() {
            return;
        }
    }
}

/// CRC-32 of the file's content; none if it cannot be read, or only once.
pub(super) fn hash(path: &Path) -> Option<u32> {
    let content = net::read_regular(path, MOST_READ).ok()?;
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
