use std::io;
use std::time::UNIX_EPOCH;

use super::*;
use crate::control::probe::Exchange;
use crate::doctor::Severity;
use crate::doctor::examine::Question;
use crate::tls::ServerName;
use crate::tls::certificate::Certificate;
use crate::tls::certificate::tests::certificate;

/// Days from 1970 to 2020, where the certificates of tests begin; they last 730 days.
const BEGIN: u64 = 18_262;

fn caller(name: &str, made_up: bool) -> Caller {
    Caller {
        server_name: Some(ServerName::parse(name.as_bytes()).unwrap()),
        made_up,
        alpn: Vec::new(),
        ports: Vec::new(),
    }
}

fn asked(kind: Kind, result: io::Result<Said>) -> Asked {
    Asked {
        question: Question {
            caller: 0,
            kind,
            shape: Shape::Whole,
        },
        bytes: 267,
        result: result.map_err(Unreached::Server).map(|said| Exchange {
            connect: Duration::ZERO,
            first_byte: None,
            said,
        }),
    }
}

fn hello(version: u16, chain: Vec<Box<[u8]>>, warning: Option<u8>) -> Said {
    Said::Answer(tls::Answer::Hello(ServerHello {
        version: Version(version),
        is_retry: false,
        alpn: None,
        asks_for_certificate: Some(false).filter(|_| !chain.is_empty()),
        chain,
        warning,
    }))
}

fn served(names: &[&str]) -> Said {
    hello(0x0303, vec![certificate(names).into()], None)
}

fn findings_at(days: u64, caller: Caller, asked: &[Asked]) -> Vec<Finding> {
    let examined = Examined {
        place: &Place::default(),
        callers: &[caller],
        asked,
        connect_timeout: Duration::from_secs(4),
        now: UNIX_EPOCH + Duration::from_hours((BEGIN + days) * 24 + 1),
    };
    // The report goes the same ways.
    examined.report("10.0.0.1:443".parse().unwrap());
    examined.findings()
}

fn problems(findings: &[Finding]) -> Vec<&'static str> {
    findings
        .iter()
        .map(|finding| finding.problem.name())
        .collect()
}

fn first(said: Said) -> Vec<Finding> {
    findings_at(
        100,
        caller("fleet.example", false),
        &[asked(Kind::Classic, Ok(said))],
    )
}

#[test]
fn a_certificate_is_judged_by_its_name_and_its_days() {
    let judged = |days, names: &[&str]| {
        let both = [
            asked(Kind::Classic, Ok(hello(0x0304, Vec::new(), None))),
            asked(Kind::Tls12, Ok(served(names))),
        ];
        let findings = findings_at(days, caller("fleet.example", false), &both);
        (
            problems(&findings),
            findings
                .first()
                .map(|it| it.message.clone())
                .unwrap_or_default(),
        )
    };
    assert_eq!(judged(100, &["fleet.example"]).0, [""; 0]);
    let (problem, message) = judged(100, &["other.example", "10.0.0.7"]);
    assert_eq!(problem, ["wrong_name"]);
    assert_eq!(
        message,
        "the certificate is not for fleet.example: it has other.example, 10.0.0.7"
    );
    let (_, message) = judged(100, &[]);
    assert!(
        message.ends_with("it has no name at all, and clients ignore its common name"),
        "{message}"
    );
    let (problem, message) = judged(800, &["fleet.example"]);
    assert_eq!(
        (problem, message.as_str()),
        (
            vec!["certificate_expired"],
            "the certificate expired on 2021-12-31"
        )
    );
    let (problem, message) = judged(725, &["fleet.example"]);
    assert_eq!(problem, ["certificate_expires_soon"]);
    assert_eq!(message, "the certificate expires on 2021-12-31, in 4 days");
    let (_, message) = judged(728, &["fleet.example"]);
    assert!(message.ends_with(", in 1 day"), "{message}");
    let (_, message) = judged(729, &["fleet.example"]);
    assert!(message.ends_with(", in less than a day"), "{message}");
    let begun_later = caller("fleet.example", false);
    let early = Examined {
        place: &Place::default(),
        callers: &[begun_later],
        asked: &[asked(Kind::Classic, Ok(served(&["fleet.example"])))],
        connect_timeout: Duration::ZERO,
        now: UNIX_EPOCH,
    };
    let findings = early.findings();
    assert_eq!(problems(&findings), ["certificate_not_yet_valid"]);
    assert_eq!(findings[0].severity, Severity::Error);
    assert_eq!(
        findings[0].message,
        "the certificate is valid only from 2020-01-01 on"
    );
    assert!(findings[0].help.starts_with("check the clock"));
}

#[test]
fn a_certificate_expires_soon_in_its_last_14_days_and_has_expired_behind_its_last_second() {
    let der = certificate(&["fleet.example"]);
    let end = Certificate::read(&der).unwrap().not_after;
    let day = Duration::from_hours(24);
    let second = Duration::from_secs(1);
    for (now, problem) in [
        (end - 14 * day, None),
        (end - 14 * day + second, Some("certificate_expires_soon")),
        (end, Some("certificate_expires_soon")),
        (end + second, Some("certificate_expired")),
    ] {
        let examined = Examined {
            place: &Place::default(),
            callers: &[caller("fleet.example", false)],
            asked: &[asked(Kind::Classic, Ok(served(&["fleet.example"])))],
            connect_timeout: Duration::ZERO,
            now,
        };
        let findings = examined.findings();
        assert_eq!(problems(&findings), Vec::from_iter(problem));
        let severity = problem.map(|problem| match problem {
            "certificate_expired" => Severity::Error,
            _ => Severity::Warning,
        });
        assert_eq!(findings.first().map(|it| it.severity), severity);
        assert!(
            findings
                .iter()
                .all(|it| it.help == "renew it at the server")
        );
    }
}

#[test]
fn an_authority_that_has_expired_is_a_warning_and_the_own_certificate_is_an_error() {
    let chain = || {
        let names = ["fleet.example", "ca"];
        names.map(|name| certificate(&[name]).into()).into()
    };
    let findings = findings_at(
        800,
        caller("fleet.example", false),
        &[asked(Kind::Classic, Ok(hello(0x0303, chain(), None)))],
    );
    assert_eq!(
        problems(&findings),
        ["certificate_expired", "certificate_expired"]
    );
    assert_eq!(
        [findings[0].severity, findings[1].severity],
        [Severity::Error, Severity::Warning]
    );
    let other_way = "clients that trust a valid certificate of this authority";
    assert!(
        findings[1]
            .message
            .starts_with("the certificate of the authority "),
        "{findings:?}"
    );
    assert!(findings[1].help.starts_with(other_way), "{findings:?}");
    let early = Examined {
        place: &Place::default(),
        callers: &[caller("fleet.example", false)],
        asked: &[asked(Kind::Classic, Ok(hello(0x0303, chain(), None)))],
        connect_timeout: Duration::ZERO,
        now: UNIX_EPOCH,
    };
    let findings = early.findings();
    assert_eq!(problems(&findings), ["certificate_not_yet_valid"; 2]);
    assert_eq!(findings[1].severity, Severity::Warning);
    assert!(findings[1].help.starts_with(other_way), "{findings:?}");
}

#[test]
fn only_the_own_certificate_must_be_one_that_can_be_read() {
    let damaged: Box<[u8]> = Box::from([1, 2]);
    let findings = first(hello(0x0303, vec![damaged.clone()], None));
    assert_eq!(problems(&findings), ["certificate_unreadable"]);
    assert_eq!(findings[0].severity, Severity::Error);
    assert!(findings[0].help.contains("openssl s_client"));
    let own = certificate(&["fleet.example"]).into();
    assert_eq!(first(hello(0x0303, vec![own, damaged], None)), []);
}

#[test]
fn a_name_that_is_made_up_is_only_a_warning() {
    let made_up = || caller("portway-doctor.example", true);
    let unnamed = || Caller {
        server_name: None,
        ..made_up()
    };
    let alert = || Said::Answer(tls::Answer::Alert(112));
    let judged =
        |caller: Caller, said: Said| findings_at(100, caller, &[asked(Kind::Classic, Ok(said))]);
    for findings in [
        judged(made_up(), served(&["a.example"])),
        judged(made_up(), alert()),
        judged(made_up(), Said::Closed),
        judged(made_up(), Said::Reset),
        judged(unnamed(), alert()),
        judged(unnamed(), Said::Closed),
    ] {
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].severity, Severity::Warning);
        let is_unnamed = findings[0].place.server_name.is_none();
        let help = if is_unnamed {
            "doctor knows no name that clients use here"
        } else {
            "doctor has made this name up for a wildcard"
        };
        assert!(findings[0].help.starts_with(help), "{findings:?}");
        assert!(findings[0].help.contains("--name"), "{findings:?}");
    }
    // These do not depend on the name.
    let ssh = tls::read_answer(b"SSH-2.0-x\r\n", true).map_or(Said::Nothing, Said::Answer);
    for said in [Said::Nothing, ssh] {
        assert_eq!(judged(made_up(), said)[0].severity, Severity::Error);
    }
}

/// The names that clients use are refused, and so is one that is made up.
#[test]
fn a_server_that_closes_on_every_name_is_an_error_beside_a_wildcard() {
    let callers = [caller("a.example", true), caller("b.example", false)];
    let closed = |caller| {
        let mut asked = asked(Kind::Classic, Ok(Said::Closed));
        asked.question.caller = caller;
        asked
    };
    let judged = |second: Asked| {
        let examined = Examined {
            place: &Place::default(),
            callers: &callers,
            asked: &[closed(0), second],
            connect_timeout: Duration::ZERO,
            now: UNIX_EPOCH,
        };
        let findings = examined.findings();
        assert_eq!(problems(&findings), ["closed"]);
        findings[0].severity
    };
    assert_eq!(judged(closed(1)), Severity::Error);
    let mut well = asked(Kind::Classic, Ok(hello(0x0304, Vec::new(), None)));
    well.question.caller = 1;
    assert_eq!(judged(well), Severity::Warning);
}

#[test]
fn a_connection_that_fails_behind_others_is_told_once_and_loses_no_hello() {
    let failed = |shape| {
        let refused = io::Error::from_raw_os_error(libc::ECONNREFUSED);
        let mut asked = asked(Kind::Classic, Err(refused));
        asked.question.shape = shape;
        asked
    };
    let mut silent = asked(Kind::PostQuantum, Ok(Said::Nothing));
    silent.question.shape = Shape::TwoRecords;
    let asked = [
        asked(Kind::Classic, Ok(hello(0x0304, Vec::new(), None))),
        failed(Shape::TwoSegments),
        failed(Shape::TwoRecords),
        asked(Kind::PostQuantum, Ok(hello(0x0304, Vec::new(), None))),
        silent,
    ];
    let findings = findings_at(100, caller("fleet.example", false), &asked);
    assert_eq!(problems(&findings), ["refused"]);
    assert_eq!(
        findings[0].message,
        "some connections are made, and another one fails twice: Connection refused (os error 111)"
    );
    assert!(
        findings[0]
            .help
            .starts_with("look at the connection limits")
    );
}

#[test]
fn a_machine_without_a_port_for_a_later_connection_does_not_blame_the_server() {
    let exhausted = io::Error::from_raw_os_error(libc::EADDRNOTAVAIL);
    let mut late = asked(Kind::PostQuantum, Err(exhausted));
    late.question.shape = Shape::TwoRecords;
    let asked = [
        asked(Kind::Classic, Ok(hello(0x0304, Vec::new(), None))),
        late,
    ];
    let findings = findings_at(100, caller("fleet.example", false), &asked);
    assert_eq!(problems(&findings), ["local_exhausted"]);
    assert!(findings[0].message.starts_with("cannot connect: "));
    assert!(findings[0].help.starts_with("no local port is left"));
}

#[test]
fn a_server_of_old_versions_only_is_an_error() {
    let served = |version| {
        first(hello(
            version,
            vec![certificate(&["fleet.example"]).into()],
            None,
        ))
    };
    let findings = served(0x0302);
    assert_eq!(problems(&findings), ["old_version"]);
    assert_eq!(findings[0].severity, Severity::Error);
    assert_eq!(
        findings[0].message,
        "the server speaks TLS 1.1 and nothing newer"
    );
    assert!(findings[0].help.starts_with("let the server speak TLS 1.2"));
    assert_eq!(served(0x0303), []);
}

#[test]
fn an_authority_does_not_take_the_place_of_a_certificate_that_cannot_be_read() {
    let names = |chain: Vec<Box<[u8]>>| {
        let examined = Examined {
            place: &Place::default(),
            callers: &[caller("fleet.example", false)],
            asked: &[asked(Kind::Classic, Ok(hello(0x0303, chain, None)))],
            connect_timeout: Duration::ZERO,
            now: UNIX_EPOCH,
        };
        let report = examined.report("10.0.0.1:443".parse().unwrap());
        let certificates = report.names[0].certificates.iter();
        certificates
            .map(|it| it.names.join(" "))
            .collect::<Vec<_>>()
    };
    let of = |name| Box::<[u8]>::from(certificate(&[name]));
    let [own, authority] = ["fleet.example", "ca"].map(of);
    let damaged: Box<[u8]> = Box::from([1, 2]);
    assert_eq!(names(vec![damaged.clone(), authority.clone()]), [""; 0]);
    assert_eq!(
        names(vec![own, damaged, authority]),
        ["fleet.example", "ca"]
    );
}

#[test]
fn a_server_that_warns_of_the_name_is_told_with_its_certificate() {
    let findings = first(hello(
        0x0303,
        vec![certificate(&["a.example"]).into()],
        Some(112),
    ));
    assert!(
        findings[0]
            .message
            .ends_with("it has a.example; the server warns that it does not know the name")
    );
}

#[test]
fn every_answer_that_is_not_a_hello_has_its_sentence() {
    let line = |line| tls::read_answer(line, true).map_or(Said::Nothing, Said::Answer);
    for (said, problem, message, help) in [
        (
            Said::Answer(tls::Answer::Alert(40)),
            "alert",
            "the server sends alert 40 (handshake_failure) to a hello for fleet.example",
            "compare the cipher suites",
        ),
        (
            line(b"SSH-2.0-x\r\n"),
            "not_tls",
            "the server does not speak TLS there: it speaks SSH: \"SSH-2.0-x\"",
            "turn on TLS at the server",
        ),
        (
            line(b"welcome\r\n"),
            "not_tls",
            "the server does not speak TLS there: it speaks an unknown protocol that begins with \"welcome\"",
            "turn on TLS at the server",
        ),
        (
            Said::Answer(tls::Answer::Cut(9)),
            "bad_answer",
            "the answer is not one of TLS: the server stops in the middle of an answer, after 9 bytes",
            "look at the log of the server, and for a device on the way",
        ),
        (
            Said::Answer(tls::Answer::Malformed("alert")),
            "bad_answer",
            "the answer is not one of TLS: the server sends bytes that break the rules of TLS (alert)",
            "look at the log of the server, and for a device on the way",
        ),
        (
            Said::Nothing,
            "silent",
            "something accepts the connection, and then stays silent for 5 s",
            "check that a TLS server listens at this port, and that no load balancer",
        ),
        (
            Said::Closed,
            "closed",
            "the server closes the connection without an answer to the hello",
            "check that a TLS server listens at this port; look at its log",
        ),
        (
            Said::Reset,
            "closed",
            "the server resets the connection without an answer to the hello",
            "check that a TLS server listens at this port; look at its log",
        ),
    ] {
        let findings = first(said);
        assert_eq!(problems(&findings), [problem]);
        assert_eq!(findings[0].severity, Severity::Error);
        assert_eq!(findings[0].message, message);
        assert!(findings[0].help.starts_with(help), "{findings:?}");
    }
}

#[test]
fn an_alert_has_the_remedy_of_its_number() {
    for (alert, help) in [
        (40, "compare the cipher suites, groups and certificate"),
        (70, "let the server speak TLS 1.2 or 1.3"),
        (80, "look at the log of the server; if it is a relay too"),
        (112, "add the name at the server"),
        (120, "correct alpn of the route"),
        (50, "look at the log of the server, which says why"),
    ] {
        let findings = first(Said::Answer(tls::Answer::Alert(alert)));
        assert!(findings[0].help.starts_with(help), "{findings:?}");
    }
    let nameless = &first(Said::Answer(tls::Answer::Alert(200)))[0].message;
    assert_eq!(
        nameless,
        "the server sends alert 200 to a hello for fleet.example"
    );
    let unnamed = Caller {
        server_name: None,
        ..caller("fleet.example", false)
    };
    let alert = asked(Kind::Classic, Ok(Said::Answer(tls::Answer::Alert(112))));
    let message = &findings_at(1, unnamed, &[alert])[0].message;
    assert_eq!(
        message,
        "the server sends alert 112 (unrecognized_name) to a hello without a server name"
    );
}

#[test]
fn a_server_that_asks_for_another_hello_is_reported_so() {
    let mut retry = hello(0x0304, Vec::new(), None);
    if let Said::Answer(tls::Answer::Hello(hello)) = &mut retry {
        hello.is_retry = true;
    }
    assert_eq!(
        words::deed(&retry),
        "speaks TLS 1.3 and asks for another hello"
    );
}

#[test]
fn every_failure_of_a_connect_has_its_sentence() {
    for (error, problem, message, help) in [
        (
            libc::ECONNREFUSED,
            "refused",
            "nobody listens there: the connection is refused",
            "start the server, or correct the port",
        ),
        (
            libc::ETIMEDOUT,
            "connect_timeout",
            "nothing answers within 4s (connect_timeout)",
            "check that the host is up",
        ),
        (
            libc::EHOSTUNREACH,
            "unreachable",
            "cannot connect: No route to host (os error 113)",
            "check the routes and the firewall rules",
        ),
        (
            libc::EADDRNOTAVAIL,
            "local_exhausted",
            "cannot connect: Cannot assign requested address (os error 99)",
            "no local port is left towards this address",
        ),
    ] {
        let error = io::Error::from_raw_os_error(error);
        let findings = findings_at(
            1,
            caller("fleet.example", false),
            &[asked(Kind::Classic, Err(error))],
        );
        assert_eq!(
            (problems(&findings), findings[0].message.as_str()),
            (vec![problem], message)
        );
        assert_eq!(findings[0].severity, Severity::Error);
        assert!(findings[0].help.starts_with(help), "{findings:?}");
    }
}

#[test]
fn a_certificate_that_cannot_be_seen_has_its_reason() {
    let unseen = |classic: Said, tls12: Said| {
        let examined = Examined {
            place: &Place::default(),
            callers: &[caller("fleet.example", false)],
            asked: &[
                asked(Kind::Classic, Ok(classic)),
                asked(Kind::Tls12, Ok(tls12)),
            ],
            connect_timeout: Duration::ZERO,
            now: UNIX_EPOCH,
        };
        let mut report = examined.report("10.0.0.1:443".parse().unwrap());
        report.names.remove(0).certificate_unseen
    };
    let tls13 = || hello(0x0304, Vec::new(), None);
    let alert = |number| Said::Answer(tls::Answer::Alert(number));
    let only =
        "the server speaks TLS 1.3 only, which encrypts its certificate, also for checks (health)";
    assert_eq!(unseen(tls13(), alert(70)).as_deref(), Some(only));
    let refused = unseen(alert(40), alert(40));
    assert_eq!(
        refused.as_deref(),
        Some("to a hello of TLS 1.2 the server sends alert 40 (handshake_failure)")
    );
    assert_eq!(unseen(tls13(), served(&["fleet.example"])), None);
    assert_eq!(unseen(served(&["fleet.example"]), Said::Closed), None);
    let closed = unseen(tls13(), Said::Closed);
    assert_eq!(
        closed.as_deref(),
        Some("to a hello of TLS 1.2 the server closes the connection")
    );
}
