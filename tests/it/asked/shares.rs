//! The shares of look-ups that clients have.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::*;
use crate::it::fixture::{Over, pause};
use crate::it::process;

#[test]
fn clients_that_ask_for_one_new_name_share_its_look_up() {
    let (dns, servers) = (Server::start(), two_servers());
    dns.set("one.es.test", Reply::Addresses(vec![ip("127.0.0.2")], 3600));
    let portway = Portway::start(&file(servers[0].address().port(), &dns, LOOPBACK));
    let begun = Instant::now();
    let clients: Vec<TcpStream> = (0..100).map(|_| ask(&portway, "one.es.test")).collect();
    for mut client in clients {
        await_echo(&mut client, "one.es.test");
    }
    assert_asked_once(&dns, begun);
}

#[test]
fn a_client_over_its_share_of_look_ups_is_refused_and_another_one_is_not() {
    let (dns, servers) = (Server::start(), two_servers());
    dns.lead("one.es.test", &["127.0.0.2"]);
    let hangs: Vec<String> = (0..8).map(|number| format!("h{number}.es.test")).collect();
    for name in &hangs {
        dns.set(name, Reply::Later);
    }
    let portway = Portway::start(&file(servers[0].address().port(), &dns, LOOPBACK));
    let held: Vec<TcpStream> = hangs.iter().map(|name| ask(&portway, name)).collect();
    within(PATIENCE, "all of them are looked up", || {
        hangs
            .iter()
            .all(|name| !dns.asked(name).is_empty())
            .then_some(())
    });
    let line = refused(&portway, "one.es.test");
    assert_eq!(line["outcome"], "rate_limited", "{line}");
    assert_eq!(line["alert"], 80, "{line}");
    let detail = line["detail"].as_str().unwrap();
    assert!(detail.contains("8 other names"), "{detail}");
    assert_eq!(dns.asked("one.es.test").len(), 0);
    // Those that ask for a name that is being looked up wait with the others.
    let mut waits = ask(&portway, &hangs[0]);
    let mut other = ask_from(&portway, "127.0.0.9", "one.es.test");
    await_echo(&mut other, "one.es.test");
    // A name that is known costs no share.
    drop(relayed(&portway, "one.es.test"));
    drop(held);
    dns.set(&hangs[0], Reply::Code(ResponseCode::NXDomain));
    assert_eq!(read_to_end(&mut waits), (ALERT_80.to_vec(), End::Fin));
    let count = limited(&portway);
    assert!((count - 1.0).abs() < 0.5, "{count}");
}

#[test]
fn a_client_that_invents_names_has_a_burst_of_them_looked_up_and_then_twenty_per_second() {
    const INVENTED: usize = 2000;
    let dns = Server::start();
    let portway = Portway::start(&file(9, &dns, LOOPBACK));
    let begun = Instant::now();
    let mut refused = Vec::new();
    for number in 0..INVENTED {
        refused.push(ask(&portway, &format!("invented{number}.es.test")));
        if refused.len() == 200 {
            refused.drain(..).for_each(await_end);
        }
    }
    refused.drain(..).for_each(await_end);
    let unresolved = within(PATIENCE, "all of them have ended", || {
        let (limited, unresolved) = (limited(&portway), ended(&portway, "backend_unresolved"));
        (limited + unresolved > 1999.5).then_some(unresolved)
    });
    let took = begun.elapsed();
    // A burst, and then 20 per second.
    let most = 110.0 + 21.0 * took.as_secs_f64();
    assert!(
        unresolved <= most,
        "{unresolved} names were looked up in {took:?}"
    );
}

const AGENTS: usize = 100;
/// Addresses that invent names. None of them has used up its own share: together they fill the queue.
const ATTACKERS: usize = 2000;
/// As many threads make their connections, and each has so many open: together more than the 1,040 that wait for their
/// look-up or have it.
const THREADS: usize = 4;
const OPEN: usize = 300;

/// Agents whose names are known reconnect, each at an address of its own, while others at many addresses invent names as
/// fast as they can. Nobody answers for those names, so the queue of look-ups is full.
#[test]
fn a_storm_of_invented_names_delays_no_agent_whose_name_is_known() {
    process::raise_descriptors();
    let (dns, servers) = (Server::start(), two_servers());
    dns.set_otherwise(Reply::Silence);
    // Those that are in the queue stay there.
    let keys = format!("{LOOPBACK}\ndial_timeout = \"100s\"");
    let portway = Portway::start(&file(servers[0].address().port(), &dns, &keys));
    let agents: Vec<Agent> = (0..AGENTS).map(Agent::new).collect();
    for agent in &agents {
        dns.lead(&agent.name, &["127.0.0.2"]);
        agent.connect(&portway);
    }
    let (storm, begun) = (Storm::default(), Instant::now());
    thread::scope(|scope| {
        // Also if this test fails: the scope waits for its threads.
        let ending = Over(&storm.is_over);
        for _ in 0..THREADS {
            scope.spawn(|| storm.rage(&portway));
        }
        let is_full = |line: &Value| {
            let detail = line["detail"].as_str().unwrap_or_default();
            detail.contains("too many names wait to be looked up")
        };
        portway.wait_line(is_full);
        let full_at = (Instant::now(), storm.invented(), limited(&portway));
        let reconnecting: Vec<_> = agents
            .iter()
            .map(|agent| scope.spawn(|| agent.reconnect(&portway, &storm)))
            .collect();
        // The look-up of a known name does not wait behind the others, which are in the queue all the time.
        let queries = |agent: &Agent| dns.asked(&agent.name).len();
        let before: Vec<usize> = agents.iter().map(queries).collect();
        within(
            PATIENCE,
            "the names of all agents are looked up again",
            || {
                let mut both = agents.iter().zip(&before);
                let are_again = both.all(|(agent, before)| queries(agent) > *before);
                (are_again && storm.invented() > full_at.1 + 5000).then_some(())
            },
        );
        let (took, names) = (full_at.0.elapsed(), storm.invented() - full_at.1);
        let refused = limited(&portway) - full_at.2;
        drop(ending);
        let results = reconnecting.into_iter().map(|it| it.join().unwrap());
        let (slowest, connections) = results.fold((Duration::ZERO, 0), |sum, one| {
            (sum.0.max(one.0), sum.1 + one.1)
        });
        let count = u32::try_from(names).unwrap();
        println!(
            "{names} invented names in {took:?}, {:.0} per second, of which {refused} were refused; {AGENTS} agents connected \
             {connections} times, the slowest in {slowest:?}",
            f64::from(count) / took.as_secs_f64()
        );
        // It was full to the end.
        assert!(refused > 1000.0, "{refused} of {names} were refused");
        assert!(slowest < Duration::from_secs(20), "{slowest:?}");
    });
    looked_up_in(&dns, begun.elapsed());
    within(PATIENCE, "the last connections have ended", || {
        (portway.metrics().sum("portway_endpoint_connections", &[]) < 0.5).then_some(())
    });
}

/// Sixteen invented names at most are looked up at once, and each look-up waits for seconds.
fn looked_up_in(dns: &Server, took: Duration) {
    let names = dns.all_asked();
    let count = names.iter().filter(|it| it.starts_with("invented")).count();
    let most = 16 * (2 + took.as_secs());
    assert!(count as u64 <= most, "{count} look-ups in {took:?}");
}

/// An agent at an address of its own, which asks for a name of its own.
struct Agent {
    name: String,
    address: String,
}

impl Agent {
    fn new(number: usize) -> Self {
        Self {
            name: format!("agent{number}.es.test"),
            address: format!("127.0.4.{}", number + 1),
        }
    }

    fn connect(&self, portway: &Portway) {
        let mut client = ask_from(portway, &self.address, &self.name);
        await_echo(&mut client, &self.name);
    }

    /// Connects again and again. Returns the longest time that it took, and how often it did.
    fn reconnect(&self, portway: &Portway, storm: &Storm) -> (Duration, usize) {
        let (mut slowest, mut count) = (Duration::ZERO, 0);
        while count == 0 || !storm.is_over.load(Ordering::Relaxed) {
            let begun = Instant::now();
            self.connect(portway);
            slowest = slowest.max(begun.elapsed());
            count += 1;
            pause(Duration::from_millis(100));
        }
        (slowest, count)
    }
}

/// Clients that invent names.
#[derive(Default)]
struct Storm {
    invented: AtomicUsize,
    is_over: AtomicBool,
}

impl Storm {
    fn invented(&self) -> usize {
        self.invented.load(Ordering::Relaxed)
    }

    /// Asks for one name after the other, each at the next address, and for a new one when one has ended. So portway is
    /// as busy as it can be, and the kernel has no queue in which agents wait behind the storm.
    fn rage(&self, portway: &Portway) {
        const A_WHILE: Timespec = Timespec {
            tv_sec: 0,
            tv_nsec: 100_000_000,
        };
        let mut open = Vec::new();
        while !self.is_over.load(Ordering::Relaxed) {
            while open.len() < OPEN {
                let number = self.invented.fetch_add(1, Ordering::Relaxed);
                let [high, low] = [number % ATTACKERS / 250, number % 250];
                let address = format!("127.0.{}.{}", 10 + high, 1 + low);
                let name = format!("invented{number}.es.test");
                open.push(ask_from(portway, &address, &name));
            }
            let polled = open.iter().map(|it| PollFd::new(it, PollFlags::IN));
            let mut polled: Vec<PollFd<'_>> = polled.collect();
            poll(&mut polled, Some(&A_WHILE)).unwrap();
            let is_open = polled.iter().map(|it| it.revents().is_empty());
            let mut is_open = is_open.collect::<Vec<_>>().into_iter();
            open.retain(|_| is_open.next().unwrap());
        }
    }
}

/// Connections that have ended as `rate_limited`.
fn limited(portway: &Portway) -> f64 {
    ended(portway, "rate_limited")
}

fn ended(portway: &Portway, outcome: &str) -> f64 {
    let labels = [("outcome", outcome)];
    portway
        .metrics()
        .sum("portway_connections_closed_total", &labels)
}

fn await_end(mut client: TcpStream) {
    let mut alert = Vec::new();
    match client.read_to_end(&mut alert) {
        Ok(_) => assert_eq!(alert, ALERT_80),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}
