//! Runs a test again in its own process as an ordinary user, because limits of pipes do not apply to root.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::fixture::PORTWAY;

const NOBODY: u32 = 65_534;

/// The variable that is set in such a process, to a portway that the user may run.
const PROGRAM: &str = "PORTWAY_TEST_AS_ORDINARY_USER";

/// The portway to run, if this process is such a process. Without it a test passes at once.
pub(crate) fn portway() -> Option<OsString> {
    std::env::var_os(PROGRAM)
}

/// Runs a test of this binary, by its full name, and fails if it fails.
pub(crate) fn run(test: &str) {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    fs::set_permissions(directory, Permissions::from_mode(0o755)).unwrap();
    // The originals may be in a directory that other users cannot read.
    let (tests, portway) = (directory.join("tests"), directory.join("portway"));
    fs::copy(std::env::current_exe().unwrap(), &tests).unwrap();
    fs::copy(PORTWAY, &portway).unwrap();
    let mut command = Command::new(&tests);
    command
        .args(["--exact", test, "--nocapture"])
        .env(PROGRAM, &portway)
        .current_dir(directory);
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let output = command.output().unwrap();
    let told = [output.stdout, output.stderr].concat();
    let told = String::from_utf8_lossy(&told);
    assert!(output.status.success(), "{told}");
    assert!(told.contains("1 passed"), "{told}");
}
