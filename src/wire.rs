//! The messages before a hello: those of a balancer, those of clients at a listener that is a proxy, and those of portway
//! to a proxy of its site. Pure: bytes in, a value out; no socket, no clock, no allocation that a peer sizes.

mod http_connect;
mod login;
mod proxy_header;
mod reply;
mod socks5;
mod target;
mod tunnel;

use strum::{EnumString, IntoStaticStr, VariantNames};

pub use http_connect::{Connect, Head, InvalidRequest, MOST_HEAD, read_connect};
pub use login::{Authorization, Login, Unauthorized};
pub use proxy_header::{
    Ends, Introduction, InvalidHeader, MOST_HEADER, ProxyHeader, ProxyVersion, read_proxy_header,
};
pub use reply::Reply;
pub use socks5::{
    InvalidSocks, Method, Socks, SocksReply, read_greeting, read_login, read_request,
};
pub use target::{Host, InvalidTarget, Target};
pub use tunnel::{Answer, FarEnd, InvalidLogin, MOST_ANSWER, Refused, Step, TunnelProtocol};

/// The first message of a listener's clients: `listeners.N.protocol`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, EnumString, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum ListenerProtocol {
    /// A TLS hello.
    #[default]
    Tls,
    /// A CONNECT request, as to an HTTP proxy (RFC 9110 section 9.3.6). A hello follows the answer.
    HttpConnect,
    /// A greeting and a request of SOCKS5 (RFC 1928). A hello follows the second answer.
    Socks5,
}

impl ListenerProtocol {
    /// The value of the key.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Whether clients name a target before their hello.
    pub const fn is_proxy(self) -> bool {
        match self {
            Self::Tls => false,
            Self::HttpConnect | Self::Socks5 => true,
        }
    }
}
