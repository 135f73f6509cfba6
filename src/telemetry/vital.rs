//! Tasks that portway cannot do without: accept loops, the tick of a worker, upkeep and the like. The runtime
//! catches the panic of a task, so portway would look well without it. This module reports it instead: `/livez` fails
//! from then on, and control ends the process.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::thread;

use tokio::sync::watch;

use super::Registry;

/// Shows whether all vital tasks are alive.
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
            // `self` has the sender, so this cannot fail.
            _ = lost.changed().await;
        }
    }
}

/// Reports a task that panics while it is polled. A task that is only dropped while its thread panics has not
/// failed itself.
struct Polled<'a> {
    task: &'static str,
    lost: &'a watch::Sender<Option<&'static str>>,
}

impl Drop for Polled<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let task = self.task;
            tracing::error!(task, "a task that portway cannot do without has failed");
            (self.lost).send_if_modified(|lost| lost.is_none() && lost.replace(task).is_none());
        }
    }
}

impl Registry {
    /// The same task, with its panic reported.
    pub fn vital_task<W: Future>(
        self: &Arc<Self>,
        task: &'static str,
        work: W,
    ) -> impl Future<Output = W::Output> + use<W> {
        let registry = Arc::clone(self);
        async move {
            let lost = &registry.vital.lost;
            let mut work = pin!(work);
            poll_fn(|context| {
                let _polled = Polled { task, lost };
                work.as_mut().poll(context)
            })
            .await
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use tokio::runtime::Builder;

    use super::*;

    #[tokio::test]
    async fn the_first_task_that_panics_is_told_and_one_that_ends_or_is_aborted_is_not() {
        let registry = Registry::new();
        let ends = tokio::spawn(registry.vital_task("ends", async {}));
        ends.await.unwrap();
        let aborted = tokio::spawn(registry.vital_task("aborted", pending::<()>()));
        aborted.abort();
        assert!(aborted.await.unwrap_err().is_cancelled());
        assert_eq!(registry.vital().lost(), None);
        let loss = {
            let registry = Arc::clone(&registry);
            tokio::spawn(async move { registry.vital().loss().await })
        };
        for task in ["first", "second"] {
            let panics = tokio::spawn(registry.vital_task(task, async { panic!("as if broken") }));
            assert!(panics.await.unwrap_err().is_panic());
        }
        assert_eq!(registry.vital().lost(), Some("first"));
        assert_eq!(loss.await.unwrap(), "first");
        assert_eq!(registry.vital().loss().await, "first");
    }

    #[test]
    fn a_task_that_is_dropped_because_something_else_panics_is_not_blamed() {
        let registry = Registry::new();
        let thread = AssertUnwindSafe(|| {
            let runtime = Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                tokio::spawn(registry.vital_task("healthy", pending::<()>()));
                tokio::task::yield_now().await;
                panic!("as if broken");
            });
        });
        assert!(catch_unwind(thread).is_err());
        assert_eq!(registry.vital().lost(), None);
    }
}
