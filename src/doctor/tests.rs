use super::*;
use crate::backend::Allowed;

fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
    let addresses = texts.iter().map(|text| text.parse().unwrap());
    addresses.collect()
}

/// A task of a portway that listens on 10.0.0.9:443.
fn task(allowed: Allowed) -> Task {
    Task {
        place: Place::default(),
        target: Target::Name {
            host: "fleet.example".into(),
            port: 443,
        },
        rules: NameRules {
            resolver: None,
            allowed,
        },
        callers: Arc::new([]),
        connect_timeout: Duration::from_secs(1),
        own: Arc::new(Own::new(addresses(&["10.0.0.9:443"]))),
    }
}

fn severities(findings: &[Finding]) -> Vec<(&'static str, Severity)> {
    let each = findings.iter().map(|it| (it.problem.name(), it.severity));
    each.collect()
}

#[test]
fn an_address_that_is_not_dialled_is_an_error_only_if_no_other_remains() {
    let task = task(Allowed::Servers);
    let (dialled, findings) = task.dialled(addresses(&["0.0.0.0:443", "[::ffff:10.0.0.9]:443"]));
    assert_eq!(dialled, []);
    assert_eq!(
        severities(&findings),
        [
            ("forbidden_address", Severity::Error),
            ("loop", Severity::Error)
        ]
    );
    let three = addresses(&["0.0.0.0:443", "10.0.0.9:443", "10.0.0.1:443"]);
    let (dialled, findings) = task.dialled(three);
    assert_eq!(dialled, addresses(&["10.0.0.1:443"]));
    assert_eq!(
        severities(&findings),
        [
            ("forbidden_address", Severity::Warning),
            ("loop", Severity::Warning)
        ]
    );
}

#[test]
fn an_address_is_forbidden_by_the_key_only_if_the_backend_has_it() {
    let told = |allowed, address| {
        let (_, mut findings) = task(allowed).dialled(addresses(&[address]));
        let finding = findings.remove(0);
        (finding.message, finding.help)
    };
    let (message, help) = told(Allowed::Servers, "0.0.0.0:443");
    assert_eq!(
        message,
        "portway does not dial this address: it cannot be that of a server"
    );
    assert!(!help.contains("allow_networks"), "{help}");
    let networks = Allowed::Networks(Arc::new(["10.0.0.0/8".parse().unwrap()]));
    let (message, help) = told(networks, "192.0.2.1:443");
    assert_eq!(
        message,
        "portway does not dial this address: allow_networks does not permit it"
    );
    assert!(help.contains("allow_networks"), "{help}");
}
