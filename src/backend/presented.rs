//! The certificates that an address has shown to a check.

use std::time::{Duration, Instant, SystemTime};

use enum_map::EnumMap;

use crate::outcome::CertificateFlaw;
use crate::tls::ServerName;
use crate::tls::certificate::Certificate;

/// How long before its end a certificate is worth a warning.
const SOON: Duration = Duration::from_hours(14 * 24);

/// Everything that the last check of an address that was answered has seen of its certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presented {
    /// The time of day when the answer was read.
    pub seen_at: SystemTime,
    /// The name in the hello of the check, by which a server may choose its certificate.
    pub server_name: Option<ServerName>,
    /// The certificates, the server's own first, with at least one; or why there is none.
    pub certificates: Result<Vec<Certificate>, Unseen>,
    /// When the program log last warned of a flaw at this address, for each kind.
    pub warned: EnumMap<CertificateFlaw, Option<Instant>>,
}

/// Why a check has seen no certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unseen {
    /// The server speaks TLS 1.3 only, which encrypts its certificate.
    Encrypted,
    /// The server sent none, or one that cannot be read.
    Unreadable,
}

impl Presented {
    /// When the first of the certificates expires, in seconds since 1970; `None` if none was seen.
    pub fn not_after(&self) -> Option<u64> {
        let certificates = self.certificates.as_ref().ok()?;
        let ends = certificates.iter().map(|certificate| certificate.not_after);
        let end = ends.min()?.duration_since(SystemTime::UNIX_EPOCH);
        Some(end.map_or(0, |end| end.as_secs()))
    }

    /// The worst flaw of their dates; `None` if all are valid, or none was seen.
    pub fn flaw(&self, now: SystemTime) -> Option<CertificateFlaw> {
        let certificates = self.certificates.iter().flatten();
        certificates.filter_map(|it| flaw_of_dates(it, now)).min()
    }
}

/// The flaw of the dates of a certificate at a time, if they have one.
pub fn flaw_of_dates(certificate: &Certificate, now: SystemTime) -> Option<CertificateFlaw> {
    let left = certificate.not_after.duration_since(now);
    if left.is_err() {
        Some(CertificateFlaw::CertificateExpired)
    } else if now < certificate.not_before {
        Some(CertificateFlaw::CertificateNotYetValid)
    } else if left.unwrap_or_default() < SOON {
        Some(CertificateFlaw::CertificateExpiresSoon)
    } else {
        None
    }
}
