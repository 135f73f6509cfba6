//! Scrapers that misbehave (F35).

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::it::fixture::{Over, PATIENCE, PORTWAY, Portway, config, get, message, within};
use crate::it::peers::{Backend, connect, is_timeout, read_to_end};

/// Makes round trips through the relay. Each may take a hundred times what it needs beside hundreds of threads.
fn data_flows(portway: &Portway) {
    let mut client = portway.relayed();
    client
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    for _ in 0..200 {
        client.write_all(b"ping").unwrap();
        client.read_exact(&mut [0; 4]).unwrap();
    }
}

#[test]
fn f35_a_scraper_that_never_reads_stops_neither_data_nor_others() {
    let backend = Backend::echo();
    let portway = Portway::start(&config(&[backend.address()], "", ""));
    let stuck: Vec<_> = (0..8)
        .map(|_| {
            let mut stream = connect(portway.admin());
            stream
                .set_write_timeout(Some(Duration::from_millis(50)))
                .unwrap();
            let request = b"GET /metrics HTTP/1.1\r\nHost: portway\r\n\r\n";
            drop((0..2000).try_for_each(|_| stream.write_all(request)));
            stream
        })
        .collect();
    data_flows(&portway);
    assert_eq!(get(portway.admin(), "/livez").unwrap().0, 200);
    drop(stuck);
}

#[test]
fn f35_hundreds_of_scrapes_at_once_do_not_stop_data() {
    let backend = Backend::echo();
    let portway = Portway::start(&config(&[backend.address()], "", ""));
    let admin = portway.admin();
    thread::scope(|scope| {
        for _ in 0..300 {
            // Above the limit of connections some are turned away.
            scope.spawn(|| drop(get(admin, "/metrics")));
        }
        data_flows(&portway);
    });
    let again = || {
        get(admin, "/metrics")
            .ok()
            .filter(|(status, _)| *status == 200)
    };
    within(PATIENCE, "scrapes are answered again", again);
}

#[test]
fn f35_silent_admin_connections_are_bounded_and_make_room_again() {
    let backend = Backend::echo();
    let portway = Portway::start(&config(&[backend.address()], "", ""));
    let silent: Vec<_> = (0..100)
        .map(|_| TcpStream::connect(portway.admin()).unwrap())
        .collect();
    data_flows(&portway);
    let again = || {
        get(portway.admin(), "/metrics")
            .ok()
            .filter(|(status, _)| *status == 200)
    };
    within(PATIENCE, "a scrape beside silent connections", again);
    drop(silent);
}

#[test]
fn f35_health_checks_are_answered_beside_silent_connections_that_come_again_and_again() {
    let backend = Backend::echo();
    let portway = Portway::start(&config(&[backend.address()], "", ""));
    let admin = portway.admin();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("routes.toml");
    fs::write(&file, format!("admin.bind = \"{admin}\"\n")).unwrap();
    let check = || {
        let mut command = Command::new(PORTWAY);
        let command = command.args(["healthcheck", "--config"]).arg(&file);
        command.output().unwrap().status.success()
    };
    let (over, opened) = (AtomicBool::new(false), AtomicUsize::new(0));
    let well = thread::scope(|scope| {
        for _ in 0..80 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    // Each client has its own address: if all shared one, the busy machine would decide.
                    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
                    let stranger = SocketAddr::from(([127, 0, 0, 2], 0));
                    socket.bind(&stranger.into()).unwrap();
                    socket.connect(&admin.into()).unwrap();
                    let mut silent = TcpStream::from(socket);
                    let patience = Some(Duration::from_millis(100));
                    opened.fetch_add(1, Ordering::Relaxed);
                    silent.set_read_timeout(patience).unwrap();
                    // Waits until it is closed.
                    while silent.read(&mut [0]).is_err_and(|error| is_timeout(&error))
                        && !over.load(Ordering::Relaxed)
                    {}
                }
            });
        }
        let ending = Over(&over);
        within(PATIENCE, "all clients are connected", || {
            (opened.load(Ordering::Relaxed) >= 80).then_some(())
        });
        // The check itself waits for two seconds at most, which this machine may take once.
        let well = (0..12).filter(|_| check() || check()).count();
        drop(ending);
        well
    });
    assert_eq!(well, 12);
    let warning = "connections to admin.bind have sent no request";
    within(PATIENCE, "the warning is logged", || {
        portway.program.find(|line| message(line).contains(warning))
    });
}

#[test]
fn f35_a_request_line_of_a_megabyte_is_refused() {
    let backend = Backend::echo();
    let portway = Portway::start(&config(&[backend.address()], "", ""));
    let mut stream = connect(portway.admin());
    drop(stream.write_all(&[&b"GET /"[..], &vec![b'a'; 1 << 20]].concat()));
    let (answer, _) = read_to_end(&mut stream);
    let answer = String::from_utf8_lossy(&answer);
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
        "{answer}"
    );
    data_flows(&portway);
    assert_eq!(get(portway.admin(), "/livez").unwrap().0, 200);
}

#[test]
fn the_admin_listener_takes_get_only() {
    let backend = Backend::echo();
    let portway = Portway::start(&config(&[backend.address()], "", ""));
    let mut stream = connect(portway.admin());
    let request =
        b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    stream.write_all(request).unwrap();
    let (answer, _) = read_to_end(&mut stream);
    assert!(
        answer.starts_with(b"HTTP/1.1 405"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    assert_eq!(get(portway.admin(), "/nothing").unwrap().0, 404);
}
