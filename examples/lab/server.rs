//! The common part of all stand-ins: TLS, HTTP, limits on silence, and a journal of what they saw.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use rustls::server::Acceptor;
use tokio::io::{AsyncWriteExt, copy, sink};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use crate::Result;
use crate::certificates::common_name;

/// Fleet Server gives a client this long from accept to the end of the handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Fleet Server closes a connection that is idle for this long between two requests.
const IDLE_TIMEOUT: Duration = Duration::from_secs(35);
/// How long a row waits for a stand-in to see something.
const JOURNAL_TIMEOUT: Duration = Duration::from_secs(5);

/// The server that a stand-in plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    FleetServer,
    Elasticsearch,
    /// The proxy of Elastic Cloud, behind which both are.
    ElasticCloud,
    /// A node of Elasticsearch, at its transport port.
    Node,
    Logstash,
    Kafka,
    /// The server of downloads.
    Artifacts,
    /// A proxy that agents reach by HTTPS.
    HttpsProxy,
}

/// The observations of a stand-in about a request, or about a handshake that it refused.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) kind: Kind,
    /// The server name in the client hello.
    pub(crate) server_name: Option<String>,
    /// The common name of the client's certificate.
    pub(crate) client: Option<String>,
    /// The protocol that ALPN selected.
    pub(crate) alpn: Option<String>,
    /// Why the handshake failed.
    pub(crate) refusal: Option<String>,
}

/// The observations of all stand-ins, in order. A stand-in writes before it answers.
pub(crate) struct Journal(mpsc::UnboundedReceiver<Seen>);

impl Journal {
    pub(crate) fn new() -> (mpsc::UnboundedSender<Seen>, Self) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (sender, Self(receiver))
    }

    /// Takes the entries so far.
    pub(crate) fn take(&mut self) -> Vec<Seen> {
        std::iter::from_fn(|| self.0.try_recv().ok()).collect()
    }

    /// Discards the entries so far, and returns how many there were.
    pub(crate) fn clear(&mut self) -> usize {
        self.take().len()
    }

    /// The next thing that a stand-in of this kind saw.
    pub(crate) async fn next(&mut self, kind: Kind) -> Result<Seen> {
        let of_kind = async {
            while let Some(seen) = self.0.recv().await {
                if seen.kind == kind {
                    return Ok(seen);
                }
            }
            Err("the stand-ins are gone".into())
        };
        let late = |_| format!("no {kind:?} saw anything within {JOURNAL_TIMEOUT:?}");
        timeout(JOURNAL_TIMEOUT, of_kind).await.map_err(late)?
    }
}

/// A request with its whole body.
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) path: String,
    /// The host that the client asked for.
    pub(crate) host: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// The answer of a stand-in.
pub(crate) type Answer = Response<Full<Bytes>>;

/// An answer in JSON.
pub(crate) fn json(status: StatusCode, body: &serde_json::Value) -> Answer {
    let mut answer = Answer::new(Full::from(body.to_string()));
    *answer.status_mut() = status;
    let kind = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}

/// A server that does not serve yet.
pub(crate) struct Server {
    pub(crate) kind: Kind,
    pub(crate) tls: Arc<ServerConfig>,
    pub(crate) journal: mpsc::UnboundedSender<Seen>,
}

/// Runs `connection` for each client, until the handle ends it together with all connections.
pub(crate) fn accept<C, F>(listener: TcpListener, connection: C) -> AbortHandle
where
    C: Fn(TcpStream) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let accepting = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn(connection(stream));
            while connections.try_join_next().is_some() {}
        }
    });
    accepting.abort_handle()
}

impl Server {
    /// Answers the requests of all clients.
    pub(crate) fn serve<H, F>(self, listener: TcpListener, handler: H) -> AbortHandle
    where
        H: Fn(Call) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Answer> + Send + 'static,
    {
        let server = Arc::new(self);
        accept(listener, move |stream| {
            let server = Arc::clone(&server);
            let handler = handler.clone();
            async move { server.http(stream, handler).await }
        })
    }

    /// Hands each connection to `talk` after its handshake: for servers that do not speak HTTP.
    pub(crate) fn serve_streams<H, F>(self, listener: TcpListener, talk: H) -> AbortHandle
    where
        H: Fn(TlsStream<TcpStream>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let server = Arc::new(self);
        accept(listener, move |stream| {
            let server = Arc::clone(&server);
            let talk = talk.clone();
            async move {
                if let Some((stream, seen)) = server.shake_hands(stream).await {
                    server.note(seen);
                    // A client that goes away ends the connection; its row shows why.
                    drop(talk(stream).await);
                }
            }
        })
    }

    async fn http<H, F>(&self, stream: TcpStream, handler: H)
    where
        H: Fn(Call) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Answer> + Send + 'static,
    {
        let Some((stream, seen)) = self.shake_hands(stream).await else {
            return;
        };
        let service = service_fn(|request| {
            self.note(seen.clone());
            let handler = handler.clone();
            async move { Ok::<_, Infallible>(answer(request, handler).await) }
        });
        let mut http = auto::Builder::new(TokioExecutor::new());
        // hyper has one limit for both: the first request, and the next one on an idle connection.
        http.http1()
            .timer(TokioTimer::new())
            .header_read_timeout(IDLE_TIMEOUT);
        http.http2().timer(TokioTimer::new());
        // The client and portway decide how a connection ends; a row sees that at the client.
        drop(http.serve_connection(TokioIo::new(stream), service).await);
    }

    async fn shake_hands(&self, stream: TcpStream) -> Option<(TlsStream<TcpStream>, Seen)> {
        let shaken = timeout(HANDSHAKE_TIMEOUT, self.handshake(stream)).await;
        shaken.ok().flatten()
    }

    /// Makes the handshake. Returns the encrypted stream, and what the handshake showed; a refusal goes into
    /// the journal.
    async fn handshake(&self, stream: TcpStream) -> Option<(TlsStream<TcpStream>, Seen)> {
        let start = LazyConfigAcceptor::new(Acceptor::default(), stream)
            .await
            .ok()?;
        let mut seen = Seen {
            kind: self.kind,
            server_name: start.client_hello().server_name().map(str::to_owned),
            client: None,
            alpn: None,
            refusal: None,
        };
        match start
            .into_stream(Arc::clone(&self.tls))
            .into_fallible()
            .await
        {
            Ok(stream) => {
                let (_, tls) = stream.get_ref();
                seen.client = tls
                    .peer_certificates()
                    .and_then(<[_]>::first)
                    .map(common_name);
                seen.alpn = tls
                    .alpn_protocol()
                    .map(|alpn| String::from_utf8_lossy(alpn).into_owned());
                Some((stream, seen))
            }
            Err((error, stream)) => {
                seen.refusal = Some(error.to_string());
                self.note(seen);
                read_to_end(stream).await;
                None
            }
        }
    }

    fn note(&self, seen: Seen) {
        // If the journal has no reader, the rows are done.
        drop(self.journal.send(seen));
    }
}

/// Ends a connection whose handshake failed. With TLS 1.3, a client that is refused has often sent its request
/// already. If the stand-in closed the socket with this request unread, the kernel would send a reset, and the client
/// would report that instead of the alert.
async fn read_to_end(mut stream: TcpStream) {
    if stream.shutdown().await.is_ok() {
        drop(copy(&mut stream, &mut sink()).await);
    }
}

async fn answer<H, F>(request: Request<Incoming>, handler: H) -> Answer
where
    H: Fn(Call) -> F,
    F: Future<Output = Answer>,
{
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else {
        return json(
            StatusCode::BAD_REQUEST,
            &serde_json::json!({ "error": "the body ends early" }),
        );
    };
    let of_header = || head.headers.get(HOST)?.to_str().ok();
    let host = head.uri.host().or_else(of_header).unwrap_or_default();
    let host = host.split(':').next().unwrap_or_default().to_owned();
    handler(Call {
        method: head.method,
        path: head.uri.path().to_owned(),
        host,
        headers: head.headers,
        body: body.to_bytes(),
    })
    .await
}
