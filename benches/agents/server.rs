//! Stand-ins for Fleet Server and Elasticsearch, in a process of their own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use std::{env, thread};

use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Builder;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;

use crate::{Result, tls};

/// Connections that wait to be accepted: as many as servers in Go ask for where somaxconn is 4096.
const QUEUE: u32 = 4096;

/// A request: an answer of `answer` bytes after `hold_ms`, to a body of `body` bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    pub token: u64,
    pub hold_ms: u32,
    pub body: u32,
    pub answer: u32,
}

impl Request {
    /// Bytes of a request before its body.
    pub const SIZE: usize = 20;

    /// The bytes before the body.
    pub fn bytes(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        let parts = [self.hold_ms, self.body, self.answer];
        let (token, rest) = bytes.split_at_mut(8);
        token.copy_from_slice(&self.token.to_be_bytes());
        for (place, part) in rest.chunks_mut(4).zip(parts) {
            place.copy_from_slice(&part.to_be_bytes());
        }
        bytes
    }

    async fn read(from: &mut (impl AsyncReadExt + Unpin)) -> std::io::Result<Self> {
        Ok(Self {
            token: from.read_u64().await?,
            hold_ms: from.read_u32().await?,
            body: from.read_u32().await?,
            answer: from.read_u32().await?,
        })
    }
}

/// Serves until stdin ends, after a line with the addresses and the certificate of the authority.
pub fn serve() -> Result<()> {
    thread::spawn(|| {
        // The end of the process that started this one.
        drop(std::io::stdin().read_to_end(&mut Vec::new()));
        std::process::exit(0);
    });
    let (configs, authority) = tls::servers()?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut addresses = Vec::new();
        let mut last = None;
        for (number, config) in (0..).zip(configs) {
            let socket = TcpSocket::new_v4()?;
            socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
            let listener = socket.listen(QUEUE)?;
            addresses.push(listener.local_addr()?);
            last = Some(tokio::spawn(accept(listener, config, number)));
        }
        println!("{}", serde_json::to_string(&(addresses, authority))?);
        std::io::stdout().flush()?;
        last.ok_or("there is no server")?.await?;
        Ok(())
    })
}

async fn accept(listener: TcpListener, config: Arc<ServerConfig>, number: u32) {
    let acceptor = TlsAcceptor::from(config);
    while let Ok((stream, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        // A client that goes away is an ordinary end.
        tokio::spawn(async move { converse(acceptor, stream, number).await.ok() });
    }
}

async fn converse(acceptor: TlsAcceptor, stream: TcpStream, number: u32) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = acceptor.accept(stream).await?;
    loop {
        let request = Request::read(&mut stream).await?;
        let mut body = vec![0; request.body as usize];
        stream.read_exact(&mut body).await?;
        let sum: u32 = body.iter().map(|byte| u32::from(*byte)).sum();
        // The head comes at once, as a sign that the server has the whole request.
        stream.write_u64(request.token).await?;
        stream.write_u32(number).await?;
        stream.write_u32(sum).await?;
        stream.flush().await?;
        sleep(Duration::from_millis(request.hold_ms.into())).await;
        let answer = vec![request.token.to_be_bytes()[7]; request.answer as usize];
        stream.write_all(&answer).await?;
        stream.flush().await?;
    }
}

/// The process of the servers.
pub struct Servers {
    child: Child,
    addresses: Vec<SocketAddr>,
    authority: Vec<u8>,
}

impl Servers {
    /// Starts the process.
    pub fn start() -> Result<Self> {
        let mut child = Command::new(env::current_exe()?)
            .arg("serve")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().ok_or("the servers have no output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let (addresses, authority) = serde_json::from_str(&line)?;
        Ok(Self {
            child,
            addresses,
            authority,
        })
    }

    /// The addresses, in the order of [`tls::NAMES`].
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The certificate of the authority.
    pub fn authority(&self) -> Vec<u8> {
        self.authority.clone()
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
