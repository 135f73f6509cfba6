//! Endpoints that are written as tables: weight, drain, backup.

use std::io::{Read, Write};

use super::fixture::{Portway, config};
use super::peers::{ALERT_80, Backend, End, Refusing, read_to_end};

/// A file with these endpoints, as routes.toml writes them.
fn toml(endpoints: &str, backend: &str) -> String {
    config(&[], "", backend).replace("endpoints = []", &format!("endpoints = [{endpoints}]"))
}

#[test]
fn connections_spread_as_the_weights_say() {
    let [light, heavy] = [Backend::echo(), Backend::echo()];
    let endpoints = format!(
        "\"{}\", {{ address = \"{}\", weight = 3 }}",
        light.address(),
        heavy.address()
    );
    for balance in ["least_connections", "round_robin"] {
        let before = [light.accepted(), heavy.accepted()];
        let portway = Portway::start(&toml(&endpoints, &format!("balance = \"{balance}\"")));
        let clients: Vec<_> = (0..40).map(|_| portway.relayed()).collect();
        let [light, heavy] = [light.accepted() - before[0], heavy.accepted() - before[1]];
        assert_eq!(light + heavy, clients.len());
        assert!((28..=32).contains(&heavy), "{balance}: {heavy}");
    }
}

#[test]
fn a_reload_that_drains_an_endpoint_keeps_its_connections_and_gives_it_no_new_ones() {
    let [leaving, staying] = [Backend::echo(), Backend::echo()];
    let [one, other] = [leaving.address(), staying.address()];
    let portway = Portway::start(&toml(&format!("\"{one}\", \"{other}\""), ""));
    let mut held: Vec<_> = (0..4).map(|_| portway.relayed()).collect();
    assert_eq!((leaving.accepted(), staying.accepted()), (2, 2));
    let drained = format!("{{ address = \"{one}\", state = \"drain\" }}, \"{other}\"");
    portway.reload_with(&toml(&drained, ""));
    let labels = format!("{{backend=\"fleet\",endpoint=\"{one}\"}}");
    let series = |name: &str| portway.count(&format!("{name}{labels}"));
    assert_eq!(series("portway_endpoint_weight"), 0);
    assert_eq!(series("portway_endpoint_connections"), 2);
    let new: Vec<_> = (0..10).map(|_| portway.relayed()).collect();
    assert_eq!((leaving.accepted(), staying.accepted()), (2, 2 + new.len()));
    for client in &mut held {
        client.write_all(b"still").unwrap();
        let mut echoed = [0; 5];
        client.read_exact(&mut echoed).unwrap();
        assert_eq!(&echoed, b"still");
    }
    // Back in service it is the one with fewer connections.
    portway.reload_with(&toml(&format!("\"{one}\", \"{other}\""), ""));
    drop(portway.relayed());
    assert_eq!(leaving.accepted(), 3);
    assert!(!portway.metrics().page.contains("portway_endpoint_weight"));
}

#[test]
fn with_every_endpoint_draining_the_client_is_told_and_the_log_says_why() {
    let backend = Backend::echo();
    let drained = format!(
        "{{ address = \"{}\", state = \"drain\" }}",
        backend.address()
    );
    let portway = Portway::start(&toml(&drained, ""));
    let mut client = portway.client();
    let alert = ALERT_80.to_vec();
    assert_eq!(read_to_end(&mut client), (alert, End::Fin));
    let line = portway.line_of(client.local_addr().unwrap());
    assert_eq!(line["outcome"], "backend_unavailable", "{line}");
    let detail = line["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("state = \"drain\""), "{line}");
    assert_eq!(backend.accepted(), 0);
}

/// The failure of the first endpoint outlives a reload that changes its role.
#[test]
fn invariant_8_a_backup_takes_over_and_a_new_role_forgets_no_failure() {
    let (primary, backup) = (Refusing::new(), Backend::echo());
    let endpoints = |role: &str| {
        format!(
            "{{ address = \"{}\"{role} }}, {{ address = \"{}\", backup = true }}",
            primary.address(),
            backup.address()
        )
    };
    let portway = Portway::start(&toml(&endpoints(""), "balance = \"round_robin\""));
    let attempts = || {
        let client = portway.relayed().local_addr().unwrap();
        let line = portway.line_of(client);
        line["attempts"].as_array().map_or(0, Vec::len)
    };
    assert_eq!(attempts(), 1);
    portway.reload_with(&toml(
        &endpoints(", weight = 2"),
        "balance = \"round_robin\"",
    ));
    assert_eq!(attempts(), 0);
    assert_eq!(backup.accepted(), 2);
    let labels = format!("{{backend=\"fleet\",endpoint=\"{}\"}}", backup.address());
    assert_eq!(
        portway.count(&format!("portway_endpoint_backup{labels}")),
        1
    );
}
