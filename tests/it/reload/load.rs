//! A load that must not be disturbed: connections that transfer all the time, and new ones at a rate.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};

use crate::it::fixture::{PATIENCE, hello};

/// Connections that transfer from the beginning to the end.
const OPEN: usize = 1000;
/// Time between two bursts of new connections.
const TICK: Duration = Duration::from_millis(10);
/// New connections per burst.
const BURST: usize = 5;
/// Bytes that go there and back at once.
const CHUNK: usize = 2048;
/// The pause of an open connection between two chunks.
const PAUSE: Duration = Duration::from_millis(200);
/// Half the time after which a drain regards a connection as silent.
const SILENCE: Duration = Duration::from_secs(1);

/// A backend that sends back what it receives; the load has not begun.
pub(crate) struct Load {
    runtime: Runtime,
    backend: SocketAddr,
}

/// The load, on its own thread.
pub(crate) struct Running {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Done>,
}

/// The result of the load.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// New connections that went well.
    pub(crate) connections: u64,
    /// Bytes that open ones sent and got back.
    pub(crate) transferred: u64,
    /// Connections that ended after a silence, which a drain may end. Only a slow machine causes silences.
    pub(crate) silent: u64,
    /// Everything else.
    pub(crate) faults: Vec<String>,
}

impl Load {
    pub(crate) fn backend_only() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(async { listener() });
        let backend = listener.local_addr().unwrap();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(echo(stream));
            }
        });
        Self { runtime, backend }
    }

    pub(crate) const fn backend(&self) -> SocketAddr {
        self.backend
    }

    /// Begins; returns when all open connections are relayed.
    pub(crate) fn start(self, relay: SocketAddr) -> Running {
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let (ready, wait) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || {
            self.runtime.block_on(async move {
                let mut tasks = JoinSet::new();
                let count = Arc::new(AtomicU64::new(0));
                let begun = Arc::new(tokio::sync::Semaphore::new(0));
                for _ in 0..OPEN {
                    let (stop, count) = (Arc::clone(&stopping), Arc::clone(&count));
                    let begun = Arc::clone(&begun);
                    tasks.spawn(async move { transfer(relay, &stop, &count, &begun).await });
                }
                drop(
                    begun
                        .acquire_many(u32::try_from(OPEN).unwrap())
                        .await
                        .unwrap(),
                );
                ready.send(()).unwrap();
                let mut done = Done::default();
                let mut short = JoinSet::new();
                let mut ticks = interval(TICK);
                while !stopping.load(Ordering::Relaxed) {
                    ticks.tick().await;
                    for _ in 0..BURST {
                        short.spawn(once(relay));
                    }
                }
                while let Some(ended) = short.join_next().await {
                    match ended.unwrap() {
                        Ok(true) => done.connections += 1,
                        Ok(false) => done.silent += 1,
                        Err(fault) => done.faults.push(format!("new: {fault}")),
                    }
                }
                while let Some(ended) = tasks.join_next().await {
                    match ended.unwrap() {
                        Ok(has_stayed) => done.silent += u64::from(!has_stayed),
                        Err(fault) => done.faults.push(format!("open: {fault}")),
                    }
                }
                done.transferred = count.load(Ordering::Relaxed);
                done
            })
        });
        wait.recv_timeout(PATIENCE).unwrap();
        Running { stop, thread }
    }
}

impl Running {
    /// Ends in order, and returns the result.
    pub(crate) fn finish(self) -> Done {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// A listener whose queue has room for all of the load: a dial that finds no room waits for seconds.
fn listener() -> TcpListener {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    socket.listen(4096).unwrap()
}

async fn echo(mut stream: TcpStream) {
    let mut buffer = vec![0; 4 * CHUNK];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

/// A connection whose hello has come back.
async fn relayed(relay: SocketAddr) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(relay).await?;
    stream.set_nodelay(true)?;
    let sent = hello();
    stream.write_all(&sent).await?;
    let mut echoed = hello();
    stream.read_exact(&mut echoed).await?;
    if echoed == sent {
        Ok(stream)
    } else {
        Err(std::io::Error::other("another hello came back"))
    }
}

/// Closes in order, and checks that nothing more comes, and no reset.
async fn close(mut stream: TcpStream) -> std::io::Result<()> {
    stream.shutdown().await?;
    match stream.read(&mut [0]).await? {
        0 => Ok(()),
        _ => Err(std::io::Error::other("received bytes that nobody sent")),
    }
}

/// Makes a new connection and ends it. False if it was ended during a silence.
async fn once(relay: SocketAddr) -> std::io::Result<bool> {
    let begun = Instant::now();
    let ended = async { close(relayed(relay).await?).await };
    match timeout(PATIENCE, ended).await? {
        Err(_) if begun.elapsed() > SILENCE => Ok(false),
        ended => ended.map(|()| true),
    }
}

/// Sends and compares what comes back, until the end. False if the connection was ended during a silence.
async fn transfer(
    relay: SocketAddr,
    stop: &AtomicBool,
    count: &AtomicU64,
    begun: &tokio::sync::Semaphore,
) -> std::io::Result<bool> {
    let mut stream = timeout(PATIENCE, relayed(relay)).await??;
    begun.add_permits(1);
    let mut spoke = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let speaks = Instant::now();
        match timeout(PATIENCE, round_trip(&mut stream)).await? {
            Err(_) if spoke.elapsed() > SILENCE => return Ok(false),
            ended => ended?,
        }
        spoke = speaks;
        count.fetch_add(CHUNK as u64, Ordering::Relaxed);
        tokio::time::sleep(PAUSE).await;
    }
    match timeout(PATIENCE, close(stream)).await? {
        Err(_) if spoke.elapsed() > SILENCE => Ok(false),
        closed => closed.map(|()| true),
    }
}

async fn round_trip(stream: &mut TcpStream) -> std::io::Result<()> {
    let (mut out, mut back) = ([0; CHUNK], [0; CHUNK]);
    fastrand::Rng::new().fill(&mut out);
    stream.write_all(&out).await?;
    stream.read_exact(&mut back).await?;
    if out == back {
        Ok(())
    } else {
        Err(std::io::Error::other("other bytes came back"))
    }
}
