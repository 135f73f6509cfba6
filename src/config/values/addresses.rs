//! Addresses of routes.toml: those that listen, those of endpoints, and networks.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::IpNet;

use super::unicode::to_ascii;
use super::{Wrong, wrong};
use crate::backend::allowed::embeds;
use crate::backend::{Allowed, Target};
use crate::tls::ServerName;

/// An address that listens; port 0 lets the kernel choose.
pub(in crate::config) fn bind(text: &str) -> Result<SocketAddr, Wrong> {
    if let Ok(address) = text.parse() {
        return with_zone("", canonical(address));
    }
    several(text)?;
    without_port(text, |whole| {
        format!("write the port too, such as \"{whole}\"")
    })?;
    let message = format!("{text:?} is not an address with a port");
    let bare = authority(text);
    let (host, port) = bare.rsplit_once(':').unwrap_or(("", bare));
    let help = match (host.trim_end_matches(':'), port.parse::<u16>()) {
        ("" | "*" | "any" | "::", Ok(port)) => {
            format!("write \"[::]:{port}\" for every address of this machine")
        }
        ("localhost", Ok(port)) => format!("write \"127.0.0.1:{port}\""),
        (_, Ok(_)) if bare.parse::<SocketAddr>().is_ok() => format!("write {bare:?}"),
        (host, Err(_)) if host.parse::<Ipv4Addr>().is_ok() || host.starts_with('[') => {
            return wrong(
                format!("{port:?} in {text:?} is not a port"),
                "write a number from 0 to 65535",
            );
        }
        _ => "write an IP address, such as \"[::]:443\" or \"127.0.0.1:443\"; names are not resolved here"
            .to_owned(),
    };
    wrong(message, help)
}

/// `host:port` of an endpoint.
pub(in crate::config) fn endpoint(text: &str) -> Result<Target, Wrong> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return endpoint_address(text, canonical(address));
    }
    if text.contains("{server_name}") || text.contains("{port}") {
        return asked(text);
    }
    several(text)?;
    without_port(text, |whole| with_port(&in_brackets(whole.ip()), ""))?;
    if text.contains("://") {
        let authority = authority(text);
        let help = if authority.contains(':') {
            format!("write \"{authority}\", as host:port")
        } else {
            with_port(authority, ", as host:port")
        };
        return wrong(format!("{text:?} is a URL"), help);
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        let host = host_name(text)?;
        return wrong(format!("{text:?} has no port"), with_port(&host, ""));
    };
    let Ok(port @ 1..) = port.parse::<u16>() else {
        let digits = port.find(|digit: char| !digit.is_ascii_digit());
        let number = port.split_at(digits.unwrap_or_default()).0;
        let help = match number.parse::<u16>() {
            Ok(number @ 1..) => format!("write \"{host}:{number}\", and nothing behind it"),
            _ => "write a number from 1 to 65535".to_owned(),
        };
        return wrong(format!("{port:?} in {text:?} is not a port"), help);
    };
    Ok(Target::Name {
        host: host_name(host)?.into(),
        port,
    })
}

/// `{server_name}:443` or `{server_name}:{port}`.
fn asked(text: &str) -> Result<Target, Wrong> {
    let port = text.strip_prefix("{server_name}:");
    let port = port.map(|port| (port == "{port}", port.parse()));
    match port {
        Some((true, _)) => Ok(Target::Asked { port: None }),
        Some((false, Ok(port @ 1..))) => Ok(Target::Asked { port: Some(port) }),
        Some(_) | None => wrong(
            format!(
                "{text:?} is neither a host with its port nor the name that the client asks for"
            ),
            "write \"{server_name}:443\", or \"{server_name}:{port}\" for the port that the client asks for; nothing \
             can be added to the name",
        ),
    }
}

/// The help for an endpoint that has no port. Its name does not show which server it is.
fn with_port(host: &str, form: &str) -> String {
    format!(
        "write the port too{form}: \"{host}:8220\" for Fleet Server, or :9200 for Elasticsearch, :5044 for \
         Logstash, :443 for Elastic Cloud"
    )
}

/// An address as it is before a port.
fn in_brackets(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

/// Host and port of a URL.
fn authority(text: &str) -> &str {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    authority.rsplit('@').next().unwrap_or(authority)
}

/// Finds several values in one pair of quotes.
fn several(text: &str) -> Result<(), Wrong> {
    let parts = text.split([',', ' ', ';']).filter(|part| !part.is_empty());
    let is_with_port = |part: &&str| part.contains(':');
    if parts.clone().filter(is_with_port).count() < 2 {
        return Ok(());
    }
    let values: Vec<String> = parts.map(|part| format!("{part:?}")).collect();
    wrong(
        format!("{text:?} is more than one value"),
        format!("write {}", values.join(", ")),
    )
}

/// An IP address alone. One of IPv6 needs brackets, or nobody can tell where its port begins.
fn without_port(text: &str, help: impl Fn(SocketAddr) -> String) -> Result<(), Wrong> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let Ok(ip) = bare.parse::<IpAddr>() else {
        return Ok(());
    };
    let whole = SocketAddr::new(ip, 443);
    let split = text.rsplit_once(':');
    let help = match split.map(|(ip, port)| (ip.parse(), port.parse())) {
        Some((Ok(ip), Ok(port))) => {
            let split = SocketAddr::new(IpAddr::V6(ip), port);
            format!("write \"{split}\", or \"[{bare}]\" with its port behind it")
        }
        _ => help(whole),
    };
    wrong(format!("{text:?} has no port"), help)
}

fn endpoint_address(text: &str, address: SocketAddr) -> Result<Target, Wrong> {
    if address.port() == 0 {
        wrong(
            format!("{text:?} has no port to dial"),
            with_port(&in_brackets(address.ip()), ""),
        )
    } else if !Allowed::Servers.permits(address.ip()) {
        wrong(
            format!("{text:?} is not an address to dial"),
            "write the address of the host",
        )
    } else {
        Ok(Target::Address(address))
    }
}

/// A name for the resolver. A trailing dot keeps the resolver from using its search list.
fn host_name(host: &str) -> Result<String, Wrong> {
    let (relative, dot) = match host.strip_suffix('.') {
        Some(relative) => (relative, "."),
        None => (host, ""),
    };
    let ascii = to_ascii("", relative)?;
    let reason = match ServerName::parse(ascii.as_bytes()) {
        Ok(name) => return Ok(format!("{name}{dot}")),
        Err(reason) => reason.0,
    };
    let is_digit = |byte: u8| byte.is_ascii_digit() || byte == b'.';
    let help = if host.contains('*') {
        "write the name of one server: an endpoint has no wildcard"
    } else if host.contains(['$', '{']) {
        "write the name itself: portway replaces only {server_name} and {port}, as in \"{server_name}:443\""
    } else if !host.is_empty() && host.trim() != host {
        "leave the space out"
    } else if !host.is_empty() && host.bytes().all(is_digit) {
        return wrong(
            format!("{host:?} is neither an address nor a host name"),
            "write four numbers from 0 to 255, or a name",
        );
    } else {
        "write \"host:port\", such as \"fleet-1.internal:8220\" or \"[fd00::1]:8220\""
    };
    wrong(format!("{host:?} is not a host name: {reason}"), help)
}

/// A network without host bits.
pub(in crate::config) fn network(text: &str) -> Result<IpNet, Wrong> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return wrong(
            format!("{text:?} is an address, not a network"),
            format!("write \"{}\"", IpNet::from(ip.to_canonical())),
        );
    }
    let Some(network) = text.parse::<IpNet>().ok().map(canonical_network) else {
        let help = match text
            .split_once('/')
            .map(|(ip, mask)| (ip.parse(), mask.parse()))
        {
            Some((Ok(ip), Ok(mask))) => IpNet::with_netmask(ip, mask).ok(),
            _ => None,
        };
        let help = match (help, text) {
            (Some(network), _) => format!("write \"{network}\""),
            (None, "*" | "all" | "any" | "ALL") => "leave the key out for all clients".to_owned(),
            _ => "write an address and a prefix length, such as \"10.0.0.0/8\" or \"fd00::/8\""
                .to_owned(),
        };
        return wrong(format!("{text:?} is not a network"), help);
    };
    if network.trunc() == network {
        Ok(network)
    } else {
        wrong(
            format!("{text:?} has bits set behind its prefix"),
            format!(
                "write \"{}\", or \"{}\" for the one address",
                network.trunc(),
                IpNet::from(network.addr())
            ),
        )
    }
}

/// A network that endpoints may lead to.
pub(in crate::config) fn network_of_servers(text: &str) -> Result<IpNet, Wrong> {
    let network = network(text)?;
    if embeds(network) {
        return wrong(
            format!("the addresses in {text:?} are judged by the IPv4 addresses in them"),
            "write the IPv4 networks that they may lead to, such as \"10.0.0.0/8\"",
        );
    }
    Ok(network)
}

/// The port of DNS, which every server has unless somebody chose another.
const DNS: u16 = 53;

/// The address of a DNS server.
pub(in crate::config) fn dns_server(text: &str) -> Result<SocketAddr, Wrong> {
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let alone = bare.unwrap_or(text).parse::<IpAddr>();
    let with_port = || text.parse::<SocketAddr>();
    let Ok(address) = alone.map_or_else(|_| with_port(), |ip| Ok(SocketAddr::new(ip, DNS))) else {
        several(text)?;
        return wrong(
            format!("{text:?} is not the address of a DNS server"),
            "write an IP address, such as \"10.0.0.53\" or \"[fd00::53]:53\"; a name would need DNS itself",
        );
    };
    let has_scope = matches!(address, SocketAddr::V6(address) if address.scope_id() != 0);
    let is_usable = address.port() != 0 && Allowed::Servers.permits(address.ip());
    if has_scope || is_link_local(address.ip()) || !is_usable {
        return wrong(
            format!("{text:?} is not the address of a DNS server"),
            "write the address of the server as it is on the network, not a link-local one, without a scope, and port \
             53 or none",
        );
    }
    Ok(canonical(address))
}

/// An address of this machine that portway dials from.
pub(in crate::config) fn source(text: &str) -> Result<IpAddr, Wrong> {
    let help = "write an IP address of this machine, such as \"10.0.0.11\" or \"fd00::11\"";
    let Ok(ip) = text.parse::<IpAddr>() else {
        several(text)?;
        let message = format!("{text:?} is not an address");
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        return match (text.parse::<SocketAddr>(), bare.parse::<IpAddr>()) {
            (Ok(address), _) => wrong(
                format!("{text:?} has a port"),
                format!("write \"{}\": the kernel chooses the port", address.ip()),
            ),
            (Err(_), Ok(ip)) => wrong(message, format!("write \"{ip}\"")),
            (Err(_), Err(_)) => wrong(message, help),
        };
    };
    let ip = ip.to_canonical();
    if is_link_local(ip) || !Allowed::Servers.permits(ip) {
        return wrong(format!("portway cannot dial from {text:?}"), help);
    }
    Ok(ip)
}

/// An address that says by which interface to reach it, if each interface may have the same. Linux refuses to bind and
/// to dial it without (EINVAL). The key may want a `scheme` before it, such as `http://`.
pub(in crate::config) fn with_zone(scheme: &str, address: SocketAddr) -> Result<SocketAddr, Wrong> {
    if let SocketAddr::V6(v6) = address
        && is_link_local(address.ip())
        && v6.scope_id() == 0
    {
        let (ip, port) = (v6.ip(), v6.port());
        return wrong(
            format!("{address} is link-local, and does not say by which interface to reach it"),
            format!(
                "write the number of the interface, which `ip link` shows, as in \"{scheme}[{ip}%2]:{port}\"; or another address"
            ),
        );
    }
    Ok(address)
}

/// An address of IPv6 that means something only with its interface.
const fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

/// The same address is equal afterwards, however it was written. A zone stays only where it matters: Linux ignores that
/// of an address that is not link-local, and such a socket has none.
fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        ip if is_link_local(ip) => address,
        ip => SocketAddr::new(ip, address.port()),
    }
}

/// `::ffff:10.0.0.0/104` is 10.0.0.0/8.
fn canonical_network(network: IpNet) -> IpNet {
    match (
        network.addr().to_canonical(),
        network.prefix_len().checked_sub(96),
    ) {
        (ip @ IpAddr::V4(_), Some(prefix)) if network.addr().is_ipv6() => {
            IpNet::new(ip, prefix).unwrap_or(network)
        }
        _ => network,
    }
}
