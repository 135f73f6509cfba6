//! splice and pipe2 fail in ways that no machine at hand shows: strace answers in place of the kernel.
//! Still, 64 MiB arrive unchanged each way.

use super::fixture::{PATIENCE, Portway, within};
use super::pipes;
use super::strace::{Attached, Call, Traced, is_missing, socket, tally};
use super::transfer::{Bulk, Client, both_ways};

/// Makes a transfer in which the splices of `when`, as strace counts them, fail with `error`.
fn transfer(error: &str, when: &str) -> Vec<Call> {
    let _alone = pipes::alone();
    let bulk = Bulk::start();
    let inject = format!("inject=splice:error={error}:when={when}");
    let traced = Traced::start(&["-e", "trace=splice", "-e", &inject], &bulk.config());
    both_ways(&traced.portway);
    traced.calls()
}

/// Whether a splice is a fill, which reads from a socket, or a drain, which reads from a pipe.
fn is_fill(call: &Call) -> bool {
    let first = call.file().unwrap_or_default();
    let (socket, pipe) = (first.starts_with("socket:"), first.starts_with("pipe:"));
    assert!(socket != pipe, "{call:?}");
    socket
}

/// After a failed fill the next splice is a fill; after a failed drain it is a drain or a fill. So one
/// series ends up failing fills, and the other drains.
const SERIES: [&str; 2] = ["1+3", "2+4"];

fn some_fail_with(error: &str) {
    if is_missing() {
        return;
    }
    let calls: Vec<Call> = SERIES
        .iter()
        .flat_map(|when| transfer(error, when))
        .collect();
    let (fills, drains): (Vec<&Call>, Vec<&Call>) = calls.iter().partition(|call| is_fill(call));
    assert_some_failed("fills", fills);
    assert_some_failed("drains", drains);
}

fn assert_some_failed<'a>(what: &str, calls: impl IntoIterator<Item = &'a Call>) {
    let (failed, rest): (Vec<_>, Vec<_>) = calls.into_iter().partition(|call| call.is_injected());
    let moved = rest.iter().filter(|call| call.result() > Some(0)).count();
    assert!(
        failed.len() >= 10 && moved >= 10,
        "{what}: {} failed, {moved} moved bytes",
        failed.len()
    );
}

#[test]
fn f11_an_interrupted_splice_is_called_again() {
    some_fail_with("EINTR");
}

#[test]
fn f11_a_splice_that_does_not_work_here_gives_way_to_a_copy() {
    some_fail_with("EINVAL");
}

#[test]
fn f11_a_splice_without_memory_gives_way_to_a_copy() {
    some_fail_with("ENOMEM");
}

#[test]
fn f11_where_no_splice_works_all_is_copied() {
    if is_missing() {
        return;
    }
    let calls = transfer("EINVAL", "1+");
    assert!(calls.len() >= 10, "{} splices", calls.len());
    let failed_fill = |call: &Call| call.is_injected() && is_fill(call);
    assert!(calls.iter().all(failed_fill));
}

/// EAGAIN from a drain means that the socket is full, and an edge follows, which strace cannot cause. So
/// only fills fail: those of the one socket that is read. Each way has its own connection, because only then
/// no drain splices into that socket.
#[test]
fn f11_an_empty_socket_says_nothing_to_a_fill() {
    if is_missing() {
        return;
    }
    let _alone = pipes::alone();
    let bulk = Bulk::start();
    let portway = Portway::start(&bulk.config());
    let reads_from = |path: &str| {
        // A call that strace is answering when it ends fails with ENOSYS. So the last call that it
        // answers comes long before the end: 48 MiB take at least 48 fills.
        let inject = "inject=splice:error=EAGAIN:when=1..40+2";
        let options = ["-P", path, "-e", "trace=splice", "-e", inject];
        Attached::start(portway.pid(), &options)
    };

    let mut client = Client::connect(&portway);
    // Until it is accepted, no process has the socket, and it has no inode.
    bulk.wait_accepted(1);
    let listener = portway.address("agents");
    let Some(up) = reads_from(&socket(Some(listener), client.address())) else {
        return;
    };
    client.upload();
    let up = up.finish();
    client.close(&portway);

    let mut client = Client::connect(&portway);
    bulk.wait_accepted(2);
    let Some(down) = reads_from(&socket(None, bulk.address())) else {
        return;
    };
    client.download();
    let down = down.finish();
    client.close(&portway);

    // The worker has published the state of its pipes, and no pipe was missing.
    within(PATIENCE, "pipes in the metrics", || {
        (portway.metric("portway_pipes{state=\"idle\"}") > 0.5).then_some(())
    });
    assert!(portway.metric("portway_pipe_fallbacks_total") < 0.5);

    for calls in [up, down] {
        assert!(calls.iter().all(is_fill), "a drain is among them");
        assert_some_failed("fills", &calls);
    }
}

#[test]
fn f12_without_descriptors_for_a_pipe_all_is_copied() {
    if is_missing() {
        return;
    }
    let _alone = pipes::alone();
    let bulk = Bulk::start();
    let options = [
        "-e",
        "trace=pipe2,splice",
        "-e",
        "inject=pipe2:error=EMFILE",
    ];
    let traced = Traced::start(&options, &bulk.config());
    both_ways(&traced.portway);
    let calls = traced.calls();
    assert!(calls.iter().any(Call::is_injected));
    let tally = tally(&calls);
    assert_eq!(tally.get("splice"), None);
    // portway tries again once a second, not for each of the thousands of reads.
    assert!(tally["pipe2"] < 100, "{tally:?}");
    pipes::wait_fallbacks(&traced.portway);
}
