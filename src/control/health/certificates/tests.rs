use std::rc::Rc;
use std::sync::Arc;

use rcgen::{CertificateParams, DnType, KeyPair};

use super::*;
use crate::backend::{Check, Target};
use crate::control::health::tests::turns;

const DAY: Duration = Duration::from_hours(24);
const NAME: &str = "fleet.example";

/// A certificate that has these names and expires so many days from now.
fn certificate(names: &[&str], days: i32) -> Box<[u8]> {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, "test");
    let distance = DAY * days.unsigned_abs();
    let now = SystemTime::now();
    let end = if days < 0 {
        now - distance
    } else {
        now + distance
    };
    params.not_after = end.into();
    let key = KeyPair::generate().unwrap();
    params.self_signed(&key).unwrap().der().to_vec().into()
}

/// The answer of a server of TLS 1.2 with these certificates.
fn shown(chain: &[Box<[u8]>]) -> Said {
    Said::Answer(Answer::Hello(ServerHello {
        version: Version::TLS_1_2,
        is_retry: false,
        alpn: None,
        chain: chain.to_vec(),
        asks_for_certificate: Some(false),
        warning: None,
    }))
}

fn checked() -> Turns {
    let target = Target::Address("127.0.0.1:1".parse().unwrap());
    turns(target, Check::Tls, Some(NAME))
}

/// The days that the series of the endpoint is ahead of now, rounded up.
fn days_left(turns: &Turns) -> Option<u64> {
    let end = turns.address.presented()?.not_after()?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Some((end - now.unwrap().as_secs()).div_ceil(86_400))
}

/// The kinds of flaws that the log has had a line for at this time.
fn warned_at(turns: &Turns, now: Instant) -> Vec<&'static str> {
    let warned = turns.address.presented().unwrap().warned;
    let now = warned.iter().filter(|(_, at)| **at == Some(now));
    now.map(|(kind, _)| kind.name()).collect()
}

#[test]
fn the_first_certificate_of_the_chain_that_expires_counts() {
    let turns = checked();
    let now = Instant::now();
    let chain = [certificate(&[NAME], 90), certificate(&["ca"], 40)];
    turns.take_certificates(&shown(&chain), now);
    assert_eq!(days_left(&turns), Some(40));
    assert_eq!(warned_at(&turns, now), [""; 0]);
    let presented = turns.address.presented().unwrap();
    assert_eq!(presented.certificates.as_ref().unwrap()[0].names, [NAME]);
    assert_eq!(presented.server_name.as_ref().unwrap().as_str(), NAME);
}

#[test]
fn a_server_that_fails_a_check_keeps_its_certificate_and_one_that_encrypts_it_has_none() {
    let turns = checked();
    let now = Instant::now();
    turns.take_certificates(&shown(&[certificate(&[NAME], 90)]), now);
    for said in [
        Said::Nothing,
        Said::Closed,
        Said::Reset,
        Said::Answer(Answer::Alert(112)),
        Said::Answer(Answer::Malformed("alert")),
    ] {
        turns.take_certificates(&said, now);
        assert_eq!(days_left(&turns), Some(90), "{said:?}");
    }
    turns.take_certificates(&Said::Answer(Answer::Alert(PROTOCOL_VERSION)), now);
    assert_eq!(days_left(&turns), None);
    let presented = turns.address.presented().unwrap();
    assert_eq!(presented.certificates, Err(Unseen::Encrypted));
    turns.take_certificates(&shown(&[Box::from([1, 2])]), now);
    let presented = turns.address.presented().unwrap();
    assert_eq!(presented.certificates, Err(Unseen::Unreadable));
    assert_eq!(warned_at(&turns, now), ["certificate_unreadable"]);
}

#[test]
fn a_check_that_ends_when_a_reload_has_ended_such_checks_leaves_no_certificate() {
    let turns = checked();
    let said = shown(&[certificate(&[NAME], 90)]);
    turns.take_certificates(&said, Instant::now());
    turns.endpoint.check(Some(Check::Tcp));
    assert_eq!(turns.address.presented(), None);
    turns.take_certificates(&said, Instant::now());
    assert_eq!(turns.address.presented(), None);
}

#[test]
fn the_log_has_a_line_for_each_kind_of_flaw_once_a_day() {
    let turns = checked();
    let begin = Instant::now();
    let soon = shown(&[certificate(&[NAME], 10)]);
    let expired = shown(&[certificate(&[NAME], -10)]);
    let other = shown(&[certificate(&["other.example"], 10)]);
    let hour = Duration::from_hours(1);
    let mut now = begin;
    let mut lines = |said: &Said, later: Duration| {
        now += later;
        turns.take_certificates(said, now);
        warned_at(&turns, now)
    };
    assert_eq!(lines(&soon, hour), ["certificate_expires_soon"]);
    assert_eq!(lines(&soon, hour), [""; 0]);
    // A server may make a new one for each connection.
    assert_eq!(lines(&shown(&[certificate(&[NAME], 9)]), hour), [""; 0]);
    assert_eq!(lines(&expired, hour), ["certificate_expired"]);
    assert_eq!(lines(&other, hour), ["wrong_name"]);
    assert_eq!(lines(&soon, 19 * hour), [""; 0]);
    assert_eq!(lines(&soon, hour), ["certificate_expires_soon"]);
    assert_eq!(lines(&soon, 23 * hour), [""; 0]);
    assert_eq!(lines(&soon, hour), ["certificate_expires_soon"]);
}

#[test]
fn addresses_of_an_endpoint_with_the_same_certificate_share_the_line() {
    let host = "fleet-1.example".into();
    let first = turns(Target::Name { host, port: 1 }, Check::Tls, Some(NAME));
    let second = Turns {
        endpoint: Arc::clone(&first.endpoint),
        address: Arc::clone(&first.endpoint.addresses()[1]),
        checks: Arc::clone(&first.checks),
        names: Rc::clone(&first.names),
        permits: Arc::clone(&first.permits),
    };
    let begin = Instant::now();
    let said = shown(&[certificate(&[NAME], 10)]);
    first.take_certificates(&said, begin);
    assert_eq!(warned_at(&first, begin), ["certificate_expires_soon"]);
    let now = begin + DAY / 2;
    second.take_certificates(&said, now);
    assert_eq!(warned_at(&second, now), [""; 0]);
    let other = shown(&[certificate(&[NAME], 5)]);
    second.take_certificates(&other, now);
    assert_eq!(warned_at(&second, now), ["certificate_expires_soon"]);
}

#[test]
fn the_host_of_the_endpoint_or_a_name_of_a_route_is_enough_where_the_rules_have_no_name() {
    let host = "fleet-1.internal".into();
    let turns = turns(Target::Name { host, port: 1 }, Check::Tls, None);
    let patterns = |patterns: &[&str]| {
        let patterns = patterns.iter().map(|text| Pattern::parse(text).unwrap());
        *turns.names.borrow_mut() = patterns.collect();
    };
    let is_wrong = |name| {
        turns.address.present(None);
        let now = Instant::now();
        turns.take_certificates(&shown(&[certificate(&[name], 90)]), now);
        warned_at(&turns, now) == ["wrong_name"]
    };
    patterns(&["fleet.example", "*.es.example"]);
    for name in [
        "fleet-1.internal",
        "*.internal",
        "fleet.example",
        "a.es.example",
        "*.ES.example",
    ] {
        assert!(!is_wrong(name), "{name}");
    }
    for name in ["other.example", "es.example", "fleet-2.internal"] {
        assert!(is_wrong(name), "{name}");
    }
    patterns(&["**"]);
    assert!(!is_wrong("other.example"));
}

#[test]
fn a_hello_without_a_name_says_nothing_about_the_names() {
    let target = Target::Address("127.0.0.1:1".parse().unwrap());
    let turns = turns(target, Check::Tls, None);
    let now = Instant::now();
    turns.take_certificates(&shown(&[certificate(&["other.example"], 90)]), now);
    assert_eq!(warned_at(&turns, now), [""; 0]);
}
