//! Transfers over paths that lose, repeat, reorder and damage packets (fault F38), and what a long path costs a handshake.

use std::io::{Read, Write};
use std::thread;
use std::time::Duration;

use portway::relay::Splicing;

use super::arena::Arena;
use super::plan::Plan;
use crate::it::emulator::{Conduct, Emulator, FAR, Heading, NEAR, over_a_path};
use crate::it::fixture::{Portway, alike, config, hello, pause};
use crate::it::in_process::InProcess;
use crate::it::peers::{Backend, connect};
use crate::it::random;

/// The file of a portway in the near network.
fn file(backend: &Backend) -> String {
    let toml = config(&[backend.address()], "drain_timeout = \"1s\"", "");
    toml.replace(
        "bind = [\"127.0.0.1:0\"]",
        &format!("bind = [\"{NEAR}:0\"]"),
    )
}

fn far(path: &Emulator) -> Backend {
    let address = format!("{FAR}:0").parse().unwrap();
    path.far.run(|| Backend::echo_at(address))
}

/// Clients and backend are at the far end, so each byte takes the path twice.
#[test]
fn f38_transfers_over_bad_paths_arrive_whole() {
    let lossy = Conduct {
        delay: Duration::from_millis(5),
        jitter: Duration::from_millis(2),
        lost: 10,
        repeated: 10,
        reordered: 50,
        damaged: 1,
    };
    for mode in [Splicing::Bulk, Splicing::Always] {
        over_a_path(lossy, |path| {
            let address = format!("{FAR}:0").parse().unwrap();
            let seed = random::seed();
            let arena = path.far.run(|| Arena::at(address, seed, Plan::small));
            let portway = InProcess::start(&file(&arena.backend), mode);
            let count = random::count("PORTWAY_BAD_PATHS", 60);
            let (done, faults) = path.far.run(|| arena.run(portway.address(), count));
            assert!(faults.is_empty(), "{faults:#?}");
            assert_eq!(done.len(), usize::try_from(count).unwrap());
        });
    }
}

/// Transfers are under way when the path is cut, and go on after it.
#[test]
fn f37_a_cut_of_five_seconds_loses_no_byte() {
    let fast = Conduct::round_trip(Duration::from_millis(10));
    over_a_path(fast, |path| {
        let address = format!("{FAR}:0").parse().unwrap();
        let seed = random::seed();
        let plan = Plan::much_after_a_half_close;
        let arena = path.far.run(|| Arena::at(address, seed, plan));
        let portway = InProcess::start(&file(&arena.backend), Splicing::Bulk);
        thread::scope(|scope| {
            let running = scope.spawn(|| path.far.run(|| arena.run(portway.address(), 8)));
            arena.backend.wait_accepted(8);
            path.set(Conduct::cut());
            pause(Duration::from_secs(5));
            assert!(!running.is_finished());
            path.set(fast);
            let (done, faults) = running.join().unwrap();
            assert!(faults.is_empty(), "{faults:#?}");
            assert_eq!(done.len(), 8);
        });
    });
}

/// Once the backend has taken the connection, the hello goes out: portway waits for nothing else.
#[test]
fn a_long_path_costs_a_handshake_only_the_round_trip_that_connecting_costs() {
    over_a_path(Conduct::round_trip(Duration::from_millis(40)), |path| {
        let backend = far(path);
        let portway = Portway::start(&file(&backend));
        let mut client = connect(portway.address("agents"));
        client.write_all(&hello()).unwrap();
        let mut echoed = vec![0; hello().len()];
        client.read_exact(&mut echoed).unwrap();
        assert!(alike(&echoed, &hello()));
        let trace = path.trace();
        let sent = trace
            .iter()
            .position(|segment| segment.bytes > 0)
            .expect("the hello");
        assert_eq!(trace[sent].heading, Heading::Far, "{trace:?}");
        let came: Vec<_> = trace[..sent]
            .iter()
            .filter(|segment| segment.heading == Heading::Near)
            .collect();
        assert_eq!(came.len(), 1, "{trace:?}");
        assert!(came[0].is_syn, "{trace:?}");
    });
}
