//! Tests that must look inside: a connection whose task panics, and the state of a live connection.

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::TcpStream;
use std::rc::Weak;
use std::time::Duration;

use socket2::SockRef;
use tokio::runtime::{Builder, LocalOptions};
use tokio::time::timeout;

use super::*;
use crate::admission::{Machine, Quotas};
use crate::net::{self, Figures};
use crate::routing::{NetworkSet, Table};
use crate::snapshot::{HelloLimits, Listener, ListenerId, Snapshot};
use crate::telemetry::lines::Lines;
use crate::telemetry::{Form, Format, LogRules};
use crate::wire::ListenerProtocol;

fn snapshot(listener: Listener) -> Snapshot {
    Snapshot {
        generation: 1,
        hello: HelloLimits {
            timeout: Duration::from_secs(10),
            max_size: 1 << 16,
        },
        listeners: vec![listener],
        addresses: HashMap::new(),
        backends: Vec::new(),
        routes: Table::default(),
        route_connections: Vec::new(),
    }
}

/// A worker without backends or routes, and the snapshot that a connection gets there.
pub(crate) fn context() -> (Context, Taken) {
    let registry = Registry::new();
    let listener = Listener {
        name: "agents".into(),
        protocol: ListenerProtocol::Tls,
        balancers: NetworkSet::default(),
        clients: crate::admission::Networks::default(),
        gate: None,
        stats: registry.listener("agents"),
        endings: registry.endings("agents", None),
        backend_endings: HashMap::new(),
    };
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
    let lines = Lines::start(Box::new(io::sink()), "log", registry.lines_dropped()).unwrap();
    let taken = Taken {
        snapshot: Arc::new(snapshot(listener)),
        listener: ListenerId(0),
        port: 443,
    };
    let context = Context {
        admission: Arc::new(Admission::new(&quotas, machine)),
        log: Arc::new(ConnectionLog::new(
            lines,
            Form::always(Format::Json),
            LogRules::default(),
            Arc::clone(&registry),
        )),
        registry,
        resources: Rc::new(Resources::new(1 << 16, Arc::default())),
        connections: RefCell::new(Slab::new()),
        in_force: RefCell::default(),
        leaving: RefCell::default(),
        refusals: RefCell::default(),
        due: Due::default(),
        ids: Cell::new(0),
        cut: Cell::new(false),
    };
    (context, taken)
}

/// Runs a test on this thread, for a minute at most.
pub(crate) fn local(test: impl Future<Output = ()>) {
    let mut builder = Builder::new_current_thread();
    let runtime = builder.enable_all().build_local(LocalOptions::default());
    runtime.unwrap().block_on(async {
        timeout(Duration::from_mins(1), test).await.unwrap();
    });
}

fn listening() -> (net::Listening, std::net::SocketAddr) {
    let socket = net::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = net::local_address(&socket).unwrap();
    (net::Listening::register(Arc::new(socket)).unwrap(), address)
}

#[test]
fn f29_and_invariant_3_a_task_that_panics_is_counted_once_and_ends_alone() {
    local(async {
        let (context, taken) = context();
        let context = Rc::new(context);
        let (listening, address) = listening();

        let _first = TcpStream::connect(address).unwrap();
        let accepted = listening.accept().await.unwrap();
        let (panicking, its) = (Rc::clone(&context), taken.clone());
        let panicked = tokio::task::spawn_local(async move {
            let _record = Record::open(panicking, &accepted, its);
            panic!("a fault of ours");
        });
        assert!(panicked.await.unwrap_err().is_panic());

        // The next connection is served: a probe.
        let peer = TcpStream::connect(address).unwrap();
        SockRef::from(&peer)
            .shutdown(std::net::Shutdown::Write)
            .unwrap();
        serve(
            Rc::clone(&context),
            listening.accept().await.unwrap(),
            taken.clone(),
            (),
        )
        .await;

        let page = context.registry.render();
        let line = |outcome| {
            format!(
                "portway_connections_closed_total{{listener=\"agents\",backend=\"-\",\
                 outcome=\"{outcome}\"}} 1\n"
            )
        };
        assert!(
            page.contains(&line("error")) && page.contains(&line("probe")),
            "{page}"
        );
        assert!(page.contains("portway_connections_accepted_total{listener=\"agents\"} 2\n"));
        assert!(page.contains("portway_connections_active{listener=\"agents\"} 0\n"));
        assert!(context.connections.borrow().is_empty());
    });
}

#[test]
fn invariant_5_the_future_of_an_idle_connection_stays_small() {
    local(async {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let accepted = Accepted {
            client: socket.local_addr().unwrap(),
            socket: socket.into(),
            at: Instant::now(),
        };
        let (context, taken) = context();
        let size = size_of_val(&serve(Rc::new(context), accepted, taken, ()));
        // With the header and the trailer of its task that is 256, which must be a multiple of 128.
        assert!(size <= 144, "{size} bytes");
        // 320 with the counts of its `Rc`: a size class of allocators.
        let size = size_of::<Connection>();
        assert!(size <= 304, "{size} bytes");
    });
}

#[test]
fn a_connection_that_arrives_after_the_end_of_a_drain_is_cut_and_counted() {
    local(async {
        let (context, taken) = context();
        let context = Rc::new(context);
        let (listening, address) = listening();
        context.cut();

        let _silent = TcpStream::connect(address).unwrap();
        serve(
            Rc::clone(&context),
            listening.accept().await.unwrap(),
            taken.clone(),
            (),
        )
        .await;

        let drained = "portway_connections_closed_total{listener=\"agents\",backend=\"-\",\
                       outcome=\"drained\"} 1\n";
        assert!(context.registry.render().contains(drained));
    });
}

/// The connection of a client that has sent these bytes, as the worker sees it, and its task.
async fn told(
    context: &Rc<Context>,
    taken: &Taken,
    words: &[u8],
) -> (TcpStream, Weak<Connection>, tokio::task::JoinHandle<()>) {
    let (listening, address) = listening();
    let mut client = TcpStream::connect(address).unwrap();
    let accepted = listening.accept().await.unwrap();
    let task = serve(Rc::clone(context), accepted, taken.clone(), ());
    let task = tokio::task::spawn_local(task);
    client.write_all(words).unwrap();
    let connection = loop {
        tokio::task::yield_now().await;
        let connection = {
            let connections = context.connections.borrow();
            connections.iter().next().map(|(_, one)| Rc::downgrade(one))
        };
        let has_come = |one: &Rc<Connection>| {
            let mut bytes = None;
            one.tell(<[Figures; 2]>::default(), |line| bytes = line.hello_bytes);
            bytes == Some(words.len())
        };
        if let Some(connection) = connection
            && connection.upgrade().is_some_and(|one| has_come(&one))
        {
            break connection;
        }
    };
    (client, connection, task)
}

#[test]
fn the_state_of_a_live_connection_can_be_told_beside_its_task_and_again() {
    local(async {
        let (context, taken) = context();
        let context = Rc::new(context);
        let begun = b"\x16\x03\x01\x02\x00";
        let (client, connection, _task) = told(&context, &taken, begun).await;
        let connection = connection.upgrade().unwrap();
        for _ in 0..2 {
            connection.tell(<[Figures; 2]>::default(), |line| {
                assert_eq!(line.client, client.local_addr().unwrap());
                assert_eq!(line.listener, "agents");
                assert_eq!(line.hello_expected, Some(9));
                assert_eq!(line.route, None);
            });
        }
    });
}

#[test]
fn a_drain_that_waits_with_a_connection_keeps_nothing_of_it_when_it_ends() {
    local(async {
        let (context, taken) = context();
        let context = Rc::new(context);
        let (client, connection, task) = told(&context, &taken, b"\x16\x03\x01").await;
        assert_eq!(context.admission.connections(), 1);
        drop(client);
        task.await.unwrap();
        assert_eq!(context.admission.connections(), 0);
        assert!(connection.upgrade().is_none());
    });
}
