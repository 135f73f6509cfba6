//! Chooses the route of a connection by patterns, conditions and precedence. Pure.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::tls::{Alpn, ServerName};

mod index;
mod joins;
mod nearest;
mod networks;
mod pattern;
mod sets;
mod table;
#[cfg(test)]
mod tests;
mod ties;

pub use joins::Joins;
pub use networks::{NetworkMap, NetworkSet};
pub use pattern::{Pattern, Suffix};
pub use table::{Candidate, Consideration, Precedence, Table, Tie};

/// One `[routes.N]`, with its conditions checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The name in routes.toml.
    pub name: Arc<str>,
    /// The server names, any of which may match.
    pub server_names: Vec<Pattern>,
    /// Whether it takes connections without a server name.
    pub no_server_name: bool,
    /// Names of listeners; empty means any.
    pub listeners: Vec<Arc<str>>,
    /// Ports of the target; empty means any.
    pub ports: Vec<u16>,
    /// ALPN protocols, any of which the client must offer; empty means any or none.
    pub alpn: Vec<Box<[u8]>>,
    /// Client networks; empty means any.
    pub clients: Vec<IpNet>,
    /// The position of the backend in the settings.
    pub backend: usize,
}

/// The properties of a connection by which its route is looked up.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// The name of the listener.
    pub listener: &'a str,
    /// The port of the target: the local port of the connection.
    pub port: u16,
    /// The name in the hello, if there is one.
    pub server_name: Option<&'a ServerName>,
    /// The protocols that the hello offers by ALPN.
    pub alpn: Alpn<'a>,
    /// The canonical address of the client.
    pub client: IpAddr,
}

/// Why no route was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    /// There is no server name, and no route takes such a connection here.
    NoServerName,
    /// No route takes the name, or none takes it on this listener, at this port or with this ALPN.
    NoRoute,
    /// A route takes the name on this listener, at this port and with this ALPN, but not from this client's network.
    ClientDenied,
}

/// The first condition of a route that does not hold, in the order of this list. `Client` means that
/// the others hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmet {
    /// The route is for other listeners.
    Listener,
    /// The route is for other ports.
    Port,
    /// The client offers none of the route's protocols.
    Alpn,
    /// The route is for other client networks.
    Client,
}

impl Route {
    /// How many of `listeners`, `ports`, `alpn` and `clients` the route has.
    fn conditions(&self) -> usize {
        usize::from(!self.listeners.is_empty())
            + usize::from(!self.ports.is_empty())
            + usize::from(!self.alpn.is_empty())
            + usize::from(!self.clients.is_empty())
    }

    /// The longest prefix among the route's networks that contain the client.
    fn client_prefix(&self, client: IpAddr) -> Option<u8> {
        (self.clients.iter())
            .filter(|network| network.contains(&client))
            .map(IpNet::prefix_len)
            .max()
    }

    fn unmet(&self, query: &Query<'_>) -> Option<Unmet> {
        let offered = |wanted: &[u8]| query.alpn.iter().any(|protocol| protocol == wanted);
        if !self.listeners.is_empty() && !self.listeners.iter().any(|l| **l == *query.listener) {
            Some(Unmet::Listener)
        } else if !self.ports.is_empty() && !self.ports.contains(&query.port) {
            Some(Unmet::Port)
        } else if !self.alpn.is_empty() && !self.alpn.iter().any(|wanted| offered(wanted)) {
            Some(Unmet::Alpn)
        } else if !self.clients.is_empty() && self.client_prefix(query.client).is_none() {
            Some(Unmet::Client)
        } else {
            None
        }
    }
}
