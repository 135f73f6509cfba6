//! A proxy that takes CONNECT of HTTP and of SOCKS5 and nothing else: the proxy of a site for what leaves it, or a
//! proxy that agents reach by HTTPS.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpStream;

use crate::Result;
use crate::client::Stream;

/// The largest head of a request.
const LARGEST: usize = 16 * 1024;

const SOCKS5: u8 = 5;
/// The answers to a target that is permitted, and to one that is not.
const HTTP_REPLIES: [&[u8]; 2] = [
    b"HTTP/1.1 200 Connection established\r\n\r\n",
    b"HTTP/1.1 403 this proxy does not permit the target\r\n\r\n",
];
const SOCKS5_REPLIES: [&[u8]; 2] = [
    &[SOCKS5, 0, 0, 1, 0, 0, 0, 0, 0, 0],
    &[SOCKS5, 2, 0, 1, 0, 0, 0, 0, 0, 0],
];

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
        let first = client.read_u8().await?;
        let (target, [success, refusal]): (_, [&[u8]; 2]) = if first == SOCKS5 {
            (socks5(&mut client).await?, SOCKS5_REPLIES)
        } else {
            let head = char::from(first).to_string() + &read_head(&mut client).await?;
            let line = head.lines().next().unwrap_or_default();
            let words: Vec<&str> = line.split(' ').collect();
            let ["CONNECT", target, _] = words.as_slice() else {
                let answer = b"HTTP/1.1 405 this proxy takes CONNECT only\r\n\r\n";
                client.write_all(answer).await?;
                return Ok(client.flush().await?);
            };
            ((*target).to_owned(), HTTP_REPLIES)
        };
        self.asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(target.clone());
        let Some(address) = self.targets.get(&target) else {
            client.write_all(refusal).await?;
            return Ok(client.flush().await?);
        };
        let mut server = TcpStream::connect(address).await?;
        client.write_all(success).await?;
        client.flush().await?;
        copy_bidirectional(&mut client, &mut server).await?;
        Ok(())
    }
}

/// Receives the greeting and the request behind the version of the first message, and returns the target. Any user
/// and password will do.
async fn socks5(client: &mut Stream) -> Result<String> {
    const WITH_PASSWORD: u8 = 2;
    let methods = text(client).await?;
    let method = WITH_PASSWORD * u8::from(methods.as_bytes().contains(&WITH_PASSWORD));
    client.write_all(&[SOCKS5, method]).await?;
    client.flush().await?;
    if method == WITH_PASSWORD {
        client.read_u8().await?;
        text(client).await?;
        text(client).await?;
        client.write_all(&[1, 0]).await?;
        client.flush().await?;
    }
    let mut request = [0; 4];
    client.read_exact(&mut request).await?;
    let host = match request {
        [SOCKS5, 1, 0, 1] => Ipv4Addr::from(client.read_u32().await?).to_string(),
        [SOCKS5, 1, 0, 3] => text(client).await?,
        _ => return Err("the request is not CONNECT".into()),
    };
    Ok(format!("{host}:{}", client.read_u16().await?))
}

/// A text behind its length.
async fn text(client: &mut Stream) -> Result<String> {
    let mut text = vec![0; usize::from(client.read_u8().await?)];
    client.read_exact(&mut text).await?;
    Ok(String::from_utf8(text)?)
}

/// Reads up to the blank line, and not a byte more.
pub(crate) async fn read_head(stream: &mut Stream) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < LARGEST {
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}
