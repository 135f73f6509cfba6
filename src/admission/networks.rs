//! The networks that may connect to a listener.

use std::net::IpAddr;

use crate::routing::NetworkSet;

/// `allow_clients` and `deny_clients` of a listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    /// Networks that may connect; empty means all.
    pub allow: NetworkSet,
    /// Networks that may not connect. This wins over `allow`.
    pub deny: NetworkSet,
}

impl Networks {
    /// Whether a client (a canonical address) may connect.
    pub fn admit(&self, client: IpAddr) -> bool {
        !self.deny.has(client) && (self.allow.is_empty() || self.allow.has(client))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(allow: &[&str], deny: &[&str], client: &str) -> bool {
        let parse = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect();
        Networks {
            allow: parse(allow),
            deny: parse(deny),
        }
        .admit(client.parse().unwrap())
    }

    #[test]
    fn everybody_may_connect_unless_a_list_says_otherwise() {
        assert!(admits(&[], &[], "192.0.2.1"));
        assert!(admits(&["192.0.2.0/24"], &[], "192.0.2.1"));
        assert!(!admits(&["192.0.2.0/24"], &[], "198.51.100.1"));
        assert!(!admits(&[], &["2001:db8::/32"], "2001:db8::1"));
    }

    #[test]
    fn deny_wins() {
        assert!(!admits(&["192.0.2.0/24"], &["192.0.2.8/29"], "192.0.2.9"));
        assert!(admits(&["192.0.2.0/24"], &["192.0.2.8/29"], "192.0.2.1"));
    }
}
