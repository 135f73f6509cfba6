//! Reads the certificates of a server: names, issuer, validity. Nothing here verifies a signature: portway has no
//! authority that it could trust, and no TLS stack.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Serialize, Serializer};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;
use x509_parser::time::ASN1Time;
use x509_parser::x509::X509Name;

use super::ServerName;

/// The most names that are kept of one certificate.
const MOST_NAMES: usize = 1000;
/// The most names that a text or JSON lists.
pub const SHOWN_NAMES: usize = 20;
/// The longest text that is kept of a subject, an issuer or a name.
const MOST_TEXT: usize = 253;

/// One certificate, as far as a person asks for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Certificate {
    /// The distinguished name of its owner.
    pub subject: String,
    /// The distinguished name of the authority that signed it.
    pub issuer: String,
    /// Whether both are the same.
    pub self_signed: bool,
    /// The names and addresses that it is for.
    #[serde(serialize_with = "first_names")]
    pub names: Vec<String>,
    /// From when on it is valid.
    #[serde(serialize_with = "as_text")]
    pub not_before: SystemTime,
    /// Until when it is valid.
    #[serde(serialize_with = "as_text")]
    pub not_after: SystemTime,
}

impl Certificate {
    /// Reads those that a server has sent, its own first, and leaves out authorities that cannot be read. There is none if
    /// its own cannot be read: another one would be taken for it.
    pub fn chain(ders: &[Box<[u8]>]) -> Vec<Self> {
        let mut certificates = ders.iter().map(|der| Self::read(der));
        let own = certificates.next().flatten();
        let own = own.map(|own| [own].into_iter().chain(certificates.flatten()));
        own.map(Iterator::collect).unwrap_or_default()
    }

    /// Reads one in DER.
    pub fn read(der: &[u8]) -> Option<Self> {
        let (_, certificate) = parse_x509_certificate(der).ok()?;
        let validity = certificate.validity();
        let [subject, issuer] = [certificate.subject(), certificate.issuer()];
        Some(Self {
            subject: distinguished(subject),
            issuer: distinguished(issuer),
            self_signed: subject.as_raw() == issuer.as_raw(),
            names: names(&certificate),
            not_before: system_time(validity.not_before),
            not_after: system_time(validity.not_after),
        })
    }

    /// The day from which on it is valid, in UTC.
    pub fn first_day(&self) -> String {
        day(self.not_before)
    }

    /// The day until which it is valid, in UTC.
    pub fn last_day(&self) -> String {
        day(self.not_after)
    }

    /// Whether clients accept it for this name (RFC 9525 section 6.3): a `*` is the whole first label, and one label
    /// only. The common name does not count, for current clients ignore it.
    pub fn covers(&self, name: &ServerName) -> bool {
        let name = name.as_str();
        let rest = name.split_once('.').map(|(_, rest)| rest);
        self.names.iter().any(|covered| {
            let covered = covered.strip_suffix('.').unwrap_or(covered);
            match covered.strip_prefix("*.") {
                Some(suffix) => rest.is_some_and(|rest| rest.eq_ignore_ascii_case(suffix)),
                None => covered.eq_ignore_ascii_case(name),
            }
        })
    }
}

/// A day as in `2026-11-29`, in UTC.
pub fn day(time: SystemTime) -> String {
    let mut text = humantime::format_rfc3339_seconds(time).to_string();
    text.truncate("2026-11-29".len());
    text
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let names = extension.value.general_names.iter();
    let names = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(printable(name)),
        GeneralName::IPAddress(bytes) => address(bytes).map(|address| address.to_string()),
        GeneralName::OtherName(..)
        | GeneralName::RFC822Name(_)
        | GeneralName::X400Address(_)
        | GeneralName::DirectoryName(_)
        | GeneralName::EDIPartyName(_)
        | GeneralName::URI(_)
        | GeneralName::RegisteredID(_)
        | GeneralName::Invalid(..) => None,
    });
    names.take(MOST_NAMES).collect()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let ipv4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let ipv6 = <[u8; 16]>::try_from(bytes).map(IpAddr::from);
    ipv4.or(ipv6).ok()
}

fn distinguished(name: &X509Name<'_>) -> String {
    printable(&name.to_string())
}

/// The text of a server, without what could control a terminal, and bounded.
fn printable(text: &str) -> String {
    let characters = text.chars().filter(|character| !character.is_control());
    characters.take(MOST_TEXT).collect()
}

fn system_time(time: ASN1Time) -> SystemTime {
    /// The last second that has four digits for its year.
    const LAST: u64 = 253_402_300_799;
    let seconds = u64::try_from(time.timestamp()).unwrap_or(0).min(LAST);
    UNIX_EPOCH + Duration::from_secs(seconds)
}

#[expect(clippy::ptr_arg, reason = "serde passes the field")]
fn first_names<S: Serializer>(names: &Vec<String>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(names.iter().take(SHOWN_NAMES))
}

fn as_text<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_seconds(*time))
}

#[cfg(test)]
pub(crate) mod tests;
