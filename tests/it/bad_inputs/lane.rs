//! The running portways that all rows share, and the part of them that one row has to itself.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{LONG_NAME, Seen};
use crate::it::fixture::{PATIENCE, Portway, pause, within};
use crate::it::peers::{Backend, End, connect, digest, error_within, read_to_end};

/// Rows that run at the same time. Each has its own listener and backend, so that a row can assert
/// "by exactly one" and "no dial" while others run.
const LANES: usize = 4;

/// Ends with the last row that uses it, so that no process is left behind.
static WORLD: Mutex<Weak<World>> = Mutex::new(Weak::new());

struct World {
    /// Only named routes; one for each lane, because more than ten a second of an outcome share a line.
    strict: Vec<Portway>,
    /// Takes every name and connections without one. Bad hellos must be rejected here too (invariant 2).
    open: Portway,
    backends: Vec<Backend>,
    free: Mutex<Vec<usize>>,
    /// The times at which rejections with an outcome went to the `strict` of a lane.
    logged: Mutex<HashMap<(usize, String), Vec<Instant>>>,
}

/// A listener of each portway and the backend behind both.
pub(super) struct Lane {
    world: Arc<World>,
    index: usize,
}

impl Lane {
    pub(super) fn take() -> Self {
        let mut shared = WORLD.lock().unwrap_or_else(PoisonError::into_inner);
        let world = shared.upgrade().unwrap_or_else(|| {
            let world = Arc::new(World::start());
            *shared = Arc::downgrade(&world);
            world
        });
        drop(shared);
        let index = within(PATIENCE, "a free lane", || {
            world
                .free
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop()
        });
        Self { world, index }
    }

    /// The portway with named routes only.
    pub(super) fn strict(&self) -> Door<'_> {
        Door {
            portway: &self.world.strict[self.index],
            lane: self,
            logs: true,
        }
    }

    /// The portway that takes every name and connections without one.
    pub(super) fn open(&self) -> Door<'_> {
        Door {
            portway: &self.world.open,
            lane: self,
            logs: false,
        }
    }

    fn backend(&self) -> &Backend {
        &self.world.backends[self.index]
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.world
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(self.index);
    }
}

/// One listener of one portway.
pub(super) struct Door<'a> {
    portway: &'a Portway,
    lane: &'a Lane,
    logs: bool,
}

impl Door<'_> {
    pub(super) fn address(&self) -> SocketAddr {
        self.portway.address(&self.name())
    }

    fn name(&self) -> String {
        format!("l{}", self.lane.index)
    }

    /// Sends by `send`, and checks everything that a rejection promises. The log line, or null if it is not kept.
    pub(super) fn rejects(
        &self,
        send: impl FnOnce(&mut TcpStream),
        seen: Seen,
        outcome: &str,
    ) -> Value {
        self.rejected(send, seen, outcome).0
    }

    /// The same for a hello that does not come within its limit, which is three seconds.
    pub(super) fn times_out(&self, send: impl FnOnce(&mut TcpStream)) {
        let (_, took) = self.rejected(send, Seen::Fin, "hello_timeout");
        let about_its_limit = Duration::from_millis(2950)..Duration::from_secs(30);
        assert!(about_its_limit.contains(&took), "{took:?}");
    }

    /// Rejects, and tells the time from the connection to its end too.
    fn rejected(
        &self,
        send: impl FnOnce(&mut TcpStream),
        seen: Seen,
        outcome: &str,
    ) -> (Value, Duration) {
        self.await_turn(outcome);
        let dialled = self.lane.backend().accepted();
        let before = self.outcomes();
        let address = self.address();
        let begin = Instant::now();
        let mut client = connect(address);
        let address = client.local_addr().unwrap();
        send(&mut client);
        let (bytes, end) = read_to_end(&mut client);
        let took = begin.elapsed();
        seen.check(&bytes, end);
        if end == End::Fin {
            // Leaves time for a RST after the FIN: none may come.
            assert_eq!(
                error_within(&client, Duration::from_millis(10)),
                None,
                "RST after FIN"
            );
        }
        drop(client);
        self.counted_once(&before, outcome);
        assert_eq!(
            self.lane.backend().accepted(),
            dialled,
            "a rejected client caused a dial"
        );
        if !self.logs {
            return (Value::Null, took);
        }
        let line = self.line_of(address, outcome);
        assert!(line.to_string().len() < 2048, "unbounded: {line}");
        (line, took)
    }

    /// Opens a connection and ends it without a byte, which is counted and not logged.
    pub(super) fn counts_as_probe(&self, end: impl FnOnce(TcpStream)) {
        let before = self.outcomes();
        let client = connect(self.address());
        let address = client.local_addr().unwrap().to_string();
        end(client);
        self.counted_once(&before, "probe");
        assert!(
            self.portway
                .connections
                .find(|line| line["client"] == address.as_str())
                .is_none()
        );
    }

    /// Sends `segments`, closes, and checks that the backend got every byte. Returns the log line.
    pub(super) fn routes(&self, segments: &[&[u8]], apart: Duration) -> Value {
        let dialled = self.lane.backend().accepted();
        let before = self.outcomes();
        let mut client = connect(self.address());
        let address = client.local_addr().unwrap();
        for segment in segments {
            client.write_all(segment).unwrap();
            if !apart.is_zero() {
                pause(apart);
            }
        }
        client.shutdown(Shutdown::Write).unwrap();
        let sent = segments.concat();
        let answer = digest(&sent);
        let length = answer.len();
        let expected = (answer, End::Fin);
        assert_eq!(read_to_end(&mut client), expected, "the backend's answer");
        drop(client);
        self.counted_once(&before, "closed");
        assert_eq!(self.lane.backend().accepted(), dialled + 1);
        let line = self.line_of(address, "closed");
        assert_eq!(line["bytes_client_to_backend"], sent.len(), "{line}");
        assert_eq!(line["bytes_backend_to_client"], length, "{line}");
        line
    }

    /// Finds the line of a connection. The address alone is not enough, because another listener may see
    /// the same port again.
    fn line_of(&self, client: SocketAddr, outcome: &str) -> Value {
        let (client, listener) = (client.to_string(), self.name());
        self.portway.wait_line(|line| {
            line["client"] == client.as_str()
                && line["listener"] == listener.as_str()
                && line["outcome"] == outcome
        })
    }

    fn outcomes(&self) -> BTreeMap<String, f64> {
        self.portway.metrics().outcomes(&self.name())
    }

    /// Checks that nothing is left, and that exactly one outcome moved, by one.
    fn counted_once(&self, before: &BTreeMap<String, f64>, outcome: &str) {
        let listener = self.name();
        let mut expected = before.clone();
        *expected.entry(outcome.to_owned()).or_default() += 1.0;
        // Nothing is active either while the connection waits to be accepted.
        let outcomes = within(PATIENCE, "the connection is over", || {
            let metrics = self.portway.metrics();
            let active = metrics.sum("portway_connections_active", &[("listener", &listener)]);
            let outcomes = metrics.outcomes(&listener);
            (active.abs() < 0.5 && outcomes != *before).then_some(outcomes)
        });
        assert_eq!(outcomes, expected, "outcomes of {listener}");
    }

    fn await_turn(&self, outcome: &str) {
        if !self.logs {
            return;
        }
        within(PATIENCE, "a turn to be logged", || {
            let mut logged = self
                .lane
                .world
                .logged
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let key = (self.lane.index, outcome.to_owned());
            let times = logged.entry(key).or_default();
            times.retain(|time| time.elapsed() < Duration::from_secs(1));
            // One more that began before this second may be logged in it.
            (times.len() < 9).then(|| times.push(Instant::now()))
        });
    }
}

impl World {
    fn start() -> Self {
        let backends: Vec<_> = (0..LANES).map(|_| Backend::digesting()).collect();
        let named = format!(
            r#"["fleet.example", "*.wild.example", "fleet_1.example", "xn--bcher-kva.example",
                "123.example", "fallback.example", "{LONG_NAME}"]"#
        );
        let strict = |lane| format!("[routes.r{lane}]\nserver_names = {named}\n");
        let open = |lane| {
            format!(
                "[routes.r{lane}]\nserver_names = [\"**\"]\nlisteners = [\"l{lane}\"]\n\
                 backend = \"b{lane}\"\n\
                 [routes.n{lane}]\nno_server_name = true\n"
            )
        };
        Self {
            strict: (0..LANES)
                .map(|lane| Portway::start(&config(&backends, lane..=lane, strict)))
                .collect(),
            open: Portway::start(&config(&backends, 0..=LANES - 1, open)),
            backends,
            free: Mutex::new((0..LANES).collect()),
            logged: Mutex::default(),
        }
    }
}

/// A listener and a backend for each of the lanes; `routes` begins the lane's last route.
fn config(
    backends: &[Backend],
    lanes: RangeInclusive<usize>,
    routes: impl Fn(usize) -> String,
) -> String {
    let lanes = lanes.map(|lane| {
        let (address, routes) = (backends[lane].address(), routes(lane));
        format!(
            "[listeners.l{lane}]\nbind = [\"127.0.0.1:0\"]\n\
             [backends.b{lane}]\nendpoints = [\"{address}\"]\n\
             {routes}listeners = [\"l{lane}\"]\nbackend = \"b{lane}\"\n"
        )
    });
    let lanes: Vec<_> = lanes.collect();
    "admin.bind = \"127.0.0.1:0\"\nlimits.client_hello_timeout = \"3s\"\n".to_owned()
        + &lanes.concat()
}
