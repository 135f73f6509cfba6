//! Everything at once for a long time: afterwards nothing is left behind.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::chaos::{balanced, end_somewhere, unreliable};
use crate::it::fixture::{NAME, Over, PATIENCE, Portway, config, message, pause, route, within};
use crate::it::peers::{Backend, Refusing, free};
use crate::it::process::{kinds, raise_descriptors, resident};
use crate::it::random::{Random, count, seed};
use crate::it::transfers::arena::Arena;
use crate::it::transfers::plan::Plan;

/// Connections that hold still from one takeover to the next.
const IDLE: usize = 200;
/// Threads that make connections of every kind and end, one after the other.
const CHURN: u64 = 16;
/// The parts of the time; each of the first ones ends with a takeover.
const PARTS: u32 = 6;
/// Parts with a takeover behind them. The process of the last one serves the rest of the time.
const TAKEOVERS: u32 = 2;
/// A part of this length shows whether memory grows.
const LONG: Duration = Duration::from_mins(2);

/// The load and its results.
struct Load {
    address: SocketAddr,
    transfers: SocketAddr,
    seed: u64,
    is_over: AtomicBool,
    churned: AtomicU64,
    reloads: AtomicU64,
}

impl Load {
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    fn churn(&self, first: u64) {
        for id in (first..).step_by(usize::try_from(CHURN).unwrap()) {
            if self.is_over() {
                return;
            }
            end_somewhere(self.address, &mut Random::new(self.seed, id));
            self.churned.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Reloads the file of the process that serves now; its successors have the same file.
    fn reload(&self, portway: &Portway, files: &[String; 2]) {
        self.reloads.fetch_add(1, Ordering::SeqCst);
        let turn = self.reloads.load(Ordering::SeqCst) % 2;
        portway.reload_with(&files[usize::try_from(turn).unwrap()]);
    }
}

/// Serves for one part of the time, with reloads and scrapes. Returns the most memory that the process had.
fn serve(portway: &Portway, load: &Load, files: &[String; 2], time: Duration) -> u64 {
    let begin = Instant::now();
    let (mut memory, mut pages) = (0, 0);
    let idle: Vec<TcpStream> = (0..IDLE).map(|_| portway.client()).collect();
    while begin.elapsed() < time {
        load.reload(portway, files);
        pages += u64::from(balanced(&portway.metrics()).is_some());
        memory = memory.max(resident(portway.pid()));
        // Millions of lines would take gigabytes of the test's own memory.
        portway.connections.forget();
        pause(Duration::from_secs(1));
    }
    drop(idle);
    eprintln!("{pages} complete pages");
    memory
}

/// Two files to reload in turn, with these addresses: no reload may close a listener, which loses the clients that
/// connect at that moment, and they stay the same in each process.
fn files(file: String, bound: &[SocketAddr], refusing: &Refusing) -> [String; 2] {
    let fix =
        |file: String, address: &SocketAddr| file.replacen("127.0.0.1:0", &address.to_string(), 1);
    let file = bound.iter().fold(file, fix);
    let other = route("other", refusing.address(), "");
    [file.clone(), file + &other]
}

/// Serves the load for the whole time. Returns the processes that have been succeeded, the last one, and the memory of
/// each part.
fn run(
    mut portway: Portway,
    load: &Load,
    files: &[String; 2],
    arena: &Arena,
    time: Duration,
) -> (Vec<Portway>, Portway, Vec<u64>) {
    let (mut old, mut memory) = (Vec::new(), Vec::new());
    let (done, faults) = thread::scope(|scope| {
        for first in 0..CHURN {
            scope.spawn(move || load.churn(first));
        }
        let transfers = scope.spawn(|| arena.run_while(load.transfers, |_| !load.is_over()));
        let over = Over(&load.is_over);
        for part in 0..PARTS {
            memory.push(serve(&portway, load, files, time));
            if part < TAKEOVERS {
                let next = portway.start_beside(&["--takeover"]);
                within(PATIENCE, "the new process has the control socket", || {
                    next.reload().status.success().then_some(())
                });
                old.push(std::mem::replace(&mut portway, next));
            }
        }
        drop(over);
        transfers.join().unwrap()
    });
    assert!(faults.is_empty(), "{:#?}", &faults[..faults.len().min(5)]);
    eprintln!("{} transfers", done.len());
    (old, portway, memory)
}

/// How many bytes more the last third of the time needed than the second one.
fn growth(memory: &[u64]) -> u64 {
    let most = |parts: &[u64]| parts.iter().copied().max().unwrap();
    most(&memory[4..]).saturating_sub(most(&memory[2..4]))
}

/// The descriptors of a process that has started and serves nobody.
fn at_rest(portway: &Portway) -> BTreeMap<String, usize> {
    // It tells that it is ready before it has this one.
    within(PATIENCE, "it has the control socket", || {
        (portway.count("portway_control_socket_available") == 1).then_some(())
    });
    // The question itself has a descriptor for a moment longer.
    let mut last = kinds(portway.pid());
    within(PATIENCE, "the descriptors stay the same", || {
        pause(Duration::from_millis(200));
        let before = std::mem::replace(&mut last, kinds(portway.pid()));
        (before == last).then_some(before)
    })
}

/// `PORTWAY_SOAK` sets the seconds. `--nocapture` shows the memory, which is judged only if they are many.
#[test]
fn invariant_3_and_5_a_soak_with_reloads_and_takeovers_leaves_nothing_behind() {
    raise_descriptors();
    let time = Duration::from_secs(count("PORTWAY_SOAK", 12)) / PARTS;
    let seed = seed();
    let backend = Backend::start(move |stream| unreliable(stream, seed));
    let arena = Arena::new(seed, Plan::small);
    let refusing = Refusing::new();
    let file = config(&[backend.address()], "client_hello_timeout = \"1s\"", "")
        + &route("nobody", refusing.address(), "")
        + &format!(
            "[listeners.transfers]\nbind = [\"127.0.0.1:0\"]\n\
             [backends.arena]\nendpoints = [\"{}\"]\n\
             [routes.arena]\nserver_names = [\"{NAME}\"]\nbackend = \"arena\"\nlisteners = [\"transfers\"]\n",
            arena.backend.address()
        );
    let files = files(file, &[free(), free(), free()], &refusing);
    let portway = Portway::start(&files[0]);
    let begun_with = at_rest(&portway);
    let load = Load {
        address: portway.address("agents"),
        transfers: portway.address("transfers"),
        seed,
        is_over: AtomicBool::new(false),
        churned: AtomicU64::new(0),
        reloads: AtomicU64::new(0),
    };
    let (mut old, portway, memory) = run(portway, &load, &files, &arena, time);
    for predecessor in &mut old {
        let ended = |line: &serde_json::Value| message(line) == "the drain has ended";
        predecessor.program.wait(PATIENCE, ended);
        assert_eq!(predecessor.wait_exit().code(), Some(0));
    }
    within(PATIENCE, "nothing is active", || {
        balanced(&portway.metrics()).filter(|&active| active < 0.5)
    });
    // A pool keeps some pipes.
    within(PATIENCE, "the descriptors are back", || {
        let mut has = kinds(portway.pid());
        has.insert("pipe".to_owned(), begun_with["pipe"]);
        (has == begun_with).then_some(())
    });
    assert!(time < LONG || growth(&memory) < 2 << 20, "{memory:?}");
    let outcomes = portway.metrics().outcomes("agents");
    assert!(!outcomes.contains_key("error"), "{outcomes:?}");
    eprintln!(
        "{} connections that ended somehow, {} reloads; memory of each part: {memory:?}",
        load.churned.load(Ordering::SeqCst),
        load.reloads.load(Ordering::SeqCst),
    );
}
