//! One question to a server, for health checks and `portway doctor`: connect, send a hello, read the answer, end the
//! connection in order.

pub mod certificates;
mod way;

use std::io;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::tls::{Answer, MOST_ANSWER, alert_name, read_answer};
use crate::wire::{Introduction, ProxyVersion};
pub use way::{Unreached, Way, dial_proxy};

/// Time between the two segments of a hello: more than a delayed ACK takes (40 ms), so that a server reads the first
/// one alone.
const PAUSE: Duration = Duration::from_millis(50);
/// Longest wait for the server's end of a connection that this end has closed.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(300);

/// The reaction of a server to a hello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Bytes.
    Answer(Answer),
    /// A FIN, without a byte before it.
    Closed,
    /// A RST, without a byte before it.
    Reset,
    /// Nothing in time.
    Nothing,
}

impl Said {
    /// The deed of a server, a sentence without its subject, after waiting for an answer so long.
    pub fn deed(&self, waited: Duration) -> String {
        match self {
            Self::Answer(Answer::Hello(hello)) => {
                let retry = if hello.is_retry {
                    " and asks for another hello"
                } else {
                    ""
                };
                format!("speaks TLS {}{retry}", hello.version)
            }
            Self::Answer(Answer::Alert(alert)) => format!("sends alert {}", named(*alert)),
            Self::Answer(Answer::NotTls(foreign)) => match foreign.protocol() {
                Some(protocol) => format!("speaks {protocol}: \"{foreign}\""),
                None => format!("speaks an unknown protocol that begins with \"{foreign}\""),
            },
            Self::Answer(Answer::Malformed(field)) => {
                format!("sends bytes that break the rules of TLS ({field})")
            }
            Self::Answer(Answer::Cut(bytes)) => {
                format!("stops in the middle of an answer, after {bytes} bytes")
            }
            Self::Closed => "closes the connection".to_owned(),
            Self::Reset => "resets the connection".to_owned(),
            Self::Nothing => format!("stays silent for {} s", waited.as_secs_f32()),
        }
    }
}

fn named(alert: u8) -> String {
    match alert_name(alert) {
        Some(name) => format!("{alert} ({name})"),
        None => alert.to_string(),
    }
}

/// A hello that was sent, and what came back.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// How long the connect took.
    pub connect: Duration,
    /// From the last byte of the hello to the first of the answer.
    pub first_byte: Option<Duration>,
    /// The reaction.
    pub said: Said,
}

/// Sends a hello in these parts, and waits for the whole answer, each for so long at most. An error is one of the connect.
pub async fn ask(
    way: &Way,
    parts: &[Vec<u8>],
    connect_timeout: Duration,
    answer_timeout: Duration,
) -> Result<Exchange, Unreached> {
    let begun = Instant::now();
    let (mut stream, bytes) = way.connect(connect_timeout).await?;
    let connect = begun.elapsed();
    let is_sent = send(&mut stream, parts).await.is_ok();
    let sent = Instant::now();
    let mut received = Received { bytes, first: None };
    let end = timeout(answer_timeout, received.read(&mut stream)).await;
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

/// The parts with the PROXY header of a check before them, if the server expects one.
pub fn introduced(header: Option<ProxyVersion>, parts: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let Some(version) = header else { return parts };
    let mut parts = parts;
    if let Some(first) = parts.first_mut() {
        first.splice(..0, version.header(&Introduction::CHECK));
    }
    parts
}

/// Connects, and ends the connection at once.
pub async fn reach(way: &Way, connect_timeout: Duration) -> Result<(), Unreached> {
    let (stream, _) = way.connect(connect_timeout).await?;
    close(stream).await;
    Ok(())
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
