//! Time limits for waiting on a socket.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::task::yield_now;

use super::Leg;

/// The deadline passed before the future was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeIsUp;

/// Runs a future until a deadline, and once more after the runtime has looked at epoll again: events
/// that have come by then still count. A process that was stopped or frozen past the deadline finds
/// its timers first, because a signal ends `epoll_wait` without an event.
///
/// It takes a pinned reference: by value the future would be in the caller's future twice.
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

/// Whether something has arrived at any of the legs: bytes, an end or an error. It asks the kernel,
/// because the runtime's readiness may be out of date: a process that was paused sees its timers
/// first.
pub fn any_readable<'a>(legs: impl Iterator<Item = &'a Leg>) -> bool {
    let mut legs: Vec<_> = legs.map(|leg| PollFd::new(leg, PollFlags::IN)).collect();
    poll(&mut legs, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}
