//! Fatal alerts that may be sent in plain text before a ServerHello (RFC 8446 section 6).

use strum::VariantArray;

/// The alert descriptions that portway sends; the number is the one on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, VariantArray)]
#[repr(u8)]
pub enum AlertDescription {
    /// A message that is not allowed at this point.
    UnexpectedMessage = 10,
    /// A record over 2^14 bytes.
    RecordOverflow = 22,
    /// A field that is well formed but not allowed.
    IllegalParameter = 47,
    /// The client's network is not allowed.
    AccessDenied = 49,
    /// A length or a field that does not parse.
    DecodeError = 50,
    /// SSLv2 or SSLv3.
    ProtocolVersion = 70,
    /// The backend cannot be reached.
    InternalError = 80,
    /// A TLS 1.3 hello without the server name that is needed here (RFC 8446 section 9.2).
    MissingExtension = 109,
    /// A server name without a route (RFC 6066 section 3).
    UnrecognizedName = 112,
}

impl AlertDescription {
    /// The name in the registry of TLS alerts.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UnexpectedMessage => "unexpected_message",
            Self::RecordOverflow => "record_overflow",
            Self::IllegalParameter => "illegal_parameter",
            Self::AccessDenied => "access_denied",
            Self::DecodeError => "decode_error",
            Self::ProtocolVersion => "protocol_version",
            Self::InternalError => "internal_error",
            Self::MissingExtension => "missing_extension",
            Self::UnrecognizedName => "unrecognized_name",
        }
    }

    /// The whole record of the fatal alert. Record version 1.2: every stack accepts it before the
    /// version is negotiated.
    pub const fn record(self) -> [u8; 7] {
        [0x15, 3, 3, 0, 2, 2, self as u8]
    }
}

/// The name of an alert in the registry of TLS alerts; `None` if it has none.
pub const fn alert_name(number: u8) -> Option<&'static str> {
    Some(match number {
        0 => "close_notify",
        10 => "unexpected_message",
        20 => "bad_record_mac",
        22 => "record_overflow",
        40 => "handshake_failure",
        42 => "bad_certificate",
        43 => "unsupported_certificate",
        44 => "certificate_revoked",
        45 => "certificate_expired",
        46 => "certificate_unknown",
        47 => "illegal_parameter",
        48 => "unknown_ca",
        49 => "access_denied",
        50 => "decode_error",
        51 => "decrypt_error",
        70 => "protocol_version",
        71 => "insufficient_security",
        80 => "internal_error",
        86 => "inappropriate_fallback",
        90 => "user_canceled",
        100 => "no_renegotiation",
        109 => "missing_extension",
        110 => "unsupported_extension",
        112 => "unrecognized_name",
        113 => "bad_certificate_status_response",
        115 => "unknown_psk_identity",
        116 => "certificate_required",
        120 => "no_application_protocol",
        121 => "ech_required",
        _ => return None,
    })
}

/// The remedy for a server that speaks only old versions.
pub const TOO_OLD: &str = "let the server speak TLS 1.2 or 1.3: agents offer nothing older";

/// The remedy for a server that answers an ordinary hello with this alert.
pub const fn remedy(alert: u8) -> &'static str {
    match alert {
        40 => {
            "compare the cipher suites, groups and certificate of the server with those of current clients; some \
             servers send it if they do not know the name"
        }
        70 => TOO_OLD,
        80 => {
            "look at the log of the server; if it is a relay too, that log says which server it could not reach"
        }
        112 => "add the name at the server, or correct server_names or the backend of the route",
        120 => "correct alpn of the route, or let the server speak these protocols",
        _ => "look at the log of the server, which says why it refuses",
    }
}
