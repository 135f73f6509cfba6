//! The connection over which the sockets were handed over. It stays open while both processes hold the
//! sockets: its end shows that a process has ended, and the successor names each address that it closes.
//! The successor also asks for the predecessor's page of metrics, because it has the admin address.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, BufReader, copy, sink};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_local;
use tokio::time::{Instant, timeout};

use crate::admin::{FIGURES_TIMEOUT, Questions};
pub use successor::Successor;
pub(in crate::control) use successor::Word;
use writing::Writing;

mod successor;
#[cfg(test)]
mod tests;
mod writing;

/// The successor has closed the socket of the address that follows.
const CLOSED: &str = "closed ";
/// Another process has the sockets from the successor.
const FAREWELL: &str = "farewell";
/// The successor stops, and asks the predecessor to accept again.
const RETURN: &str = "return";
/// The successor asks for the page of metrics. An older version does not know the word and ignores it.
const FIGURES: &str = "figures";
/// The answer: the predecessor accepts again.
const BACK: u8 = b'b';
/// The answer: the page, after its length in four bytes.
const PAGE: u8 = b'f';
/// Longest wait from the request to return until the predecessor accepts.
const BACK_TIMEOUT: Duration = Duration::from_secs(2);
/// Scrapes that wait in vain for the answer to one question. Later ones do not wait until it has come.
const TRIES: u32 = 3;
/// Most bytes of a page: more than the page of 20,000 endpoints has.
const LONGEST_PAGE: usize = 16 << 20;

/// The successor's end. Dropping it ends the connection for the predecessor at once.
#[derive(Debug)]
pub struct Link {
    writing: Writing,
    back: oneshot::Receiver<()>,
    questions: Questions,
}

impl Link {
    /// Starts a task that listens to the predecessor. Needs a local runtime.
    pub(in crate::control) fn new(stream: UnixStream) -> Self {
        let (reading, writing) = stream.into_split();
        let writing = Writing::new(writing);
        let (coming_back, back) = oneshot::channel();
        let (questions, asked) = mpsc::unbounded_channel();
        let hearing = Hearing {
            writing: writing.clone(),
            back: coming_back,
            asked,
            open: None,
            askers: Vec::new(),
        };
        spawn_local(hearing.run(BufReader::new(reading)));
        Self {
            writing,
            back,
            questions,
        }
    }

    /// Asks for the predecessor's page. It is closed once either side has ended the connection.
    pub(in crate::control) fn questions(&self) -> Questions {
        self.questions.clone()
    }

    /// Makes the predecessor close these addresses too.
    pub(in crate::control) fn tell_closed(&self, addresses: &[SocketAddr]) {
        for address in addresses {
            self.writing.tell(&format!("{CLOSED}{address}\n"));
        }
    }

    /// Notifies the predecessor that it need not come back, because another process has the sockets.
    pub(in crate::control) fn say_farewell(self) {
        self.writing.tell(&format!("{FAREWELL}\n"));
    }

    /// Asks the predecessor to accept again, and waits for its answer for [`BACK_TIMEOUT`].
    pub(in crate::control) async fn ask_back(&mut self) -> Asked {
        self.writing.tell(&format!("{RETURN}\n"));
        let answer = timeout(BACK_TIMEOUT, self.answer()).await;
        answer.unwrap_or(Asked::Silent)
    }

    /// Waits for the predecessor's answer, however late it comes.
    pub(in crate::control) async fn answer(&mut self) -> Asked {
        match (&mut self.back).await {
            Ok(()) => Asked::Back,
            Err(_) => Asked::Ended,
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.writing.close();
    }
}

/// Listens to the predecessor, and asks it. It ends with the link, or with the predecessor.
struct Hearing {
    writing: Writing,
    back: oneshot::Sender<()>,
    asked: mpsc::UnboundedReceiver<oneshot::Sender<Bytes>>,
    /// The question that has no answer yet. There is one at most.
    open: Option<Open>,
    /// The scrapes that wait for the answer.
    askers: Vec<oneshot::Sender<Bytes>>,
}

struct Open {
    since: Instant,
    tries: u32,
}

/// A message from the predecessor.
enum Said {
    /// It accepts again.
    Back,
    /// Its page of metrics.
    Page(Bytes),
}

impl Hearing {
    async fn run(mut self, reading: BufReader<OwnedReadHalf>) {
        let mut hearing = pin!(hear(reading));
        loop {
            tokio::select! {
                () = self.back.closed() => return,
                Some(asker) = self.asked.recv() => self.ask(asker),
                heard = &mut hearing => match heard {
                    Ok((Said::Page(page), reading)) => {
                        self.answer(&page);
                        hearing.set(hear(reading));
                    }
                    Ok((Said::Back, _)) => {
                        _ = self.back.send(());
                        return;
                    }
                    Err(error) => {
                        tracing::debug!(%error, "the predecessor has ended");
                        return self.writing.close();
                    }
                },
            }
        }
    }

    /// Asks, or waits for the answer to a question that is still open.
    fn ask(&mut self, asker: oneshot::Sender<Bytes>) {
        let now = Instant::now();
        match &mut self.open {
            Some(open) if now.duration_since(open.since) < FIGURES_TIMEOUT => {}
            Some(open) if open.tries < TRIES => {
                open.since = now;
                open.tries += 1;
            }
            // The predecessor is of an older version, or hangs.
            Some(_) => return,
            None => {
                if !self.writing.tell(&format!("{FIGURES}\n")) {
                    return;
                }
                self.open = Some(Open {
                    since: now,
                    tries: 1,
                });
            }
        }
        self.askers.retain(|asker| !asker.is_closed());
        self.askers.push(asker);
    }

    fn answer(&mut self, page: &Bytes) {
        self.open = None;
        for asker in self.askers.drain(..) {
            // The scrape may have given up.
            drop(asker.send(page.clone()));
        }
    }
}

/// The result of the request to accept again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::control) enum Asked {
    /// The predecessor accepts.
    Back,
    /// It has ended, or is stopping.
    Ended,
    /// It has not answered, and accepts again once it can.
    Silent,
}

/// Waits for the predecessor's next message.
async fn hear(
    mut reading: BufReader<OwnedReadHalf>,
) -> io::Result<(Said, BufReader<OwnedReadHalf>)> {
    let ended = || io::Error::from(io::ErrorKind::UnexpectedEof);
    match reading.read_u8().await? {
        BACK => return Ok((Said::Back, reading)),
        PAGE => {
            let length = reading.read_u32().await? as usize;
            if length <= LONGEST_PAGE {
                let mut page = Vec::new();
                let mut whole = (&mut reading).take(length as u64);
                whole.read_to_end(&mut page).await?;
                let is_whole = page.len() == length;
                let page = is_whole.then(|| Said::Page(page.into()));
                return page.map(|page| (page, reading)).ok_or_else(ended);
            }
        }
        _ => {}
    }
    // Nothing that follows can be understood, so wait only for the end.
    copy(&mut reading, &mut sink()).await?;
    Err(ended())
}
