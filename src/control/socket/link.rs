//! The connection over which the sockets were handed over. It stays open as a sign of life: while both
//! processes hold the sockets, the successor tells which of them it closes.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

/// The socket of the address that follows is closed.
const CLOSED: &str = "closed ";
/// Another process has the sockets from the successor.
const FAREWELL: &str = "farewell";
/// The successor has been told to stop.
const RETURN: &str = "return";
/// The answer: the predecessor accepts again.
const BACK: u8 = b'b';
/// From the request to return to the first accept.
const BACK_TIMEOUT: Duration = Duration::from_secs(2);

/// The successor's end.
#[derive(Debug)]
pub struct Link(pub(super) UnixStream);

impl Link {
    /// The predecessor shall close these addresses too.
    pub(in crate::control) fn tell_closed(&self, addresses: &[SocketAddr]) {
        for address in addresses {
            self.tell(&format!("{CLOSED}{address}\n"));
        }
    }

    /// The predecessor need not come back: another process has the sockets.
    pub(in crate::control) fn say_farewell(self) {
        self.tell(&format!("{FAREWELL}\n"));
    }

    /// Asks the predecessor to accept again.
    pub(in crate::control) async fn ask_back(&mut self) -> Asked {
        self.tell(&format!("{RETURN}\n"));
        match timeout(BACK_TIMEOUT, self.0.read_u8()).await {
            Ok(Ok(BACK)) => Asked::Back,
            Ok(_) => Asked::Ended,
            Err(_) => Asked::Silent,
        }
    }

    /// A few bytes now and then: they always find room, unless the predecessor hangs or has ended.
    fn tell(&self, line: &str) {
        if let Err(error) = self.0.try_write(line.as_bytes()) {
            tracing::debug!(%error, "the predecessor cannot be told");
        }
    }
}

/// What became of the request to accept again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::control) enum Asked {
    /// The predecessor accepts.
    Back,
    /// It has ended, or has been told to stop.
    Ended,
    /// It has not answered, and accepts again once it goes on.
    Silent,
}

/// The predecessor's end.
#[derive(Debug)]
pub struct Successor {
    lines: Lines<BufReader<OwnedReadHalf>>,
    writing: OwnedWriteHalf,
}

/// What a successor says.
#[derive(Clone, Copy, Debug)]
pub(in crate::control) enum Word {
    /// It has closed this address.
    Closed(SocketAddr),
    /// It has a successor itself.
    Farewell,
    /// It has been told to stop.
    Return,
    /// It has ended.
    Gone,
}

impl Successor {
    pub(super) fn new(stream: UnixStream) -> Self {
        let (reading, writing) = stream.into_split();
        Self {
            lines: BufReader::new(reading).lines(),
            writing,
        }
    }

    /// What it says next. Begun again, it goes on where it was.
    pub(in crate::control) async fn word(&mut self) -> Word {
        loop {
            let Ok(Some(line)) = self.lines.next_line().await else {
                return Word::Gone;
            };
            match line.as_str() {
                FAREWELL => return Word::Farewell,
                RETURN => return Word::Return,
                line => {
                    let address = line.strip_prefix(CLOSED).map(str::parse);
                    if let Some(Ok(address)) = address {
                        return Word::Closed(address);
                    }
                }
            }
        }
    }

    /// Tells it that this process accepts again.
    pub(in crate::control) async fn tell_back(mut self) {
        // It may have ended meanwhile.
        drop(self.writing.write_all(&[BACK]).await);
    }
}
