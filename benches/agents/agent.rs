//! The agents: one task for the check-ins of each, and one for its data.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::counts::Counts;
use crate::server::{Request, Servers};
use crate::{Result, Shape, tls};

/// Bytes of a check-in and of its answer.
const CHECK_IN: (u32, u32) = (1 << 10, 2 << 10);
/// Bytes of a batch of documents and of its answer.
const BATCH: (u32, u32) = (64 << 10, 4 << 10);
/// Bytes of the request and of the file of a download.
const DOWNLOAD: (u32, u32) = (100, 16 << 20);
/// Bytes that a download reads between two pauses, and the longest pause.
const PIECE: usize = 1 << 20;
const READING_PAUSE: f64 = 2.0;
/// Bytes of a batch of a sender, and of its acknowledgement.
const EVENTS: (u32, u32) = (16 << 10, 6);
/// Batches on one connection of a sender.
const BATCHES: usize = 10;
/// The pause of an agent between two check-ins.
const PAUSE: Duration = Duration::from_secs(1);

/// All agents.
#[derive(Clone)]
pub struct Fleet {
    shape: Shape,
    portway: SocketAddr,
    tls: TlsConnector,
    counts: Arc<Counts>,
}

impl Fleet {
    /// Agents that trust the authority of the servers.
    pub fn new(
        shape: Shape,
        servers: &Servers,
        portway: SocketAddr,
        counts: &Arc<Counts>,
    ) -> Result<Self> {
        let config: Arc<ClientConfig> = tls::agent(servers.authority())?;
        Ok(Self {
            shape,
            portway,
            tls: config.into(),
            counts: Arc::clone(counts),
        })
    }

    /// Starts both tasks of each agent.
    pub fn start(&self) {
        for _ in 0..self.shape.agents {
            tokio::spawn(self.clone().check_in());
            tokio::spawn(self.clone().send_data());
        }
        for _ in 0..self.shape.downloads {
            tokio::spawn(self.clone().download());
        }
        for _ in 0..self.shape.beats {
            tokio::spawn(self.clone().send_events());
        }
    }

    /// Holds one check-in after the other, on one connection as long as that lives.
    async fn check_in(self) {
        let mut returned = 0;
        let mut wait = true;
        loop {
            if std::mem::replace(&mut wait, true) {
                sleep(part_of(self.shape.within)).await;
            }
            let (_, during) = self.counts.kills();
            let Ok(mut stream) = self.connect(0, during).await else {
                continue;
            };
            loop {
                let (_, kills) = self.counts.kills();
                match self.poll(&mut stream, kills, &mut returned).await {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(error) => {
                        self.counts
                            .failed(&format!("check-in: {error}"), during, false);
                        break;
                    }
                }
                // As Go's client, an agent notices in the pause that its connection is closed, and dials anew.
                if timeout(PAUSE, stream.read(&mut [0])).await.is_ok() {
                    self.counts.moved.fetch_add(1, Ordering::Relaxed);
                    wait = false;
                    break;
                }
            }
        }
    }

    /// One check-in. False if the agent has given it up.
    async fn poll(
        &self,
        stream: &mut TlsStream<TcpStream>,
        kills: usize,
        returned: &mut usize,
    ) -> io::Result<bool> {
        let hold = self.shape.poll * (0.9 + 0.1 * fastrand::f64());
        let request = request(CHECK_IN, Duration::from_secs_f64(hold));
        ask(stream, request, 0).await?;
        self.counts.held.fetch_add(1, Ordering::SeqCst);
        let _held = Held(&self.counts.held);
        if *returned < kills {
            *returned = kills;
            self.counts.back.fetch_add(1, Ordering::SeqCst);
        }
        let answer = receive(stream, request);
        if fastrand::f64() < self.shape.cancel {
            let Ok(answer) = timeout(part_of(hold), answer).await else {
                self.counts.cancelled.fetch_add(1, Ordering::Relaxed);
                return Ok(false);
            };
            answer?;
        } else {
            answer.await?;
        }
        self.counts.polls.fetch_add(1, Ordering::Relaxed);
        Ok(true)
    }

    /// Sends a batch on a new connection again and again, lets it idle, and closes it.
    async fn send_data(self) {
        sleep(part_of(self.shape.data)).await;
        loop {
            let begun = Instant::now();
            let (_, during) = self.counts.kills();
            if let Ok(mut stream) = self.connect(1, during).await {
                match self.batch(&mut stream).await {
                    Ok(()) => {
                        self.counts.batch(begun.elapsed());
                        sleep(Duration::from_secs_f64(self.shape.idle)).await;
                        drop(stream.shutdown().await);
                    }
                    Err(error) => self.counts.failed(&format!("data: {error}"), during, false),
                }
            }
            let next = self.shape.data * (0.75 + 0.5 * fastrand::f64());
            sleep(Duration::from_secs_f64(next).saturating_sub(begun.elapsed())).await;
        }
    }

    /// Downloads one file after the other, each with pauses, and checks every byte.
    async fn download(self) {
        sleep(part_of(self.shape.within)).await;
        loop {
            let (_, during) = self.counts.kills();
            let Ok(mut stream) = self.connect(1, during).await else {
                sleep(PAUSE).await;
                continue;
            };
            match slowly(&mut stream, request(DOWNLOAD, Duration::ZERO)).await {
                Ok(()) => {
                    self.counts.downloads.fetch_add(1, Ordering::Relaxed);
                    drop(stream.shutdown().await);
                }
                Err(error) => self
                    .counts
                    .failed(&format!("download: {error}"), during, false),
            }
        }
    }

    /// Sends one batch per second and waits for its acknowledgement, on a connection that it renews after some.
    async fn send_events(self) {
        sleep(part_of(self.shape.within)).await;
        loop {
            let (_, during) = self.counts.kills();
            let Ok(mut stream) = self.connect(1, during).await else {
                sleep(PAUSE).await;
                continue;
            };
            for _ in 0..BATCHES {
                let request = request(EVENTS, Duration::ZERO);
                let sent = async {
                    ask(&mut stream, request, 1).await?;
                    receive(&mut stream, request).await
                };
                if let Err(error) = sent.await {
                    self.counts
                        .failed(&format!("events: {error}"), during, false);
                    break;
                }
                self.counts.beats.fetch_add(1, Ordering::Relaxed);
                sleep(PAUSE).await;
            }
            drop(stream.shutdown().await);
        }
    }

    async fn batch(&self, stream: &mut TlsStream<TcpStream>) -> io::Result<()> {
        let request = request(BATCH, Duration::ZERO);
        ask(stream, request, 1).await?;
        receive(stream, request).await
    }

    async fn connect(&self, server: usize, during: usize) -> io::Result<TlsStream<TcpStream>> {
        let connected = async {
            let stream = TcpStream::connect(self.portway).await?;
            stream.set_nodelay(true)?;
            let name = tls::NAMES.get(server).copied().unwrap_or_default();
            let name = ServerName::try_from(name).map_err(io::Error::other)?;
            self.tls.connect(name, stream).await
        };
        let connected = connected.await;
        match &connected {
            Ok(_) => _ = self.counts.connections.fetch_add(1, Ordering::Relaxed),
            Err(error) => self
                .counts
                .failed(&format!("connect: {error}"), during, true),
        }
        connected
    }
}

/// A check-in that counts as held until it is dropped.
struct Held<'a>(&'a AtomicUsize);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn part_of(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds * fastrand::f64())
}

fn request((body, answer): (u32, u32), hold: Duration) -> Request {
    Request {
        token: fastrand::u64(..),
        hold_ms: u32::try_from(hold.as_millis()).unwrap_or(u32::MAX),
        body,
        answer,
    }
}

/// Sends a request, and waits until the right server says that it has all of it.
async fn ask(stream: &mut TlsStream<TcpStream>, request: Request, server: u32) -> io::Result<()> {
    let filler = request.token.to_be_bytes()[0];
    let mut bytes = request.bytes().to_vec();
    bytes.resize(Request::SIZE + request.body as usize, filler);
    stream.write_all(&bytes).await?;
    stream.flush().await?;
    let head = (
        stream.read_u64().await?,
        stream.read_u32().await?,
        stream.read_u32().await?,
    );
    if head == (request.token, server, request.body * u32::from(filler)) {
        Ok(())
    } else {
        Err(io::Error::other("the answer of another request or server"))
    }
}

/// A download whose reader pauses.
async fn slowly(stream: &mut TlsStream<TcpStream>, request: Request) -> io::Result<()> {
    ask(stream, request, 1).await?;
    let filler = request.token.to_be_bytes()[7];
    let mut piece = vec![0; PIECE];
    for _ in 0..request.answer as usize / PIECE {
        stream.read_exact(&mut piece).await?;
        if piece.iter().any(|byte| *byte != filler) {
            return Err(io::Error::other("changed bytes"));
        }
        sleep(part_of(READING_PAUSE)).await;
    }
    Ok(())
}

async fn receive(stream: &mut TlsStream<TcpStream>, request: Request) -> io::Result<()> {
    let mut answer = vec![0; request.answer as usize];
    stream.read_exact(&mut answer).await?;
    let filler = request.token.to_be_bytes()[7];
    if answer.iter().all(|byte| *byte == filler) {
        Ok(())
    } else {
        Err(io::Error::other("changed bytes"))
    }
}
