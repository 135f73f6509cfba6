//! The files of the system's resolver.

use super::fixture::{PATIENCE, config, within};
use super::peers::Backend;
use super::strace::{Traced, is_missing};

#[test]
fn resolv_conf_is_opened_only_if_an_endpoint_is_a_name() {
    if is_missing() {
        return;
    }
    let backend = Backend::echo();
    let toml = config(&[backend.address()], "", "");
    let traced = Traced::start(&["-e", "trace=open,openat"], &toml);
    let opened = || {
        let calls = traced.calls();
        let is_resolv = |call: &&super::strace::Call| call.rest.contains("/etc/resolv.conf");
        calls.iter().filter(is_resolv).count()
    };
    let portway = &traced.portway;
    drop(portway.relayed());
    portway.reload_with(&format!("workers = 2\n{toml}"));
    drop(portway.relayed());
    assert_eq!(opened(), 0);
    let name = format!("localhost:{}", backend.address().port());
    portway.reload_with(&toml.replace(&backend.address().to_string(), &name));
    within(PATIENCE, "a name has it opened", || {
        (opened() > 0).then_some(())
    });
}
