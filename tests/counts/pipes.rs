//! A transfer whose user has too many pipes, so that the kernel makes new ones small.

use std::fs;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::fixture::{PATIENCE, Portway, within};
use super::ordinary_user;
use super::process::raise_descriptors;
use super::transfer::{Bulk, both_ways};

/// More pipes than one user may have at 64 KiB each.
const PIPES: usize = 1100;

/// The kernel counts the pipes of a user together, so tests that need large pipes must not run beside the
/// test that takes them all.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn f13_with_pipes_that_shrank_all_is_copied() {
    let _alone = alone();
    ordinary_user::run("counts::pipes::beside_a_process_that_takes_all_pipes");
}

/// The test above runs this one in its own process, as an ordinary user.
#[test]
fn beside_a_process_that_takes_all_pipes() {
    let Some(program) = ordinary_user::portway() else {
        return;
    };
    raise_descriptors();
    let pipes: Vec<_> = (0..PIPES).map(|_| std::io::pipe().unwrap()).collect();
    let (_, last) = pipes.last().unwrap();
    let size = rustix::pipe::fcntl_getpipe_size(last).unwrap();
    assert!(
        size < 64 << 10,
        "pipes do not shrink: is this user privileged?"
    );

    let bulk = Bulk::start();
    let portway = Portway::start_by(Command::new(program), &bulk.config(), Stdio::piped());
    let before = pipe_ends(portway.pid());
    both_ways(&portway);
    assert_eq!(pipe_ends(portway.pid()), before, "a small pipe is kept");
    wait_fallbacks(&portway);
}

/// Waits until the metrics show reads that were copied because there was no pipe.
pub(crate) fn wait_fallbacks(portway: &Portway) {
    within(PATIENCE, "fallbacks in the metrics", || {
        (portway.metric("portway_pipe_fallbacks_total") > 0.5).then_some(())
    });
}

/// The number of descriptors of a process that are ends of pipes.
fn pipe_ends(pid: u32) -> usize {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let targets = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    targets
        .filter(|target| target.to_string_lossy().starts_with("pipe:"))
        .count()
}
