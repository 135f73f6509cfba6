//! Notices that routes.toml has changed. inotify on the directory shows it at once, an editor's rename and the `..data`
//! link of a Kubernetes volume included. portway also reads the file every few seconds, because inotify does not show a
//! change behind a link to another directory, a directory that is replaced, or a network file system.

use std::cell::Cell;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::{Notify, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};

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
    // Content whose reload failed, and when it may be tried again.
    let mut failed: Option<(Content, Instant)> = None;
    loop {
        let file = path.clone();
        // A disk may hang; then no change can be noticed.
        let found = spawn_blocking(move || hash(&file)).await;
        let content = Content::of(found.unwrap_or_default());
        let is_new = content != tried.get();
        let now = Instant::now();
        let is_early = failed.is_some_and(|(of, retry)| of == content && now < retry);
        // Newer content overtakes the content of the last request; the same content does not.
        let is_asked = asked.as_ref().is_some_and(|(asked, _)| *asked == content);
        if is_new && !is_early && !is_asked {
            let (sender, answer) = oneshot::channel();
            if requests.send(Request::Reload(Some(sender))).is_err() {
                return;
            }
            asked = Some((content, answer));
        }
        tokio::select! {
            () = changed.notified() => settle(&changed).await,
            of = failure(&mut asked) => failed = Some((of, Instant::now() + RETRY)),
            () = sleep(if is_early { RETRY } else { POLL }) => {}
        }
    }
}

/// Waits until the last request has failed. Content that was judged is not tried again; everything else is, a little
/// later.
async fn failure(asked: &mut Option<(Content, oneshot::Receiver<Reloaded>)>) -> Content {
    if let Some((content, answer)) = asked {
        let content = *content;
        let failed = !matches!(answer.await, Ok(Ok(_)));
        *asked = None;
        if failed {
            return content;
        }
    }
    std::future::pending().await
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

/// Whether the file with this name may have changed. portway's own reads cause events, and so does a log in the same
/// directory each time that it grows. A name that is created, removed or renamed may be a link on the way to the file.
fn may_change(name: Option<&OsStr>, event: &notify::Event) -> bool {
    let is_closed = event.kind == EventKind::Access(AccessKind::Close(AccessMode::Write));
    if is_closed || matches!(event.kind, EventKind::Modify(ModifyKind::Data(_))) {
        return event.paths.iter().any(|path| path.file_name() == name);
    }
    !event.kind.is_access()
}

fn inotify(path: &Path, changed: Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    let name = path.file_name().map(ToOwned::to_owned);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| may_change(name.as_deref(), &event)) {
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

#[cfg(test)]
mod tests {
    use notify::Event;
    use notify::event::{CreateKind, DataChange, RenameMode};

    use super::*;

    #[test]
    fn growth_of_another_file_in_the_directory_is_not_a_change_of_this_one() {
        let may = |kind, file: &str| {
            let event = Event::new(kind).add_path(Path::new("/etc/portway").join(file));
            may_change(Some(OsStr::new("routes.toml")), &event)
        };
        let grown = EventKind::Modify(ModifyKind::Data(DataChange::Any));
        let closed = EventKind::Access(AccessKind::Close(AccessMode::Write));
        let read = EventKind::Access(AccessKind::Close(AccessMode::Read));
        for kind in [grown, closed] {
            assert!(may(kind, "routes.toml"));
            assert!(!may(kind, "portway.log"));
        }
        assert!(!may(read, "routes.toml"));
        // A link on the way to the file, such as `..data`.
        let renamed = EventKind::Modify(ModifyKind::Name(RenameMode::To));
        assert!(may(renamed, "..data"));
        assert!(may(EventKind::Create(CreateKind::Any), "..data"));
    }
}
