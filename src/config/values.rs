//! The values of routes.toml: text in, a checked value out, or what is wrong and what to write.

#[cfg(test)]
mod tests;
mod unicode;

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use ipnet::IpNet;

use super::keys::Kind;
use crate::backend::{Target, is_forbidden};
use crate::routing::Pattern;
use crate::tls::ServerName;
pub(super) use unicode::to_ascii;

/// Bytes of the name of a listener, backend or route.
pub(super) const LONGEST_NAME: usize = 64;

/// Why a value is refused.
#[derive(Debug)]
pub(super) struct Wrong {
    pub(super) message: String,
    pub(super) help: String,
}

fn wrong<T>(message: String, help: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong {
        message,
        help: help.into(),
    })
}

pub(super) fn count<T: TryFrom<i64>>(text: &str, kind: &Kind) -> Result<T, Wrong> {
    match (text.parse(), kind) {
        (Ok(count), Kind::Count(range)) if range.contains(&count) => {
            T::try_from(count).or_else(|_| out_of_range(text, kind))
        }
        _ => out_of_range(text, kind),
    }
}

pub(super) fn duration(text: &str, kind: &Kind) -> Result<Duration, Wrong> {
    match (humantime::parse_duration(text), kind) {
        (Ok(duration), Kind::Duration(range)) if range.contains(&duration) => Ok(duration),
        (Ok(_), _) => out_of_range(&format!("{text:?}"), kind),
        (Err(error), _) => wrong(
            format!("{text:?} is no duration: {error}"),
            "write a number with a unit, such as \"500ms\", \"5s\" or \"75m\"",
        ),
    }
}

pub(super) fn size<T: TryFrom<u64>>(text: &str, kind: &Kind) -> Result<T, Wrong> {
    match (text.parse(), kind) {
        (Ok(ByteSize(size)), Kind::Size(range)) if range.contains(&size) => {
            T::try_from(size).or_else(|_| out_of_range(&format!("{text:?}"), kind))
        }
        (Ok(_), _) => out_of_range(&format!("{text:?}"), kind),
        (Err(_), _) => wrong(format!("{text:?} is no size"), what_to_write(kind)),
    }
}

pub(super) fn boolean(text: &str, kind: &Kind) -> Result<bool, Wrong> {
    text.parse().or_else(|_| out_of_range(text, kind))
}

/// One of the words of a closed list.
pub(super) fn choice<T: FromStr>(text: &str, kind: &Kind) -> Result<T, Wrong> {
    (text.parse()).or_else(|_| {
        let meant = if let Kind::Choice(words) = kind {
            nearest(text, words.iter().copied())
        } else {
            None
        };
        let help = meant.map_or_else(
            || what_to_write(kind),
            |word| format!("did you mean {word:?}?"),
        );
        wrong(format!("{text:?} is not among the choices"), help)
    })
}

fn out_of_range<T>(value: &str, kind: &Kind) -> Result<T, Wrong> {
    wrong(format!("{value} is out of range"), what_to_write(kind))
}

fn what_to_write(kind: &Kind) -> String {
    match kind {
        Kind::Count(range) => {
            format!("write a number from {} to {}", range.start(), range.end())
        }
        Kind::Duration(range) => {
            let [least, most] = [*range.start(), *range.end()].map(humantime::format_duration);
            format!("write a duration from {least} to {most}")
        }
        Kind::Size(range) => {
            let [least, most] = [range.start(), range.end()].map(|size| size >> 10);
            format!("write a size from \"{least}KiB\" to \"{most}KiB\", such as \"64KiB\"")
        }
        Kind::Choice(words) => format!("write one of {}", words.join(", ")),
        Kind::Boolean | Kind::AddressOrFalse | Kind::Text(_) | Kind::Texts(_) => {
            "write another value".to_owned()
        }
    }
}

/// The name of a listener, backend or route: it becomes the value of metric labels.
pub(super) fn name(text: &str) -> Result<(), Wrong> {
    let mut bytes = text.bytes();
    let fine = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && bytes.all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    if fine && text.len() <= LONGEST_NAME {
        Ok(())
    } else {
        wrong(
            format!("{text:?} is no name"),
            "write up to 64 of A-Z a-z 0-9 _ . - and begin with a letter or digit",
        )
    }
}

/// An address that listens; port 0 lets the kernel choose.
pub(super) fn bind(text: &str) -> Result<SocketAddr, Wrong> {
    if let Ok(address) = text.parse() {
        return Ok(canonical(address));
    }
    let message = format!("{text:?} is no address with a port");
    match (
        text.parse::<IpAddr>(),
        text.trim_start_matches(':').parse::<u16>(),
    ) {
        (Ok(ip), _) => wrong(
            format!("{text:?} has no port"),
            format!("write \"{}\"", SocketAddr::new(ip, 443)),
        ),
        (_, Ok(port)) => wrong(
            message,
            format!("write \"[::]:{port}\" for every address of this machine"),
        ),
        _ => wrong(
            message,
            "write an IP address, such as \"[::]:443\" or \"127.0.0.1:443\"; names are not resolved here",
        ),
    }
}

/// `host:port` of an endpoint.
pub(super) fn endpoint(text: &str) -> Result<Target, Wrong> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return endpoint_address(text, canonical(address));
    }
    let no_port = |help: String| wrong(format!("{text:?} has no port"), help);
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = bare.parse::<IpAddr>() {
        let whole = SocketAddr::new(ip, 443);
        return match text
            .rsplit_once(':')
            .map(|(ip, port)| (ip.parse(), port.parse()))
        {
            Some((Ok(ip), Ok(port))) => {
                let split = SocketAddr::new(IpAddr::V6(ip), port);
                no_port(format!("write \"{split}\" or \"{whole}\""))
            }
            _ => no_port(format!("write \"{whole}\"")),
        };
    }
    if let Some((_, rest)) = text.split_once("://") {
        let authority = rest.split('/').next().unwrap_or(rest);
        return wrong(
            format!("{text:?} is a URL"),
            format!("write \"{authority}\", as host:port"),
        );
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        let host = host_name(text)?;
        return no_port(format!("write \"{host}:443\""));
    };
    let Ok(port @ 1..) = port.parse::<u16>() else {
        return wrong(
            format!("{port:?} in {text:?} is no port"),
            "write a number from 1 to 65535",
        );
    };
    Ok(Target::Name {
        host: host_name(host)?.into(),
        port,
    })
}

fn endpoint_address(text: &str, address: SocketAddr) -> Result<Target, Wrong> {
    if address.port() == 0 {
        wrong(
            format!("{text:?} has no port to dial"),
            format!("write \"{}\"", SocketAddr::new(address.ip(), 443)),
        )
    } else if is_forbidden(address.ip()) {
        wrong(
            format!("{text:?} is no address to dial"),
            "write the address of the host",
        )
    } else {
        Ok(Target::Address(address))
    }
}

/// A name for the resolver. A trailing dot keeps it from its search list.
fn host_name(host: &str) -> Result<String, Wrong> {
    let (relative, dot) = match host.strip_suffix('.') {
        Some(relative) => (relative, "."),
        None => (host, ""),
    };
    let ascii = to_ascii("", relative)?;
    match ServerName::parse(ascii.as_bytes()) {
        Ok(name) => Ok(format!("{name}{dot}")),
        Err(reason) => wrong(
            format!("{host:?} is no host name: {}", reason.0),
            "write \"host:port\", such as \"fleet-1.internal:8220\" or \"[fd00::1]:8220\"",
        ),
    }
}

/// A pattern of `server_names`, U-labels converted.
pub(super) fn server_name(text: &str) -> Result<Pattern, Wrong> {
    let name = text.trim_start_matches('*');
    let (wildcard, _) = text.split_at(text.len() - name.len());
    let ascii = to_ascii(wildcard, name)?;
    let pattern = format!("{wildcard}{ascii}");
    let reason = match Pattern::parse(&pattern) {
        Ok(pattern) => return Ok(pattern),
        Err(reason) => reason,
    };
    let help = if text == "*" {
        "write \"**\" for any name".to_owned()
    } else if text.contains('*') {
        "write \"*.example.com\" for one label, \"**.example.com\" for one or more, or \"**\" for any name".to_owned()
    } else if text.parse::<IpAddr>().is_ok() {
        "a client that dials an address sends no server name: write no_server_name = true"
            .to_owned()
    } else if let Some(host) = (text.rsplit("://").next())
        .and_then(|rest| rest.split([':', '/']).next())
        .filter(|host| host.len() < text.len())
    {
        format!("a hello carries no scheme, port or path: write {host:?}")
    } else if let Some(name) = text.strip_suffix('.') {
        format!("write {name:?}")
    } else {
        "write a host name, such as \"fleet.example.com\"".to_owned()
    };
    wrong(format!("{text:?} is no server name: {}", reason.0), help)
}

/// A network without host bits.
pub(super) fn network(text: &str) -> Result<IpNet, Wrong> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return wrong(
            format!("{text:?} is an address, not a network"),
            format!("write \"{}\"", IpNet::from(ip.to_canonical())),
        );
    }
    let Some(network) = text.parse::<IpNet>().ok().map(canonical_network) else {
        return wrong(
            format!("{text:?} is no network"),
            "write an address and a prefix length, such as \"10.0.0.0/8\" or \"fd00::/8\"",
        );
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

pub(super) fn alpn(text: &str) -> Result<Box<[u8]>, Wrong> {
    if (1..=255).contains(&text.len()) {
        Ok(text.as_bytes().into())
    } else {
        wrong(
            format!("{text:?} is no ALPN protocol"),
            "write 1 to 255 bytes, such as \"h2\" or \"http/1.1\"",
        )
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, address.port()),
        IpAddr::V6(_) => address,
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

/// The known word that was probably meant. A caller with many known words bounds how often it asks.
pub(super) fn nearest<'w>(word: &str, known: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    if word.len() > LONGEST_NAME {
        return None;
    }
    let most = |name: &str| 1.max(name.len() / 3);
    let length = word.chars().count();
    known
        .filter(|name| name.chars().count().abs_diff(length) <= most(name))
        .map(|name| (strsim::osa_distance(word, name), name))
        .filter(|(distance, name)| *distance <= most(name))
        .min()
        .map(|(_, name)| name)
}
