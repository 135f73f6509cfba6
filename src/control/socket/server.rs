//! The side of the process that runs.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{BAD_CONFIGURATION, Before, END, FAILED, FINE, READY, RELOAD, SOCKETS, TAKE_OVER};
use crate::control::{Given, Request, Requests};
use crate::net;

/// Requests at once; more wait in the queue.
const CONNECTIONS: usize = 8;
/// From accept to the whole request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
const LONGEST_REQUEST: u64 = 64;
/// What the other process may take from the sockets to its first accept.
const START_TIMEOUT: Duration = Duration::from_mins(1);
/// What the process before may take to leave the control socket.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause after an accept that failed for want of something.
const BACKOFF: Duration = Duration::from_millis(100);

/// Tells the process `before`, if there is one, that we accept now, and answers requests for the file
/// until another process takes over.
pub(in crate::control) async fn serve(file: PathBuf, before: Option<Before>, requests: Requests) {
    if let Some(before) = before
        && let Err(error) = leave(before).await
    {
        tracing::warn!(%error, "the portway before does not leave");
    }
    let listener = match listen(&file) {
        Ok(listener) => listener,
        Err(error) => {
            let pid = super::running(&file);
            tracing::warn!(
                %error, pid,
                "no control socket: `portway reload` and `run --takeover` do not reach this process \
                 (another portway with the same file has it)"
            );
            return;
        }
    };
    let mut connections = JoinSet::new();
    let successor = loop {
        let is_full = connections.len() >= CONNECTIONS;
        tokio::select! {
            accepted = listener.accept(), if !is_full => match accepted {
                Ok((stream, _)) => { connections.spawn_local(answer(stream, requests.clone())); }
                Err(_) => tokio::time::sleep(BACKOFF).await,
            },
            Some(answered) = connections.join_next() => match answered {
                Ok(Ok(Some(successor))) => break successor,
                Ok(Ok(None)) => {}
                Ok(Err(error)) => tracing::warn!(%error, "a request on the control socket failed"),
                Err(error) => tracing::error!(%error, "a request on the control socket failed"),
            },
        }
    };
    drop(listener);
    drop(requests.send(Request::HandedOver));
    // Its end tells the successor that the control socket is free.
    drop(successor);
}

fn listen(file: &Path) -> io::Result<UnixListener> {
    UnixListener::from_std(super::listen(file)?)
}

/// Answers one request. A process that has taken over is returned.
async fn answer(stream: UnixStream, requests: Requests) -> io::Result<Option<UnixStream>> {
    let user = net::peer(&stream)?.user;
    if !super::may_ask(user) {
        tracing::warn!(user, "a request of another user is not answered");
        return Ok(None);
    }
    let mut stream = BufReader::new(stream);
    let request = timeout(REQUEST_TIMEOUT, line(&mut stream)).await??;
    match request.as_str() {
        RELOAD => reload(&mut stream, &requests).await.map(|()| None),
        TAKE_OVER => hand_over(stream, &requests).await,
        _ => {
            let known = format!("{FAILED}\nknown requests: {RELOAD}, {TAKE_OVER}\n");
            stream.write_all(known.as_bytes()).await.map(|()| None)
        }
    }
}

async fn reload(stream: &mut BufReader<UnixStream>, requests: &Requests) -> io::Result<()> {
    let (answer, reloaded) = oneshot::channel();
    drop(requests.send(Request::Reload(Some(answer))));
    let (status, text) = match reloaded.await {
        Ok(Ok(generation)) => (FINE, format!("reloaded: generation {generation}")),
        Ok(Err(faults)) => (BAD_CONFIGURATION, faults),
        Err(_) => (FAILED, "portway is ending".to_owned()),
    };
    stream
        .write_all(format!("{status}\n{text}\n").as_bytes())
        .await
}

async fn hand_over(
    mut stream: BufReader<UnixStream>,
    requests: &Requests,
) -> io::Result<Option<UnixStream>> {
    let (answer, given) = oneshot::channel();
    drop(requests.send(Request::Sockets(answer)));
    let Ok(given) = given.await else {
        return Ok(None);
    };
    give(stream.get_ref(), &given).await?;
    let ready = timeout(START_TIMEOUT, line(&mut stream)).await;
    if !matches!(&ready, Ok(Ok(line)) if line == READY) {
        tracing::warn!("another portway wanted to take over and did not start: this one goes on");
        return Ok(None);
    }
    Ok(Some(stream.into_inner()))
}

async fn give(stream: &UnixStream, given: &Given) -> io::Result<()> {
    let listening = given.listening.iter().map(AsFd::as_fd);
    let sockets: Vec<_> = listening
        .chain(given.admin.iter().map(AsFd::as_fd))
        .collect();
    let messages = sockets.chunks(net::DESCRIPTORS_PER_MESSAGE);
    let messages = messages.map(|sockets| (SOCKETS, sockets));
    for (byte, sockets) in messages.chain([(END, [].as_slice())]) {
        let send = || Ok(net::send_descriptors(stream, byte, sockets)?);
        timeout(REQUEST_TIMEOUT, stream.async_io(Interest::WRITABLE, send)).await??;
    }
    Ok(())
}

/// The process before stops accepting, and leaves the control socket.
async fn leave(Before(stream): Before) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    let mut stream = UnixStream::from_std(stream)?;
    stream.write_all(format!("{READY}\n").as_bytes()).await?;
    let mut nothing = Vec::new();
    timeout(LEAVE_TIMEOUT, stream.read_to_end(&mut nothing)).await??;
    Ok(())
}

/// A line without its end.
async fn line(stream: &mut BufReader<UnixStream>) -> io::Result<String> {
    let mut line = String::new();
    stream.take(LONGEST_REQUEST).read_line(&mut line).await?;
    Ok(line.trim_end().to_owned())
}
