use std::collections::HashMap;
use std::fs::File;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::predecessor::Reply;
use super::server::{ASKING, READING, Times, serve_within};
use super::{Current, NoAnswer, Relay, State};
use crate::admission::{Admission, Machine, Quotas};
use crate::config::StatusPages;
use crate::routing::Table;
use crate::snapshot::{HelloLimits, Snapshot};
use crate::status::{Query, Stage};
use crate::telemetry::EndpointFigures;
use crate::telemetry::alone::alone;
use crate::telemetry::metrics::Registry;
use crate::worker::Mailbox;
use tokio_util::sync::CancellationToken;

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const LONG: Duration = Duration::from_secs(30);

struct Admin {
    address: SocketAddr,
    registry: Arc<Registry>,
    state: Arc<State>,
}

/// For tests in which no connection may end by its time.
const NEVER: Times = Times {
    head: Duration::from_hours(1),
    whole: Duration::from_hours(1),
};

/// The state of a relay without workers.
fn state_of(registry: &Arc<Registry>) -> State {
    state_with(registry, Arc::new([]))
}

/// A snapshot without anything.
fn empty() -> Arc<Snapshot> {
    Arc::new(Snapshot {
        generation: 1,
        hello: HelloLimits {
            timeout: LONG,
            max_size: 1 << 16,
        },
        listeners: Vec::new(),
        addresses: HashMap::new(),
        backends: Vec::new(),
        routes: Table::default(),
        route_connections: Vec::new(),
    })
}

/// The state of a relay with these workers.
fn state_with(registry: &Arc<Registry>, mailboxes: Arc<[Mailbox]>) -> State {
    let quotas = Quotas {
        max_connections: None,
        max_pending_connections: None,
        max_pending_per_client: None,
        max_connections_per_client: None,
        accept_rate: None,
        accept_rate_per_client: None,
        client_ipv6_prefix: 64,
    };
    let machine = Machine {
        nofile: 1024,
        memory_max: None,
    };
    State::new(Relay {
        registry: Arc::clone(registry),
        admission: Arc::new(Admission::new(&quotas, machine)),
        mailboxes,
    })
}

async fn start() -> Admin {
    start_within(Times {
        head: Duration::from_secs(2),
        whole: Duration::from_secs(10),
    })
    .await
}

async fn start_within(times: Times) -> Admin {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let registry = Registry::new();
    let state = Arc::new(state_of(&registry));
    tokio::spawn(serve_within(
        times,
        Arc::new(listener),
        Arc::clone(&state),
        CancellationToken::new(),
    ));
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

    /// A scrape of a page that no socket buffer takes whole, of which nothing is read.
    async fn stuck_scrape(&self) -> TcpStream {
        for n in 0..20 {
            drop(self.registry.endings(&format!("{n:0>20000}"), None));
        }
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut stuck = socket.connect(self.address).await.unwrap();
        let head = b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n";
        stuck.write_all(head).await.unwrap();
        stuck.readable().await.unwrap();
        stuck
    }

    async fn request(&self, method: &str, path: &str) -> String {
        let head = format!("{method} {path} HTTP/1.1\r\nhost: admin\r\n\r\n");
        self.exchange(head.as_bytes()).await
    }
}

async fn rest(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    let read = timeout(LONG, stream.read_to_end(&mut answer)).await;
    // A reset after the last byte does not matter here; a silence does.
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
    let state = state_of(&registry);
    let (first, second) = (registry.worker(0), registry.worker(1));
    let start = Instant::now();
    first.turn(start);
    second.turn(start + Duration::from_secs(9));
    let livez = Request::builder().uri("/livez").body(()).unwrap();
    let well = state
        .answer(
            &livez,
            CLIENT,
            Reply::Nobody,
            start + Duration::from_millis(9_900),
        )
        .await;
    assert_eq!(well.status(), StatusCode::OK);
    let ill = state
        .answer(
            &livez,
            CLIENT,
            Reply::Nobody,
            start + Duration::from_secs(11),
        )
        .await;
    assert_eq!(ill.status(), StatusCode::SERVICE_UNAVAILABLE);
    let body = ill.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "worker 0 has not turned for 10 s\n");
}

#[tokio::test]
async fn livez_fails_once_a_vital_task_has_panicked() {
    use http_body_util::BodyExt;

    let registry = Registry::new();
    let state = state_of(&registry);
    let panics = tokio::spawn(registry.vital_task("upkeep", async { panic!("as if broken") }));
    assert!(panics.await.unwrap_err().is_panic());
    let livez = Request::builder().uri("/livez").body(()).unwrap();
    let ill = state
        .answer(&livez, CLIENT, Reply::Nobody, Instant::now())
        .await;
    assert_eq!(ill.status(), StatusCode::SERVICE_UNAVAILABLE);
    let body = ill.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "upkeep: the task has failed, and portway ends\n");
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
        page.ends_with("\r\n\r\n/\n/metrics\n/livez\n/readyz\n/status\n/connections\n"),
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
    let admin = start_within(Times {
        head: Duration::from_secs(1),
        whole: Duration::from_secs(1),
    })
    .await;
    let stuck = admin.stuck_scrape().await;
    let page = admin.request("GET", "/readyz").await;
    assert!(page.starts_with("HTTP/1.1 503 "), "{page}");
    // The reset is an event of its own, before anything is read.
    let is_cut = timeout(Duration::from_secs(20), stuck.ready(Interest::ERROR));
    is_cut.await.unwrap().unwrap();
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

/// Whether the other side has closed the connection, without waiting.
fn is_closed(stream: &TcpStream) -> bool {
    match stream.try_read(&mut [0]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

async fn silent(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    let mut silent = Vec::new();
    for _ in 0..count {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    silent
}

#[tokio::test]
async fn the_oldest_silent_connections_make_room_and_no_others() {
    let admin = start_within(NEVER).await;
    let silent = silent(admin.address, ASKING).await;
    for probe in 1..=10 {
        let page = admin.request("GET", "/livez").await;
        assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
        let closed: Vec<_> = silent.iter().map(is_closed).collect();
        // Each probe takes a place and gives it back: only the first finds none.
        let first = closed.iter().take_while(|closed| **closed).count();
        assert_eq!(first, closed.iter().filter(|closed| **closed).count());
        assert_eq!(first, 1, "after {probe} probes");
    }
}

#[tokio::test]
async fn probes_are_answered_beside_connections_that_come_again_and_again() {
    let admin = Arc::new(start_within(NEVER).await);
    let reopened = Arc::new(AtomicUsize::new(0));
    let mut strangers = tokio::task::JoinSet::new();
    for stranger in 0..3 * ASKING {
        let (address, reopened) = (admin.address, Arc::clone(&reopened));
        strangers.spawn(async move {
            loop {
                let mut stream = TcpStream::connect(address).await.unwrap();
                // Some say a part of a request.
                drop(stream.write_all(&b"GET /livez"[..stranger % 10]).await);
                drop(stream.read(&mut [0]).await);
                reopened.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    for _ in 0..100 {
        for path in ["/livez", "/metrics"] {
            let page = admin.request("GET", path).await;
            assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
        }
    }
    // Else they have not come again, and the test shows nothing.
    assert!(reopened.load(Ordering::Relaxed) > ASKING);
}

#[tokio::test]
async fn a_client_that_asks_a_byte_at_a_time_is_answered_beside_a_thousand_connections_of_another_address()
 {
    let admin = start_within(NEVER).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut slow = socket.connect(admin.address).await.unwrap();
    for byte in b"GET /livez HTTP/1.0\r\n\r\n" {
        slow.write_all(&[*byte]).await.unwrap();
        silent(admin.address, 50).await;
    }
    let page = rest(slow).await;
    assert!(page.starts_with("HTTP/1.0 200 OK\r\n"), "{page}");
}

/// The kernel has connected them before the first is accepted, and keeps no more than `somaxconn`.
#[tokio::test]
async fn many_connections_at_once_take_nothing_from_the_probes_among_them() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let open = |asked: bool| {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        if asked {
            let head = b"GET /livez HTTP/1.0\r\n\r\n";
            std::io::Write::write_all(&mut stream, head).unwrap();
        }
        stream.set_nonblocking(true).unwrap();
        TcpStream::from_std(stream).unwrap()
    };
    let all: Vec<_> = (0..100).map(|number| open(number % 10 == 5)).collect();
    let state = Arc::new(state_of(&Registry::new()));
    tokio::spawn(serve_within(
        NEVER,
        Arc::new(listener),
        state,
        CancellationToken::new(),
    ));
    let probes = all.into_iter().skip(5).step_by(10);
    let mut answered = 0;
    for probe in probes {
        let page = rest(probe).await;
        assert!(page.starts_with("HTTP/1.0 200 OK\r\n"), "{page}");
        answered += 1;
    }
    assert_eq!(answered, 10);
}

#[tokio::test]
async fn scrapers_that_do_not_read_take_no_place_from_probes_and_other_scrapers() {
    let admin = start_within(NEVER).await;
    let mut stuck = Vec::new();
    for _ in 0..READING + 2 {
        stuck.push(admin.stuck_scrape().await);
    }
    for path in ["/livez", "/metrics", "/livez"] {
        let page = admin.request("GET", path).await;
        assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
    }
    // Two of them made room for the last two, one for the scrape: nothing of their pages is kept.
    for stuck in stuck.into_iter().take(3) {
        timeout(LONG, cut(stuck)).await.expect("a cut");
    }
}

/// Reads until the connection is reset, as far as it can be read.
async fn cut(mut stream: TcpStream) {
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer).await;
    assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn scrapes_that_come_at_once_share_a_page_and_the_next_has_its_own() {
    use http_body_util::BodyExt;

    let registry = Registry::new();
    let state = state_of(&registry);
    let scrape = async || {
        let request = Request::builder().uri("/metrics").body(()).unwrap();
        let page = state
            .answer(&request, CLIENT, Reply::Nobody, Instant::now())
            .await;
        page.into_body().collect().await.unwrap().to_bytes()
    };
    let (one, two, three) = tokio::join!(scrape(), scrape(), scrape());
    assert!(one.as_ptr() == two.as_ptr() && two.as_ptr() == three.as_ptr());
    drop(registry.endings("agents", None));
    let next = String::from_utf8(scrape().await.to_vec()).unwrap();
    assert!(next.contains("listener=\"agents\""), "{next}");
}

#[tokio::test]
async fn a_page_whose_making_panics_is_an_error_for_each_of_its_scrapes() {
    let admin = start().await;
    let panics = Arc::new(AtomicBool::new(true));
    let endpoint = admin.registry.endpoint("fleet", "a:1");
    let still = Arc::clone(&panics);
    endpoint.show(1, move || {
        assert!(!still.load(Ordering::Relaxed), "as if broken");
        Some(EndpointFigures::default())
    });
    let scrape = || admin.request("GET", "/metrics");
    let (one, two, three) = tokio::join!(scrape(), scrape(), scrape());
    for page in [one, two, three] {
        assert!(
            page.starts_with("HTTP/1.1 500 Internal Server Error\r\n"),
            "{page}"
        );
        assert!(page.contains("internal error"), "{page}");
    }
    panics.store(false, Ordering::Relaxed);
    let page = scrape().await;
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
    assert!(page.contains("portway_endpoint_connections"), "{page}");
}

#[tokio::test]
async fn probes_are_answered_while_a_page_is_made_and_only_one_is_made_at_a_time() {
    let admin = start_within(NEVER).await;
    drop(admin.registry.endings("agents", None));
    let users = Arc::strong_count(&admin.registry);
    let making = admin.registry.hold_page();
    let scrape = async || {
        let mut scrape = TcpStream::connect(admin.address).await.unwrap();
        let head = b"GET /metrics HTTP/1.0\r\n\r\n";
        scrape.write_all(head).await.unwrap();
        scrape
    };
    let mut scrapes = Vec::new();
    // More than may wait, and every second one goes away.
    for number in 0..2 * ASKING {
        let scrape = scrape().await;
        let page = admin.request("GET", "/livez").await;
        assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
        if number % 2 == 1 {
            scrapes.push(scrape);
        }
    }
    // A thread that makes a page has the registry.
    assert_eq!(Arc::strong_count(&admin.registry), users + 1);
    drop(making);
    let page = rest(scrapes.pop().unwrap()).await;
    assert!(
        page.contains("portway_connections_active{listener=\"agents\"} 0\n"),
        "{page}"
    );
}

/// Scrapes and probes while a predecessor does not answer, or ends.
#[tokio::test]
async fn probes_are_answered_while_scrapes_wait_for_the_predecessor() {
    let admin = start_within(NEVER).await;
    let (questions, mut asked) = tokio::sync::mpsc::unbounded_channel();
    admin.state.succeed(Some(questions));
    // A busy machine may take longer than the scrapes wait, but not each time.
    let mut is_before = false;
    for _ in 0..10 {
        let mut scrapes = Vec::new();
        for _ in 0..ASKING {
            let mut scrape = TcpStream::connect(admin.address).await.unwrap();
            scrape
                .write_all(b"GET /metrics HTTP/1.0\r\n\r\n")
                .await
                .unwrap();
            scrapes.push(scrape);
        }
        let mut askers = Vec::new();
        asked.recv_many(&mut askers, ASKING).await;
        for path in ["/livez", "/readyz"] {
            let page = admin.request("GET", path).await;
            assert!(page.starts_with("HTTP/1.1 "), "{page}");
        }
        tokio::task::yield_now().await;
        let last = scrapes.pop().unwrap();
        is_before |=
            matches!(last.try_read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock);
        let page = rest(last).await;
        assert!(page.contains("/1.0 200 OK\r\n"), "{page}");
        assert!(!page.contains("portway_predecessor_connections"), "{page}");
        if is_before {
            break;
        }
    }
    assert!(is_before);
    drop(asked);
    let page = admin.request("GET", "/metrics").await;
    assert!(
        page.contains("\nportway_predecessor_connections 0\n"),
        "{page}"
    );
}

#[tokio::test]
async fn a_page_has_the_figures_of_the_predecessor_unless_they_are_broken() {
    let admin = start().await;
    let predecessor = Registry::new();
    predecessor.listener("agents").accepted.add(3);
    let whole = predecessor.render();
    let broken = whole.replace("} 3\n", "} three\n");
    for (answer, has_figures) in [(whole.as_str(), true), (&broken, false), ("", false)] {
        let (questions, mut asked) = tokio::sync::mpsc::unbounded_channel();
        admin.state.succeed(Some(questions));
        let predecessor = async {
            let question: oneshot::Sender<Bytes> = asked.recv().await.unwrap();
            question.send(Bytes::from(answer.to_owned())).unwrap();
        };
        let (page, ()) = tokio::join!(admin.request("GET", "/metrics"), predecessor);
        let line =
            "\nportway_connections_accepted_total{listener=\"agents\",process=\"predecessor\"} 3\n";
        assert_eq!(page.contains(line), has_figures, "{page}");
        let line = "\nportway_predecessor_connections 3\n";
        assert_eq!(page.contains(line), has_figures, "{page}");
    }
}

/// The limit is the process's own.
#[tokio::test]
async fn pages_are_served_when_no_descriptor_is_left() {
    if !alone("admin::tests::pages_are_served_when_no_descriptor_is_left") {
        return;
    }
    let admin = start().await;
    // The first answer shows that the server is up and holds its reserve.
    assert!(admin.request("GET", "/livez").await.contains(" 200 "));
    let clients = [(); 3].map(|()| TcpSocket::new_v4().unwrap());
    let strangers = [(); 3].map(|()| TcpSocket::new_v4().unwrap());
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
    let mut silent = Vec::new();
    for (client, stranger) in clients.into_iter().zip(strangers) {
        // It takes the reserve and asks for nothing.
        silent.push(stranger.connect(admin.address).await.unwrap());
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

/// The state of a relay with these workers, and a configuration.
fn adopted(workers: &[Mailbox]) -> State {
    let state = state_with(&Registry::new(), workers.into());
    state.adopt(Current {
        snapshot: empty(),
        addresses: Vec::new(),
        file: None,
        hash: 0,
        loaded: std::time::SystemTime::now(),
        pages: StatusPages {
            clients: ["127.0.0.0/8".parse().unwrap()].into_iter().collect(),
            hosts: Vec::new(),
        },
    });
    state
}

/// Asks for the refusals and the connections of a relay with these workers.
async fn looked(workers: &[Mailbox]) -> [usize; 2] {
    let state = adopted(workers);
    let status = state.status().await.unwrap();
    let connections = state.connections(Query::default()).await.unwrap();
    [status.silent_workers, connections.silent_workers]
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_does_not_answer_or_has_ended_is_counted_and_delays_by_a_second() {
    let (silent, mut mail) = Mailbox::new();
    let (ended, _) = Mailbox::new();
    let begin = tokio::time::Instant::now();
    assert_eq!(looked(&[]).await, [0, 0]);
    assert_eq!(looked(&[ended]).await, [1, 1]);
    assert_eq!(begin.elapsed(), Duration::ZERO);
    assert_eq!(looked(&[silent]).await, [1, 1]);
    assert!(begin.elapsed() < Duration::from_secs(3));
    // It got both questions.
    assert!(mail.recv().await.is_some() && mail.recv().await.is_some());
}

#[tokio::test(start_paused = true)]
async fn the_page_waits_a_second_for_a_worker_and_says_what_it_does_not_know() {
    let (silent, mut mail) = Mailbox::new();
    let state = adopted(&[silent]);
    let request = Request::builder().uri("/").header("host", "127.0.0.1");
    let request = request.body(()).unwrap();
    let begin = tokio::time::Instant::now();
    let page = state.answer(&request, CLIENT, Reply::Nobody, Instant::now());
    let page = page.await;
    // Both looks ask it at the same time.
    assert_eq!(begin.elapsed().as_secs(), 1);
    assert!(mail.recv().await.is_some() && mail.recv().await.is_some());
    assert_eq!(page.status(), StatusCode::OK);
    let page = page.into_body().collect().await.unwrap().to_bytes();
    let page = String::from_utf8(page.into()).unwrap();
    let sentence = "1 worker did not answer within a second, so";
    assert_eq!(page.matches(sentence).count(), 2, "{page}");
    let place = "portway has 0.</p><p class=\"bad\">1 worker did not answer";
    assert!(page.contains(place), "{page}");
}

#[test]
fn a_look_keeps_its_turn_for_the_work_that_its_client_has_left() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .max_blocking_threads(1)
        .build()
        .unwrap();
    runtime.block_on(async {
        let state = adopted(&[]);
        let (release, held) = std::sync::mpsc::channel::<()>();
        // The work of the look waits for the only thread.
        let holder = tokio::task::spawn_blocking(move || held.recv());
        let mut look = Box::pin(state.status());
        let is_pending =
            std::future::poll_fn(|context| Poll::Ready(look.as_mut().poll(context).is_pending()));
        assert!(is_pending.await);
        drop(look);
        let later = async {
            tokio::task::yield_now().await;
            tokio::time::advance(Duration::from_secs(6)).await;
            // The clock stands while the thread is in use, so that the time limit of a look that is not refused needs this.
            tokio::task::yield_now().await;
            tokio::time::advance(LONG).await;
        };
        let (next, ()) = tokio::join!(timeout(LONG, state.status()), later);
        assert_eq!(next.unwrap().unwrap_err(), NoAnswer::Busy);
        drop(release);
        assert!(holder.await.unwrap().is_err());
        assert!(state.status().await.is_ok());
    });
}

#[tokio::test(start_paused = true)]
async fn a_look_waits_for_the_one_before_it_and_too_many_are_refused() {
    let (silent, mut mail) = Mailbox::new();
    let state = Arc::new(state_with(&Registry::new(), [silent].into()));
    let look = || {
        let state = Arc::clone(&state);
        tokio::spawn(async move { state.connections(Query::default()).await })
    };
    let looks: Vec<_> = (0..8).map(|_| look()).collect();
    let mut results = Vec::new();
    for look in looks {
        results.push(look.await.unwrap().map(|it| it.silent_workers));
    }
    // Each takes a second, and waits for five at most.
    let refused = results.iter().filter(|it| **it == Err(NoAnswer::Busy));
    assert!((1..=3).contains(&refused.count()), "{results:?}");
    assert_eq!(results[0], Ok(1));
    let mut asked = 0;
    while mail.try_recv().is_ok() {
        asked += 1;
    }
    assert!((5..=7).contains(&asked), "{asked}");
}
