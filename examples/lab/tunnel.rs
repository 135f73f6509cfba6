//! The requests of a client that reaches its server through a proxy.

use std::net::Ipv4Addr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::client::{Failure, Stream};
use crate::connect_proxy::read_head;

/// The one user of all listeners that ask for a user, as `htpasswd` writes it. The password is `lab`.
pub(crate) const USERS: &str = "lab:$2b$04$ADmSbGh31QUCPca.eFOZC.pvsArwMoCJZHkC7uNXaPymj78zieM82\n";

/// The user and the password that a client shows to a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Login {
    None,
    Right,
    Wrong,
}

impl Login {
    /// The two texts.
    pub(crate) const fn credentials(self) -> Option<[&'static str; 2]> {
        match self {
            Self::None => None,
            Self::Right => Some(["lab", "lab"]),
            Self::Wrong => Some(["lab", "wrong"]),
        }
    }

    /// The field of an HTTP request, with the base64 of the two texts and a colon between them.
    const fn field(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Right => "Proxy-Authorization: Basic bGFiOmxhYg==\r\n",
            Self::Wrong => "Proxy-Authorization: Basic bGFiOndyb25n\r\n",
        }
    }
}

/// Asks an HTTP proxy for `host:port`, byte for byte as Go does.
pub(crate) async fn connect(
    stream: &mut Stream,
    host: &str,
    port: u16,
    login: Login,
) -> Result<(), Failure> {
    let field = login.field();
    let request = format!(
        "CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\
         User-Agent: Go-http-client/1.1\r\n{field}\r\n"
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
    let credentials = login.credentials();
    let method = if credentials.is_some() { 2 } else { 0 };
    stream.write_all(&[5, 1, method]).await?;
    stream.flush().await?;
    let mut chosen = [0; 2];
    stream.read_exact(&mut chosen).await?;
    if chosen != [5, method] {
        return Err(std::io::Error::other("the proxy accepts no such method"));
    }
    if let Some(credentials) = credentials {
        let mut message = vec![1];
        for text in credentials {
            push(&mut message, text);
        }
        stream.write_all(&message).await?;
        stream.flush().await?;
        let mut answer = [0; 2];
        stream.read_exact(&mut answer).await?;
        let [_, status] = answer;
        if status != 0 {
            let refusal = format!("status {status} for user and password");
            return Err(std::io::Error::other(refusal));
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
