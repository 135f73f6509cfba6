//! The certificate of the client in a handshake that passes.

/// The certificate of the client, as far as its flight shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ClientCertificate {
    #[default]
    Unknown,
    /// The message that would show it came in pieces.
    Unread,
    NotAsked,
    /// The backend asked for one, and the client has none.
    Missing,
    Sent,
}

impl ClientCertificate {
    /// Up to TLS 1.2, from the first message behind the ServerHello: Certificate, which is there if and only if the backend
    /// asked (RFC 5246 section 7.4.6), or ClientKeyExchange.
    pub(super) const fn of_message(payload: &[u8]) -> Self {
        match payload {
            [11, 0, 0, 3, ..] => Self::Missing,
            [11, _, _, _, ..] => Self::Sent,
            [16, ..] => Self::NotAsked,
            _ => Self::Unread,
        }
    }

    /// In TLS 1.3, from the length of the first record. It has the type of its content and a tag (17 bytes), and carries
    /// Finished (36 bytes, or 52 with SHA-384), an empty Certificate (8), both, or a Certificate with something in it. The
    /// JDK adds 16 bytes.
    pub(super) const fn of_length(length: u16) -> Self {
        match length {
            53 | 69 | 85 => Self::NotAsked,
            25 | 41 | 61 | 77 | 93 => Self::Missing,
            100.. => Self::Sent,
            _ => Self::Unknown,
        }
    }

    pub(super) fn learn(&mut self, found: Self) {
        if *self == Self::Unknown {
            *self = found;
        }
    }
}
