//! Serving the pages: few connections at once, one request each, within a time limit, and also
//! when the process has no descriptor left.

use std::convert::Infallible;
use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::State;
use super::pages::respond;

/// Connections at once; more wait in the listener's queue.
const CONNECTIONS: usize = 16;

/// From accept to a whole request head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection's whole life: a scraper that does not read ends here.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of a request head.
const HEAD_MAX: usize = 16 * 1024;

/// The pause after an accept that failed for want of something.
const BACKOFF: Duration = Duration::from_millis(100);

/// Serves the pages for ever; dropped, it cuts its connections.
pub async fn serve(listener: TcpListener, state: Arc<State>) -> Infallible {
    serve_within(TIMEOUT, listener, state).await
}

pub(super) async fn serve_within(
    limit: Duration,
    listener: TcpListener,
    state: Arc<State>,
) -> Infallible {
    let mut connections = JoinSet::new();
    let mut acceptor = Acceptor::new(listener);
    loop {
        let is_full = connections.len() >= CONNECTIONS;
        tokio::select! {
            stream = acceptor.accept(), if !is_full => {
                let state = Arc::clone(&state);
                connections.spawn(tokio::time::timeout(limit, answer(stream, state)));
            }
            // How it ended is the scraper's business.
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn answer(stream: TcpStream, state: Arc<State>) -> hyper::Result<()> {
    http1::Builder::new()
        // One request each: no idle connection of a scraper takes the place of a probe.
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_MAX)
        .serve_connection(
            TokioIo::new(stream),
            service_fn(move |request| respond(Arc::clone(&state), request)),
        )
        .await
}

/// Accepts also when the process is out of descriptors, which is when its pages matter: it holds
/// one in reserve and gives that up.
struct Acceptor {
    listener: TcpListener,
    reserve: Option<File>,
    /// Whether the last accept failed: each failure is told once.
    failing: bool,
}

impl Acceptor {
    fn new(listener: TcpListener) -> Self {
        Self {
            listener,
            reserve: None,
            failing: false,
        }
    }

    async fn accept(&mut self) -> TcpStream {
        self.take_reserve();
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    self.failing = false;
                    return stream;
                }
                Err(error) if is_exhausted(&error) && self.reserve.is_some() => {
                    if let Some(stream) = self.accept_for_reserve().await {
                        return stream;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    if !self.failing {
                        tracing::warn!(%error, "the admin listener cannot accept");
                    }
                    self.failing = true;
                    tokio::time::sleep(BACKOFF).await;
                    self.take_reserve();
                }
            }
        }
    }

    /// The kernel says that descriptors are out before it looks whether anybody waits. If nobody
    /// does, the reserve is taken back at once.
    async fn accept_for_reserve(&mut self) -> Option<TcpStream> {
        self.reserve = None;
        let accepted = poll_fn(|context| match self.listener.poll_accept(context) {
            Poll::Ready(Ok((stream, _))) => Poll::Ready(Some(stream)),
            Poll::Ready(Err(_)) | Poll::Pending => Poll::Ready(None),
        });
        let stream = accepted.await;
        if stream.is_none() {
            self.take_reserve();
        }
        stream
    }

    fn take_reserve(&mut self) {
        if self.reserve.is_none() {
            self.reserve = File::open("/dev/null").ok();
        }
    }
}

fn is_exhausted(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}
