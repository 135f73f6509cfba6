//! The connection to explain, as the arguments describe it.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::Args;

use crate::config::{self, Listener};

const NO_NAME: &str = "give the server name of a connection, which is the host in the agent's URL: portway explain \
                       fleet.example.com. `portway explain --help` lists what you can give instead";

#[derive(Debug, Args)]
#[group(multiple = false)]
pub(super) struct Source {
    /// Explain a connection with this server name: the host in the agent's URL
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// The same as NAME
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,
    /// Explain a connection without a server name: agents that dial an IP address send none
    #[arg(long)]
    no_server_name: bool,
    /// Explain a captured connection: read its first bytes from FILE
    #[arg(long, value_name = "FILE")]
    pub(super) hello: Option<PathBuf>,
}

/// The host that the client asks for, as the arguments name it.
pub(super) enum Asked<'a> {
    /// Nothing, or it is in a captured hello.
    Nothing,
    /// A server name, in the form that a hello has.
    Name(Cow<'a, str>),
    /// An address, and the argument that has it. Only the client of a proxy can ask for one.
    Address(IpAddr, &'a str),
}

impl<'a> Asked<'a> {
    /// The server name or the address that a client asks for at this listener.
    pub(super) fn at(
        self,
        listener: &Listener,
        port: Option<u16>,
    ) -> Result<(Option<Cow<'a, str>>, Option<SocketAddr>), String> {
        match (self, port) {
            (Self::Nothing, _) => Ok((None, None)),
            (Self::Name(name), _) => Ok((Some(name), None)),
            (Self::Address(_, written), _) if !listener.protocol.is_proxy() => {
                let it = match written.parse::<IpAddr>() {
                    Ok(_) => format!("{written} is"),
                    Err(_) => format!("{written:?} has"),
                };
                Err(format!(
                    "{it} an IP address, and a client that dials one sends no server name: portway explain \
                     --no-server-name"
                ))
            }
            (Self::Address(address, _), Some(port)) => {
                Ok((None, Some(SocketAddr::new(address.to_canonical(), port))))
            }
            (Self::Address(..), None) => {
                Err("an address needs a port: add --port with the port of the URL".to_owned())
            }
        }
    }
}

impl Source {
    pub(super) fn asked(&self) -> Result<Asked<'_>, String> {
        let Some(name) = self.written() else {
            return if self.no_server_name || self.hello.is_some() {
                Ok(Asked::Nothing)
            } else {
                Err(NO_NAME.to_owned())
            };
        };
        // An operator copies it from the agent's URL. With --server-name it is a name that a client sends.
        let whole = self.name.as_ref().and_then(|name| name.parse().ok());
        match host(name) {
            Some(host) => match host.parse() {
                Ok(address) => Ok(Asked::Address(address, name)),
                Err(_) => Err(format!(
                    "{name:?} is not a server name: give the name alone: portway explain {host}"
                )),
            },
            None => match whole {
                Some(address) => Ok(Asked::Address(address, name)),
                None => config::a_labels(name).map(Asked::Name),
            },
        }
    }

    fn written(&self) -> Option<&String> {
        self.name.as_ref().or(self.server_name.as_ref())
    }

    /// The name as written in the arguments, if a hello has it in another form.
    pub(super) fn unicode(&self) -> Option<String> {
        self.written().filter(|name| !name.is_ascii()).cloned()
    }
}

/// The host in what is a URL, or has a port or a path.
fn host(text: &str) -> Option<&str> {
    let authority = text.split_once("://").map_or(text, |(_, rest)| rest);
    let authority = authority.split(['/', '?', '#']).next().unwrap_or(authority);
    let authority = authority.rsplit('@').next().unwrap_or(authority);
    let host = if authority.parse::<IpAddr>().is_ok() {
        authority
    } else if let Some(rest) = authority.strip_prefix('[') {
        rest.split(']').next().unwrap_or(rest)
    } else {
        authority.split(':').next().unwrap_or(authority)
    };
    (host.len() < text.len() && !host.is_empty()).then_some(host)
}
