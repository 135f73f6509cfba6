//! Many connections leave nothing behind.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::it::fixture::{PATIENCE, Portway, config, hello, within};
use crate::it::peers::{self, Backend, End, read_to_end};
use crate::it::process;
use crate::it::random::count;

/// Bytes that a backend answers with.
const ANSWER: usize = 1024;

/// After `PORTWAY_ROW` connections, sixteen at a time, descriptors and threads are as before, memory
/// almost, and every connection is counted with its own outcome.
#[test]
fn a_row_of_connections_leaves_nothing_behind() {
    const WARM_UP: u64 = 1000;
    /// Bytes by which a heap that has been used for a while may be larger.
    const SLACK: u64 = 2 << 20;
    process::raise_descriptors();
    let many = count("PORTWAY_ROW", 5000);
    let backend = Backend::start(|mut stream| {
        stream.read_exact(&mut hello()).unwrap();
        stream.write_all(&peers::ANSWER).unwrap();
        stream
            .write_all(&[0x17; ANSWER - peers::ANSWER.len()])
            .unwrap();
        assert_eq!(read_to_end(&mut stream), (Vec::new(), End::Fin));
    });
    let toml = format!("workers = 2\n{}", config(&[backend.address()], "", ""));
    let portway = Portway::start_with(&toml, Stdio::null());
    let pid = portway.pid();

    row(&portway, WARM_UP);
    let descriptors = process::descriptors(pid);
    let threads = process::threads(pid);
    let resident = process::resident(pid);

    row(&portway, many);
    let what = format!("at most {descriptors} descriptors and {threads} threads, as before");
    let now = within(PATIENCE, &what, || {
        // The numbers before may include the last sockets of the warm-up.
        let now = (process::descriptors(pid), process::threads(pid));
        (now.0 <= descriptors && now.1 <= threads).then_some(now)
    });
    // The allocator gives memory back within a second or two.
    let kept = within(PATIENCE, "memory as before", || {
        let kept = process::resident(pid).saturating_sub(resident);
        (kept <= SLACK).then_some(kept)
    });
    println!(
        "{many} connections: {descriptors} descriptors and {threads} threads before, {now:?} after, {kept} B of \
         {resident} more"
    );
}

/// Makes `many` connections with an orderly end; all of them are counted when this returns.
fn row(portway: &Portway, many: u64) {
    let before = portway.metrics().outcomes("agents");
    let before = before.get("closed").copied().unwrap_or_default();
    let next = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                while next.fetch_add(1, Ordering::Relaxed) < many {
                    let mut client = portway.client();
                    client.read_exact(&mut [0; ANSWER]).unwrap();
                    client.shutdown(Shutdown::Write).unwrap();
                    assert_eq!(read_to_end(&mut client), (Vec::new(), End::Fin));
                }
            });
        }
    });
    let metrics = within(PATIENCE, "every connection is closed", || {
        let metrics = portway.metrics();
        let active = metrics.sum("portway_connections_active", &[]);
        (active.abs() < 0.5).then_some(metrics)
    });
    let outcomes = metrics.outcomes("agents");
    let all: f64 = outcomes.values().sum();
    let closed = outcomes["closed"];
    assert_eq!(format!("{}", closed - before), many.to_string());
    assert_eq!(format!("{all}"), format!("{closed}"), "{outcomes:?}");
    let accepted = metrics.sum("portway_connections_accepted_total", &[]);
    assert_eq!(format!("{accepted}"), format!("{closed}"));
}
