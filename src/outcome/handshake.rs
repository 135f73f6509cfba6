//! The facts that the records of a TLS handshake show.

use enum_map::Enum;
use strum::{IntoStaticStr, VariantArray};

/// The first thing that a backend says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enum, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum BackendAnswer {
    /// A ServerHello.
    ServerHello,
    /// An alert.
    Alert,
    /// Bytes that begin no TLS record.
    NotTls,
    /// Nothing, until the connection ended.
    None,
}

impl BackendAnswer {
    /// The value of the label and of the log field.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// How a TLS handshake between a client and a backend ended, as far as its records show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enum, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Handshake {
    /// Both sides finished it.
    Completed,
    /// A side refused it with an alert.
    Failed,
    /// The connection ended before, and no alert says why.
    Abandoned,
    /// The backend does not speak TLS.
    NotTls,
    /// Some of it passed in a form that portway does not follow, so nothing is known.
    Unseen,
}

impl Handshake {
    /// The value of the label and of the log field.
    pub fn name(self) -> &'static str {
        self.into()
    }
}
