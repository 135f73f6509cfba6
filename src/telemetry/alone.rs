//! For tests that need a process of their own.

use std::process::Command;

const CHILD: &str = "PORTWAY_TEST_ALONE";

/// Runs the test of this path once more in a process of its own; `true` there, which is where the
/// test does its work. `tracing` asks at the first event of a call site whether anybody listens, and
/// asks the thread that has the event: where several tests run, that may be a thread of another one,
/// and the answer no holds for all. Limits of the process need this too.
///
/// # Panics
///
/// If the test fails there, or there is none of that path.
pub fn alone(test: &str) -> bool {
    if std::env::var_os(CHILD).is_some() {
        return true;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    let command = command.args([test, "--exact", "--nocapture"]);
    let output = command.env(CHILD, "").output().unwrap();
    let [told, faults] =
        [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    // No test of that name is a success too.
    let is_run = output.status.success() && told.contains("\ntest result: ok. 1 passed");
    assert!(is_run, "{told}\n{faults}");
    false
}
