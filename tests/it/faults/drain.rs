//! The end of the program, orderly and not (F25, F26, F28).

use std::io::{ErrorKind, Read};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::it::fixture::{NAME, PATIENCE, Portway, config, get, hello, message, pause, within};
use crate::it::held::Held;
use crate::it::peers::{Backend, End, error_within, free, read_to_end};
use crate::it::process;

#[test]
fn f25_a_drain_lets_connections_finish_and_cuts_the_rest_with_a_reset() {
    let backend = Backend::echo();
    let limits = "drain_delay = \"5s\"\ndrain_timeout = \"20s\"";
    let mut portway = Portway::start(&config(&[backend.address()], limits, ""));
    let (address, admin) = (portway.address("agents"), portway.admin());
    assert_eq!(get(admin, "/readyz").unwrap().0, 200);
    let mut finishing = Held::many(&portway, 10);
    let staying = Held::many(&portway, 10);
    let begin = Instant::now();
    portway.signal(Signal::TERM);
    within(PATIENCE, "/readyz says no", || {
        (get(admin, "/readyz").unwrap().0 == 503).then_some(())
    });
    assert_eq!(get(admin, "/livez").unwrap().0, 200);
    // Balancers notice late: connections still come during the delay.
    finishing.push(Held::new(&portway, NAME));
    within(PATIENCE, "the listener is closed", || {
        TcpStream::connect(address).err()
    });
    let took = begin.elapsed();
    assert!(took > Duration::from_millis(4900), "{took:?}");
    thread::scope(|scope| {
        for held in &mut finishing {
            scope.spawn(|| held.finish());
        }
    });
    // More than ten a second share a line, so not every connection has its own.
    portway.wait_line(|line| line["outcome"] == "closed");
    for held in &staying {
        let cut = error_within(&held.client, PATIENCE);
        assert_eq!(cut, Some(ErrorKind::ConnectionReset));
    }
    let took = begin.elapsed();
    assert!(
        took > Duration::from_millis(24_900),
        "cut before drain_timeout: {took:?}"
    );
    let status = portway.wait_exit();
    assert_eq!(status.code(), Some(0), "{status:?}");
    portway.wait_line(|line| line["outcome"] == "drained");
    let (first, last) = begin_and_end(&portway);
    let told = ["cause", "connections", "delay", "timeout"].map(|key| first[key].clone());
    assert_eq!(told, [json!("stop"), json!(20), json!("5s"), json!("20s")]);
    assert_eq!(last["reset_by_portway"], 10, "{last}");
    assert_eq!(last["ended_by_themselves"], 11, "{last}");
    let took = last["took"].as_str().unwrap();
    assert!(
        humantime::parse_duration(took).unwrap() > Duration::from_millis(24_900),
        "{took}"
    );
}

/// The fields of the two lines that a drain has in the program log.
fn begin_and_end(portway: &Portway) -> (Value, Value) {
    let fields = |what| {
        let line = portway.program.wait(PATIENCE, |line| message(line) == what);
        line["fields"].clone()
    };
    (fields("draining"), fields("the drain has ended"))
}

/// The agents wait for an answer, all silent for longer than two seconds.
#[test]
fn f25_idle_connections_end_one_by_one_in_the_last_part_of_a_drain() {
    const MANY: usize = 120;
    const SECONDS: usize = 8;
    process::raise_descriptors();
    let backend = Backend::echo();
    let limits = format!("drain_timeout = \"{SECONDS}s\"\nmax_pending_per_client = 2000");
    let mut portway = Portway::start(&config(&[backend.address()], &limits, ""));
    let clients: Vec<_> = (0..MANY).map(|_| portway.relayed()).collect();
    pause(Duration::from_secs(3));
    let begin = Instant::now();
    portway.signal(Signal::TERM);
    let ends: Vec<Duration> = thread::scope(|scope| {
        let ends = clients.into_iter().map(|mut client| {
            scope.spawn(move || {
                assert_eq!(read_to_end(&mut client), (vec![], End::Reset));
                begin.elapsed()
            })
        });
        let ends: Vec<_> = ends.collect();
        ends.into_iter().map(|end| end.join().unwrap()).collect()
    });
    assert_eq!(portway.wait_exit().code(), Some(0));
    // They end between 5.6 and 8 s, and on a busy machine only later.
    let mut order: Vec<usize> = (0..MANY).collect();
    order.sort_by_key(|client| ends[*client]);
    let end = |place: usize| ends[order[place]];
    assert!(end(0) > Duration::from_secs(5), "{ends:?}");
    assert!(end(MANY - 1) > end(0) + Duration::from_secs(1), "{ends:?}");
    // They do not end in the order in which they came: about half of the early ones are in the first half.
    let first = order[..MANY / 2]
        .iter()
        .filter(|client| **client < MANY / 2);
    let first = first.count();
    assert!((MANY / 8..=MANY * 3 / 8).contains(&first), "{order:?}");
}

/// The signal comes together with a burst, so that the listeners close with a full queue.
#[test]
fn f25_connections_that_wait_in_the_queue_are_served() {
    const MANY: usize = 600;
    process::raise_descriptors();
    let backend = Backend::echo();
    let limits = "max_pending_connections = 2000\nmax_pending_per_client = 2000";
    let mut portway = Portway::start(&config(&[backend.address()], limits, ""));
    portway.signal(Signal::STOP);
    portway.signal(Signal::TERM);
    let mut clients: Vec<_> = (0..MANY).map(|_| portway.client()).collect();
    portway.signal(Signal::CONT);
    for client in &mut clients {
        client.read_exact(&mut hello()).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
    }
    assert_eq!(portway.wait_exit().code(), Some(0));
}

#[test]
fn f25_with_no_connection_left_a_drain_does_not_wait() {
    let backend = Backend::echo();
    let limits = "drain_timeout = \"365d\"";
    let mut portway = Portway::start(&config(&[backend.address()], limits, ""));
    drop(portway.relayed());
    portway.signal(Signal::INT);
    assert_eq!(portway.wait_exit().code(), Some(0));
    let (begun, _) = begin_and_end(&portway);
    assert!(begun.get("delay").is_none(), "{begun}");
}

#[test]
fn f26_a_second_signal_stops_at_once() {
    let backend = Backend::echo();
    let limits = "drain_delay = \"365d\"";
    let mut portway = Portway::start(&config(&[backend.address()], limits, ""));
    let _client = portway.relayed();
    portway.signal(Signal::TERM);
    within(PATIENCE, "the drain has begun", || {
        (get(portway.admin(), "/readyz").unwrap().0 == 503).then_some(())
    });
    portway.signal(Signal::TERM);
    assert_eq!(portway.wait_exit().code(), Some(1));
    let (_, ended) = begin_and_end(&portway);
    assert_eq!(ended["reset_by_portway"], 1, "{ended}");
}

#[test]
fn f28_after_a_kill_the_same_port_is_served_at_once() {
    let backend = Backend::echo();
    let bind = format!("bind = [\"{}\"]", free());
    let toml = config(&[backend.address()], "", "").replace("bind = [\"127.0.0.1:0\"]", &bind);
    let portway = Portway::start(&toml);
    let clients: Vec<_> = (0..20).map(|_| portway.relayed()).collect();
    portway.signal(Signal::KILL);
    drop(portway);
    drop(clients);
    drop(Portway::start(&toml).relayed());
}

#[test]
fn an_address_in_use_is_an_error_of_the_start() {
    let backend = Backend::echo();
    let toml = config(&[backend.address()], "", "");
    let first = Portway::start(&toml);
    let bind = "[listeners.agents]\nbind = [\"127.0.0.1:0\"]";
    let taken = first.address("agents").to_string();
    let toml = toml.replace(bind, &bind.replace("127.0.0.1:0", &taken));
    let mut second = Portway::spawn(&toml, std::process::Stdio::piped());
    let status = second.wait_exit();
    assert_eq!(status.code(), Some(1), "{}", second.program.tail());
    let says = |line: &Value| line.to_string().contains(&taken);
    second.program.wait(PATIENCE, says);
}
