//! A test that this machine cannot run says so, and fails where somebody wants it to run.

/// The variables that are `required` where tests that lack something must fail: other people's programs, root with what
/// only root can have (networks, cgroups, other users), and strace.
pub(crate) const PEERS: &str = "PORTWAY_PEERS";
pub(crate) const NAMESPACES: &str = "PORTWAY_NAMESPACES";
pub(crate) const STRACE: &str = "PORTWAY_STRACE";

/// Says that a test did not run, and how to make it run. Panics if the variable is `required`.
#[track_caller]
pub(crate) fn did_not_run(variable: &str, fault: &str, remedy: &str) {
    let fault = fault.trim();
    let required = std::env::var_os(variable).is_some_and(|value| value == "required");
    assert!(!required, "{remedy}: {fault}");
    eprintln!("DID NOT RUN: {remedy}: {fault}");
}
