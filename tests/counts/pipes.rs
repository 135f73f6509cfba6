//! What becomes of a transfer when its user has too many pipes: the kernel makes new ones small.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::fixture::{PORTWAY, Portway};
use super::process::raise_descriptors;
use super::transfer::{Bulk, both_ways};

/// Pipes that one user may have at 64 KiB each, and some.
const PIPES: usize = 1100;
const NOBODY: u32 = 65_534;
const PROGRAM: &str = "PORTWAY_TEST_AS_ORDINARY_USER";

/// The pipes of a user are counted together: tests that want large ones must not run beside the one
/// that takes them all.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn f13_with_pipes_that_shrank_all_is_copied() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    // Where an ordinary user can run them.
    let (me, portway) = (
        directory.path().join("me"),
        directory.path().join("portway"),
    );
    fs::copy(std::env::current_exe().unwrap(), &me).unwrap();
    fs::copy(PORTWAY, &portway).unwrap();
    let mut command = Command::new(&me);
    command
        .args([
            "--exact",
            "counts::pipes::beside_a_process_that_takes_all_pipes",
        ])
        .arg("--nocapture")
        .env(PROGRAM, &portway)
        .current_dir(directory.path());
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let output = command.output().unwrap();
    let told = [output.stdout, output.stderr].concat();
    let told = String::from_utf8_lossy(&told);
    assert!(output.status.success(), "{told}");
    assert!(told.contains("1 passed"), "{told}");
}

/// Run in a process of its own by the test above, as an ordinary user.
#[test]
fn beside_a_process_that_takes_all_pipes() {
    let Some(program) = std::env::var_os(PROGRAM) else {
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
}

/// Descriptors of a process that are an end of a pipe.
fn pipe_ends(pid: u32) -> usize {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let targets = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    targets
        .filter(|target| target.to_string_lossy().starts_with("pipe:"))
        .count()
}
