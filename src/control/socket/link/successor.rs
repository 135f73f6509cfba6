//! The predecessor's end of a link: it hears what the successor closes, shows it its metrics, and accepts again if that
//! one ends.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::{JoinHandle, spawn_blocking, spawn_local};

use super::{BACK, CLOSED, FAREWELL, FIGURES, LONGEST_PAGE, PAGE, RETURN};
use crate::net;
use crate::telemetry::Registry;

/// The predecessor's end.
pub struct Successor {
    /// The process; 0 in another container.
    pid: i32,
    registry: Arc<Registry>,
    lines: Lines<BufReader<OwnedReadHalf>>,
    writing: OwnedWriteHalf,
    /// The page that is being made for it.
    making: Option<JoinHandle<Bytes>>,
    /// The part of the page that it has not read yet.
    page: Bytes,
}

/// Waits for the page that is being made. Begun again, it goes on where it was.
async fn made(making: &mut Option<JoinHandle<Bytes>>) -> Bytes {
    let Some(page) = making else {
        return std::future::pending().await;
    };
    // If the making has panicked, the log says so.
    let page = page.await.unwrap_or_default();
    *making = None;
    page
}

/// The words of a successor.
#[derive(Clone, Copy, Debug)]
pub(in crate::control) enum Word {
    /// It has closed this address.
    Closed(SocketAddr),
    /// It has a successor itself.
    Farewell,
    /// It stops, and asks this process to accept again.
    Return,
    /// It has ended.
    Gone,
}

impl fmt::Debug for Successor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Successor").finish_non_exhaustive()
    }
}

impl Successor {
    /// Shows the successor the metrics of `registry` when it asks.
    pub(in crate::control::socket) fn new(stream: UnixStream, registry: Arc<Registry>) -> Self {
        let pid = net::peer(&stream).map_or(0, |successor| successor.pid);
        let (reading, writing) = stream.into_split();
        Self {
            pid,
            registry,
            lines: BufReader::new(reading).lines(),
            writing,
            making: None,
            page: Bytes::new(),
        }
    }

    /// Waits for its next message, and shows it the metrics meanwhile. It is cancel safe.
    pub(in crate::control) async fn word(&mut self) -> Word {
        loop {
            let line = tokio::select! {
                biased;
                line = self.lines.next_line() => line,
                page = made(&mut self.making) => {
                    self.page = page;
                    continue;
                }
                written = self.writing.write_buf(&mut self.page), if !self.page.is_empty() => {
                    if written.is_err() {
                        self.page.clear();
                    }
                    continue;
                }
            };
            let Ok(Some(line)) = line else {
                return Word::Gone;
            };
            match line.as_str() {
                FAREWELL => return Word::Farewell,
                RETURN => return Word::Return,
                FIGURES => self.show(),
                line => {
                    let address = line.strip_prefix(CLOSED).map(str::parse);
                    if let Some(Ok(address)) = address {
                        return Word::Closed(address);
                    }
                }
            }
        }
    }

    /// Has the page made, on a thread of its own since it may take a while, and written as far as it is read, by
    /// [`Self::word`]. One that is too long comes without text.
    fn show(&mut self) {
        // It does not ask again before it has the answer.
        if self.page.is_empty() && self.making.is_none() {
            let registry = Arc::clone(&self.registry);
            self.making = Some(spawn_blocking(move || {
                let page = registry.render();
                let page = if page.len() > LONGEST_PAGE { "" } else { &page };
                let length = u32::try_from(page.len()).unwrap_or(0).to_be_bytes();
                [&[PAGE], &length[..], page.as_bytes()].concat().into()
            }));
        }
    }

    /// Makes it read the file again, because a signal for that has come here, perhaps after it had read the file.
    pub(in crate::control) fn pass_reload_on(&self) {
        let pid = self.pid;
        // It has been there until now: the connection to it is open.
        let passed = Pid::from_raw(pid).map(|pid| kill_process(pid, Signal::HUP));
        if matches!(passed, Some(Ok(()))) {
            tracing::info!(pid, "the signal to reload is passed on to the successor");
        } else {
            tracing::warn!("a signal to reload does not reach the successor: reload that one");
        }
    }

    /// Only shows it the metrics from now on, until either process ends. This process does not come back.
    pub(in crate::control) fn only_show(mut self) {
        spawn_local(async move {
            loop {
                match self.word().await {
                    Word::Closed(_) => {}
                    Word::Farewell | Word::Return => return,
                    Word::Gone => {
                        let pid = self.pid;
                        return tracing::warn!(
                            pid,
                            "the successor has ended, and this process stops: it does not accept again"
                        );
                    }
                }
            }
        });
    }

    /// Notifies it that this process accepts again.
    pub(in crate::control) async fn tell_back(mut self) {
        // The successor may have ended meanwhile.
        drop(self.writing.write_all_buf(&mut self.page).await);
        drop(self.writing.write_all(&[BACK]).await);
    }
}
