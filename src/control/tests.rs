//! What control does while something hangs. Each step of a reload waits at a gate of the test.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};

use tokio::runtime::{Builder, LocalOptions};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::routing::Table;
use crate::snapshot::{AddressId, HelloLimits, Snapshot};
use crate::telemetry::lines::Lines;
use crate::telemetry::{Format, Logged};
use crate::worker::Message;

const DRAIN: drain::Limits = drain::Limits {
    delay: Duration::ZERO,
    timeout: Duration::from_secs(5),
};

/// A place where a thread of a reload waits until the test lets it go on.
struct Gate {
    come: AtomicUsize,
    open: Sender<()>,
    opened: Mutex<Receiver<()>>,
}

impl Default for Gate {
    fn default() -> Self {
        let (open, opened) = channel();
        Self {
            come: AtomicUsize::new(0),
            open,
            opened: Mutex::new(opened),
        }
    }
}

impl Gate {
    fn pass(&self) {
        self.come.fetch_add(1, Ordering::SeqCst);
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        _ = opened.recv();
    }

    fn open(&self) {
        self.open.send(()).unwrap();
    }

    async fn has_come(&self, count: usize) {
        while self.come.load(Ordering::SeqCst) < count {
            tokio::task::yield_now().await;
        }
    }
}

fn change(generation: u64, opened: Vec<Bound>) -> Change {
    let addresses = opened.iter().map(|bound| (bound.id, 0));
    let addresses = addresses.collect();
    Change {
        snapshot: Arc::new(Snapshot {
            generation,
            hello: HelloLimits {
                timeout: Duration::from_secs(1),
                max_size: 1024,
            },
            listeners: Vec::new(),
            addresses,
            backends: Vec::new(),
            routes: Table::default(),
            route_connections: Vec::new(),
        }),
        opened,
        closed: HashSet::new(),
        drain: DRAIN,
        hash: 0,
    }
}

/// Control with one worker, which only does what it is told to.
struct Fixture {
    requests: Requests,
    control: JoinHandle<io::Result<Stopped>>,
    reading: Arc<Gate>,
    checking: Arc<Gate>,
    /// What becomes of a change that is made ready.
    preparing: Arc<Preparing>,
}

/// Puts a change in force, or rejects it for now, once its gate is open.
#[derive(Default)]
struct Preparing {
    rejects: AtomicBool,
    gate: Gate,
}

/// What is read each time waits at these gates on its way.
fn source(reading: &Arc<Gate>, checking: &Arc<Gate>, preparing: &Arc<Preparing>) -> Source {
    let (reading, checking) = (Arc::clone(reading), Arc::clone(checking));
    let preparing = Arc::clone(preparing);
    let generation = Arc::new(AtomicU64::new(1));
    Arc::new(move || {
        reading.pass();
        let (checking, preparing) = (Arc::clone(&checking), Arc::clone(&preparing));
        let generation = Arc::clone(&generation);
        Ok(Box::new(move || {
            checking.pass();
            Ok(Box::new(move || {
                if preparing.rejects.load(Ordering::SeqCst) {
                    preparing.gate.pass();
                    return Err(Rejected::for_now(None, "busy".to_owned()));
                }
                let next = 1 + generation.fetch_add(1, Ordering::SeqCst);
                Ok(change(next, Vec::new()))
            }) as Prepared)
        }) as Unchecked)
    })
}

impl Fixture {
    /// `stuck`: the worker does not answer that it listens.
    fn start(first: Change, stuck: bool) -> Self {
        let (requests, requested) = mpsc::unbounded_channel();
        let (reading, checking) = (Arc::<Gate>::default(), Arc::<Gate>::default());
        let preparing = Arc::<Preparing>::default();
        let source = source(&reading, &checking, &preparing);
        let (mailbox, mut mail) = Mailbox::new();
        let (end, ended) = oneshot::channel::<()>();
        spawn_local(async move {
            let _end = end;
            let mut kept = Vec::new();
            while let Some(message) = mail.recv().await {
                if matches!(message, Message::Close) {
                    return;
                }
                let Message::Listen { listens, .. } = message else {
                    continue;
                };
                if stuck {
                    kept.push(listens);
                } else {
                    listens.send(Ok(())).unwrap();
                }
            }
        });
        let registry = Registry::new();
        let lines = Lines::start(Box::new(io::sink()), "log", registry.lines_dropped()).unwrap();
        let log = ConnectionLog::new(lines, Format::Json, Logged::All, Arc::clone(&registry));
        let state = Arc::new(State::new(Arc::clone(&registry)));
        let plan = Plan {
            first,
            source,
            file: None,
            admin: None,
            mailboxes: [mailbox].into(),
            workers: vec![ended],
            loads: Arc::new(Loads::new(1)),
            unwanted: Vec::new(),
            registry,
            log: Arc::new(log),
            state,
            requests: requests.clone(),
            requested,
        };
        Self {
            requests,
            control: spawn_local(run(plan)),
            reading,
            checking,
            preparing,
        }
    }

    fn reload(&self) -> oneshot::Receiver<Reloaded> {
        let (asker, answer) = oneshot::channel();
        self.requests.send(Request::Reload(Some(asker))).unwrap();
        answer
    }

    /// Has the sockets, as long as the takeover lives.
    async fn take_over(&self) -> Takeover {
        let (answer, takeover) = oneshot::channel();
        self.requests.send(Request::Sockets(answer)).unwrap();
        takeover.await.unwrap()
    }

    async fn stop(self) -> Stopped {
        self.requests.send(Request::Stop).unwrap();
        self.control.await.unwrap().unwrap()
    }
}

fn local(test: impl Future<Output = ()>) {
    let mut builder = Builder::new_current_thread();
    let runtime = builder.enable_all().build_local(LocalOptions::default());
    let runtime = runtime.unwrap();
    runtime.block_on(async {
        timeout(Duration::from_mins(2), test).await.unwrap();
    });
    // Some threads wait at a gate.
    runtime.shutdown_background();
}

#[test]
fn a_stop_overtakes_a_reload_whose_file_cannot_be_read() {
    local(async {
        let fixture = Fixture::start(change(1, Vec::new()), false);
        let answer = fixture.reload();
        fixture.reading.has_come(1).await;
        assert_eq!(fixture.stop().await, Stopped::Drained);
        assert!(matches!(answer.await.unwrap(), Err(NotReloaded::NotNow(_))));
    });
}

#[test]
fn a_stop_overtakes_the_start() {
    local(async {
        let socket = crate::net::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let bound = Bound {
            id: AddressId(1),
            listener: "agents".into(),
            address: crate::net::local_address(&socket).unwrap(),
            sockets: vec![Arc::new(socket)],
        };
        let fixture = Fixture::start(change(1, vec![bound]), true);
        assert_eq!(fixture.stop().await, Stopped::Drained);
    });
}

#[test]
fn a_successor_is_given_the_sockets_while_a_file_is_checked() {
    local(async {
        let fixture = Fixture::start(change(1, Vec::new()), false);
        let reloaded = fixture.reload();
        fixture.reading.open();
        fixture.checking.has_come(1).await;
        let _takeover = fixture.take_over().await;
        assert!(matches!(
            reloaded.await.unwrap(),
            Err(NotReloaded::NotNow(_))
        ));
        assert_eq!(fixture.stop().await, Stopped::Drained);
    });
}

#[test]
fn the_content_that_is_read_last_wins_over_one_that_is_being_checked() {
    local(async {
        let fixture = Fixture::start(change(1, Vec::new()), false);
        let first = fixture.reload();
        fixture.reading.open();
        fixture.checking.has_come(1).await;
        let second = fixture.reload();
        fixture.reading.open();
        fixture.checking.has_come(2).await;
        // Not one more at once; it follows.
        let third = fixture.reload();
        fixture.checking.open();
        fixture.checking.open();
        fixture.reading.open();
        fixture.checking.open();
        for answer in [first, second, third] {
            assert_eq!(
                answer.await.unwrap().unwrap(),
                2,
                "one configuration, not three"
            );
        }
        assert_eq!(fixture.checking.come.load(Ordering::SeqCst), 3);
        assert_eq!(fixture.stop().await, Stopped::Drained);
    });
}

#[test]
fn only_reading_has_a_time_limit_and_what_hangs_is_read_once() {
    local(async {
        tokio::time::pause();
        let fixture = Fixture::start(change(1, Vec::new()), false);
        // Checking may take as long as it likes.
        let mut slow = fixture.reload();
        fixture.reading.open();
        fixture.checking.has_come(1).await;
        tokio::time::advance(Duration::from_mins(1)).await;
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        assert!(slow.try_recv().is_err(), "it has not been answered yet");
        fixture.checking.open();
        assert_eq!(slow.await.unwrap().unwrap(), 2);
        for _ in 0..3 {
            let mut hangs = fixture.reload();
            fixture.reading.has_come(2).await;
            let told = loop {
                if let Ok(told) = hangs.try_recv() {
                    break told;
                }
                tokio::time::advance(Duration::from_secs(1)).await;
            };
            let Err(NotReloaded::Rejected(why)) = told else {
                panic!("it has hung");
            };
            assert!(why.contains("could not be read within 5 s"), "{why}");
        }
        assert_eq!(fixture.reading.come.load(Ordering::SeqCst), 2);
        // Once the disk answers it is read anew.
        let answer = fixture.reload();
        fixture.reading.open();
        fixture.reading.open();
        fixture.checking.open();
        assert_eq!(answer.await.unwrap().unwrap(), 3);
        assert_eq!(fixture.stop().await, Stopped::Drained);
    });
}

#[test]
fn a_successor_that_waits_for_a_change_gets_the_sockets_if_the_change_is_rejected() {
    local(async {
        let fixture = Fixture::start(change(1, Vec::new()), false);
        fixture.preparing.rejects.store(true, Ordering::SeqCst);
        let rejected = fixture.reload();
        fixture.reading.open();
        fixture.checking.open();
        fixture.preparing.gate.has_come(1).await;
        let (answer, takeover) = oneshot::channel();
        fixture.requests.send(Request::Sockets(answer)).unwrap();
        tokio::task::yield_now().await;
        fixture.preparing.gate.open();
        assert!(matches!(
            rejected.await.unwrap(),
            Err(NotReloaded::Rejected(_))
        ));
        drop(takeover.await.unwrap());
        // And later changes are not refused.
        fixture.preparing.rejects.store(false, Ordering::SeqCst);
        let answer = fixture.reload();
        fixture.reading.open();
        fixture.checking.open();
        assert_eq!(answer.await.unwrap().unwrap(), 2);
        assert_eq!(fixture.stop().await, Stopped::Drained);
    });
}

#[test]
fn a_hangup_during_a_takeover_that_fails_is_heeded_by_one_retry_at_a_time() {
    local(async {
        tokio::time::pause();
        let fixture = Fixture::start(change(1, Vec::new()), false);
        fixture.preparing.rejects.store(true, Ordering::SeqCst);
        let takeover = fixture.take_over().await;
        for _ in 0..10 {
            fixture.requests.send(Request::Reload(None)).unwrap();
        }
        tokio::time::advance(Duration::from_mins(1)).await;
        assert_eq!(fixture.reading.come.load(Ordering::SeqCst), 0);
        drop(takeover);
        for round in 1..=5 {
            // Timers count in milliseconds.
            tokio::time::advance(watch::RETRY + Duration::from_millis(10)).await;
            fixture.reading.has_come(round).await;
            fixture.reading.open();
            fixture.checking.open();
            fixture.preparing.gate.has_come(round).await;
            fixture.preparing.gate.open();
            // Nobody has the sockets before the change has been rejected.
            drop(fixture.take_over().await);
        }
        assert_eq!(fixture.reading.come.load(Ordering::SeqCst), 5);
        fixture.preparing.rejects.store(false, Ordering::SeqCst);
        assert_eq!(fixture.stop().await, Stopped::Drained);
    });
}
