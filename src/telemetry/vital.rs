//! Tasks that portway cannot do without: accept loops, the tick of a worker, upkeep and the like. The runtime
//! catches the panic of a task, so portway would look well without it. It is told here instead: `/livez` fails
//! from then on, and control ends the process.

use std::sync::Arc;
use std::thread;

use tokio::sync::watch;

use super::Registry;

/// Whether all vital tasks live.
#[derive(Debug, Default)]
pub struct Vital {
    lost: watch::Sender<Option<&'static str>>,
}

impl Vital {
    /// The first task that was lost.
    pub fn lost(&self) -> Option<&'static str> {
        *self.lost.borrow()
    }

    /// Waits until a task is lost.
    pub async fn loss(&self) -> &'static str {
        let mut lost = self.lost.subscribe();
        loop {
            if let Some(task) = *lost.borrow_and_update() {
                return task;
            }
            // The sender is `self`, so a change comes or nothing.
            _ = lost.changed().await;
        }
    }
}

/// Tells of its task if that panics.
struct Watched {
    task: &'static str,
    registry: Arc<Registry>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        if thread::panicking() {
            tracing::error!(
                task = self.task,
                "a task that portway cannot do without has panicked"
            );
            let lost = &self.registry.vital().lost;
            lost.send_if_modified(|lost| lost.is_none() && lost.replace(self.task).is_none());
        }
    }
}

impl Registry {
    /// The same task, whose panic is told.
    pub fn watch<W: Future>(
        self: &Arc<Self>,
        task: &'static str,
        work: W,
    ) -> impl Future<Output = W::Output> + use<W> {
        let watched = Watched {
            task,
            registry: Arc::clone(self),
        };
        async move {
            let _watched = watched;
            work.await
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test]
    async fn the_first_task_that_panics_is_told_and_one_that_ends_or_is_aborted_is_not() {
        let registry = Registry::new();
        let ends = tokio::spawn(registry.watch("ends", async {}));
        ends.await.unwrap();
        let aborted = tokio::spawn(registry.watch("aborted", pending::<()>()));
        aborted.abort();
        assert!(aborted.await.unwrap_err().is_cancelled());
        assert_eq!(registry.vital().lost(), None);
        let loss = {
            let registry = Arc::clone(&registry);
            tokio::spawn(async move { registry.vital().loss().await })
        };
        for task in ["first", "second"] {
            let panics = tokio::spawn(registry.watch(task, async { panic!("as if broken") }));
            assert!(panics.await.unwrap_err().is_panic());
        }
        assert_eq!(registry.vital().lost(), Some("first"));
        assert_eq!(loss.await.unwrap(), "first");
        assert_eq!(registry.vital().loss().await, "first");
    }
}
