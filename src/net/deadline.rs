//! Time limits of what waits for a socket.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Instant;

use tokio::task::yield_now;

/// The time was up, and what was waited for had not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeIsUp;

/// Runs a future until a deadline, and once more after epoll has been looked at again: what has come
/// by then counts. A process that was stopped or frozen past the deadline finds its timers first,
/// because a signal ends `epoll_wait` without an event.
///
/// The future stays where it is: taken by value it would be in the caller's future twice.
pub async fn until<T>(
    deadline: Instant,
    mut future: Pin<&mut impl Future<Output = T>>,
) -> Result<T, TimeIsUp> {
    if let Ok(done) = tokio::time::timeout_at(deadline.into(), future.as_mut()).await {
        return Ok(done);
    }
    // The runtime looks at epoll before it runs this task again.
    yield_now().await;
    poll_fn(|cx| {
        Poll::Ready(match future.as_mut().poll(cx) {
            Poll::Ready(done) => Ok(done),
            Poll::Pending => Err(TimeIsUp),
        })
    })
    .await
}
