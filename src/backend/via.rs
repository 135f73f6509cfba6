//! The proxy of the site through which a backend is reached.

use std::fmt;
use std::sync::Arc;

use super::Target;
use crate::wire::{Login, TunnelProtocol};

/// A proxy of the site. portway dials it in place of an endpoint, and asks it for a tunnel to the endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Via {
    protocol: TunnelProtocol,
    proxy: Target,
    login: Option<Login>,
    /// The URL, for labels and logs.
    name: Arc<str>,
}

impl Via {
    /// A proxy that asks for no user.
    pub fn new(protocol: TunnelProtocol, proxy: Target) -> Self {
        let name = format!("{}://{proxy}", protocol.scheme()).into();
        Self {
            protocol,
            proxy,
            login: None,
            name,
        }
    }

    /// The same for a proxy that asks for a user and a password.
    #[must_use]
    pub fn with_login(self, login: Option<Login>) -> Self {
        Self { login, ..self }
    }

    /// The protocol that it speaks.
    pub const fn protocol(&self) -> TunnelProtocol {
        self.protocol
    }

    /// Where it is: an address, or a name that control resolves.
    pub const fn proxy(&self) -> &Target {
        &self.proxy
    }

    /// The user and password for it.
    pub const fn login(&self) -> Option<&Login> {
        self.login.as_ref()
    }

    /// Its URL as in routes.toml: what logs and metrics show. It never has credentials.
    pub const fn name(&self) -> &Arc<str> {
        &self.name
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
