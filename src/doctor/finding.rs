//! Findings: each says what is wrong, where, and what to do about it.

use std::net::SocketAddr;

use serde::{Serialize, Serializer};
use strum::{IntoStaticStr, VariantArray};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Clients fail.
    Error,
    /// Clients may fail, or will soon.
    Warning,
}

/// The kinds of findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Problem {
    /// The name of an endpoint has no address.
    Unresolved,
    /// An address is portway itself.
    Loop,
    /// The backend does not allow an address.
    ForbiddenAddress,
    /// Nobody listens at an address.
    Refused,
    /// An address does not answer within `connect_timeout`.
    ConnectTimeout,
    /// The network has no way to an address, or the connection failed in another way.
    Unreachable,
    /// The proxy in `via` does not open a tunnel.
    ViaRefused,
    /// This machine has no port, descriptor or memory left for a connection.
    LocalExhausted,
    /// The server speaks another protocol.
    NotTls,
    /// The server takes the connection and says nothing.
    Silent,
    /// The server ends the connection without an answer.
    Closed,
    /// The server sends an alert.
    Alert,
    /// The answer breaks the rules of TLS, or stops in the middle.
    BadAnswer,
    /// The server speaks no version that agents offer.
    OldVersion,
    /// The server answers some hellos and not others that mean the same.
    HelloLost,
    /// The certificate is not for the name of the route.
    WrongName,
    /// A certificate has expired.
    CertificateExpired,
    /// A certificate is not valid yet.
    CertificateNotYetValid,
    /// A certificate expires within 14 days.
    CertificateExpiresSoon,
    /// The certificate cannot be read.
    CertificateUnreadable,
    /// One certificate covers servers that the routes keep apart, and browsers may mix them up.
    SharedCertificate,
    /// Server names were not tried.
    NotTried,
    /// `portway check` warns of the configuration.
    Configuration,
    /// A limit of this machine is near.
    MachineLimit,
}

impl Problem {
    /// The value of the field `problem`.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Every value of the field.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Self::VARIANTS.iter().map(|problem| problem.name())
    }
}

impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Its kind.
    pub problem: Problem,
    /// Where it is.
    #[serde(flatten)]
    pub place: Place,
    /// Says what is wrong.
    pub message: String,
    /// Says what to do.
    pub help: String,
}

/// Where something was found. A part is `None` if the finding is about all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The name of the backend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// The endpoint as in routes.toml.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The address that was dialled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<SocketAddr>,
    /// The name in the hello.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// The key of routes.toml, with the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

impl Place {
    /// The same place, for one server name.
    pub(super) fn of_name(&self, server_name: Option<&str>) -> Self {
        Self {
            server_name: server_name.map(str::to_owned),
            ..self.clone()
        }
    }

    /// Whether the address is that of a name.
    pub(super) fn is_named(&self) -> bool {
        let written = |address: SocketAddr| self.endpoint.as_ref() == Some(&address.to_string());
        self.address.is_some_and(|address| !written(address))
    }

    pub(super) fn error(
        &self,
        problem: Problem,
        message: String,
        help: impl Into<String>,
    ) -> Finding {
        self.finding(Severity::Error, problem, message, help.into())
    }

    pub(super) fn warning(
        &self,
        problem: Problem,
        message: String,
        help: impl Into<String>,
    ) -> Finding {
        self.finding(Severity::Warning, problem, message, help.into())
    }

    fn finding(
        &self,
        severity: Severity,
        problem: Problem,
        message: String,
        help: String,
    ) -> Finding {
        Finding {
            severity,
            problem,
            place: self.clone(),
            message,
            help,
        }
    }
}
