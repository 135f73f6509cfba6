use std::fs::File;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::{Method, Request, StatusCode};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

use super::server::serve_within;
use super::{Stage, State};
use crate::telemetry::metrics::Registry;

const LONG: Duration = Duration::from_secs(30);

struct Admin {
    address: std::net::SocketAddr,
    registry: Arc<Registry>,
    state: Arc<State>,
}

async fn start() -> Admin {
    start_within(Duration::from_secs(10)).await
}

async fn start_within(limit: Duration) -> Admin {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let registry = Registry::new();
    let state = Arc::new(State::new(Arc::clone(&registry)));
    tokio::spawn(serve_within(limit, listener, Arc::clone(&state)));
    Admin {
        address,
        registry,
        state,
    }
}

impl Admin {
    /// Sends bytes and returns all that comes back.
    async fn exchange(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        // The server may refuse before it has read all.
        drop(stream.write_all(bytes).await);
        rest(stream).await
    }

    async fn request(&self, method: &str, path: &str) -> String {
        let head = format!("{method} {path} HTTP/1.1\r\nhost: admin\r\n\r\n");
        self.exchange(head.as_bytes()).await
    }
}

async fn rest(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    let read = timeout(LONG, stream.read_to_end(&mut answer)).await;
    // A reset after the last byte is no matter here; a silence is.
    assert!(read.is_ok(), "the connection stays open");
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn metrics_are_a_page_of_the_text_format() {
    let admin = start().await;
    drop(admin.registry.endings("agents", None));
    let page = admin.request("GET", "/metrics").await;
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
    assert!(
        page.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"),
        "{page}"
    );
    assert!(
        page.contains("\nportway_connections_active{listener=\"agents\"} 0\n"),
        "{page}"
    );
}

#[tokio::test]
async fn readyz_tells_why_new_connections_are_not_welcome() {
    let admin = start().await;
    for (stage, status, body) in [
        (
            Stage::Starting,
            503,
            "starting: listeners do not accept yet\n",
        ),
        (Stage::Ready, 200, "ok\n"),
        (Stage::Draining, 503, "draining\n"),
    ] {
        admin.state.enter(stage);
        let page = admin.request("GET", "/readyz").await;
        assert!(page.starts_with(&format!("HTTP/1.1 {status} ")), "{page}");
        assert!(page.ends_with(&format!("\r\n\r\n{body}")), "{page}");
    }
}

#[tokio::test]
async fn livez_names_each_worker_that_does_not_turn() {
    use http_body_util::BodyExt;

    let registry = Registry::new();
    let state = State::new(Arc::clone(&registry));
    let (first, second) = (registry.worker(0), registry.worker(1));
    let start = Instant::now();
    first.turn(start);
    second.turn(start + Duration::from_secs(9));
    let livez = Request::builder().uri("/livez").body(()).unwrap();
    let well = state.answer(&livez, start + Duration::from_millis(9_900));
    assert_eq!(well.status(), StatusCode::OK);
    let ill = state.answer(&livez, start + Duration::from_secs(11));
    assert_eq!(ill.status(), StatusCode::SERVICE_UNAVAILABLE);
    let body = ill.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "worker 0 has not turned for 10 s\n");
}

#[tokio::test]
async fn head_is_answered_without_a_body() {
    let admin = start().await;
    let page = admin.request("HEAD", "/livez").await;
    assert!(
        page.starts_with("HTTP/1.1 200 OK\r\n") && page.ends_with("\r\n\r\n"),
        "{page}"
    );
    assert!(page.contains("content-length: 3\r\n"), "{page}");
}

#[tokio::test]
async fn other_methods_are_refused_and_other_paths_listed() {
    let admin = start().await;
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
        let page = admin.request(method.as_str(), "/metrics").await;
        assert!(page.starts_with("HTTP/1.1 405 "), "{page}");
        assert!(page.contains("allow: GET, HEAD\r\n"), "{page}");
    }
    let page = admin.request("GET", "/metric").await;
    assert!(page.starts_with("HTTP/1.1 404 "), "{page}");
    assert!(
        page.ends_with("\r\n\r\n/metrics\n/livez\n/readyz\n"),
        "{page}"
    );
}

#[tokio::test]
async fn each_connection_has_one_request() {
    let admin = start().await;
    let twice = b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\nGET /livez HTTP/1.1\r\nhost: a\r\n\r\n";
    let pages = admin.exchange(twice).await;
    assert_eq!(pages.matches("HTTP/1.1 ").count(), 1, "{pages}");
    assert!(pages.contains("connection: close\r\n"), "{pages}");
}

#[tokio::test]
async fn a_request_line_of_a_megabyte_is_refused() {
    let admin = start().await;
    let line = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(1 << 20));
    let page = admin.exchange(line.as_bytes()).await;
    assert!(!page.contains(" 200 ") && !page.contains(" 404 "), "{page}");
    let page = admin.request("GET", "/livez").await;
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
}

#[tokio::test]
async fn a_connection_without_a_request_ends_after_two_seconds() {
    let admin = start().await;
    let began = tokio::time::Instant::now();
    let mut stream = TcpStream::connect(admin.address).await.unwrap();
    stream.write_all(b"GET /livez HTTP/1.1\r\n").await.unwrap();
    assert!(!rest(stream).await.contains(" 200 "));
    let took = began.elapsed();
    assert!(
        took >= Duration::from_secs(2) && took < Duration::from_secs(8),
        "{took:?}"
    );
}

#[tokio::test]
async fn a_scraper_that_never_reads_is_cut_and_others_are_served_meanwhile() {
    let admin = start_within(Duration::from_secs(1)).await;
    // A page that no socket buffer takes whole.
    for n in 0..100 {
        drop(admin.registry.endings(&format!("{n:0>20000}"), None));
    }
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stuck = socket.connect(admin.address).await.unwrap();
    stuck
        .write_all(b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    stuck.readable().await.unwrap();
    let page = admin.request("GET", "/readyz").await;
    assert!(page.starts_with("HTTP/1.1 503 "), "{page}");
    tokio::time::sleep(Duration::from_secs(2)).await;
    // The cut shows as a body that is not whole.
    let all = admin.registry.render().len();
    assert!(rest(stuck).await.len() < all);
}

#[tokio::test]
async fn many_scrapes_at_once_are_all_served() {
    let admin = Arc::new(start().await);
    let mut scrapes = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let admin = Arc::clone(&admin);
        scrapes.spawn(async move { admin.request("GET", "/livez").await });
    }
    while let Some(page) = scrapes.join_next().await {
        let page = page.unwrap();
        assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
    }
}

#[tokio::test]
async fn sixteen_silent_connections_hold_up_others_only_until_their_time_is_over() {
    let admin = start().await;
    let mut silent = Vec::new();
    for _ in 0..16 {
        silent.push(TcpStream::connect(admin.address).await.unwrap());
    }
    let began = Instant::now();
    let page = admin.request("GET", "/livez").await;
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
    let took = began.elapsed();
    assert!(
        took >= Duration::from_secs(1) && took < Duration::from_secs(8),
        "{took:?}"
    );
}

/// The limit is the process's own, so that this runs as a process of its own.
#[test]
fn pages_are_served_when_no_descriptor_is_left() {
    let test = "admin::tests::child_without_descriptors";
    let status = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(CHILD, "")
        .status()
        .unwrap();
    assert!(status.success());
}

const CHILD: &str = "PORTWAY_TEST_WITHOUT_DESCRIPTORS";

#[tokio::test]
async fn child_without_descriptors() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let admin = start().await;
    // The first answer shows that the server is up and holds its reserve.
    assert!(admin.request("GET", "/livez").await.contains(" 200 "));
    let clients = [(); 3].map(|()| TcpSocket::new_v4().unwrap());
    let limit = getrlimit(Resource::Nofile);
    let low = Rlimit {
        current: Some(64),
        ..limit
    };
    setrlimit(Resource::Nofile, low).unwrap();
    let (mut taken, mut answered) = (Vec::new(), Vec::new());
    while let Ok(file) = File::open("/dev/null") {
        taken.push(file);
    }
    for client in clients {
        let mut stream = client.connect(admin.address).await.unwrap();
        stream
            .write_all(b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n")
            .await
            .unwrap();
        let page = rest(stream).await;
        assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
        answered.push(page);
        // The server's end is closed now: it may take its reserve back before we take the rest.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        while let Ok(file) = File::open("/dev/null") {
            taken.push(file);
        }
    }
    assert_eq!(answered.len(), 3);
}
