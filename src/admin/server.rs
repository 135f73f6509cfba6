//! Serves the pages: to few connections at once, one request each, within a time limit, and even
//! when the process has no descriptor left. A client cannot block others: a connection that has
//! not asked yet, or that does not read its page, loses its place to the next one.

use std::convert::Infallible;
use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use hyper::Request;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinSet, yield_now};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::State;
use super::pages::{Page, is_long};
use super::places::{Place, Places};

/// Most connections that have not sent a complete request head.
pub(super) const ASKING: usize = 32;

/// Most connections that wait for a page of metrics while it is made.
const WAITING: usize = 32;

/// Most connections that get a page which may be too long for their socket.
pub(super) const READING: usize = 8;

/// Most bytes of a request head.
const HEAD_MAX: usize = 16 * 1024;

/// The pause after an accept that failed because descriptors or memory were missing.
const BACKOFF: Duration = Duration::from_millis(100);

/// Least time between two warnings that connections lose their places.
const SILENCE: Duration = Duration::from_mins(1);

/// The time limits of a connection.
#[derive(Clone, Copy)]
pub(super) struct Times {
    /// From accept to a complete request head.
    pub(super) head: Duration,
    /// The whole life of a connection, which also ends a scraper that does not read.
    pub(super) whole: Duration,
}

const TIMES: Times = Times {
    head: Duration::from_secs(2),
    whole: Duration::from_secs(10),
};

/// Serves the pages until `leave` is cancelled, because another process serves them then. Open connections are
/// still answered. Dropping the future cuts them.
pub async fn serve(listener: Arc<TcpListener>, state: Arc<State>, leave: CancellationToken) {
    serve_within(TIMES, listener, state, leave).await;
}

pub(super) async fn serve_within(
    times: Times,
    listener: Arc<TcpListener>,
    state: Arc<State>,
    leave: CancellationToken,
) {
    let server = Arc::new(Server {
        times,
        state,
        asking: Places::new(ASKING),
        waiting: Places::new(WAITING),
        reading: Places::new(READING),
    });
    let mut connections = JoinSet::new();
    let mut acceptor = Acceptor::new(listener, Arc::clone(&server));
    loop {
        tokio::select! {
            () = leave.cancelled() => break,
            (stream, client) = acceptor.accept() => {
                if server.asking.make_room(client.ip()).await {
                    acceptor.warn_of_silence();
                }
                let place = server.asking.take_place(client.ip());
                connections.spawn(Arc::clone(&server).connection(stream, place));
            }
            // Only the scraper needs to know how its connection ended.
            Some(_) = connections.join_next() => {}
        }
    }
    drop(acceptor);
    while connections.join_next().await.is_some() {}
}

struct Server {
    times: Times,
    state: Arc<State>,
    asking: Arc<Places>,
    waiting: Arc<Places>,
    reading: Arc<Places>,
}

impl Server {
    async fn connection(self: Arc<Self>, stream: TcpStream, place: Place) {
        let lost = place.lost();
        let place = Mutex::new(place);
        let respond = service_fn(|request| self.respond(request, &place));
        let mut connection = http1::Builder::new()
            // One request each, so that an idle connection of a scraper does not take the place of a probe.
            .keep_alive(false)
            .timer(TokioTimer::new())
            .header_read_timeout(self.times.head)
            .max_buf_size(HEAD_MAX)
            .serve_connection(TokioIo::new(stream), respond);
        let is_over = tokio::select! {
            // Poll the connection first, so that a request that has arrived is answered.
            biased;
            ended = timeout(self.times.whole, &mut connection) => ended.is_ok(),
            () = lost.cancelled() => false,
        };
        if !is_over {
            // Reset, so that the kernel drops bytes that the client does not read.
            drop(connection.into_parts().io.inner().set_zero_linger());
        }
    }

    /// Answers a request. A long page has a place of its own kind while it is made and while it is read, so that
    /// scrapers do not take places from probes. A short page fits into the socket at once.
    async fn respond<B>(
        &self,
        request: Request<B>,
        place: &Mutex<Place>,
    ) -> Result<Page, Infallible> {
        let place = || place.lock().unwrap_or_else(PoisonError::into_inner);
        // This waits for another process, so the connection may lose its place meanwhile.
        let reply = self.state.ask(&request).await;
        let is_long = is_long(&request);
        if is_long {
            place().change(&self.waiting);
        }
        let (client, now) = (place().client(), Instant::now());
        let page = self.state.answer(&request, client, reply, now).await;
        if is_long {
            place().change(&self.reading);
        }
        Ok(page)
    }
}

/// Accepts even when the process is out of descriptors, which is when its pages matter: it holds one in
/// reserve and gives that up first, and then the descriptors of connections that wait for their clients.
struct Acceptor {
    listener: Arc<TcpListener>,
    server: Arc<Server>,
    reserve: Option<File>,
    /// Whether the last accept failed: a series of failures is logged once.
    failing: bool,
    /// When the log last said that a connection has lost its place.
    warned: Option<Instant>,
}

impl Acceptor {
    fn new(listener: Arc<TcpListener>, server: Arc<Server>) -> Self {
        Self {
            listener,
            server,
            reserve: None,
            failing: false,
            warned: None,
        }
    }

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        self.take_reserve();
        loop {
            match self.listener.accept().await {
                Ok(accepted) => {
                    self.failing = false;
                    return accepted;
                }
                Err(error) if is_exhausted(&error) && self.reserve.is_some() => {
                    if let Some(accepted) = self.accept_for_reserve().await {
                        return accepted;
                    }
                }
                Err(error) if is_exhausted(&error) && self.cut_for_a_descriptor().await => {}
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

    fn warn_of_silence(&mut self) {
        let now = Instant::now();
        let is_news = |last: Instant| now.duration_since(last) >= SILENCE;
        if self.warned.is_none_or(is_news) {
            tracing::warn!(
                "more than {ASKING} connections to admin.bind have sent no request: the oldest ones \
                 are closed, so that probes are answered; find out who opens them, or bind the \
                 address where only probes and scrapers can connect"
            );
            self.warned = Some(now);
        }
    }

    /// Gives up the reserve and accepts. The kernel reports missing descriptors before it checks whether a client
    /// waits. If none does, this takes the reserve back at once.
    async fn accept_for_reserve(&mut self) -> Option<(TcpStream, SocketAddr)> {
        self.reserve = None;
        let accepted = poll_fn(|context| match self.listener.poll_accept(context) {
            Poll::Ready(Ok(accepted)) => Poll::Ready(Some(accepted)),
            Poll::Ready(Err(_)) | Poll::Pending => Poll::Ready(None),
        });
        let accepted = accepted.await;
        if accepted.is_none() {
            self.take_reserve();
        }
        accepted
    }

    /// Frees a descriptor if a client waits for one and a connection can be cut.
    async fn cut_for_a_descriptor(&self) -> bool {
        let mut listener = [PollFd::new(&*self.listener, PollFlags::IN)];
        if poll(&mut listener, Some(&Timespec::default())) != Ok(1) {
            return false;
        }
        // Let all connections run first, so that the one that was cut closes.
        yield_now().await;
        let server = &self.server;
        let is_cut = server.asking.cut_later(None).await || server.reading.cut(None);
        yield_now().await;
        is_cut
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
