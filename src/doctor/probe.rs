//! One question to a server: connect, send a hello, read the answer, end the connection in order.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::way::{Unreached, Way};
use crate::backend::{NameRules, Target};
use crate::control::names::look_up;
use crate::tls::{Answer, MOST_ANSWER, read_answer};

/// Longest wait for a look-up. Resolvers have time limits of their own.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for the whole answer to a hello.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Time between the two segments of a hello: more than a delayed ACK takes (40 ms), so that a server reads the first
/// one alone.
const PAUSE: Duration = Duration::from_millis(50);
/// Longest wait for the server's end of a connection that this end has closed.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(300);

/// The reaction of a server to a hello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Bytes.
    Answer(Answer),
    /// A FIN, without a byte before it.
    Closed,
    /// A RST, without a byte before it.
    Reset,
    /// Nothing within [`ANSWER_TIMEOUT`].
    Nothing,
}

/// A hello that was sent, and what came back.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    pub(super) connect: Duration,
    /// From the last byte of the hello to the first of the answer.
    pub(super) first_byte: Option<Duration>,
    pub(super) said: Said,
}

/// The addresses of an endpoint, in the order of the resolver of its backend.
pub(super) async fn resolve(target: &Target, rules: &NameRules) -> io::Result<Vec<SocketAddr>> {
    let (host, port) = match target {
        Target::Address(address) => return Ok(vec![*address]),
        Target::Name { host, port } => (&**host, *port),
        // The plan has one endpoint for each name.
        Target::Asked { .. } => return Ok(Vec::new()),
    };
    let found = timeout(LOOKUP_TIMEOUT, look_up(host, rules)).await;
    let late = || io::Error::new(ErrorKind::TimedOut, "the resolver does not answer");
    let mut found = found.map_err(|_elapsed| late())??;
    for address in &mut found {
        address.set_port(port);
    }
    Ok(found)
}

/// Sends a hello in these parts. An error is one of the connect.
pub(super) async fn ask(
    way: &Way,
    parts: &[Vec<u8>],
    connect_timeout: Duration,
) -> Result<Exchange, Unreached> {
    let begun = Instant::now();
    let (mut stream, bytes) = way.connect(connect_timeout).await?;
    let connect = begun.elapsed();
    let is_sent = send(&mut stream, parts).await.is_ok();
    let sent = Instant::now();
    let mut received = Received { bytes, first: None };
    let end = timeout(ANSWER_TIMEOUT, received.read(&mut stream)).await;
    let said = match (end, received.bytes.as_slice()) {
        (Ok(Ok(Some(answer))), _) => Said::Answer(answer),
        // A reset that a write has met is not met again by the read.
        (Ok(Ok(None)), []) if is_sent => Said::Closed,
        (Ok(Ok(None) | Err(_)), []) => Said::Reset,
        (Err(_), []) => Said::Nothing,
        (_, bytes) => read_answer(bytes, true).map_or(Said::Nothing, Said::Answer),
    };
    let first_byte = received
        .first
        .map(|first| first.saturating_duration_since(sent));
    close(stream).await;
    Ok(Exchange {
        connect,
        first_byte,
        said,
    })
}

async fn send(stream: &mut TcpStream, parts: &[Vec<u8>]) -> io::Result<()> {
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            sleep(PAUSE).await;
        }
        stream.write_all(part).await?;
    }
    Ok(())
}

struct Received {
    bytes: Vec<u8>,
    first: Option<Instant>,
}

impl Received {
    /// Reads until there is an answer; `None` at the end of the stream.
    async fn read(&mut self, stream: &mut TcpStream) -> io::Result<Option<Answer>> {
        loop {
            if !self.bytes.is_empty() {
                self.first.get_or_insert_with(Instant::now);
                if let Some(answer) = read_answer(&self.bytes, false) {
                    return Ok(Some(answer));
                }
            }
            let room = MOST_ANSWER.saturating_sub(self.bytes.len());
            let mut piece = (&mut *stream).take(room as u64);
            let count = piece.read_buf(&mut self.bytes).await?;
            if count == 0 {
                return Ok(None);
            }
        }
    }
}

/// Sends a FIN, and takes what the server still sends: unread bytes would make a RST of it.
async fn close(mut stream: TcpStream) {
    // The server may be gone.
    drop(stream.shutdown().await);
    let mut rest = stream.take(MOST_ANSWER as u64);
    let mut piece = [0; 4096];
    let end = async { while let Ok(1..) = rest.read(&mut piece).await {} };
    let _ended_or_late = timeout(CLOSE_TIMEOUT, end).await;
}
