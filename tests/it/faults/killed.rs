//! A DNS server or a backend that is killed under many clients, and comes back. `PORTWAY_CLIENTS` sets their number.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::it::fixture::{Over, PATIENCE, Portway, config, hello, message, pause, within};
use crate::it::peers::{Backend, Unanswering, connect, free, reset};
use crate::it::random::count;
use crate::it::resolver::server::{Reply, Server};

/// One client: how often it was served or refused, and its longest wait for either, in milliseconds.
#[derive(Default)]
struct Client {
    served: AtomicU64,
    refused: AtomicU64,
    longest: AtomicU64,
}

/// Clients that connect again and again, some 200 connections per second together.
struct Clients {
    all: Vec<Client>,
    are_over: AtomicBool,
}

impl Clients {
    /// Runs `test` while the clients do.
    fn run(portway: &Portway, test: impl FnOnce(&Self)) {
        let number = count("PORTWAY_CLIENTS", 200);
        let clients = Self {
            all: (0..number).map(|_| Client::default()).collect(),
            are_over: AtomicBool::new(false),
        };
        let address = portway.address("agents");
        thread::scope(|scope| {
            for (position, client) in (0..).zip(&clients.all) {
                let run = move |clients: &Self| {
                    pause(Duration::from_millis(5 * position));
                    while !clients.are_over.load(Ordering::SeqCst) {
                        client.connect(address);
                        pause(Duration::from_millis(5 * number));
                    }
                };
                let (build, clients) = (thread::Builder::new().stack_size(128 << 10), &clients);
                build.spawn_scoped(scope, move || run(clients)).unwrap();
            }
            let over = Over(&clients.are_over);
            test(&clients);
            drop(over);
        });
    }

    /// Waits until each of them has been served by connections that began after this call.
    fn are_served(&self) {
        self.wait("every client is served", |client| &client.served);
    }

    /// The same for a refusal.
    fn are_refused(&self) {
        self.wait("every client is refused", |client| &client.refused);
    }

    /// One that is counted next may have begun before.
    fn wait(&self, what: &str, counter: impl Fn(&Client) -> &AtomicU64) {
        let now = |client| counter(client).load(Ordering::SeqCst);
        let before: Vec<_> = self.all.iter().map(now).collect();
        within(PATIENCE, what, || {
            let mut both = self.all.iter().zip(&before);
            both.all(|(client, before)| now(client) >= before + 2)
                .then_some(())
        });
    }

    fn longest_wait(&self) -> Duration {
        let waits = self.all.iter().map(|it| it.longest.load(Ordering::SeqCst));
        Duration::from_millis(waits.max().unwrap())
    }

    fn sum(&self, counter: impl Fn(&Client) -> &AtomicU64) -> u64 {
        let counts = self.all.iter().map(|it| counter(it).load(Ordering::SeqCst));
        counts.sum()
    }

    /// For whoever runs it with another number.
    fn tell(&self, what: &str) {
        eprintln!(
            "{what}: {} clients, served {} times, refused {} times, longest wait {:?}",
            self.all.len(),
            self.sum(|it| &it.served),
            self.sum(|it| &it.refused),
            self.longest_wait(),
        );
    }
}

impl Client {
    fn connect(&self, address: SocketAddr) {
        let begun = Instant::now();
        let mut stream = connect(address);
        let mut first = [0];
        // A backend that is killed may take the connection with it after the hello.
        let ended = (stream.write_all(&hello())).and_then(|()| stream.read_exact(&mut first));
        let waited = u64::try_from(begun.elapsed().as_millis()).unwrap();
        self.longest.fetch_max(waited, Ordering::SeqCst);
        let is_served = ended.is_ok() && first[0] == hello()[0];
        let counter = if is_served {
            &self.served
        } else {
            &self.refused
        };
        counter.fetch_add(1, Ordering::SeqCst);
        reset(stream);
    }
}

#[test]
fn clients_are_served_while_the_dns_server_is_dead_and_its_answers_are_used_once_it_is_back() {
    let backend = Backend::echo();
    let port = backend.address().port();
    let moved = Backend::echo_at(SocketAddr::from(([127, 0, 0, 2], port)));
    let answer = |last| Reply::Addresses(vec![[127, 0, 0, last].into()], 0);
    let dns = Server::start();
    dns.set("es.test", answer(1));
    let keys = format!("{}\ndial_timeout = \"30s\"", dns.resolver());
    let toml = config(&[], "", &keys);
    let toml = toml.replace(
        "endpoints = []",
        &format!("endpoints = [\"es.test:{port}\"]"),
    );
    let portway = Portway::start(&toml);
    let labels = format!("{{backend=\"fleet\",endpoint=\"es.test:{port}\"}}");
    let resolved = || {
        portway.count(&format!(
            "portway_endpoint_resolved_timestamp_seconds{labels}"
        ))
    };
    Clients::run(&portway, |clients| {
        clients.are_served();
        let address = dns.address();
        drop(dns);
        let keeps = |line: &_| message(line).contains("stay in use");
        portway.program.wait(PATIENCE, keeps);
        let stale = resolved();
        clients.are_served();
        assert_eq!(resolved(), stale, "the last answer is as old as it was");
        let dns = Server::start_at(address);
        dns.set("es.test", answer(2));
        let again = |line: &_| message(line).contains("resolves again");
        portway.program.wait(PATIENCE, again);
        assert!(resolved() > stale);
        let before = moved.accepted();
        clients.are_served();
        assert!(moved.accepted() >= before + clients.all.len());
        assert_eq!(clients.sum(|it| &it.refused), 0);
        // Nobody waited for DNS, let alone as long as a dial may.
        assert!(clients.longest_wait() < Duration::from_secs(30));
        clients.tell("the DNS server killed");
    });
}

/// A backend whose connections end with it.
struct Mortal {
    backend: Backend,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Mortal {
    fn start_at(address: SocketAddr) -> Self {
        let open = Arc::new(Mutex::new(Vec::new()));
        let known = Arc::clone(&open);
        let backend = Backend::start_at(address, move |mut stream: TcpStream| {
            known.lock().unwrap().push(stream.try_clone().unwrap());
            let mut buffer = [0; 1024];
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                if stream.write_all(&buffer[..count]).is_err() {
                    break;
                }
            }
        });
        Self { backend, open }
    }

    fn kill(self) {
        drop(self.backend);
        for stream in self.open.lock().unwrap().drain(..) {
            // The client may have gone before.
            drop(stream.shutdown(Shutdown::Both));
        }
    }
}

/// Kills the backend, lets `meanwhile` run at its address, and starts it again.
fn kill_and_restart(what: &str, meanwhile: impl FnOnce(SocketAddr, &Clients)) {
    const DIAL_TIMEOUT: Duration = Duration::from_secs(3);
    let address = free();
    let backend = Mortal::start_at(address);
    let limits = "connect_timeout = \"2s\"\ndial_timeout = \"3s\"";
    let portway = Portway::start(&config(&[address], "", limits));
    Clients::run(&portway, |clients| {
        clients.are_served();
        backend.kill();
        meanwhile(address, clients);
        // The kernel may still have packets for the one before.
        let _backend = Mortal::start_at(address);
        clients.are_served();
        // Ten times as long as a dial may take.
        assert!(clients.longest_wait() < 10 * DIAL_TIMEOUT);
        clients.tell(what);
    });
    let outcomes = portway.metrics().outcomes("agents");
    let failed = outcomes["backend_unavailable"];
    assert!(failed > 0.5, "{outcomes:?}");
}

#[test]
fn clients_of_a_backend_that_is_killed_are_told_at_once_and_served_once_it_is_back() {
    kill_and_restart("a backend killed", |_, clients| clients.are_refused());
}

#[test]
fn clients_of_a_backend_that_is_gone_with_its_host_are_told_in_time_and_served_once_it_is_back() {
    kill_and_restart("a backend gone with its host", |address, clients| {
        let silent = Unanswering::at(address);
        clients.are_refused();
        drop(silent);
    });
}
