//! Many transfers at once, through any relay.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use super::judge;
use super::plan::{Ending, Plan};
use super::side::{self, Report};
use crate::it::fixture;
use crate::it::peers::{Backend, connect};

/// Transfers at a time.
const AT_ONCE: usize = 32;

/// A backend that knows the plans, with what it saw of each transfer.
pub(crate) struct Arena {
    plan: fn(u64, u64) -> Plan,
    seed: u64,
    pub(crate) backend: Backend,
    ledger: Arc<Ledger>,
}

/// A transfer that ended as it should.
#[derive(Debug)]
pub(crate) struct Done {
    pub(super) client: SocketAddr,
    pub(super) orderly: bool,
    /// Bytes from client to backend, including the hello, and back.
    pub(super) bytes: [u64; 2],
}

impl Arena {
    /// Creates an arena for the transfers that `plan` makes from the seed and their number.
    pub(crate) fn new(seed: u64, plan: fn(u64, u64) -> Plan) -> Self {
        Self::at((Ipv4Addr::LOCALHOST, 0).into(), seed, plan)
    }

    /// The same with its backend at this address.
    pub(super) fn at(address: SocketAddr, seed: u64, plan: fn(u64, u64) -> Plan) -> Self {
        let ledger = Arc::new(Ledger::default());
        let book = Arc::clone(&ledger);
        let backend = Backend::start_at(address, move |mut stream| {
            // A client that resets early may leave a connection without its hello.
            if let Some(id) = read_hello(&mut stream) {
                book.note(id, |entry| entry.arrived = true);
                let plan = plan(seed, id);
                let report = side::run(stream, &plan.backend, &plan.client);
                book.note(id, |entry| entry.report = Some(report));
            }
        });
        Self {
            plan,
            seed,
            backend,
            ledger,
        }
    }

    /// Runs transfers `0..count` through `relay`. Returns the good ones, and in words what was wrong.
    pub(super) fn run(&self, relay: SocketAddr, count: u64) -> (Vec<Done>, Vec<String>) {
        self.run_while(relay, |id| id < count)
    }

    /// The same, until no further transfer may begin.
    pub(crate) fn run_while(
        &self,
        relay: SocketAddr,
        may_begin: impl Fn(u64) -> bool + Sync,
    ) -> (Vec<Done>, Vec<String>) {
        let next = AtomicU64::new(0);
        let done = Mutex::new(Vec::new());
        let faults = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(|| {
                    loop {
                        let id = next.fetch_add(1, Ordering::Relaxed);
                        if !may_begin(id) {
                            return;
                        }
                        match self.transfer(relay, id) {
                            Ok(one) => done.lock().unwrap().push(one),
                            Err(text) => faults.lock().unwrap().push(text),
                        }
                    }
                });
            }
        });
        (done.into_inner().unwrap(), faults.into_inner().unwrap())
    }

    fn transfer(&self, relay: SocketAddr, id: u64) -> Result<Done, String> {
        let plan = (self.plan)(self.seed, id);
        let mut stream = connect(relay);
        let client = stream.local_addr().unwrap();
        let hello = hello(id);
        stream
            .write_all(&hello)
            .map_err(|error| format!("#{id}: hello: {error}"))?;
        if plan.client.end != Ending::Fin {
            // A RST that overtakes the dial leaves nothing to compare.
            self.ledger
                .wait(id, "arrives", |entry| entry.arrived.then_some(()))?;
        }
        let seen = side::run(stream, &plan.client, &plan.backend);
        let other = self.ledger.wait(id, "ends", |entry| entry.report.clone())?;
        let faults = judge::faults(&plan, &seen, &other);
        if faults.is_empty() {
            let sent = u64::try_from(hello.len()).unwrap() + plan.client.size;
            Ok(Done {
                client,
                orderly: plan.is_orderly(),
                bytes: [sent, plan.backend.size],
            })
        } else {
            Err(format!(
                "#{id}: {faults:?}\n  {plan:?}\n  client {seen:?}\n  backend {other:?}"
            ))
        }
    }
}

#[derive(Default)]
struct Entry {
    arrived: bool,
    report: Option<Report>,
}

#[derive(Default)]
struct Ledger {
    entries: Mutex<HashMap<u64, Entry>>,
    changed: Condvar,
}

impl Ledger {
    fn note(&self, id: u64, change: impl FnOnce(&mut Entry)) {
        change(self.entries.lock().unwrap().entry(id).or_default());
        self.changed.notify_all();
    }

    fn wait<T>(&self, id: u64, what: &str, ask: impl Fn(&Entry) -> Option<T>) -> Result<T, String> {
        let entries = self.entries.lock().unwrap();
        let missing = |entries: &mut HashMap<u64, Entry>| entries.get(&id).and_then(&ask).is_none();
        let patience = Duration::from_mins(1);
        let (entries, _) = self
            .changed
            .wait_timeout_while(entries, patience, missing)
            .unwrap();
        entries
            .get(&id)
            .and_then(&ask)
            .ok_or_else(|| format!("#{id}: never {what} at the backend"))
    }
}

/// A hello whose random begins with the number of the transfer.
fn hello(id: u64) -> Vec<u8> {
    let mut hello = fixture::hello();
    hello[RANDOM_AT..][..8].copy_from_slice(&id.to_be_bytes());
    hello
}

fn read_hello(stream: &mut TcpStream) -> Option<u64> {
    let mut hello = fixture::hello();
    stream.read_exact(&mut hello).ok()?;
    Some(u64::from_be_bytes(
        hello[RANDOM_AT..][..8].try_into().unwrap(),
    ))
}

/// Record header, handshake header, version.
const RANDOM_AT: usize = 5 + 4 + 2;
