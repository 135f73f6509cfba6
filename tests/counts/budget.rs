//! System calls and wake-ups of a connection.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::fixture::{PATIENCE, config, hello, pause, within};
use super::peers::{Backend, End, connect, read_to_end};
use super::strace::{Call, Thread, Traced, is_missing, tally};

/// The cost of a short connection for its worker: name, calls per connection, reason. The hello comes in one
/// segment after the connection has been accepted, 1 KiB goes each way, and the client closes first.
const BUDGET: &[(&str, f64, &str)] = &[
    ("accept4", 2.0, "one takes it, one finds the queue empty"),
    ("close", 2.0, "both sockets"),
    ("connect", 1.0, "the backend"),
    ("epoll_ctl", 4.0, "each socket in once and out once"),
    (
        "epoll_wait",
        8.0,
        "arrival, client writable, hello, backend connected, 1 KiB each way, both ends",
    ),
    ("fcntl", CHECKED, "std checks a descriptor that it closes"),
    ("futex", 1.0, "wakes the thread of the log"),
    ("getsockname", 1.0, "backend_local of the log"),
    (
        "getsockopt",
        2.0,
        "round-trip time and retransmits of both paths, only for a line of the log",
    ),
    (
        "recvfrom",
        7.0,
        "a peek too early, a peek at the hello, the hello, 1 KiB each way, both ends",
    ),
    ("sendto", 3.0, "the hello, 1 KiB each way"),
    (
        "setsockopt",
        3.0,
        "the backend's: no delay, urgent bytes in line, no ACK before the hello",
    ),
    ("shutdown", 1.0, "passes the client's end on"),
    ("socket", 1.0, "the backend's"),
    // These happen now and then: ticks, and a heap that grows or shrinks.
    ("write", 0.0, "a tick"),
    ("brk", 0.0, "memory"),
    ("madvise", 0.0, "memory"),
    ("mmap", 0.0, "memory"),
    ("mprotect", 0.0, "memory"),
    ("munmap", 0.0, "memory"),
    (
        "openat",
        0.0,
        "memory: malloc asks for the policy of the kernel",
    ),
    ("read", 0.0, "memory: the answer"),
];

/// Calls that only a debug build makes.
const CHECKED: f64 = if cfg!(debug_assertions) { 2.0 } else { 0.0 };

const CONNECTIONS: usize = 50;
const WARM_UP: usize = 10;

#[test]
fn a_short_connection_costs_the_system_calls_of_its_budget() {
    if is_missing() {
        return;
    }
    let usual = Fleet::start().usual(&[], all);
    let mut faults = Vec::new();
    for (name, budget, why) in BUDGET {
        let seen = usual.get(*name).copied().unwrap_or_default();
        println!("{name:12} {seen:4}  {why}");
        // It is chance how often two threads contend for a lock.
        let locks = if *name == "futex" { 2.0 } else { 0.0 };
        if seen < budget - 0.1 || seen > budget + locks + 0.1 {
            faults.push(format!("{name}: {seen}, the budget is {budget}: {why}"));
        }
    }
    println!("{:12} {:4}", "in all", usual.values().sum::<f64>());
    for (name, seen) in &usual {
        if BUDGET.iter().all(|row| row.0 != name) {
            faults.push(format!("{name}: {seen}, not in the budget"));
        }
    }
    assert!(faults.is_empty(), "a connection usually has {faults:#?}");
}

fn all(calls: &[Call]) -> Vec<&Call> {
    calls.iter().collect()
}

/// Other threads write the log line, and contend for locks.
#[test]
fn a_short_connection_costs_other_threads_one_write_at_most() {
    if is_missing() {
        return;
    }
    let fleet = Fleet::start();
    let before = fleet.traced.calls();
    fleet.usual(&[], all);
    let log = fleet.traced.thread("portway-log");
    within(PATIENCE, "a write of the log", || {
        let writes = log.calls();
        let writes = writes.iter().filter(|call| call.name == "write").count();
        // Lines that come within milliseconds share one write.
        assert!(writes <= WARM_UP + CONNECTIONS, "{writes} writes");
        (writes > 0).then_some(())
    });
    let after = fleet.traced.calls();
    let (before, after) = (tally(&before), tally(&after));
    let grew = after.into_iter();
    let grew = grew.filter(|(name, count)| before.get(name) != Some(count));
    let known = |name: &str| BUDGET.iter().any(|row| row.0 == name);
    let unknown = grew.filter(|(name, _)| !known(name));
    assert_eq!(unknown.collect::<Vec<_>>(), []);
}

/// The second segment of a hello wakes the worker once. The low water mark is raised and lowered again.
#[test]
fn a_hello_in_two_segments_costs_one_wake_up_and_two_options_more() {
    if is_missing() {
        return;
    }
    let fleet = Fleet::start();
    let [one, two] = [&[][..], &[100]].map(|cuts| fleet.usual(cuts, until_dialled));
    let more = |name: &str| {
        let count = |calls: &BTreeMap<String, f64>| calls.get(name).copied().unwrap_or_default();
        count(&two) - count(&one)
    };
    let (wake_ups, options) = (more("epoll_wait"), more("setsockopt"));
    println!("wake-ups: {wake_ups} more, options: {options} more");
    assert!((wake_ups - 1.0).abs() < 0.1, "{one:?} and {two:?}");
    assert!((options - 2.0).abs() < 0.1, "{one:?} and {two:?}");
}

/// Wake-ups and options before the dial. Later ones are left out, because it is chance whether they share
/// a wake-up with the connect.
fn until_dialled(calls: &[Call]) -> Vec<&Call> {
    let counts = |call: &&Call| match call.name.as_str() {
        "epoll_wait" => call.result() > Some(0),
        name => name == "setsockopt",
    };
    let before = calls.iter().take_while(|call| call.name != "socket");
    before.filter(counts).collect()
}

/// Ticks cost the same, however many connections there are.
#[test]
fn idle_connections_cost_no_system_call() {
    const IDLE: usize = 200;
    if is_missing() {
        return;
    }
    let fleets = [Fleet::start(), Fleet::start()];
    let idle: Vec<_> = (0..IDLE).map(|_| fleets[1].establish(&[])).collect();
    // The first review of a connection sets options on its legs, once.
    pause(Duration::from_secs(3));
    let calls = || fleets.each_ref().map(|fleet| fleet.traced.calls().len());
    let before = calls();
    pause(Duration::from_secs(10));
    let after = calls();
    let [without, with] = [after[0] - before[0], after[1] - before[1]];
    println!(
        "{without} calls in 10 s, {with} with {} idle connections",
        idle.len()
    );
    assert!(with <= without + IDLE / 10, "{without} calls became {with}");
}

/// A portway with one worker, whose trace shows when it is done, and a backend that answers.
struct Fleet {
    traced: Traced,
    worker: Thread,
    _backend: Backend,
    /// The backend has received 1 KiB.
    received: Receiver<()>,
}

impl Fleet {
    /// Starts both, and warms portway up.
    fn start() -> Self {
        let (tell, received) = channel();
        let backend = Backend::start(move |mut stream| {
            stream.read_exact(&mut hello()).unwrap();
            stream.write_all(&super::answer()).unwrap();
            stream.read_exact(&mut [0; 1024]).unwrap();
            tell.send(()).unwrap();
            // Holds the connection until the client closes, in whatever way.
            drop(read_to_end(&mut stream));
        });
        let toml = format!("workers = 1\n{}", config(&[backend.address()], "", ""));
        let traced = Traced::start(&[], &toml);
        let fleet = Self {
            worker: traced.thread("portway-0"),
            traced,
            _backend: backend,
            received,
        };
        for _ in 0..WARM_UP {
            fleet.short(&[]);
        }
        fleet
    }

    /// How often the worker makes each call that is `of` interest for one connection: the lower quartile
    /// over many connections, one after the other. Ticks and locks only add calls, on a busy machine to
    /// many connections.
    fn usual(&self, cuts: &[usize], of: impl Fn(&[Call]) -> Vec<&Call>) -> BTreeMap<String, f64> {
        let mut counts: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        for _ in 0..CONNECTIONS {
            let from = self.worker.calls().len();
            self.short(cuts);
            let calls = self.worker.calls();
            for (name, count) in tally(of(&calls[from..])) {
                counts.entry(name.to_owned()).or_default().push(count);
            }
        }
        let quartile = |mut counts: Vec<u32>| {
            counts.resize(CONNECTIONS, 0);
            counts.sort_unstable();
            f64::from(counts[CONNECTIONS / 4])
        };
        let counts = counts.into_iter();
        counts
            .map(|(name, counts)| (name, quartile(counts)))
            .collect()
    }

    /// A connection whose hello is cut at these places. Before the next part comes, portway has looked at
    /// the last one and sleeps. Each step waits for the one before, so that none are merged by chance.
    fn establish(&self, cuts: &[usize]) -> TcpStream {
        let mut from = self.worker.calls().len();
        let mut client = connect(self.traced.portway.address("agents"));
        let accepted = |call: &Call| call.name == "accept4" && call.result() >= Some(0);
        self.worker.wait(from, "a connection is accepted", accepted);
        let hello = hello();
        let mut sent = 0;
        for cut in cuts {
            from = self.worker.calls().len();
            client.write_all(&hello[sent..*cut]).unwrap();
            sent = *cut;
            let peeked = |call: &Call| call.name == "recvfrom";
            self.worker.wait(from, "a peek at a part", peeked);
        }
        client.write_all(&hello[sent..]).unwrap();
        client.read_exact(&mut [0; 1024]).unwrap();
        client.write_all(&[0x17; 1024]).unwrap();
        self.received.recv_timeout(PATIENCE).unwrap();
        client
    }

    /// The same with an orderly end.
    fn short(&self, cuts: &[usize]) {
        let mut client = self.establish(cuts);
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_to_end(&mut client), (Vec::new(), End::Fin));
        let line = self.traced.portway.line_of(client.local_addr().unwrap());
        assert_eq!(line["outcome"], "closed", "{line}");
        self.worker.wait(0, "the worker sleeps", |_| true);
    }
}
