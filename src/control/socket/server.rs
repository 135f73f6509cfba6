//! The control socket on the side of the running process.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::geteuid;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::{JoinSet, spawn_local};
use tokio::time::{sleep, timeout};

use super::answers::{reload, tell_addresses, tell_configuration, tell_status};
use super::owner::{NAME_TIMEOUT, owner};
use super::{
    ADDRESSES, CONFIGURATION, CONNECTIONS, END, FAILED, Giver, KNOWN, LONGEST_REASON, Link,
    NOT_STARTED, READY, RELOAD, SOCKETS, STATUS, Successor, TAKE_OVER, UPGRADE, YOURS,
};
use crate::admin::{NoAnswer, State};
use crate::control::upgrade::Heir;
use crate::control::{Request, Requests, Takeover};
use crate::net;
use crate::telemetry::Registry;

/// Requests at a time; more wait in the queue.
const PLACES: usize = 8;
/// Longest time from accept to the whole request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// A query of connections has names in it.
const LONGEST_REQUEST: u64 = 2048;
/// Requests for the status that are answered at a time. They take no place of the others.
const LOOKS: usize = 16;
/// Longest time that the other process may take from getting the sockets to its first accept.
const START_TIMEOUT: Duration = Duration::from_mins(1);
/// Longest time that the predecessor may take to leave the control socket.
const YIELD_TIMEOUT: Duration = Duration::from_secs(30);
/// Time between two attempts to bind the control socket.
const RETRY: Duration = Duration::from_millis(500);
/// The pause after an accept that failed because a resource ran out.
const BACKOFF: Duration = Duration::from_millis(100);

/// The process that accepted at the addresses before this one.
pub(in crate::control) enum Before {
    /// No process that could still accept.
    Nobody,
    /// The predecessor, which is notified that we accept now.
    Predecessor(Giver),
    /// A successor, which has ended, or has returned the addresses and is notified that we accept now.
    Successor(Option<Successor>),
}

/// Notifies the predecessor, if there is one, that we accept now, and answers requests about the file until a
/// successor has taken over.
///
/// If a process ends, its predecessor and its successor may both begin to accept at the same addresses. Then the
/// one that has the control socket goes on, and is the main process of the unit.
pub(in crate::control) async fn serve(
    file: PathBuf,
    before: Before,
    requests: Requests,
    state: Arc<State>,
    heir: Rc<Heir>,
) {
    let registry = Arc::clone(state.registry());
    let (is_alone, returned_by) = match before {
        Before::Nobody => (true, None),
        Before::Successor(successor) => (false, successor),
        Before::Predecessor(predecessor) => {
            let link = succeed(predecessor).await;
            let link = link
                .inspect_err(|error| tracing::warn!(%error, "the predecessor has ended or hangs"));
            let is_linked = link.is_ok();
            drop(requests.send(Request::Succeeds(link.ok())));
            (is_linked, None)
        }
    };
    let listener = {
        let mut listener = pin!(listen(&file, &registry));
        let mut opened = None;
        if !is_alone {
            opened = timeout(NAME_TIMEOUT, &mut listener).await.ok();
            if opened.is_none() && owner(&file).await.is_some() {
                tracing::error!("another portway serves this file, so this one stops");
                drop(requests.send(Request::TakenOver(None)));
                return;
            }
            heir.gives_way();
            if let Some(successor) = returned_by {
                // It may end then, so systemd knows the main process before.
                spawn_local(successor.tell_back());
            }
        }
        match opened {
            Some(listener) => listener,
            None => listener.await,
        }
    };
    registry.config().control_socket(true);
    let office = Office {
        requests: requests.clone(),
        state,
        heir: Rc::clone(&heir),
        looks: Arc::new(Semaphore::new(LOOKS)),
    };
    let mut ready = answer_all(&listener, &Rc::new(office)).await;
    drop(listener);
    registry.config().control_socket(false);
    if let Ok(successor) = net::peer(&ready.stream) {
        heir.succeeds(successor.pid);
    }
    // If the successor has just ended, the end of the connection will show it.
    drop(ready.stream.write_all(&[YOURS]).await);
    let successor = Successor::new(ready.stream, registry);
    drop(requests.send(Request::TakenOver(Some(successor))));
    drop(ready.under_way);
}

/// A process that asks for an upgrade. It gets the answer even if the control socket has a new owner by then.
#[derive(Debug)]
pub struct Upgrading(BufReader<UnixStream>);

impl Upgrading {
    /// Answers with an exit status and a text.
    pub(in crate::control) async fn answer(mut self, status: u8, text: &str) {
        // It may be gone.
        drop(say(&mut self.0, status, text).await);
    }

    /// Says why there is no upgrade now.
    pub(in crate::control) fn refuse(self, why: &'static str) {
        spawn_local(self.answer(FAILED, why));
    }
}

/// A process that accepts at our sockets.
struct Ready {
    stream: UnixStream,
    /// Held until control knows of it, so that nothing is reloaded meanwhile.
    under_way: Arc<()>,
}

/// Everything that the answers need.
struct Office {
    requests: Requests,
    state: Arc<State>,
    heir: Rc<Heir>,
    /// The places of requests for the status.
    looks: Arc<Semaphore>,
}

/// Answers requests until a successor has taken over.
async fn answer_all(listener: &UnixListener, office: &Rc<Office>) -> Ready {
    let mut connections = JoinSet::new();
    loop {
        let is_full = connections.len() >= PLACES;
        tokio::select! {
            accepted = listener.accept(), if !is_full => match accepted {
                // Checked before a byte is read, so that other users take no place.
                Ok((stream, _)) if is_known(&stream) => { connections.spawn_local(answer(stream, Rc::clone(office))); }
                Ok(_) => {}
                Err(_) => sleep(BACKOFF).await,
            },
            Some(answered) = connections.join_next() => match answered {
                Ok(Ok(Some(successor))) => return successor,
                Ok(Ok(None)) => {}
                // The asker is gone, or too slow.
                Ok(Err(error)) => tracing::debug!(%error, "a request on the control socket failed"),
                Err(error) => tracing::error!(%error, "a request on the control socket failed"),
            },
        }
    }
}

/// Whether the peer is portway's own user or root.
fn is_known(stream: &UnixStream) -> bool {
    net::peer(stream).is_ok_and(|peer| peer.user == 0 || peer.user == geteuid().as_raw())
}

/// Binds the control socket, retrying until the name is free.
async fn listen(file: &Path, registry: &Registry) -> UnixListener {
    let mut told = false;
    loop {
        match super::listen(file).and_then(UnixListener::from_std) {
            Ok(listener) => return listener,
            Err(error) if told => tracing::debug!(%error, "cannot open the control socket yet"),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => tracing::warn!(
                %error,
                "another process has the control socket of this file: `portway reload` and `run \
                 --takeover` do not reach this one; stop that process (`ss -xlp` shows it), or give \
                 portway a directory of its own in RUNTIME_DIRECTORY, as systemd does"
            ),
            Err(error) => tracing::warn!(
                %error,
                "the control socket cannot be opened: `portway reload` and `run --takeover` do not reach \
                 this process; portway tries again until it can"
            ),
        }
        told = true;
        registry.config().control_socket(false);
        sleep(RETRY).await;
    }
}

/// Answers one request. Returns the other process if it has taken over.
async fn answer(stream: UnixStream, office: Rc<Office>) -> io::Result<Option<Ready>> {
    let requests = &office.requests;
    let (user, own) = (net::peer(&stream)?.user, geteuid().as_raw());
    let mut stream = BufReader::new(stream);
    let request = timeout(REQUEST_TIMEOUT, line(&mut stream, LONGEST_REQUEST)).await??;
    let (word, rest) = request.split_once(' ').unwrap_or((&request, ""));
    match word {
        RELOAD => reload(&mut stream, requests).await,
        CONFIGURATION => tell_configuration(&mut stream, requests).await,
        ADDRESSES => tell_addresses(&mut stream, rest, requests).await,
        STATUS | CONNECTIONS => {
            let query = (word == CONNECTIONS).then(|| rest.to_owned());
            match Arc::clone(&office.looks).try_acquire_owned() {
                Ok(look) => {
                    let state = Arc::clone(&office.state);
                    spawn_local(tell_status(stream, query, state, look));
                    return Ok(None);
                }
                Err(_) => say(&mut stream, FAILED, &NoAnswer::Busy.to_string()).await,
            }
        }
        UPGRADE => {
            drop(requests.send(Request::Upgrade(Upgrading(stream))));
            return Ok(None);
        }
        TAKE_OVER if user == own => return hand_over(stream, requests, &office.heir).await,
        TAKE_OVER => say(&mut stream, FAILED, "only portway's own user may ask that").await,
        _ => {
            let known = format!(
                "{KNOWN}reload, configuration, addresses, status, connections, upgrade, takeover"
            );
            say(&mut stream, FAILED, &known).await
        }
    }?;
    Ok(None)
}

pub(super) async fn say(
    stream: &mut BufReader<UnixStream>,
    status: u8,
    text: &str,
) -> io::Result<()> {
    let answer = format!("{status}\n{text}\n");
    timeout(REQUEST_TIMEOUT, stream.write_all(answer.as_bytes())).await?
}

async fn hand_over(
    mut stream: BufReader<UnixStream>,
    requests: &Requests,
    heir: &Heir,
) -> io::Result<Option<Ready>> {
    let (answer, takeover) = oneshot::channel();
    drop(requests.send(Request::Sockets(answer)));
    let Ok(Takeover {
        listening,
        admin,
        under_way,
    }) = takeover.await
    else {
        return Ok(None);
    };
    let sockets = listening.iter().map(AsFd::as_fd);
    let sockets: Vec<_> = sockets.chain(admin.iter().map(AsFd::as_fd)).collect();
    give(stream.get_ref(), &sockets).await?;
    // A socket that is closed meanwhile must not stay open here.
    drop((listening, admin));
    let said = timeout(START_TIMEOUT, line(&mut stream, LONGEST_REASON)).await;
    let said = said.ok().and_then(Result::ok).unwrap_or_default();
    if said == READY {
        let stream = stream.into_inner();
        return Ok(Some(Ready { stream, under_way }));
    }
    let reason = said.strip_prefix(NOT_STARTED);
    if let (Some(reason), Ok(successor)) = (reason, net::peer(stream.get_ref())) {
        heir.fails(successor.pid, reason);
    }
    tracing::warn!(
        reason,
        "another portway wanted to take over and did not start: this one goes on"
    );
    Ok(None)
}

async fn give(stream: &UnixStream, sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
    let messages = sockets.chunks(net::DESCRIPTORS_PER_MESSAGE);
    let messages = messages.map(|sockets| (SOCKETS, sockets));
    for (byte, sockets) in messages.chain([(END, [].as_slice())]) {
        let send = || Ok(net::send_descriptors(stream, byte, sockets)?);
        timeout(REQUEST_TIMEOUT, stream.async_io(Interest::WRITABLE, send)).await??;
    }
    Ok(())
}

/// Makes the predecessor stop accepting and leave the control socket.
async fn succeed(Giver(stream): Giver) -> io::Result<Link> {
    stream.set_nonblocking(true)?;
    let mut stream = UnixStream::from_std(stream)?;
    stream.write_all(format!("{READY}\n").as_bytes()).await?;
    match timeout(YIELD_TIMEOUT, stream.read_u8()).await?? {
        YOURS => Ok(Link::new(stream)),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Reads a line of at most so many bytes, and returns it without its end.
async fn line(stream: &mut BufReader<UnixStream>, most: u64) -> io::Result<String> {
    let mut line = String::new();
    stream.take(most).read_line(&mut line).await?;
    Ok(line.trim_end().to_owned())
}
