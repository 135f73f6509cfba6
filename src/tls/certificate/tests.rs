use rcgen::{CertificateParams, DnType, KeyPair, SanType, date_time_ymd};

use super::*;

/// A self-signed certificate for these names, valid in 2020 and 2021.
pub(crate) fn certificate(names: &[&str]) -> Vec<u8> {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params
        .distinguished_name
        .push(DnType::CommonName, "common.example");
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2021, 12, 31);
    let key = KeyPair::generate().unwrap();
    params.self_signed(&key).unwrap().der().to_vec()
}

fn covers(names: &[&str], name: &str) -> bool {
    let certificate = Certificate::read(&certificate(names)).unwrap();
    certificate.covers(&ServerName::parse(name.as_bytes()).unwrap())
}

#[test]
fn names_dates_and_issuer_are_read() {
    let read = Certificate::read(&certificate(&[
        "fleet.example",
        "*.es.example",
        "10.0.0.7",
        "2001:db8::7",
    ]));
    let read = read.unwrap();
    assert_eq!(
        read.names,
        ["fleet.example", "*.es.example", "10.0.0.7", "2001:db8::7"]
    );
    assert!(
        read.subject.contains("CN=common.example"),
        "{}",
        read.subject
    );
    assert!(read.self_signed);
    assert_eq!(
        (read.first_day(), read.last_day()),
        ("2020-01-01".into(), "2021-12-31".into())
    );
}

#[test]
fn a_certificate_covers_its_names_and_one_label_of_a_wildcard() {
    assert!(covers(&["Fleet.Example"], "fleet.example"));
    assert!(covers(&["fleet.example."], "fleet.example"));
    assert!(covers(&["other.example", "*.es.example"], "a.es.example"));
    assert!(!covers(&["*.es.example"], "es.example"));
    assert!(!covers(&["*.es.example"], "a.b.es.example"));
    assert!(!covers(&["10.0.0.7"], "fleet.example"));
    // The common name alone is not enough for current clients.
    assert!(!covers(&[], "common.example"));
}

#[test]
fn no_part_and_no_damage_of_a_certificate_makes_it_panic() {
    let whole = certificate(&["fleet.example"]);
    for end in 0..whole.len() {
        assert_eq!(Certificate::read(&whole[..end]), None, "{end}");
    }
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x41;
        drop(Certificate::read(&damaged));
    }
}

#[test]
fn a_date_beyond_the_year_9999_and_controls_do_not_reach_a_terminal() {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params
        .distinguished_name
        .push(DnType::CommonName, "a\u{1b}[2Jb");
    params.not_after = date_time_ymd(9999, 12, 31);
    params.subject_alt_names = vec![SanType::DnsName("a\u{1b}[2J.example".try_into().unwrap())];
    let key = KeyPair::generate().unwrap();
    let read = Certificate::read(params.self_signed(&key).unwrap().der()).unwrap();
    assert_eq!(read.last_day(), "9999-12-31");
    assert!(read.subject.contains("a[2Jb"), "{}", read.subject);
    assert_eq!(read.names, ["a[2J.example"]);
    let late = ASN1Time::from_timestamp(253_402_300_799).unwrap();
    assert_eq!(day(system_time(late)), "9999-12-31");
    assert_eq!(
        day(system_time(ASN1Time::from_timestamp(-1).unwrap())),
        "1970-01-01"
    );
}
