//! The end of the program, orderly and not (F25, F26, F28).

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::it::fixture::{PATIENCE, Portway, config, get, hello, once_more, pause, within};
use crate::it::peers::{Backend, End, read_to_end};
use crate::it::process;

#[test]
fn f25_a_drain_lets_connections_finish_and_cuts_the_rest_with_a_reset() {
    let backend = Backend::echo();
    let limits = "drain_delay = \"3s\"\ndrain_timeout = \"4s\"";
    let mut portway = Portway::start(&config(&[backend.address()], limits, ""));
    let (address, admin) = (portway.address("agents"), portway.admin());
    assert_eq!(get(admin, "/readyz").unwrap().0, 200);
    let mut finishing: Vec<_> = (0..10).map(|_| portway.relayed()).collect();
    let mut staying: Vec<_> = (0..10).map(|_| portway.relayed()).collect();
    let begin = Instant::now();
    portway.signal(Signal::TERM);
    within(PATIENCE, "/readyz says no", || {
        (get(admin, "/readyz").unwrap().0 == 503).then_some(())
    });
    assert_eq!(get(admin, "/livez").unwrap().0, 200);
    // Balancers notice late: connections still come during the delay.
    finishing.push(portway.relayed());
    // They speak during the delay: a drain may cut what was silent when it begins.
    within(PATIENCE, "the listener is closed", || {
        for client in finishing.iter_mut().chain(&mut staying) {
            client.write_all(b"?").unwrap();
            client.read_exact(&mut [0]).unwrap();
        }
        TcpStream::connect(address).err()
    });
    assert!(
        begin.elapsed() > Duration::from_millis(2900),
        "{:?}",
        begin.elapsed()
    );
    for client in &mut finishing {
        client.write_all(b"bye").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_to_end(client), (b"bye".to_vec(), End::Fin));
        assert_eq!(
            portway.line_of(client.local_addr().unwrap())["outcome"],
            "closed"
        );
    }
    for client in &mut staying {
        client.write_all(b"?").unwrap();
        client.read_exact(&mut [0]).unwrap();
    }
    for client in &mut staying {
        assert_eq!(read_to_end(client), (vec![], End::Reset));
    }
    let took = begin.elapsed();
    assert!(
        took > Duration::from_secs(5),
        "cut before drain_timeout: {took:?}"
    );
    let status = portway.wait_exit();
    assert_eq!(status.code(), Some(0), "{status:?}");
    assert!(
        begin.elapsed() < Duration::from_mins(1),
        "{:?}",
        begin.elapsed()
    );
    // Over ten a second share a line, so not every one has its own.
    portway.wait_line(|line| line["outcome"] == "drained");
}

/// Agents that wait for an answer, all silent for longer than two seconds.
#[test]
fn f25_idle_connections_end_one_by_one_over_the_whole_drain() {
    const MANY: usize = 120;
    const SECONDS: usize = 4;
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
    // A quarter each, if the machine were not busy.
    let mut seconds = [0; SECONDS + 2];
    for end in &ends {
        seconds[usize::try_from(end.as_secs()).unwrap().min(SECONDS + 1)] += 1;
    }
    let most = *seconds.iter().max().unwrap();
    assert!(most <= MANY / 2, "{seconds:?}");
    // Not in the order in which they came: both halves end in the middle on average.
    let (first, second) = ends.split_at(MANY / 2);
    let sum = |half: &[Duration]| half.iter().sum::<Duration>();
    let between = sum(first).abs_diff(sum(second)) / u32::try_from(first.len()).unwrap();
    assert!(
        between < Duration::from_secs(1),
        "{between:?} between the halves"
    );
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
    let mut portway = Portway::start(&config(&[backend.address()], "drain_timeout = \"15s\"", ""));
    drop(portway.relayed());
    let begin = Instant::now();
    portway.signal(Signal::INT);
    assert_eq!(portway.wait_exit().code(), Some(0));
    assert!(
        begin.elapsed() < Duration::from_secs(5),
        "{:?}",
        begin.elapsed()
    );
}

#[test]
fn f26_a_second_signal_stops_at_once() {
    let backend = Backend::echo();
    once_more("time to the exit", || {
        let mut portway =
            Portway::start(&config(&[backend.address()], "drain_delay = \"10s\"", ""));
        let _client = portway.relayed();
        portway.signal(Signal::TERM);
        within(PATIENCE, "the drain has begun", || {
            (get(portway.admin(), "/readyz").unwrap().0 == 503).then_some(())
        });
        let begin = Instant::now();
        portway.signal(Signal::TERM);
        portway.wait_exit();
        let took = begin.elapsed();
        if took < Duration::from_millis(100) {
            Ok(())
        } else {
            Err(format!("{took:?}"))
        }
    });
}

#[test]
fn f28_after_a_kill_the_same_port_is_served_at_once() {
    let backend = Backend::echo();
    let toml = config(&[backend.address()], "", "");
    let portway = Portway::start(&toml);
    let address = portway.address("agents");
    let clients: Vec<_> = (0..20).map(|_| portway.relayed()).collect();
    portway.signal(Signal::KILL);
    drop(portway);
    drop(clients);
    let bind = "[listeners.agents]\nbind = [\"127.0.0.1:0\"]";
    let toml = toml.replace(bind, &bind.replace("127.0.0.1:0", &address.to_string()));
    let begin = Instant::now();
    let portway = Portway::start(&toml);
    assert_eq!(portway.address("agents"), address);
    drop(portway.relayed());
    // Ten times what it may take.
    assert!(
        begin.elapsed() < Duration::from_secs(10),
        "{:?}",
        begin.elapsed()
    );
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
    assert!(
        second.program.tail().contains(&taken),
        "{}",
        second.program.tail()
    );
}
