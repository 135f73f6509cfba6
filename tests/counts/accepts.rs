//! accept fails as strace says in place of the kernel (F15).

use super::fixture::{PATIENCE, config, message};
use super::peers::Backend;
use super::strace::{Call, Traced, is_missing};

/// A portway whose third to fifth accept fail with `error`. Serves clients all the same.
fn failing(error: &str) -> Option<Traced> {
    if is_missing() {
        return None;
    }
    let backend = Backend::echo();
    let toml = format!("workers = 1\n{}", config(&[backend.address()], "", ""));
    let inject = format!("inject=accept4:error={error}:when=3..5");
    let trace = "trace=accept4,prctl";
    let traced = Traced::start(&["-e", trace, "-e", &inject], &toml);
    for _ in 0..5 {
        drop(traced.portway.relayed());
    }
    let failed = traced.calls();
    let failed = failed.iter().filter(|call: &&Call| call.is_injected());
    assert_eq!(failed.count(), 3);
    Some(traced)
}

/// The accepts that failed, by the reason of the metric.
fn failures(traced: &Traced, reason: &str) -> u64 {
    let series = format!("portway_accept_errors_total{{reason=\"{reason}\"}}");
    traced.portway.count(&series)
}

fn is_warning(line: &serde_json::Value) -> bool {
    message(line) == "cannot accept: new connections wait"
}

#[test]
fn f15_an_accept_without_resources_of_the_system_waits_and_says_so() {
    for (error, reason, words) in [
        ("ENFILE", "system_descriptors", "fs.file-max"),
        ("ENOBUFS", "memory", "memory"),
    ] {
        let Some(traced) = failing(error) else { return };
        assert_eq!(failures(&traced, reason), 3);
        let warning = traced.portway.program.wait(PATIENCE, is_warning);
        let remedy = warning["fields"]["remedy"].as_str().unwrap();
        assert!(remedy.contains(words), "{remedy}");
    }
}

#[test]
fn f15_an_accept_that_fails_for_one_client_delays_nobody() {
    let Some(traced) = failing("ECONNABORTED") else {
        return;
    };
    assert_eq!(failures(&traced, "connection"), 3);
    assert!(traced.portway.program.find(is_warning).is_none());
}
