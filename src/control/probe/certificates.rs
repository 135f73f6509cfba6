//! Judges the certificates of a server by their names and dates, and puts that into words. Nothing here verifies who has
//! signed them. Pure, apart from the time that is given.

use std::time::SystemTime;

use crate::backend::flaw_of_dates;
use crate::outcome::CertificateFlaw;
use crate::telemetry::list;
use crate::tls::certificate::{Certificate, SHOWN_NAMES, day};
use crate::tls::{AlertDescription, ServerHello, ServerName};

const UNRECOGNIZED_NAME: u8 = AlertDescription::UnrecognizedName as u8;

/// The remedy for a server's own certificate that has expired, or will soon.
pub const RENEW: &str = "renew it at the server";
/// The remedy for an authority whose certificate is not valid: another one of the same key may be (cross-signing).
const OTHER_WAY: &str = "clients that trust a valid certificate of this authority, or one before it in the chain, do without this one: \
     replace it at the server, or leave it out there";

/// One thing that is wrong with a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// The kind.
    pub kind: CertificateFlaw,
    /// Whether it is the certificate of an authority, for which clients may know another one.
    pub is_of_authority: bool,
    /// Says what is wrong.
    pub message: String,
    /// Says what to do.
    pub help: &'static str,
}

/// The flaws of the certificates that came with this hello. `chain` has those that could be read, the server's own first.
/// `wrong_name` judges the names of its own.
pub fn flaws(
    hello: &ServerHello,
    chain: &[Certificate],
    now: SystemTime,
    wrong_name: impl Fn(&Certificate) -> Option<Flaw>,
) -> Vec<Flaw> {
    let mut flaws = Vec::new();
    if chain.is_empty() && !hello.chain.is_empty() {
        flaws.push(Flaw {
            kind: CertificateFlaw::CertificateUnreadable,
            is_of_authority: false,
            message: "the certificate cannot be read".to_owned(),
            help: "look at the server's certificate: openssl s_client -connect shows it",
        });
    }
    for (position, certificate) in chain.iter().enumerate() {
        let is_of_authority = position > 0;
        flaws.extend(judge_time(certificate, is_of_authority, now));
        if !is_of_authority {
            flaws.extend(wrong_name(certificate));
        }
    }
    flaws
}

/// Whether a server's own certificate, which came with this hello, is not for a name.
pub fn wrong_name(
    certificate: &Certificate,
    name: &ServerName,
    hello: &ServerHello,
) -> Option<Flaw> {
    if certificate.covers(name) {
        return None;
    }
    let names = match certificate.names.len() {
        0 => "no name at all, and clients ignore its common name".to_owned(),
        _ => list(&certificate.names, SHOWN_NAMES),
    };
    let does_not_know = match hello.warning {
        Some(UNRECOGNIZED_NAME) => "; the server warns that it does not know the name",
        Some(_) | None => "",
    };
    Some(Flaw {
        kind: CertificateFlaw::WrongName,
        is_of_authority: false,
        message: format!("the certificate is not for {name}: it has {names}{does_not_know}"),
        help: "put the name into the server's certificate, or correct server_names or the backend of the route",
    })
}

fn judge_time(certificate: &Certificate, is_of_authority: bool, now: SystemTime) -> Option<Flaw> {
    let Certificate {
        subject,
        not_before,
        not_after,
        ..
    } = certificate;
    let which = if is_of_authority {
        format!("the certificate of the authority {subject}")
    } else {
        "the certificate".to_owned()
    };
    let of = |help| if is_of_authority { OTHER_WAY } else { help };
    let [from, to] = [*not_before, *not_after].map(day);
    let kind = flaw_of_dates(certificate, now)?;
    let (message, help) = match kind {
        CertificateFlaw::CertificateExpired => (format!("{which} expired on {to}"), of(RENEW)),
        CertificateFlaw::CertificateNotYetValid => (
            format!("{which} is valid only from {from} on"),
            of("check the clock of this machine, or renew the certificate at the server"),
        ),
        CertificateFlaw::CertificateExpiresSoon => {
            let left = not_after.duration_since(now).unwrap_or_default();
            let days = days(left.as_secs() / 86_400);
            (format!("{which} expires on {to}, in {days}"), RENEW)
        }
        // Dates show neither of them.
        CertificateFlaw::CertificateUnreadable | CertificateFlaw::WrongName => return None,
    };
    Some(Flaw {
        kind,
        is_of_authority,
        message,
        help,
    })
}

/// A number of days, in a sentence after "in".
fn days(count: u64) -> String {
    match count {
        0 => "less than a day".to_owned(),
        1 => "1 day".to_owned(),
        _ => format!("{count} days"),
    }
}
