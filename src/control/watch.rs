//! Notices that routes.toml has changed. inotify on the directory shows it at once, an editor's rename and the `..data`
//! link of a Kubernetes volume included. portway also reads the file every few seconds, because inotify does not show a
//! change behind a link to another directory, a directory that is replaced, or a network file system.

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

/// Time between two reads of the file. They read its content, because a network file system may give its attributes from
/// a cache for up to a minute, but asks the server when the file is opened. 2 MiB, the largest file, take 1 to 2 ms.
const POLL: Duration = Duration::from_secs(5);
/// Time between a reload that failed for a reason that may pass and the next attempt.
pub(super) const RETRY: Duration = Duration::from_secs(2);
/// Events that follow within this time belong to the same change.
const SETTLED: Duration = Duration::from_millis(100);
/// Debounce at most this many times, so a busy directory cannot delay a reload for ever.
const LONGEST: u32 = 10;

/// The content of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Content {
    /// Not known, or to be tried again.
    #[default]
    Unknown,
    /// The file cannot be read.
    Unreadable,
    /// CRC-32 of the content.
    Hash(u32),
}

impl Content {
    /// The content of a file with this hash; `None` means that it cannot be read.
    pub(super) fn of(hash: Option<u32>) -> Self {
        hash.map_or(Self::Unreadable, Self::Hash)
    }
}

/// Asks for a reload while the file's content differs from what was `tried` last. So a reload that failed for
/// another reason than its content is tried again. Runs for ever.
pub(super) async fn watch(
    path: PathBuf,
    tried: Rc<Cell<Content>>,
    registry: Arc<Registry>,
    requests: Requests,
) {
    let changed = Arc::new(Notify::new());
    // Dropping the watcher stops it.
    let watcher = inotify(&path, Arc::clone(&changed));
    let mode = match &watcher {
        Ok(_) => WatchMode::Inotify,
        Err(error) => {
            tracing::warn!(
                %error,
                "inotify fails: changes of the file are noticed within {} s instead (raise \
                 fs.inotify.max_user_instances and max_user_watches)",
                POLL.as_secs()
            );
            WatchMode::Poll
        }
    };
    registry.config().watches(mode);
    let mut asked: Option<(Content, oneshot::Receiver<Reloaded>)> = None;
    loop {
        let file = path.clone();
        // A disk may hang; then no change can be noticed.
        let found = spawn_blocking(move || hash(&file)).await;
        let content = Content::of(found.unwrap_or_default());
        let is_new = content != tried.get();
        // Newer content overtakes the content of the last request; the same content does not.
        if is_new && asked.as_ref().is_none_or(|(asked, _)| *asked != content) {
            let (sender, answer) = oneshot::channel();
            if requests.send(Request::Reload(Some(sender))).is_err() {
                return;
            }
            asked = Some((content, answer));
        }
        tokio::select! {
            () = changed.notified() => settle(&changed).await,
            () = answered(&mut asked) => {}
            () = sleep(POLL) => {}
        }
    }
}

/// Waits for the answer to the last request.
async fn answered(asked: &mut Option<(Content, oneshot::Receiver<Reloaded>)>) {
    let Some((_, answer)) = asked else {
        return std::future::pending().await;
    };
    let failed = !matches!(answer.await, Ok(Ok(_)));
    *asked = None;
    if failed {
        // Content that was judged is not tried again; everything else is, a little later.
        sleep(RETRY).await;
    }
}

/// Waits until the directory has been quiet for [`SETTLED`].
async fn settle(changed: &Notify) {
    for _ in 0..LONGEST {
        if timeout(SETTLED, changed.notified()).await.is_err() {
            return;
        }
    }
}

/// CRC-32 of the file's content; `None` if it cannot be read, or only once.
pub(super) fn hash(path: &Path) -> Option<u32> {
    let content = net::read_regular(path, MOST_READ).ok()?;
    Some(crc32fast::hash(&content))
}

fn inotify(path: &Path, changed: Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // portway's own reads cause events too.
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
