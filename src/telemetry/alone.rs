//! For tests that need a process of their own.

use std::process::Command;

const CHILD: &str = "PORTWAY_TEST_ALONE";

/// Runs the test of this path again in a process of its own, and returns `true` there: the test does its
/// work in that process. `tracing` asks only at the first event of a call site whether there is a
/// subscriber, and asks it of the thread of that event. If several tests run, that may be the thread of
/// another one, whose answer "no" then holds for all. Limits of the process need this too.
///
/// # Panics
///
/// If the test fails there, or there is no test of that path.
pub fn alone(test: &str) -> bool {
    if std::env::var_os(CHILD).is_some() {
        return true;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    let command = command.args([test, "--exact", "--nocapture"]);
    let output = command.env(CHILD, "").output().unwrap();
    let [told, faults] =
        [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    // Without a test of that name the status is a success too.
    let is_run = output.status.success() && told.contains("\ntest result: ok. 1 passed");
    assert!(is_run, "{told}\n{faults}");
    false
}
