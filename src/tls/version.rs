//! Versions of TLS.

use std::fmt;

/// A version as on the wire (RFC 8446 section 4.2.1). A later one is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u16);

impl Version {
    /// Clients must no longer offer it (RFC 7568, RFC 8446 appendix D.5).
    pub const SSL_3: Self = Self(0x0300);
    /// TLS 1.2.
    pub const TLS_1_2: Self = Self(0x0303);
    /// TLS 1.3.
    pub const TLS_1_3: Self = Self(0x0304);
}

/// As people write it; in hexadecimal if it has no name.
impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0x0301 => f.write_str("1.0"),
            0x0302 => f.write_str("1.1"),
            0x0303 => f.write_str("1.2"),
            0x0304 => f.write_str("1.3"),
            other => write!(f, "0x{other:04x}"),
        }
    }
}
