//! The requests of a client that reaches its server through a proxy.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::client::{Failure, Stream};
use crate::connect_proxy::read_head;

/// Asks an HTTP proxy for `host:port`, byte for byte as Go does.
pub(crate) async fn connect(stream: &mut Stream, host: &str, port: u16) -> Result<(), Failure> {
    let request = format!(
        "CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\nUser-Agent: Go-http-client/1.1\r\n\r\n"
    );
    let answer = async {
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await?;
        read_head(stream).await
    };
    let head = answer.await.map_err(|e| Failure::of("CONNECT", &e))?;
    let line = head.lines().next().unwrap_or_default();
    match line.split_once(' ') {
        Some((_, status)) if status.starts_with("200 ") => Ok(()),
        Some((_, status)) => Err(Failure::Other(status.to_owned())),
        None => Err(Failure::Other("the proxy did not answer".to_owned())),
    }
}

/// Asks a SOCKS5 proxy for `host:port`, without authentication, as a Logstash output does.
pub(crate) async fn socks5(stream: &mut Stream, host: &str, port: u16) -> Result<(), Failure> {
    let reply = socks5_reply(stream, host, port);
    match reply.await.map_err(|e| Failure::of("SOCKS5", &e))? {
        0 => Ok(()),
        reply => Err(Failure::Other(format!("SOCKS5 reply {reply}"))),
    }
}

async fn socks5_reply(stream: &mut Stream, host: &str, port: u16) -> std::io::Result<u8> {
    const NO_AUTHENTICATION: [u8; 3] = [5, 1, 0];
    const CONNECT_TO_NAME: [u8; 4] = [5, 1, 0, 3];
    stream.write_all(&NO_AUTHENTICATION).await?;
    stream.flush().await?;
    let mut method = [0; 2];
    stream.read_exact(&mut method).await?;

    let mut request = CONNECT_TO_NAME.to_vec();
    request.push(u8::try_from(host.len()).unwrap_or(u8::MAX));
    request.extend(host.as_bytes());
    request.extend(port.to_be_bytes());
    stream.write_all(&request).await?;
    stream.flush().await?;
    // Version, reply, reserved, and an IPv4 address with its port.
    let mut answer = [0; 10];
    stream.read_exact(&mut answer).await?;
    let [_, reply, ..] = answer;
    Ok(reply)
}
