//! The transport protocol between nodes of Elasticsearch, which remote clusters use: frames with the marker
//! `ES`. The header is the real one; the body of the stand-in is the name of a cluster.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::Result;

/// The sockets of a node towards a remote cluster in proxy mode: `proxy_socket_connections`.
pub(crate) const SOCKETS: usize = 18;

const MARKER: [u8; 2] = *b"ES";
/// Bits of the status.
const RESPONSE: u8 = 1;
const HANDSHAKE: u8 = 8;
/// The number of version 9.0 on the wire.
const VERSION: u32 = 9_000_099;
/// Request, status, version and the size of the variable header, which is empty.
const HEADER: usize = 8 + 1 + 4 + 4;
const LARGEST: usize = 1 << 16;

/// A frame that has been read.
struct Frame {
    request: u64,
    status: u8,
    body: String,
}

/// Greets the node at the other end. Returns the name of its cluster.
pub(crate) async fn greet<S>(stream: &mut S, request: u64, cluster: &str) -> Result<String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    write(stream, request, HANDSHAKE, cluster).await?;
    let answer = read(stream).await?;
    if answer.request != request || answer.status != HANDSHAKE | RESPONSE {
        return Err(format!("request {request} got answer {}", answer.request).into());
    }
    Ok(answer.body)
}

/// Answers greetings until the connection ends.
pub(crate) async fn answer<S>(stream: &mut S, cluster: &str) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let Frame {
            request, status, ..
        } = read(stream).await?;
        write(stream, request, status | RESPONSE, cluster).await?;
    }
}

async fn write(
    stream: &mut (impl AsyncWrite + Unpin),
    request: u64,
    status: u8,
    body: &str,
) -> Result<()> {
    let mut bytes = MARKER.to_vec();
    bytes.extend(u32::try_from(HEADER + body.len())?.to_be_bytes());
    bytes.extend(request.to_be_bytes());
    bytes.push(status);
    bytes.extend(VERSION.to_be_bytes());
    bytes.extend(0_u32.to_be_bytes());
    bytes.extend(body.as_bytes());
    stream.write_all(&bytes).await?;
    Ok(stream.flush().await?)
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Frame> {
    let mut marker = [0; 2];
    stream.read_exact(&mut marker).await?;
    if marker != MARKER {
        return Err("the frame does not begin with ES".into());
    }
    let size = usize::try_from(stream.read_u32().await?)?;
    if !(HEADER..=LARGEST).contains(&size) {
        return Err(format!("a frame of {size} bytes").into());
    }
    let request = stream.read_u64().await?;
    let status = stream.read_u8().await?;
    if stream.read_u32().await? != VERSION || stream.read_u32().await? != 0 {
        return Err("another version, or a variable header".into());
    }
    let mut body = vec![0; size - HEADER];
    stream.read_exact(&mut body).await?;
    let body = String::from_utf8(body)?;
    Ok(Frame {
        request,
        status,
        body,
    })
}
