//! Clients that misbehave, each kind in its own way.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::spawn_local;
use tokio::time::{Interval, MissedTickBehavior, interval, interval_at, sleep};
use tokio_util::sync::CancellationToken;

use crate::{Kind, Result, hello};

/// A crowd with a thread of its own; it goes on until it is stopped.
pub struct Crowd {
    kind: Kind,
    size: usize,
    counts: Arc<Counts>,
    stop: CancellationToken,
    thread: JoinHandle<std::io::Result<()>>,
}

/// The connections of a crowd.
#[derive(Default)]
struct Counts {
    /// All that have begun: the number of a client decides its address and its name.
    begun: AtomicU32,
    ended: AtomicU64,
    open: AtomicUsize,
    /// Whether the onlooker looks.
    looks: AtomicBool,
    /// The pages that came whole.
    pages: AtomicU64,
    /// The last fault of a connect.
    fault: Mutex<Option<std::io::Error>>,
}

/// The longest time until nearly all clients are connected.
const LONGEST_START: Duration = Duration::from_mins(2);

/// A pause after a connect that failed: without one, clients whose connects fail at once would leave their thread no time
/// to notice that it has to stop.
const AFTER_A_FAULT: Duration = Duration::from_millis(100);

impl Crowd {
    /// Starts so many clients, each of which begins anew when its connection has ended.
    /// `portway` has the addresses of the listener and of the pages.
    pub fn start(kind: Kind, size: usize, portway: (SocketAddr, SocketAddr)) -> Self {
        let (counts, stop) = (Arc::<Counts>::default(), CancellationToken::new());
        let (shared, stopped) = (Arc::clone(&counts), stop.clone());
        let thread = thread::spawn(move || {
            let runtime = Builder::new_current_thread()
                .enable_all()
                .build_local(LocalOptions::default())?;
            runtime.block_on(async {
                let (agents, admin) = portway;
                for place in 0..size {
                    if place == 0 && kind == Kind::Onlooker {
                        spawn_local(onlooker(admin, Arc::clone(&shared)));
                    } else {
                        let ticks = kind.rate().map(|rate| {
                            let [at, every] = [place, size].map(|it| it as f64 / rate);
                            let [at, every] = [at, every].map(Duration::from_secs_f64);
                            interval_at(tokio::time::Instant::now() + at, every)
                        });
                        spawn_local(member(kind, agents, ticks, Arc::clone(&shared)));
                    }
                }
                stopped.cancelled().await;
            });
            Ok(())
        });
        Self {
            kind,
            size,
            counts,
            stop,
            thread,
        }
    }

    /// Waits until nearly all are connected; if their rate is bounded, few are at a time, so that it waits until as many
    /// connections have ended. Fails if its thread has ended, or if it takes too long.
    pub async fn until_there(&self) -> Result<()> {
        let begin = Instant::now();
        while self.counts.open.load(Ordering::Relaxed) * 10 < self.size * 9
            && (self.kind.rate().is_none() || self.ended() < self.size as u64)
        {
            if self.thread.is_finished() {
                return Err("the crowd has ended before its clients were connected".into());
            }
            if begin.elapsed() > LONGEST_START {
                return Err(self.late(LONGEST_START).into());
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Describes how far the crowd has come in this time, which ought to have sufficed.
    pub fn late(&self, time: Duration) -> String {
        let open = self.counts.open.load(Ordering::Relaxed);
        let fault = self.counts.fault.lock();
        let fault = fault.unwrap_or_else(PoisonError::into_inner);
        let fault = fault.as_ref().map(ToString::to_string);
        format!(
            "after {time:?}, {open} of {} clients of the crowd are connected, and {} connections have ended; the last \
             fault of a connect: {}",
            self.size,
            self.ended(),
            fault.as_deref().unwrap_or("none")
        )
    }

    /// Lets the onlooker look, or not.
    pub fn look(&self, looks: bool) {
        self.counts.looks.store(looks, Ordering::Relaxed);
    }

    /// The pages that the onlooker has seen.
    pub fn pages(&self) -> u64 {
        self.counts.pages.load(Ordering::Relaxed)
    }

    /// The connections that have ended.
    pub fn ended(&self) -> u64 {
        self.counts.ended.load(Ordering::Relaxed)
    }

    /// Cuts all of them.
    pub fn stop(self) -> Result<()> {
        self.stop.cancel();
        Ok(self
            .thread
            .join()
            .map_err(|_panic| "the crowd has panicked")??)
    }
}

/// Loads the page of the status ten times per second, as long as it is to look.
async fn onlooker(admin: SocketAddr, counts: Arc<Counts>) {
    let mut ticks = interval(Duration::from_millis(100));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        if counts.looks.load(Ordering::Relaxed) && load(admin).await.is_ok_and(|whole| whole) {
            counts.pages.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Whether the page came whole, with the part of each worker.
async fn load(admin: SocketAddr) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(admin).await?;
    stream
        .write_all(b"GET / HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
        .await?;
    let mut page = Vec::new();
    stream.read_to_end(&mut page).await?;
    let page = String::from_utf8_lossy(&page);
    Ok(page.ends_with("</html>") && !page.contains("did not answer within"))
}

/// Connects again and again, or at each tick.
async fn member(kind: Kind, portway: SocketAddr, mut ticks: Option<Interval>, counts: Arc<Counts>) {
    let name = match kind {
        Kind::SlowReaders => "endless.example",
        Kind::HalfHellos | Kind::Strangers | Kind::Row | Kind::Onlooker => "echo.example",
    };
    let hello = hello::Builder::new(name).build();
    loop {
        if let Some(ticks) = &mut ticks {
            ticks.tick().await;
        }
        let number = counts.begun.fetch_add(1, Ordering::Relaxed);
        match connect(number, portway).await {
            Ok(stream) => {
                counts.open.fetch_add(1, Ordering::Relaxed);
                drop(misbehave(kind, number, stream, &hello).await);
                counts.open.fetch_sub(1, Ordering::Relaxed);
                counts.ended.fetch_add(1, Ordering::Relaxed);
            }
            Err(fault) => {
                let last = counts.fault.lock();
                *last.unwrap_or_else(PoisonError::into_inner) = Some(fault);
                sleep(AFTER_A_FAULT).await;
            }
        }
    }
}

/// Connects from one of 65,000 addresses of this machine.
async fn connect(number: u32, portway: SocketAddr) -> std::io::Result<TcpStream> {
    let [_, _, high, low] = number.to_be_bytes();
    let socket = TcpSocket::new_v4()?;
    let own = Ipv4Addr::new(127, 1, high, low.clamp(1, 254));
    socket.bind(SocketAddr::from((own, 0)))?;
    socket.connect(portway).await
}

async fn misbehave(
    kind: Kind,
    number: u32,
    mut stream: TcpStream,
    hello: &[u8],
) -> std::io::Result<()> {
    match kind {
        Kind::HalfHellos => {
            let (half, _) = hello.split_at(hello.len() / 2);
            stream.write_all(half).await?;
            read_to_end(stream, Duration::ZERO).await
        }
        Kind::SlowReaders => {
            stream.write_all(hello).await?;
            read_to_end(stream, Duration::from_secs(1)).await
        }
        Kind::Strangers => {
            let name = format!("n{number}.invalid.example");
            stream.write_all(&hello::Builder::new(name).build()).await?;
            read_to_end(stream, Duration::ZERO).await
        }
        Kind::Onlooker => {
            stream.write_all(hello).await?;
            read_to_end(stream, Duration::ZERO).await
        }
        Kind::Row => {
            stream.write_all(hello).await?;
            let mut echoed = vec![0; hello.len()];
            stream.read_exact(&mut echoed).await?;
            stream.shutdown().await?;
            read_to_end(stream, Duration::ZERO).await
        }
    }
}

/// Reads a kilobyte at a time, with a pause behind each.
async fn read_to_end(mut stream: TcpStream, pause: Duration) -> std::io::Result<()> {
    let mut buffer = [0; 1024];
    while stream.read(&mut buffer).await? > 0 {
        if !pause.is_zero() {
            sleep(pause).await;
        }
    }
    Ok(())
}
