//! A client that does nothing wrong, and notices how long its connections take.

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::hello;

/// Between the beginnings of two connections.
const EVERY: Duration = Duration::from_millis(10);

/// The client.
pub struct Neighbour {
    portway: SocketAddr,
    hello: Vec<u8>,
}

/// The times from the dial of a connection to the last byte of its answer.
#[derive(Default)]
pub struct Times {
    /// Seconds, sorted.
    sorted: Vec<f64>,
    errors: u64,
    /// How long it took to collect them.
    pub seconds: f64,
}

impl Neighbour {
    /// One that is not connected yet.
    pub fn new(portway: SocketAddr) -> Self {
        Self {
            portway,
            hello: hello::Builder::new("echo.example").build(),
        }
    }

    /// Connects again and again for so long.
    pub async fn connect(&self, window: Duration) -> Times {
        let begun = Instant::now();
        self.connect_until(|| begun.elapsed() >= window).await
    }

    /// Connects again and again until it is over.
    pub async fn connect_until(&self, is_over: impl Fn() -> bool) -> Times {
        let (mut times, mut errors, begun) = (Vec::new(), 0, Instant::now());
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !is_over() {
            ticks.tick().await;
            let dialled = Instant::now();
            let answered = timeout(Duration::from_secs(10), self.once()).await;
            match answered {
                Ok(Ok(())) => times.push(dialled.elapsed().as_secs_f64()),
                Ok(Err(_)) | Err(_) => errors += 1,
            }
        }
        times.sort_by(f64::total_cmp);
        Times {
            sorted: times,
            errors,
            seconds: begun.elapsed().as_secs_f64(),
        }
    }

    async fn once(&self) -> std::io::Result<()> {
        let mut stream = TcpStream::connect(self.portway).await?;
        stream.write_all(&self.hello).await?;
        let mut echoed = vec![0; self.hello.len()];
        stream.read_exact(&mut echoed).await?;
        Ok(())
    }
}

impl Times {
    /// Adds those of another time.
    pub fn add(&mut self, other: Self) {
        self.sorted.extend(other.sorted);
        self.sorted.sort_by(f64::total_cmp);
        self.errors += other.errors;
        self.seconds += other.seconds;
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |part: usize| {
            let position = self.sorted.len() * part / 100;
            self.sorted.get(position).copied().unwrap_or(f64::NAN) * 1e3
        };
        write!(
            f,
            "{} connections, {} failed; median {:.2} ms, 99 of 100 within {:.2} ms",
            self.sorted.len(),
            self.errors,
            at(50),
            at(99)
        )
    }
}
