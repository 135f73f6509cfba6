//! A worker that is stuck: what admin reports about it, while others go on.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use super::fixture::{PATIENCE, Portway, config, get, within};
use super::peers::Backend;
use super::strace::{Attached, is_missing};

/// Holds the thread for longer than the test: strace releases it when strace ends.
const HOLD: &str = "inject=epoll_wait:delay_exit=600000000:when=1";

#[test]
fn a_late_worker_shows_until_it_turns_again_and_others_go_on() {
    if is_missing() {
        return;
    }
    let backend = Backend::echo();
    let toml = config(&[backend.address()], "", "");
    let portway = Portway::start(&format!("workers = 2\n{toml}"));
    // One client on each worker.
    let mut clients = [portway.relayed(), portway.relayed()];
    assert_eq!(livez(&portway), (200, "ok\n".to_owned()));

    let options = ["-e", "trace=epoll_wait", "-e", HOLD];
    let Some(held) = Attached::start_thread(thread(&portway, "portway-1"), &options) else {
        return;
    };
    within(PATIENCE, "/livez fails", || {
        (livez(&portway).0 == 503).then_some(())
    });
    let (_, told) = livez(&portway);
    assert_eq!(told, "worker 1 has not turned for 10 s\n");
    // A tick is due every second, and is late from then on.
    assert!(lateness(&portway, 1) >= 9.0);
    assert!(lateness(&portway, 0) < 9.0);

    for client in &mut clients {
        client.write_all(b"ping").unwrap();
    }
    let answered = || clients.iter().filter(|client| has_answer(client)).count();
    within(PATIENCE, "the other worker serves its client", || {
        (answered() == 1).then_some(())
    });
    assert_eq!(livez(&portway).0, 503, "the worker is not held any more");
    assert_eq!(answered(), 1);

    held.finish();
    within(PATIENCE, "/livez is well again", || {
        (livez(&portway).0 == 200).then_some(())
    });
    assert!(lateness(&portway, 1) < 9.0);
    for client in &mut clients {
        client.read_exact(&mut [0; 4]).unwrap();
    }
}

fn livez(portway: &Portway) -> (u16, String) {
    get(portway.admin(), "/livez").unwrap()
}

fn lateness(portway: &Portway, worker: usize) -> f64 {
    portway.metric(&format!(
        "portway_worker_lateness_seconds{{worker=\"{worker}\"}}"
    ))
}

/// Whether the client can read something, without waiting.
fn has_answer(client: &TcpStream) -> bool {
    client.set_nonblocking(true).unwrap();
    let peeked = client.peek(&mut [0]);
    client.set_nonblocking(false).unwrap();
    match peeked {
        Ok(count) => count > 0,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            false
        }
    }
}

/// The id of the thread of this name.
fn thread(portway: &Portway, name: &str) -> u32 {
    let tasks = fs::read_dir(format!("/proc/{}/task", portway.pid())).unwrap();
    let mut tasks = tasks.map(|task| task.unwrap());
    let is =
        |path: std::path::PathBuf| fs::read_to_string(path.join("comm")).unwrap().trim() == name;
    let found = tasks
        .find(|task| is(task.path()))
        .expect("a thread of this name");
    found.file_name().to_str().unwrap().parse().unwrap()
}
