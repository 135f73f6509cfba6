use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::rdata::{A, AAAA};
use hickory_resolver::proto::rr::{RData, Record, RecordType};

use super::*;

const V4: RData = RData::A(A::new(192, 0, 2, 1));
const V6: RData = RData::AAAA(AAAA::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));

/// An answer with a record for each time to live.
#[expect(clippy::unnecessary_wraps, reason = "as the library gives it")]
fn records(data: &RData, lives: &[u32]) -> Result<Records, NetError> {
    let name = Name::from_ascii("es.test.").unwrap();
    let records = lives.iter();
    let records = records.map(|life| Record::from_rdata(name.clone(), *life, data.clone()));
    let query = Query::query(name.clone(), RecordType::A);
    Ok(Records::new_with_max_ttl(
        query,
        records.collect::<Vec<_>>(),
    ))
}

fn no_records(code: ResponseCode, life: Option<u32>) -> Result<Records, NetError> {
    let mut none = NoRecords::new(Query::new(), code);
    none.negative_ttl = life;
    Err(none.into())
}

fn found(families: &[Result<Records, NetError>; 2]) -> (Vec<String>, u64) {
    let found = combine(families).map_err(|it| it.error).unwrap();
    let addresses = found.addresses.iter().map(|it| it.ip().to_string());
    (addresses.collect(), found.fresh.as_secs())
}

fn missed(families: &[Result<Records, NetError>; 2]) -> (String, u64) {
    let missed = combine(families).map(|it| it.addresses).unwrap_err();
    (missed.error.to_string(), missed.again.as_secs())
}

#[test]
fn an_answer_is_fresh_for_its_shortest_time_to_live_within_bounds() {
    let none = || no_records(ResponseCode::NoError, Some(60));
    for (lives, fresh) in [
        (&[0][..], 5),
        (&[4], 5),
        (&[60], 60),
        (&[300, 60, 120], 60),
        (&[3600], 3600),
        (&[3601], 3600),
        (&[1 << 31], 3600),
        (&[u32::MAX], 3600),
    ] {
        assert_eq!(found(&[records(&V4, lives), none()]).1, fresh, "{lives:?}");
        assert_eq!(found(&[none(), records(&V6, lives)]).1, fresh, "{lives:?}");
    }
    assert_eq!(found(&[records(&V4, &[300]), records(&V6, &[60])]).1, 60);
}

#[test]
fn the_addresses_of_ipv4_come_first_and_one_family_is_enough() {
    let both = found(&[records(&V4, &[60]), records(&V6, &[60])]);
    assert_eq!(both.0, ["192.0.2.1", "2001:db8::1"]);
    let none = no_records(ResponseCode::NoError, None);
    assert_eq!(found(&[none, records(&V6, &[60])]).0, ["2001:db8::1"]);
    // A family that failed is asked for again soon.
    let failed = found(&[records(&V4, &[60]), Err(NetError::Timeout)]);
    assert_eq!(failed, (vec!["192.0.2.1".to_owned()], 5));
}

#[test]
fn an_address_without_a_way_to_it_comes_last_and_the_order_stays_otherwise() {
    let all = [
        "192.0.2.1:0",
        "192.0.2.2:0",
        "[2001:db8::1]:0",
        "[2001:db8::2]:0",
    ];
    let all = all.map(|text| text.parse::<SocketAddr>().unwrap());
    let order = |has_way: fn(SocketAddr) -> bool| {
        let mut addresses = all;
        put_reachable_first(&mut addresses, has_way);
        addresses.map(|it| all.iter().position(|one| *one == it).unwrap())
    };
    assert_eq!(order(|_| true), [0, 1, 2, 3]);
    assert_eq!(order(|_| false), [0, 1, 2, 3]);
    assert_eq!(order(|it| it.is_ipv4()), [0, 1, 2, 3]);
    assert_eq!(order(|it| it.is_ipv6()), [2, 3, 0, 1]);
}

#[test]
fn without_an_answer_for_ipv4_the_look_up_fails_even_if_it_finds_ipv6() {
    let refused = NetError::Dns(DnsError::ResponseCode(ResponseCode::Refused));
    let failed = |error| missed(&[Err(error), records(&V6, &[60])]);
    let words = |text| format!("for IPv4: {text}; for IPv6: the name has an address");
    let text = words("the DNS server refuses to answer (REFUSED)");
    assert_eq!(failed(refused), (text, 2));
    let text = words("no DNS server answers");
    assert_eq!(failed(NetError::Timeout), (text, 2));
}

#[test]
fn a_server_that_answers_for_one_family_is_not_said_to_be_silent() {
    let none = || no_records(ResponseCode::NoError, Some(60));
    let silent = || Err(NetError::Timeout);
    for (families, words) in [
        (
            [none(), silent()],
            "for IPv4: the name has no address; for IPv6: no DNS server answers",
        ),
        (
            [silent(), none()],
            "for IPv4: no DNS server answers; for IPv6: the name has no address",
        ),
        (
            [records(&V4, &[]), silent()],
            "for IPv4: the name has no address; for IPv6: no DNS server answers",
        ),
        ([silent(), silent()], "no DNS server answers"),
        (
            [silent(), no_records(ResponseCode::NXDomain, Some(60))],
            "for IPv4: no DNS server answers; for IPv6: the name does not exist (NXDOMAIN)",
        ),
        (
            [
                silent(),
                Err(NetError::Dns(DnsError::ResponseCode(
                    ResponseCode::ServFail,
                ))),
            ],
            "for IPv4: no DNS server answers; for IPv6: the DNS server failed (SERVFAIL)",
        ),
    ] {
        assert_eq!(missed(&families), (words.to_owned(), 2));
    }
}

/// An answer that comes after some milliseconds.
async fn after(millis: u64, answer: Result<Records, NetError>) -> Result<Records, NetError> {
    tokio::time::sleep(Duration::from_millis(millis)).await;
    answer
}

#[tokio::test(start_paused = true)]
async fn an_answer_for_ipv4_waits_a_little_for_ipv6_and_one_for_ipv6_waits_for_ipv4() {
    let none = || no_records(ResponseCode::NoError, None);
    for ((v4, v4_after), (v6, v6_after), takes, finds) in [
        (
            (records(&V4, &[9]), 10),
            (records(&V6, &[9]), 505),
            505,
            [true, true],
        ),
        (
            (records(&V4, &[9]), 10),
            (records(&V6, &[9]), 3000),
            510,
            [true, false],
        ),
        (
            (records(&V4, &[9]), 3000),
            (records(&V6, &[9]), 10),
            3000,
            [true, true],
        ),
        (
            (records(&V4, &[9]), 3000),
            (none(), 10),
            3000,
            [true, false],
        ),
        (
            (none(), 10),
            (records(&V6, &[9]), 3000),
            3000,
            [false, true],
        ),
    ] {
        let begun = Instant::now();
        let found = both(after(v4_after, v4), after(v6_after, v6)).await;
        let took = begun.elapsed().as_millis();
        assert_eq!((took, found.map(|it| it.is_ok())), (takes, finds));
    }
}

#[test]
fn a_negative_answer_is_believed_for_its_time_within_bounds_and_a_failure_is_not() {
    let none = |life| no_records(ResponseCode::NXDomain, life);
    for (lives, again) in [
        ([None, None], 2),
        ([Some(0), None], 2),
        ([Some(10), Some(20)], 10),
        ([Some(86_400), Some(86_400)], 30),
    ] {
        let missed = missed(&lives.map(none));
        assert_eq!(
            missed,
            ("the name does not exist (NXDOMAIN)".to_owned(), again)
        );
    }
    let (_, again) = missed(&[none(Some(20)), Err(NetError::Timeout)]);
    assert_eq!(again, 2);
    let empty = missed(&[
        records(&V4, &[]),
        no_records(ResponseCode::NoError, Some(7)),
    ]);
    assert_eq!(empty, ("the name has no address".to_owned(), 7));
}

#[test]
fn every_error_is_told_in_words() {
    let failed = |code| NetError::Dns(DnsError::ResponseCode(code));
    for (error, words) in [
        (
            failed(ResponseCode::ServFail),
            "the DNS server failed (SERVFAIL)",
        ),
        (
            failed(ResponseCode::Refused),
            "the DNS server refuses to answer (REFUSED)",
        ),
        (
            failed(ResponseCode::FormErr),
            "the DNS server answers with an error: Form Error",
        ),
        (
            NetError::Truncated,
            "the answer is too long for UDP, and the DNS server does not answer over TCP",
        ),
        (
            io::Error::from(io::ErrorKind::ConnectionRefused).into(),
            "cannot ask the DNS server: connection refused",
        ),
    ] {
        assert_eq!(told(&error), words);
    }
}
