//! The remedy for each outcome: one table for everything that shows refusals and failures.

use crate::outcome::{Limit, Outcome};

/// The remedy for an operator, in a sentence or two; `None` for outcomes that need nothing.
pub const fn remedy(outcome: Outcome, limit: Option<Limit>) -> Option<&'static str> {
    if let Some(limit) = limit {
        return Some(of_limit(limit));
    }
    Some(match outcome {
        Outcome::Closed | Outcome::Probe | Outcome::ClientReset | Outcome::Drained => return None,
        Outcome::HelloTimeout => HELLO_TIMEOUT,
        Outcome::HelloEof => HELLO_EOF,
        Outcome::NotTls => NOT_TLS,
        Outcome::MalformedHello => MALFORMED_HELLO,
        Outcome::HelloTooLarge => HELLO_TOO_LARGE,
        Outcome::UnsupportedVersion => UNSUPPORTED_VERSION,
        Outcome::NoServerName => NO_SERVER_NAME,
        Outcome::InvalidServerName => INVALID_SERVER_NAME,
        Outcome::NoRoute => NO_ROUTE,
        Outcome::ClientDenied => CLIENT_DENIED,
        Outcome::InvalidProxyHeader => INVALID_PROXY_HEADER,
        Outcome::InvalidProxyRequest => INVALID_PROXY_REQUEST,
        Outcome::ProxyAuthFailed => PROXY_AUTH_FAILED,
        Outcome::TargetDenied => TARGET_DENIED,
        Outcome::NameMismatch => NAME_MISMATCH,
        Outcome::Overloaded => OVERLOADED,
        Outcome::BackendUnavailable => BACKEND_UNAVAILABLE,
        Outcome::BackendUnresolved => BACKEND_UNRESOLVED,
        Outcome::Looped => LOOPED,
        Outcome::ForbiddenAddress => FORBIDDEN_ADDRESS,
        Outcome::ViaRefused => VIA_REFUSED,
        Outcome::RateLimited => RATE_LIMITED,
        Outcome::LocalExhausted => LOCAL_EXHAUSTED,
        Outcome::BackendClosedEarly => BACKEND_CLOSED_EARLY,
        Outcome::BackendNotTls => BACKEND_NOT_TLS,
        Outcome::HandshakeFailed => HANDSHAKE_FAILED,
        Outcome::BackendReset => BACKEND_RESET,
        Outcome::IdleTimeout => IDLE_TIMEOUT,
        Outcome::HalfCloseTimeout => HALF_CLOSE_TIMEOUT,
        Outcome::Stalled => STALLED,
        Outcome::PeerTimeout => PEER_TIMEOUT,
        Outcome::Error => ERROR,
    })
}

const fn of_limit(limit: Limit) -> &'static str {
    match limit {
        Limit::MaxConnections => {
            "Raise limits.max_connections and what bounds it (ulimit -n, memory), or find the client that opens so many \
             connections."
        }
        Limit::MaxPendingConnections => {
            "Find the clients that connect and send no hello, or raise limits.max_pending_connections."
        }
        Limit::MaxPendingPerClient => {
            "This client has too many connections without a hello: if it is a large site, raise \
             limits.max_pending_per_client."
        }
        Limit::MaxConnectionsPerClient => {
            "If a site with many agents has this address, raise limits.max_connections_per_client."
        }
        Limit::AcceptRate => {
            "Clients come faster than limits.accept_rate: raise it if the servers take more handshakes per second; agents \
             try again by themselves."
        }
        Limit::AcceptRatePerClient => {
            "If a site with many agents has this address, raise limits.accept_rate_per_client; agents try again by \
             themselves."
        }
    }
}

const HELLO_TIMEOUT: &str = "Read detail: a path that loses large packets has an MTU problem. Without it the client is a scanner, or waits \
    for the server to speak first.";
const HELLO_EOF: &str = "A few are normal. If they are many, look into the client's log: it gave up before its hello was complete.";
const NOT_TLS: &str = "The client does not speak TLS, and detail says what it speaks: give it a URL that begins with https://, remove a \
    proxy setting that names portway, or turn the PROXY protocol off at the balancer. If you do not know the client, it is a \
    scanner.";
const MALFORMED_HELLO: &str = "The client is a scanner, or a middlebox changes bytes on the way.";
const HELLO_TOO_LARGE: &str = "Real clients need less than 20 KiB: raise limits.max_client_hello only for a client that you know.";
const UNSUPPORTED_VERSION: &str = "Update the client: it speaks SSLv2 or SSLv3.";
const NO_SERVER_NAME: &str = "Give the client a URL with a host name, or add a route with no_server_name = true: a client that dials an IP \
    address sends no name.";
const INVALID_SERVER_NAME: &str = "Correct the host in the client's URL: detail says what is wrong with it, such as a dot at its end. If you do not \
    know the client, it is a scanner.";
const NO_ROUTE: &str = "Correct the host or the port in the client's URL, or add the name to server_names of a route. `portway explain \
    NAME` shows why each route does not take it.";
const CLIENT_DENIED: &str = "If the client should connect, check allow_clients and deny_clients of the listener, and clients of the route.";
const INVALID_PROXY_HEADER: &str = "Turn the PROXY protocol on at the balancer, or leave its address out of proxy_protocol.trusted.";
const INVALID_PROXY_REQUEST: &str = "Read detail: the URL of the server must begin with https://, and that of the proxy with http:// or socks5://.";
const PROXY_AUTH_FAILED: &str = "Write user and password into the proxy URL of the agent, and compare them with the file: `htpasswd -v FILE USER`.";
const TARGET_DENIED: &str = "Compare the target with the routes. A target that is an address needs a route with no_server_name = true whose \
    backend has that address.";
const NAME_MISMATCH: &str = "Remove the setting of the client that overrides the server name: it must be the host of the target.";
const OVERLOADED: &str =
    "Raise the limit in [limits], or find the client that opens so many connections.";
const BACKEND_UNAVAILABLE: &str = "Start the backend, or correct its endpoints, or their state if detail says that they drain. `refused`: nothing \
    listens there; `timeout` and `unreachable`: a firewall or the network is in the way; or the name leads to an old \
    address. `portway doctor` tries each endpoint.";
const BACKEND_UNRESOLVED: &str = "Check the names of the endpoints and the resolver: `portway doctor` looks them up. A loop leads back to portway: \
    write the backend's own address.";
const LOOPED: &str = "Look for a DNAT rule, a balancer or another relay that sends connections for the endpoint back to portway.";
const FORBIDDEN_ADDRESS: &str =
    "Correct the name in DNS, or add the network of its address to allow_networks of the backend.";
const VIA_REFUSED: &str = "The proxy in via refuses, and detail has its words: let its rules permit the host and port of the endpoint, or \
    correct via_credentials_file.";
const RATE_LIMITED: &str = "The client asks for more new names than its share: deny it, write fewer names in the route, or wait, because \
    agents try again.";
const LOCAL_EXHAUSTED: &str = "This machine has no local port, descriptor or memory left, and detail says which: more source_addresses, ulimit -n \
    or memory.";
const BACKEND_CLOSED_EARLY: &str = "Look into the backend's log: it closed without an answer. Fleet Server does that when it is over its connection \
    limit.";
const BACKEND_NOT_TLS: &str = "Turn on TLS at the server, or correct the port in endpoints: portway passes TLS on and adds none.";
const HANDSHAKE_FAILED: &str = "The client or the backend refused the other one's certificate or version, and detail says which: compare them with \
    `portway doctor`, which shows the certificate if the server also speaks TLS 1.2.";
const BACKEND_RESET: &str = "Look into the backend's log: it was restarted, gave up, or stopped answering, which detail says.";
const IDLE_TIMEOUT: &str = "Keep idle_timeout of the backend above the longest check-in of agents, which may be silent for up to an hour.";
const HALF_CLOSE_TIMEOUT: &str =
    "One side does not close its direction: raise half_close_timeout only if a peer needs longer.";
const STALLED: &str = "A peer hangs, or the path to it is dead, and detail says which one: look at its host and at the MTU of the path.";
const PEER_TIMEOUT: &str = "A peer has lost its network or its power, or a firewall has forgotten the connection; detail says which peer.";
const ERROR: &str = "Report this with the program log of that time: portway itself has a fault.";
