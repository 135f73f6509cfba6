//! Socket options that routes.toml sets.

use std::collections::BTreeSet;

use super::fixture::{PATIENCE, config, within};
use super::peers::Backend;
use super::strace::{Traced, is_missing, socket};

/// A value other than the default, which listening sockets have and accepted ones inherit.
const UNSENT: u32 = 96 << 10;

/// The options are set at the worker's first review of the connection.
#[test]
fn max_unsent_is_set_on_both_legs() {
    if is_missing() {
        return;
    }
    let backend = Backend::echo();
    let key = format!("max_unsent = \"{UNSENT}B\"");
    let toml = format!("workers = 1\n{}", config(&[backend.address()], "", &key));
    // prctl shows the name of a thread.
    let traced = Traced::start(&["-e", "trace=prctl,setsockopt"], &toml);
    let worker = traced.thread("portway-0");
    let client = traced.portway.relayed();
    let listener = traced.portway.address("agents");
    let legs = BTreeSet::from([
        socket(Some(listener), client.local_addr().unwrap()),
        socket(None, backend.address()),
    ]);

    let set = within(PATIENCE, "options of two sockets", || {
        let mut calls = worker.calls();
        calls.retain(|call| call.rest.contains("TCP_NOTSENT_LOWAT"));
        (calls.len() >= legs.len()).then_some(calls)
    });
    let value = format!("TCP_NOTSENT_LOWAT, [{UNSENT}], 4) = 0");
    assert!(
        set.iter().all(|call| call.rest.ends_with(&value)),
        "{set:?}"
    );
    let files = set.iter().filter_map(|call| call.file());
    let sockets: BTreeSet<String> = files.map(str::to_owned).collect();
    assert_eq!(sockets, legs);
}
