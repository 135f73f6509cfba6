//! Version 1: one line of text (section 2.1).

use std::array;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Ends, InvalidHeader, ProxyHeader};

pub(super) const SIGNATURE: &[u8] = b"PROXY ";

/// The longest line, with its end.
pub(super) const LONGEST: usize = 107;

const END: &[u8] = b"\r\n";

/// Reads the line at the beginning of `peeked`, which begins as one.
pub(super) fn read(peeked: &[u8]) -> ProxyHeader {
    let bounded = peeked.get(..LONGEST).unwrap_or(peeked);
    let Some(size) = (bounded.iter().position(|byte| *byte == b'\n')).map(|end| end + 1) else {
        return if peeked.len() < LONGEST {
            ProxyHeader::Partial
        } else {
            invalid("a PROXY v1 header ends after at most 107 bytes, and this one goes on")
        };
    };
    let line = bounded.get(..size).and_then(|line| line.strip_suffix(END));
    let Some(fields) = line.and_then(|line| line.strip_prefix(SIGNATURE)) else {
        return invalid("a PROXY v1 header ends with CR LF, and this one with LF");
    };
    match ends(fields) {
        Ok(ends) => ProxyHeader::Whole(ends, size),
        Err(invalid) => ProxyHeader::Invalid(invalid),
    }
}

/// The fields behind the signature. Those behind UNKNOWN have no meaning.
fn ends(fields: &[u8]) -> Result<Option<Ends>, InvalidHeader> {
    let text = str::from_utf8(fields).map_err(|_not_utf8| NO_FAMILY)?;
    if text == "UNKNOWN" || text.starts_with("UNKNOWN ") {
        return Ok(None);
    }
    let (family, rest) = text.split_once(' ').unwrap_or((text, ""));
    let address: fn(&str) -> Option<IpAddr> = match family {
        "TCP4" => |text| Some(text.parse::<Ipv4Addr>().ok()?.into()),
        "TCP6" => |text| Some(text.parse::<Ipv6Addr>().ok()?.into()),
        _ => return Err(NO_FAMILY),
    };
    let mut fields = rest.split(' ');
    let [
        Some(client),
        Some(destination),
        Some(client_port),
        Some(destination_port),
        None,
    ] = array::from_fn(|_| fields.next())
    else {
        return Err(InvalidHeader(
            "a PROXY v1 header has two addresses and two ports, each behind one space",
        ));
    };
    let end = |ip, text| Some(SocketAddr::new(address(ip)?, port(text)?));
    let ends = end(client, client_port).zip(end(destination, destination_port));
    match ends {
        Some((client, destination)) => Ok(Some(Ends::new(client, destination))),
        None => Err(InvalidHeader(
            "a PROXY v1 header has an address that is not of its family, or a port that is not a number from 0 to 65535",
        )),
    }
}

/// Decimal, without a sign or zeros in front.
fn port(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let is_short = text == "0" || !text.starts_with('0');
    text.parse().ok().filter(|_| is_plain && is_short)
}

const NO_FAMILY: InvalidHeader =
    InvalidHeader("a PROXY v1 header names TCP4, TCP6 or UNKNOWN behind its first space");

const fn invalid(rule: &'static str) -> ProxyHeader {
    ProxyHeader::Invalid(InvalidHeader(rule))
}
