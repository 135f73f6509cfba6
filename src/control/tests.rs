//! Tests what control does while something hangs. Each step of a reload waits at a gate of the test.

use std::fs;
use std::net::TcpListener as StdListener;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};

use tempfile::TempDir;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::change::ChangeBuilder;
use super::inherited::Inherited;
use super::*;
use crate::admin::Relay;
use crate::admission::{Admission, Machine};
use crate::config;
use crate::telemetry::lines::Lines;
use crate::telemetry::{Form, Format, LogRules};
use crate::worker::Message;

/// A routes.toml with a listener at an address that the kernel chooses, and at these addresses.
fn text(more: &[SocketAddr]) -> String {
    let more = more.iter().map(|address| format!(", \"{address}\""));
    let more: String = more.collect();
    format!(
        "admin.bind = false\nlimits.drain_timeout = \"5s\"\n\
         listeners.agents.bind = [\"127.0.0.1:0\"{more}]\n\
         backends.fleet.endpoints = [\"127.0.0.1:1\"]\n\
         routes.fleet = {{ backend = \"fleet\", server_names = [\"fleet.example\"] }}\n"
    )
}

/// A place where a thread of a reload waits until the test lets it go on.
pub(super) struct Gate {
    is_shut: AtomicBool,
    come: AtomicUsize,
    open: Sender<()>,
    opened: Mutex<Receiver<()>>,
}

impl Gate {
    fn new(is_shut: bool) -> Self {
        let (open, opened) = channel();
        Self {
            is_shut: AtomicBool::new(is_shut),
            come: AtomicUsize::new(0),
            open,
            opened: Mutex::new(opened),
        }
    }
}

impl Gate {
    pub(super) fn pass(&self) {
        if !self.is_shut.load(Ordering::SeqCst) {
            return;
        }
        self.come.fetch_add(1, Ordering::SeqCst);
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        _ = opened.recv();
    }

    fn shut(&self, is_shut: bool) {
        self.is_shut.store(is_shut, Ordering::SeqCst);
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

/// The gates at which the steps of a reload wait.
pub(super) struct StepGates {
    pub(super) reading: Gate,
    pub(super) checking: Gate,
    pub(super) preparing: Gate,
}

impl Default for StepGates {
    fn default() -> Self {
        Self {
            reading: Gate::new(true),
            checking: Gate::new(true),
            preparing: Gate::new(false),
        }
    }
}

/// Control with one worker, which only follows its messages.
struct Fixture {
    requests: Requests,
    control: JoinHandle<io::Result<Stopped>>,
    gates: Arc<StepGates>,
    registry: Arc<Registry>,
    directory: TempDir,
}

/// A worker. If it is stuck, it does not answer that it listens.
async fn work(mut mail: mpsc::UnboundedReceiver<Message>, _end: oneshot::Sender<()>, stuck: bool) {
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
}

/// A control that does not run yet, how to reach it, and the directory of its file. If `stuck`, the worker does not
/// answer that it listens.
pub(super) fn control(stuck: bool) -> (Control, Requests, TempDir) {
    let (requests, requested) = mpsc::unbounded_channel();
    let directory = tempfile::tempdir().unwrap();
    let (mailbox, mail) = Mailbox::new();
    let (end, ended) = oneshot::channel::<()>();
    spawn_local(work(mail, end, stuck));
    let registry = Registry::new();
    let lines = Lines::start(Box::new(io::sink()), "log", registry.lines_dropped()).unwrap();
    let log = ConnectionLog::new(
        lines,
        Form::always(Format::Json),
        LogRules::default(),
        Arc::clone(&registry),
    );
    let log = Arc::new(log);
    let settings = config::parse(&text(&[]), "routes.toml").unwrap().settings;
    let admission = Admission::new(&settings.limits, Machine::read());
    let admission = Arc::new(admission);
    let mailboxes: Arc<[Mailbox]> = [mailbox].into();
    let state = Arc::new(State::new(Relay {
        registry: Arc::clone(&registry),
        admission: Arc::clone(&admission),
        mailboxes: Arc::clone(&mailboxes),
    }));
    let (metrics, lines) = (Arc::clone(&registry), Arc::clone(&log));
    let mut builder = ChangeBuilder::new(&settings, 1, admission, metrics, lines);
    let first = builder.change(
        settings,
        config::Source::default(),
        &mut Inherited::default(),
    );
    let control = Control::start(Setup {
        first: first.unwrap(),
        builder,
        file: Some(File {
            program: None,
            path: directory.path().join("routes.toml"),
            watch: false,
            giver: None,
        }),
        admin: None,
        mailboxes,
        workers: vec![ended],
        loads: Arc::new(Loads::new(1)),
        unwanted: Vec::new(),
        registry,
        log,
        state,
        requests: requests.clone(),
        requested,
    })
    .unwrap();
    (control, requests, directory)
}

impl Fixture {
    /// Starts control.
    fn start(stuck: bool) -> Self {
        let (mut control, requests, directory) = control(stuck);
        let fixture = Self {
            requests,
            gates: Arc::clone(&control.reload.steps.gates),
            registry: Arc::clone(&control.registry),
            control: spawn_local(async move { control.run().await }),
            directory,
        };
        fixture.write(&[]);
        fixture
    }

    /// Writes a file that binds these addresses too.
    fn write(&self, more: &[SocketAddr]) {
        fs::write(self.directory.path().join("routes.toml"), text(more)).unwrap();
    }

    fn reload(&self) -> oneshot::Receiver<Reloaded> {
        let (asker, answer) = oneshot::channel();
        self.requests.send(Request::Reload(Some(asker))).unwrap();
        answer
    }

    /// Takes the sockets, for as long as the takeover lives.
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

pub(super) fn local(test: impl Future<Output = ()>) {
    let mut builder = Builder::new_current_thread();
    let runtime = builder.enable_all().build_local(LocalOptions::default());
    let runtime = runtime.unwrap();
    runtime.block_on(async {
        timeout(Duration::from_mins(2), test).await.unwrap();
    });
    // Some threads still wait at a gate, so do not wait for them.
    runtime.shutdown_background();
}

#[test]
fn a_vital_task_that_panics_ends_portway_also_after_a_takeover() {
    for is_succeeded in [false, true] {
        local(async {
            let fixture = Fixture::start(false);
            drop(fixture.take_over().await);
            spawn_local(
                fixture
                    .registry
                    .vital_task("tick", async { panic!("as if broken") }),
            );
            // This comes after the panic in the queue of the runtime.
            if is_succeeded {
                fixture.requests.send(Request::TakenOver(None)).unwrap();
            }
            let ended = fixture.control.await.unwrap();
            assert_eq!(ended.unwrap(), Stopped::Lost("tick"));
        });
    }
}

#[test]
fn a_stop_overtakes_a_reload_whose_file_cannot_be_read() {
    local(async {
        let fixture = Fixture::start(false);
        let answer = fixture.reload();
        fixture.gates.reading.has_come(1).await;
        assert_eq!(fixture.stop().await, Stopped::Drained);
        assert!(matches!(answer.await.unwrap(), Err(NotReloaded::NotNow(_))));
    });
}

#[test]
fn a_stop_overtakes_the_start() {
    local(async {
        let fixture = Fixture::start(true);
        assert_eq!(fixture.stop().await, Stopped::Drained);
    });
}

#[test]
fn a_successor_is_given_the_sockets_while_a_file_is_checked() {
    local(async {
        let fixture = Fixture::start(false);
        let reloaded = fixture.reload();
        fixture.gates.reading.open();
        fixture.gates.checking.has_come(1).await;
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
        let fixture = Fixture::start(false);
        let first = fixture.reload();
        fixture.gates.reading.open();
        fixture.gates.checking.has_come(1).await;
        let second = fixture.reload();
        fixture.gates.reading.open();
        fixture.gates.checking.has_come(2).await;
        // A third check does not run at once; it follows.
        let third = fixture.reload();
        fixture.gates.checking.open();
        fixture.gates.checking.open();
        fixture.gates.reading.open();
        fixture.gates.checking.open();
        for answer in [first, second, third] {
            assert_eq!(
                answer.await.unwrap().unwrap(),
                2,
                "one configuration, not three"
            );
        }
        assert_eq!(fixture.gates.checking.come.load(Ordering::SeqCst), 3);
        assert_eq!(fixture.stop().await, Stopped::Drained);
    });
}

#[test]
fn only_reading_has_a_time_limit_and_what_hangs_is_read_once() {
    local(async {
        tokio::time::pause();
        let fixture = Fixture::start(false);
        // Checking has no time limit.
        let mut slow = fixture.reload();
        fixture.gates.reading.open();
        fixture.gates.checking.has_come(1).await;
        tokio::time::advance(Duration::from_mins(1)).await;
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        assert!(slow.try_recv().is_err(), "answered before the check ended");
        fixture.gates.checking.open();
        assert_eq!(slow.await.unwrap().unwrap(), 2);
        for _ in 0..3 {
            let mut hangs = fixture.reload();
            fixture.gates.reading.has_come(2).await;
            let told = loop {
                if let Ok(told) = hangs.try_recv() {
                    break told;
                }
                tokio::time::advance(Duration::from_secs(1)).await;
            };
            let Err(NotReloaded::Rejected(why)) = told else {
                panic!("the read has hung");
            };
            assert!(why.contains("could not be read within 5 s"), "{why}");
        }
        assert_eq!(fixture.gates.reading.come.load(Ordering::SeqCst), 2);
        // Once the disk answers, the file is read anew.
        let answer = fixture.reload();
        fixture.gates.reading.open();
        fixture.gates.reading.open();
        fixture.gates.checking.open();
        assert_eq!(answer.await.unwrap().unwrap(), 3);
        assert_eq!(fixture.stop().await, Stopped::Drained);
    });
}

#[test]
fn a_successor_that_waits_for_a_change_gets_the_sockets_if_the_change_is_rejected() {
    local(async {
        let fixture = Fixture::start(false);
        let busy = StdListener::bind("127.0.0.1:0").unwrap();
        fixture.write(&[busy.local_addr().unwrap()]);
        fixture.gates.preparing.shut(true);
        let rejected = fixture.reload();
        fixture.gates.reading.open();
        fixture.gates.checking.open();
        fixture.gates.preparing.has_come(1).await;
        let (answer, takeover) = oneshot::channel();
        fixture.requests.send(Request::Sockets(answer)).unwrap();
        tokio::task::yield_now().await;
        fixture.gates.preparing.open();
        assert!(matches!(
            rejected.await.unwrap(),
            Err(NotReloaded::Rejected(_))
        ));
        drop(takeover.await.unwrap());
        // Later changes are not refused.
        fixture.write(&[]);
        fixture.gates.preparing.shut(false);
        let answer = fixture.reload();
        fixture.gates.reading.open();
        fixture.gates.checking.open();
        assert_eq!(answer.await.unwrap().unwrap(), 2);
        assert_eq!(fixture.stop().await, Stopped::Drained);
    });
}

#[test]
fn a_hangup_during_a_takeover_that_fails_is_heeded_by_one_retry_at_a_time() {
    local(async {
        tokio::time::pause();
        let fixture = Fixture::start(false);
        let busy = StdListener::bind("127.0.0.1:0").unwrap();
        fixture.write(&[busy.local_addr().unwrap()]);
        fixture.gates.preparing.shut(true);
        let takeover = fixture.take_over().await;
        for _ in 0..10 {
            fixture.requests.send(Request::Reload(None)).unwrap();
        }
        tokio::time::advance(Duration::from_mins(1)).await;
        assert_eq!(fixture.gates.reading.come.load(Ordering::SeqCst), 0);
        drop(takeover);
        for round in 1..=5 {
            // Timers count in milliseconds.
            tokio::time::advance(watch::RETRY + Duration::from_millis(10)).await;
            fixture.gates.reading.has_come(round).await;
            fixture.gates.reading.open();
            fixture.gates.checking.open();
            fixture.gates.preparing.has_come(round).await;
            fixture.gates.preparing.open();
            // No successor gets the sockets before the change has been rejected.
            drop(fixture.take_over().await);
        }
        assert_eq!(fixture.gates.reading.come.load(Ordering::SeqCst), 5);
        fixture.write(&[]);
        fixture.gates.preparing.shut(false);
        assert_eq!(fixture.stop().await, Stopped::Drained);
    });
}
