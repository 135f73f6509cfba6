//! Notices that routes.toml, or a file that it names, has changed. inotify on the directories shows it at once, an editor's
//! rename and the `..data` link of a Kubernetes volume included. portway also reads the files every few seconds, because
//! inotify does not show a change behind a link to another directory, a directory that is replaced, or a network file
//! system.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{ErrorKind, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::{Notify, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};

use super::{Reloaded, Request, Requests};
use crate::config::Watched;
use crate::outcome::WatchMode;
use crate::telemetry::Registry;

/// Time between two reads of the file. They read its content, because a network file system may give its attributes from
/// a cache for up to a minute, but asks the server when the file is opened. 2 MiB, the largest routes.toml, take 1 to 2 ms; the files that it names have at most
/// 16 MiB in all.
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

/// Asks for a reload while the content of the files differs from what was `tried` last. So a reload that failed for
/// another reason than its content is tried again. Runs for ever.
pub(super) async fn watch(
    path: PathBuf,
    tried: Rc<Cell<Content>>,
    registry: Arc<Registry>,
    requests: Requests,
) {
    let mut watched = Watched::default();
    let mut events = Events::of(vec![path.clone()], &registry);
    let mut asked: Option<(Content, oneshot::Receiver<Reloaded>)> = None;
    // Content whose reload failed, and when it may be tried again.
    let mut failed: Option<(Content, Instant)> = None;
    loop {
        let (file, missing) = (path.clone(), events.missing.clone());
        // A disk may hang; then no change can be noticed.
        let found = spawn_blocking(move || {
            let has_come = missing.iter().any(|directory| directory.is_dir());
            (watched.fingerprint(&file), watched, has_come)
        });
        let (hash, of_now, has_come) = found.await.unwrap_or_default();
        watched = of_now;
        let content = Content::of(hash);
        let files = [path.clone()].into_iter().chain(watched.paths(&path));
        let files: Vec<PathBuf> = files.collect();
        if files != events.files || has_come {
            events = Events::of(files, &registry);
            // One of them may have changed before.
            events.changed.notify_one();
        }
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
            () = events.changed.notified() => settle(&events.changed).await,
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

/// The events of the directories of some files.
struct Events {
    files: Vec<PathBuf>,
    changed: Arc<Notify>,
    /// The directories that inotify cannot watch because they do not exist.
    missing: Vec<PathBuf>,
    /// Dropping the watcher stops it.
    _watcher: Option<RecommendedWatcher>,
}

impl Events {
    fn of(files: Vec<PathBuf>, registry: &Registry) -> Self {
        let changed = Arc::new(Notify::new());
        let watcher = inotify(&files, Arc::clone(&changed));
        let (watcher, missing) = match watcher {
            Ok((watcher, missing)) => (Some(watcher), missing),
            Err(error) => {
                tracing::warn!(
                    %error,
                    "inotify fails: changes of the file are noticed within {} s instead (raise \
                     fs.inotify.max_user_instances and max_user_watches)",
                    POLL.as_secs()
                );
                (None, Vec::new())
            }
        };
        for directory in &missing {
            tracing::warn!(
                "there is no directory {}: a change in it is noticed within {} s",
                directory.display(),
                POLL.as_secs()
            );
        }
        // The first file is routes.toml.
        let routes = files.first().map(|file| directory(file));
        let is_watched = watcher.is_some() && !routes.is_some_and(|it| missing.contains(&it));
        registry.config().watches(if is_watched {
            WatchMode::Inotify
        } else {
            WatchMode::Poll
        });
        Self {
            files,
            changed,
            missing,
            _watcher: watcher,
        }
    }
}

/// Whether one of the files with these names may have changed. portway's own reads cause events, and so does a log in the
/// same directory each time that it grows. A name that is created, removed or renamed may be a link on the way to a file.
fn may_change(files: &[PathBuf], event: &notify::Event) -> bool {
    let is_closed = event.kind == EventKind::Access(AccessKind::Close(AccessMode::Write));
    if is_closed || matches!(event.kind, EventKind::Modify(ModifyKind::Data(_))) {
        let is_of = |path: &PathBuf| {
            let mut names = files.iter().map(|file| file.file_name());
            names.any(|name| name == path.file_name())
        };
        return event.paths.iter().any(is_of);
    }
    !event.kind.is_access()
}

fn directory(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Watches the directories of the files, and returns those that do not exist.
fn inotify(
    files: &[PathBuf],
    changed: Arc<Notify>,
) -> notify::Result<(RecommendedWatcher, Vec<PathBuf>)> {
    let its = files.to_vec();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| may_change(&its, &event)) {
            changed.notify_one();
        }
    })?;
    // A directory may be that of several files.
    let directories: BTreeSet<PathBuf> = files.iter().map(|file| directory(file)).collect();
    let mut missing = Vec::new();
    for directory in directories {
        match watcher.watch(&directory, RecursiveMode::NonRecursive) {
            Err(error) if matches!(error.kind, ErrorKind::PathNotFound) => missing.push(directory),
            done => done?,
        }
    }
    Ok((watcher, missing))
}

#[cfg(test)]
mod tests {
    use notify::Event;
    use notify::event::{CreateKind, DataChange, RenameMode};

    use super::*;

    #[tokio::test]
    async fn a_directory_that_does_not_exist_keeps_no_other_from_being_watched() {
        let parent = tempfile::tempdir().unwrap();
        let [routes, users] = ["routes.toml", "later/users"].map(|it| parent.path().join(it));
        let files = [routes.clone(), users.clone()];
        let (changed, later) = (Arc::new(Notify::new()), parent.path().join("later"));
        let (_watcher, missing) = inotify(&files, Arc::clone(&changed)).unwrap();
        assert_eq!(missing, std::slice::from_ref(&later));
        std::fs::write(routes, "").unwrap();
        changed.notified().await;

        std::fs::create_dir(later).unwrap();
        let changed = Arc::new(Notify::new());
        let (_watcher, missing) = inotify(&files, Arc::clone(&changed)).unwrap();
        assert!(missing.is_empty());
        std::fs::write(users, "").unwrap();
        changed.notified().await;
    }

    #[test]
    fn growth_of_another_file_in_the_directory_is_not_a_change_of_this_one() {
        let may = |kind, file: &str| {
            let event = Event::new(kind).add_path(Path::new("/etc/portway").join(file));
            may_change(&["routes.toml", "users"].map(PathBuf::from), &event)
        };
        let grown = EventKind::Modify(ModifyKind::Data(DataChange::Any));
        let closed = EventKind::Access(AccessKind::Close(AccessMode::Write));
        let read = EventKind::Access(AccessKind::Close(AccessMode::Read));
        for kind in [grown, closed] {
            assert!(may(kind, "routes.toml") && may(kind, "users"));
            assert!(!may(kind, "portway.log"));
        }
        assert!(!may(read, "routes.toml"));
        // A link on the way to the file, such as `..data`.
        let renamed = EventKind::Modify(ModifyKind::Name(RenameMode::To));
        assert!(may(renamed, "..data"));
        assert!(may(EventKind::Create(CreateKind::Any), "..data"));
    }
}
