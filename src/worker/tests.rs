//! Tests that need access from inside: they make a task of the worker panic by holding what it needs.

use std::net::{SocketAddr, TcpStream};

use tokio::task::spawn_local;

use super::*;
use crate::conn::tests::{context, local};
use crate::net;
use crate::snapshot::{AddressId, ListenerId};
use crate::telemetry::Registry;

/// A worker that listens at an address, and what it needs for that.
struct Fixture {
    worker: Rc<Worker>,
    address: SocketAddr,
    registry: Arc<Registry>,
    _mailbox: Mailbox,
}

impl Fixture {
    async fn start() -> Self {
        let (context, taken) = context();
        let registry = Arc::clone(&context.registry);
        let (mailbox, mail) = Mailbox::new();
        let worker = Rc::new(Worker {
            position: 0,
            loads: Arc::new(Loads::new(1)),
            mailboxes: Vec::new().into(),
            context: Rc::new(context),
            connections: TaskTracker::new(),
            addresses: RefCell::default(),
            spread: RefCell::default(),
        });
        let (working, pulse) = (Rc::clone(&worker), registry.worker(0));
        spawn_local(async move { working.work(mail, &pulse).await });

        let socket = net::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = net::local_address(&socket).unwrap();
        let mut snapshot = Arc::into_inner(taken.snapshot).unwrap();
        let id = AddressId(1);
        snapshot
            .addresses
            .insert(id, (ListenerId(0), address.port()));
        mailbox.send(Message::Swap(Arc::new(snapshot)));
        let (listens, mut listening) = mpsc::unbounded_channel();
        mailbox.send(Message::Listen {
            address: id,
            socket: Arc::new(socket),
            listens,
        });
        listening.recv().await.unwrap().unwrap();
        Self {
            worker,
            address,
            registry,
            _mailbox: mailbox,
        }
    }
}

#[test]
fn an_accept_loop_that_panics_is_told() {
    local(async {
        let fixture = Fixture::start().await;
        let open = fixture.worker.addresses.borrow().open.clone();
        let _held: Vec<_> = open.iter().map(|one| one.taken.borrow_mut()).collect();
        let _client = TcpStream::connect(fixture.address).unwrap();
        assert_eq!(fixture.registry.vital().loss().await, "accept loop");
    });
}

#[test]
#[expect(
    clippy::await_holding_refcell_ref,
    reason = "holding it makes the tick panic"
)]
fn a_tick_that_panics_is_told() {
    local(async {
        let fixture = Fixture::start().await;
        let _held = fixture.worker.context.connections.borrow_mut();
        assert_eq!(fixture.registry.vital().loss().await, "tick");
    });
}

#[test]
#[expect(
    clippy::await_holding_refcell_ref,
    reason = "holding it makes the drain panic"
)]
fn a_drain_that_panics_is_told() {
    local(async {
        let fixture = Fixture::start().await;
        let over = Duration::from_mins(10);
        // The first tick passes before, and time passes only up to the next event: the first step of the drain.
        tokio::time::pause();
        tokio::time::sleep(TICK / 2).await;
        let _held = fixture.worker.context.connections.borrow_mut();
        fixture.worker.follow(Message::Spread { over });
        assert_eq!(fixture.registry.vital().loss().await, "drain");
    });
}
