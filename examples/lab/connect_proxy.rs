//! An HTTP proxy that takes CONNECT and nothing else: the proxy of a site for what leaves it, or a proxy that
//! agents reach by HTTPS.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpStream;

use crate::Result;
use crate::client::Stream;

/// The largest head of a request.
const LARGEST: usize = 16 * 1024;

/// A proxy with the targets that it permits.
#[derive(Clone, Default)]
pub(crate) struct ConnectProxy {
    /// Where each `host:port` is.
    targets: Arc<HashMap<String, SocketAddr>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl ConnectProxy {
    /// A proxy that permits these targets.
    pub(crate) fn new(targets: impl IntoIterator<Item = (String, SocketAddr)>) -> Self {
        Self {
            targets: Arc::new(targets.into_iter().collect()),
            asked: Arc::default(),
        }
    }

    /// The targets that clients have asked for since the last call.
    pub(crate) fn take_asked(&self) -> Vec<String> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut asked)
    }

    /// Serves one client until both sides have closed.
    pub(crate) async fn serve(self, mut client: Stream) -> Result<()> {
        let head = read_head(&mut client).await?;
        let line = head.lines().next().unwrap_or_default();
        let words: Vec<&str> = line.split(' ').collect();
        let ["CONNECT", target, _] = words.as_slice() else {
            let answer = b"HTTP/1.1 405 this proxy takes CONNECT only\r\n\r\n";
            return Ok(client.write_all(answer).await?);
        };
        self.asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((*target).to_owned());
        let Some(address) = self.targets.get(*target) else {
            let answer = b"HTTP/1.1 403 this proxy does not permit the target\r\n\r\n";
            client.write_all(answer).await?;
            return Ok(client.flush().await?);
        };
        let mut server = TcpStream::connect(address).await?;
        client
            .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
            .await?;
        client.flush().await?;
        copy_bidirectional(&mut client, &mut server).await?;
        Ok(())
    }
}

/// Reads up to the blank line, and not a byte more.
pub(crate) async fn read_head(stream: &mut Stream) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < LARGEST {
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}
