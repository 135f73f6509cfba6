//! The requests of a client that reaches its server through a proxy.

use std::net::Ipv4Addr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::client::{Failure, Stream};
use crate::connect_proxy::read_head;

/// The user and the password of all clients that have any.
pub(crate) const CREDENTIALS: [&str; 2] = ["lab", "lab"];
/// The same for HTTP: the base64 of `lab:lab`.
const BASIC: &str = "Proxy-Authorization: Basic bGFiOmxhYg==\r\n";

/// Whether the client shows user and password to the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Login {
    None,
    Password,
}

/// Asks an HTTP proxy for `host:port`, byte for byte as Go does.
pub(crate) async fn connect(
    stream: &mut Stream,
    host: &str,
    port: u16,
    login: Login,
) -> Result<(), Failure> {
    let basic = match login {
        Login::None => "",
        Login::Password => BASIC,
    };
    let request = format!(
        "CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\
         User-Agent: Go-http-client/1.1\r\n{basic}\r\n"
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

/// Asks a SOCKS5 proxy for `host:port`, as a Logstash output does.
pub(crate) async fn socks5(
    stream: &mut Stream,
    host: &str,
    port: u16,
    login: Login,
) -> Result<(), Failure> {
    let reply = socks5_reply(stream, host, port, login);
    match reply.await.map_err(|e| Failure::of("SOCKS5", &e))? {
        0 => Ok(()),
        reply => Err(Failure::Other(format!("SOCKS5 reply {reply}"))),
    }
}

async fn socks5_reply(
    stream: &mut Stream,
    host: &str,
    port: u16,
    login: Login,
) -> std::io::Result<u8> {
    let method = match login {
        Login::None => 0,
        Login::Password => 2,
    };
    stream.write_all(&[5, 1, method]).await?;
    stream.flush().await?;
    let mut chosen = [0; 2];
    stream.read_exact(&mut chosen).await?;
    if chosen != [5, method] {
        return Err(std::io::Error::other("the proxy accepts no such method"));
    }
    if login == Login::Password {
        let mut message = vec![1];
        for text in CREDENTIALS {
            push(&mut message, text);
        }
        stream.write_all(&message).await?;
        stream.flush().await?;
        let mut status = [0; 2];
        stream.read_exact(&mut status).await?;
        if status != [1, 0] {
            return Err(std::io::Error::other("the proxy refuses user and password"));
        }
    }

    let mut request = vec![5, 1, 0];
    if let Ok(address) = host.parse::<Ipv4Addr>() {
        request.push(1);
        request.extend(address.octets());
    } else {
        request.push(3);
        push(&mut request, host);
    }
    request.extend(port.to_be_bytes());
    stream.write_all(&request).await?;
    stream.flush().await?;
    // Version, reply, reserved, and an IPv4 address with its port.
    let mut answer = [0; 10];
    stream.read_exact(&mut answer).await?;
    let [_, reply, ..] = answer;
    Ok(reply)
}

/// Adds a text behind its length.
fn push(message: &mut Vec<u8>, text: &str) {
    message.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    message.extend(text.as_bytes());
}
