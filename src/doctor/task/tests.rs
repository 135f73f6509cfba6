use std::io;

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
        header: None,
        is_unwatched: false,
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
    let (message, help) = told(Allowed::Public, "10.0.0.1:443");
    assert!(
        message.contains("it is not public, and the endpoint is the name that clients ask for")
    );
    assert!(help.contains("allow_networks"), "{help}");
    let (message, help) = told(Allowed::Servers, "10.0.0.9:443");
    assert!(
        message.starts_with("this address is portway itself"),
        "{message}"
    );
    assert!(
        help.starts_with("let the name lead to the server"),
        "{help}"
    );
}

#[test]
fn the_remedy_for_a_name_asks_the_resolver_of_its_backend() {
    let mut task = task(Allowed::Servers);
    let found = task.unresolved("no such host");
    assert_eq!(found.severity, Severity::Error);
    assert_eq!(found.message, "the name cannot be resolved: no such host");
    assert!(
        found.help.contains("`getent ahosts NAME`"),
        "{}",
        found.help
    );
    task.rules.resolver = Some(addresses(&["10.0.0.53:53"]).into());
    let help = task.unresolved("no such host").help;
    assert!(help.contains("`dig NAME @SERVER`"), "{help}");
}

#[test]
fn an_address_without_a_way_to_it_is_an_error_only_if_no_other_one_is_connected() {
    let task = task(Allowed::Servers);
    let all = addresses(&["10.0.0.1:443", "[2001:db8::1]:443"]);
    let told = |connected: bool, error: i32| {
        let mut endpoint = task.endpoint(None);
        endpoint.addresses.extend(all.iter().map(|address| Address {
            address: *address,
            connect_ms: (connected && address.is_ipv4()).then_some(Millis(Duration::ZERO)),
            names: Vec::new(),
            hellos: Vec::new(),
        }));
        let error = io::Error::from_raw_os_error(error);
        let mut findings = [task.unreached(all[1], &Unreached::Server(error))];
        excuse(&endpoint, &mut findings, |address| address.is_ipv4());
        severities(&findings)[0]
    };
    let unreachable = |severity| ("unreachable", severity);
    assert_eq!(
        told(true, libc::ENETUNREACH),
        unreachable(Severity::Warning)
    );
    assert_eq!(told(false, libc::ENETUNREACH), unreachable(Severity::Error));
    assert_eq!(told(true, libc::ECONNREFUSED), ("refused", Severity::Error));
}

/// A resolver that answers without an address.
#[tokio::test]
async fn a_name_without_an_address_is_told_so() {
    let mut task = task(Allowed::Servers);
    task.target = Target::Asked { port: Some(443) };
    let (endpoint, findings) = task.run(Examiner::new(), None).await;
    assert!(endpoint.addresses.is_empty());
    assert_eq!(
        severities(&findings),
        [("unresolved", Severity::Error)],
        "{findings:?}"
    );
    assert_eq!(
        findings[0].message,
        "the name cannot be resolved: the name has no address"
    );
}
