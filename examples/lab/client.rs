//! An HTTPS client like that of an agent: one connection, with notes of what it saw.

use std::fmt;
use std::sync::Arc;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::{http1, http2};
use hyper::header::{HOST, HeaderMap};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, ClientConfig, ClientConnection};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::certificates::common_name;
use crate::tls;

/// The observations of a client.
#[derive(Clone, Debug, Default)]
pub(crate) struct Saw {
    /// The common name of the server's certificate.
    pub(crate) certificate: String,
    /// Which server answered, as it says itself: the `cluster_uuid`, or the policy of a Fleet Server.
    pub(crate) answered_by: String,
    /// Bytes of all request bodies, or of all frames.
    pub(crate) sent: usize,
    /// Bytes of all answer bodies.
    pub(crate) received: usize,
}

/// Why a client got no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The other side sent a TLS alert.
    Alert(AlertDescription),
    /// Anything else.
    Other(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alert(alert) => {
                write!(f, "alert {} {}", u8::from(*alert), tls::alert_name(*alert))
            }
            Self::Other(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for Failure {}

impl From<crate::Error> for Failure {
    fn from(error: crate::Error) -> Self {
        Self::Other(error.to_string())
    }
}

impl Failure {
    pub(crate) fn of(step: &str, error: &(dyn std::error::Error + 'static)) -> Self {
        match tls::alert(error) {
            Some(alert) => Self::Alert(alert),
            None => Self::Other(format!("{step}: {error}")),
        }
    }
}

/// An answer, whose body is JSON in most cases.
pub(crate) struct Reply {
    pub(crate) bytes: Bytes,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

/// A connection of any kind: to portway, or through a proxy.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection over which TLS may begin.
pub(crate) type Stream = Box<dyn Io>;

/// Makes the TLS handshake with the server name `host`.
pub(crate) async fn handshake(
    host: &str,
    stream: Stream,
    tls: Arc<ClientConfig>,
) -> Result<TlsStream<Stream>, Failure> {
    let name = ServerName::try_from(host.to_owned()).map_err(|e| Failure::of("the URL", &e))?;
    let connecting = TlsConnector::from(tls).connect(name, stream);
    connecting
        .await
        .map_err(|e| Failure::of("TLS handshake", &e))
}

/// The common name of the server's certificate.
pub(crate) fn certificate(session: &ClientConnection) -> String {
    let certificates = session.peer_certificates();
    let first = certificates.and_then(<[_]>::first);
    first.map(common_name).unwrap_or_default()
}

/// A client with its one connection.
pub(crate) struct Client {
    pub(crate) saw: Saw,
    host: String,
    http: Http,
    /// hyper's task for the connection; sometimes only this has the reason of its end.
    connection: JoinHandle<hyper::Result<()>>,
}

enum Http {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

impl Client {
    /// Makes the TLS handshake through `stream`, and begins to speak HTTP. As in every agent, the server name
    /// is the host of the URL. If that is an IP address, there is no server name.
    pub(crate) async fn over(
        host: &str,
        stream: Stream,
        tls: Arc<ClientConfig>,
    ) -> Result<Self, Failure> {
        let stream = handshake(host, stream, tls).await?;
        let (_, session) = stream.get_ref();
        let certificate = certificate(session);
        let http2 = session.alpn_protocol() == Some(b"h2");
        let (http, connection) = if http2 {
            let (http, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .map_err(|e| Failure::of("HTTP/2", &e))?;
            (Http::Two(http), tokio::spawn(connection))
        } else {
            let (http, connection) = http1::handshake(TokioIo::new(stream))
                .await
                .map_err(|e| Failure::of("HTTP/1.1", &e))?;
            (Http::One(http), tokio::spawn(connection))
        };
        let saw = Saw {
            certificate,
            ..Saw::default()
        };
        Ok(Self {
            saw,
            host: host.to_owned(),
            http,
            connection,
        })
    }

    /// Sends a request and waits for the whole answer.
    pub(crate) async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&'static str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Reply, Failure> {
        let body = body.into();
        self.saw.sent += body.len();
        let request = self.request(method, path, headers, body)?;
        match self.exchange(request).await {
            Ok(reply) => Ok(reply),
            Err(error) => Err(self.why(&error).await),
        }
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(&'static str, &str)],
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, Failure> {
        let request = Request::builder().method(method);
        let mut request = match self.http {
            Http::One(_) => request.uri(path).header(HOST, &self.host),
            Http::Two(_) => request.uri(format!("https://{}{path}", self.host)),
        };
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request
            .body(Full::new(body))
            .map_err(|e| Failure::of("the request", &e))
    }

    async fn exchange(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Reply> {
        let response = match &mut self.http {
            Http::One(http) => http.send_request(request).await?,
            Http::Two(http) => http.send_request(request).await?,
        };
        let (head, body) = response.into_parts();
        let bytes = body.collect().await?.to_bytes();
        self.saw.received += bytes.len();
        let body = serde_json::from_slice(&bytes).unwrap_or_default();
        Ok(Reply {
            bytes,
            status: head.status,
            headers: head.headers,
            body,
        })
    }

    /// The best known reason: hyper reports the end of the connection to the request or to the
    /// connection, depending on what it was doing.
    async fn why(&mut self, error: &hyper::Error) -> Failure {
        let of_request = Failure::of("HTTP", error);
        if matches!(of_request, Failure::Alert(_)) {
            return of_request;
        }
        match (&mut self.connection).await {
            Ok(Err(error)) => Failure::of("HTTP", &error),
            Ok(Ok(())) | Err(_) => of_request,
        }
    }
}
