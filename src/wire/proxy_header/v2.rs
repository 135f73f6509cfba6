//! Version 2: binary (section 2.2).

use std::net::{IpAddr, SocketAddr};

use super::crc32c::Crc32c;
use super::{Ends, InvalidHeader, MOST_HEADER, ProxyHeader};

pub(super) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The signature, version and command, family and transport, and the length of the rest.
const FIXED: usize = 16;

/// Version and command, in one byte.
pub(super) const LOCAL: u8 = 0x20;
pub(super) const PROXY: u8 = 0x21;

/// Family and transport, in one byte.
pub(super) const UNSPECIFIED: u8 = 0;
pub(super) const TCP4: u8 = 0x11;
pub(super) const TCP6: u8 = 0x21;
const UNIX: u8 = 0x31;

/// The last family and the last transport that the protocol defines. A receiver must refuse all behind them.
const LAST: u8 = 3;
const LAST_TRANSPORT: u8 = 2;

/// The bytes of the two addresses of a Unix socket.
const UNIX_ADDRESSES: usize = 216;

/// The types of fields with the list of protocols and with the server name (sections 2.2.1 and 2.2.2).
pub(super) const ALPN: u8 = 1;
pub(super) const AUTHORITY: u8 = 2;

/// The type of the field with a checksum (section 2.2.4).
const CHECKSUM: u8 = 3;

/// Reads the header at the beginning of `peeked`, which begins as one.
pub(super) fn read(peeked: &[u8]) -> ProxyHeader {
    let fixed = peeked.get(SIGNATURE.len()..).unwrap_or_default();
    let command = match fixed {
        [] => return ProxyHeader::Partial,
        [command @ (LOCAL | PROXY), ..] => *command,
        [0x20..=0x2f, ..] => {
            return invalid("a PROXY v2 header has another command than LOCAL and PROXY");
        }
        _ => return invalid("the header has another version of the PROXY protocol than 1 and 2"),
    };
    let [_, family, high, low, ..] = *fixed else {
        return ProxyHeader::Partial;
    };
    let size = FIXED + usize::from(u16::from_be_bytes([high, low]));
    if size > MOST_HEADER {
        return invalid("the PROXY v2 header is larger than 4 KiB");
    }
    let Some(header) = peeked.get(..size) else {
        return ProxyHeader::Partial;
    };
    // The block of a LOCAL command is to be discarded.
    if command == LOCAL {
        return ProxyHeader::Whole(None, size);
    }
    match ends(family, header) {
        Ok(ends) => ProxyHeader::Whole(ends, size),
        Err(invalid) => ProxyHeader::Invalid(invalid),
    }
}

/// The ends in a whole header. With a family that is not known, it is not known either where the addresses end.
fn ends(family: u8, header: &[u8]) -> Result<Option<Ends>, InvalidHeader> {
    let block = header.get(FIXED..).unwrap_or_default();
    let told = |addressed: Option<(Ends, _)>| {
        let (ends, fields) = addressed.ok_or(TOO_SHORT)?;
        Ok((Some(ends), fields))
    };
    let (ends, fields) = match family {
        TCP4 => told(addressed::<4>(block))?,
        TCP6 => told(addressed::<16>(block))?,
        UNIX => (None, block.get(UNIX_ADDRESSES..).ok_or(TOO_SHORT)?),
        _ if family >> 4 > LAST || family & 0xf > LAST_TRANSPORT => return Err(UNDEFINED),
        _ => return Ok(None),
    };
    check(header, fields)?;
    Ok(ends)
}

/// The ends with addresses of so many bytes, and what follows them.
fn addressed<const N: usize>(block: &[u8]) -> Option<(Ends, &[u8])>
where
    IpAddr: From<[u8; N]>,
{
    let (client, rest) = block.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let (client_port, rest) = rest.split_first_chunk()?;
    let (destination_port, rest) = rest.split_first_chunk()?;
    let at = |octets, port| SocketAddr::new(IpAddr::from(octets), u16::from_be_bytes(port));
    let ends = Ends::new(
        at(*client, *client_port),
        at(*destination, *destination_port),
    );
    Some((ends, rest))
}

/// Checks the fields behind the addresses: type, length and value of each. Their values are of no use here, but that of
/// a checksum.
fn check(header: &[u8], fields: &[u8]) -> Result<(), InvalidHeader> {
    let mut left = fields;
    while !left.is_empty() {
        let ([kind, high, low], rest) = left.split_first_chunk::<3>().ok_or(TOO_LONG)?;
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (value, after) = rest.split_at_checked(length).ok_or(TOO_LONG)?;
        if *kind == CHECKSUM {
            let wanted = value.first_chunk().filter(|_| value.len() == 4);
            let (before, _) = header.split_at(header.len() - rest.len());
            let of_header = Crc32c::default().with(before).with(&[0; 4]).with(after);
            if wanted.map(|wanted| u32::from_be_bytes(*wanted)) != Some(of_header.value()) {
                return Err(InvalidHeader(
                    "the checksum of the PROXY v2 header is wrong",
                ));
            }
        }
        left = after;
    }
    Ok(())
}

const UNDEFINED: InvalidHeader = InvalidHeader(
    "the PROXY v2 header has a family or a transport that the protocol does not define",
);
const TOO_SHORT: InvalidHeader =
    InvalidHeader("the PROXY v2 header is shorter than the addresses of its family");
const TOO_LONG: InvalidHeader =
    InvalidHeader("a field of the PROXY v2 header goes beyond the end of the header");

const fn invalid(rule: &'static str) -> ProxyHeader {
    ProxyHeader::Invalid(InvalidHeader(rule))
}
