//! The way of a connection to a server: to its address, or through the proxy of the site.

use std::fmt::{self, Display};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::backend::{Target, Via};
use crate::net::connect_error;
use crate::wire::{Answer, FarEnd, Refused, Step};

/// The way to a server.
#[derive(Clone, Debug)]
pub enum Way {
    /// It is dialled at this address.
    Direct(SocketAddr),
    /// A proxy connects to it.
    Through {
        /// An address of the proxy.
        proxy: SocketAddr,
        /// Its protocol and login.
        via: Arc<Via>,
        /// The name or the address that the proxy gets.
        end: Target,
    },
}

/// Why a server was not reached.
#[derive(Debug)]
pub enum Unreached {
    /// Its address cannot be connected.
    Server(io::Error),
    /// The proxy cannot be connected.
    Proxy(io::Error),
    /// The proxy has answered something else than success, in these words.
    Refused(Box<str>),
    /// The proxy has closed before its answer was complete.
    Closed,
    /// The answer of the proxy did not come in time.
    Late,
}

impl Display for Unreached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(error) => error.fmt(f),
            Self::Proxy(error) => write!(f, "the proxy: {error}"),
            Self::Refused(words) => write!(f, "the proxy answers {words}"),
            Self::Closed => f.write_str("the proxy closes without an answer"),
            Self::Late => f.write_str("the proxy stays silent"),
        }
    }
}

impl Way {
    /// Connects. The bytes are those of the server that have come behind the answers of the proxy.
    pub async fn connect(&self, limit: Duration) -> Result<(TcpStream, Vec<u8>), Unreached> {
        let deadline = Instant::now() + limit;
        match self {
            Self::Direct(address) => {
                let stream = dial(*address, deadline).await;
                stream
                    .map(|stream| (stream, Vec::new()))
                    .map_err(Unreached::Server)
            }
            Self::Through { proxy, via, end } => {
                let stream = dial(*proxy, deadline).await;
                let mut stream = stream.map_err(Unreached::Proxy)?;
                let tunnel = timeout_at(deadline, open(&mut stream, via, end)).await;
                let rest = tunnel.unwrap_or(Err(Unreached::Late))?;
                Ok((stream, rest))
            }
        }
    }
}

/// Connects to an address of a proxy.
pub async fn dial_proxy(address: SocketAddr, limit: Duration) -> Result<(), Unreached> {
    let stream = dial(address, Instant::now() + limit).await;
    stream.map(drop).map_err(Unreached::Proxy)
}

async fn dial(address: SocketAddr, deadline: Instant) -> io::Result<TcpStream> {
    let connected = timeout_at(deadline, TcpStream::connect(address)).await;
    let connected = connected.map_err(|_elapsed| io::Error::from(ErrorKind::TimedOut))?;
    let stream = connected.map_err(|error| connect_error(error, address))?;
    // Each part of a hello leaves at once.
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Gets a tunnel. Returns the bytes behind the answers.
async fn open(stream: &mut TcpStream, via: &Via, end: &Target) -> Result<Vec<u8>, Unreached> {
    let end = match end {
        Target::Address(address) => FarEnd::Address(*address),
        Target::Name { host, port } => FarEnd::Name(host, *port),
        // The client chooses the name, and here is none.
        Target::Asked { .. } => return Err(Unreached::Closed),
    };
    let mut received = Vec::new();
    let mut step = Step::first(via.protocol());
    loop {
        let message = step.message(end, via.login());
        stream
            .write_all(&message)
            .await
            .map_err(|_broken| Unreached::Closed)?;
        loop {
            match step.read(&received, via.login()) {
                Answer::Whole(next, size) => {
                    received.drain(..size);
                    match next {
                        Some(next) => step = next,
                        None => return Ok(received),
                    }
                    break;
                }
                Answer::Refused(Refused(words)) => return Err(Unreached::Refused(words)),
                Answer::Partial => {}
            }
            match stream.read_buf(&mut received).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Err(Unreached::Closed),
            }
        }
    }
}
