//! The closed list of what may be wrong with a certificate of a server.

use enum_map::Enum;
use strum::{IntoStaticStr, VariantArray};

/// A reason for clients to refuse a certificate, as far as its names and dates show one. `portway doctor` and the program
/// log have the same names for it. Those that stop clients come first.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Enum, IntoStaticStr, VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum CertificateFlaw {
    /// Its last second is over.
    CertificateExpired,
    /// Its first second is still to come.
    CertificateNotYetValid,
    /// It is not a certificate that can be read.
    CertificateUnreadable,
    /// It is not for the name that clients ask for.
    WrongName,
    /// It expires within 14 days.
    CertificateExpiresSoon,
}

impl CertificateFlaw {
    /// The value of the log field.
    pub fn name(self) -> &'static str {
        self.into()
    }
}
