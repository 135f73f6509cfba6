//! `check` tells everything that is wrong at once: no fault and no warning hides another one.

use std::collections::BTreeSet;

use portway::config;

use super::FINE;

/// Faults and warnings of every kind: the lines that are added to a correct file (after its first header if they
/// begin with a key), and the faults that they cause.
const ALL: &[(&str, &[&str])] = &[
    ("bind = [\"127.0.0.1:4\"", &["error listeners.syntax.bind"]),
    (
        "[listeners.header\nbind = [\"a\"]",
        &["error listeners.header"],
    ),
    (
        "[backends.fleet]\nbalance = \"random\"",
        &["error backends.fleet"],
    ),
    (
        "[listeners.key]\nbind = [\"127.0.0.1:1\"]\nbnd = 1",
        &["error listeners.key.bnd"],
    ),
    (
        "[limit]\nmax_client_hello = \"1\"",
        &["error limit", "error limits.max_client_hello"],
    ),
    (
        "[backends.dot.ted]\nendpoints = [\"a\"]\n[routes.dot]\nserver_names = [\"dot\"]\nbackend = \"dot.ted\"",
        &[
            "error backends.dot.ted",
            "error backends.\"dot.ted\".endpoints[0]",
        ],
    ),
    ("[log]\nconnections = 1", &["error log.connections"]),
    (
        "[listeners.list]\nbind = [1, \"a\"]",
        &[
            "error listeners.list.bind[0]",
            "error listeners.list.bind[1]",
        ],
    ),
    (
        "[backends.range]\nendpoints = [\"a:1\"]\nkeepalive = \"1ms\"\n\
      [routes.range]\nserver_names = [\"range\"]\nbackend = \"range\"",
        &["error backends.range.keepalive"],
    ),
    (
        "[backends.order]\nendpoints = [\"a:1\"]\ndial_timeout = \"1s\"\n\
      [routes.order]\nserver_names = [\"order\"]\nbackend = \"order\"",
        &["error backends.order.dial_timeout"],
    ),
    (
        "[listeners.twice]\nbind = [\"127.0.0.1:2\", \"127.0.0.1:2\"]",
        &["error listeners.twice.bind[1]"],
    ),
    (
        "[listeners.clash]\nbind = [\"127.0.0.1:443\"]",
        &["error listeners.clash.bind[0]"],
    ),
    ("[listeners.empty]", &["error listeners.empty"]),
    (
        "[routes.empty]\nserver_names = [\"empty\"]",
        &["error routes.empty"],
    ),
    (
        "[routes.unknown]\nserver_names = [\"unknown\"]\nbackend = \"x\"",
        &["error routes.unknown.backend"],
    ),
    (
        "[routes.tie]\nserver_names = [\"fleet.example.com\"]\nbackend = \"fleet\"",
        &["error routes.tie.server_names"],
    ),
    (
        "[backends.cut]\nendpoints = [\"a:1\"]\nidle_timeout = \"5m\"\n\
      [routes.cut]\nserver_names = [\"cut\"]\nbackend = \"cut\"",
        &["warning backends.cut.idle_timeout"],
    ),
    (
        "[routes.alpn]\nserver_names = [\"alpn\"]\nalpn = [\"h2\"]\nbackend = \"fleet\"",
        &["warning routes.alpn.alpn"],
    ),
    (
        "[routes.port]\nserver_names = [\"port\"]\nlisteners = [\"agents\"]\nports = [444]\nbackend = \"fleet\"",
        &["warning routes.port.ports[0]"],
    ),
    ("[admin]\nbind = \"0.0.0.0:9355\"", &["warning admin.bind"]),
    (
        "[backends.own]\nendpoints = [\"own:1\"]\n\
      [routes.own]\nserver_names = [\"own\"]\nbackend = \"own\"",
        &["warning backends.own.endpoints[0]"],
    ),
];

/// The kind and the key of every fault of a file.
fn told(text: &str) -> BTreeSet<String> {
    let faults = config::parse(text, "routes.toml");
    let faults = faults.map_or_else(|faults| faults, |loaded| loaded.warnings);
    let key = |kind: &'static str| {
        move |line: String| format!("{kind} {}", line.split(": ").nth(1).unwrap_or(&line))
    };
    let errors = faults.lines().map(key("error"));
    errors
        .chain(faults.warning_lines().map(key("warning")))
        .collect()
}

fn file(parts: &[&str]) -> String {
    let part = |part: &&str| {
        let header = if part.starts_with('[') {
            ""
        } else {
            "[listeners.syntax]\n"
        };
        format!("{header}{part}\n")
    };
    FINE.to_owned() + &parts.iter().map(part).collect::<String>()
}

fn expected(keys: &[&[&str]]) -> BTreeSet<String> {
    keys.iter()
        .copied()
        .flatten()
        .map(|key| (*key).to_owned())
        .collect()
}

#[test]
fn two_faults_do_not_hide_each_other() {
    for (one, of_one) in ALL {
        assert_eq!(told(&file(&[one])), expected(&[of_one]), "{one}");
        for (other, of_other) in ALL.iter().filter(|(other, _)| other != one) {
            let wanted = expected(&[of_one, of_other]);
            let text = file(&[one, other]);
            assert_eq!(told(&text), wanted, "{text}");
        }
    }
}

#[test]
fn all_faults_together_are_all_told() {
    let (parts, keys): (Vec<&str>, Vec<&[&str]>) = ALL.iter().copied().unzip();
    assert_eq!(told(&file(&parts)), expected(&keys));
    let parts: Vec<&str> = parts.into_iter().rev().collect();
    assert_eq!(told(&file(&parts)), expected(&keys));
}

/// A warning is left out if another fault makes it uncertain.
#[test]
fn a_backend_is_not_called_unused_while_it_is_unknown_where_a_route_leads() {
    let unused = "[backends.spare]\nendpoints = [\"a:1\"]\n";
    assert_eq!(
        told(&file(&[unused])),
        expected(&[&["warning backends.spare"]])
    );
    let beside = |part| told(&file(&[unused, part]));
    let range = "[limits]\ndrain_timeout = \"x\"";
    assert_eq!(
        beside(range),
        expected(&[&["error limits.drain_timeout", "warning backends.spare"]])
    );
    for (part, key) in [
        (
            "[routes.x]\nserver_names = [\"x\"]\nbackend = \"spar\"",
            "error routes.x.backend",
        ),
        (
            "[routes.x]\nserver_names = [\"x\"]\nbackend \"spare\"",
            "error routes.x.backend",
        ),
        (
            "[routes.x]\nserver_names = [\"x\"]\nbackend = [\"spare\"]",
            "error routes.x.backend",
        ),
        (
            "[routes.x\nserver_names = [\"x\"]\nbackend = \"spare\"",
            "error routes.x",
        ),
    ] {
        assert_eq!(beside(part), expected(&[&[key]]), "{part}");
    }
}
