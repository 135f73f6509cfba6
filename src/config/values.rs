//! Parses the values of routes.toml. An error says what is wrong and what to write.

mod addresses;
#[cfg(test)]
mod tests;
mod unicode;
mod via;

use std::net::IpAddr;
use std::num::NonZero;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use humantime::DurationError;
use strum::VariantNames;

use super::keys::Kind;
use crate::routing::Pattern;
use crate::snapshot::CloseOn;
use crate::tls::ServerName;
pub(super) use addresses::{
    bind, dns_server, endpoint, network, network_of_servers, source, with_zone,
};
pub(super) use unicode::to_ascii;
pub(super) use via::{login, via};

/// Most bytes of the name of a listener, backend or route.
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
        (Ok(duration), Kind::Duration(range) | Kind::DurationOr(range, _))
            if range.contains(&duration) =>
        {
            Ok(duration)
        }
        (Ok(_), _) => out_of_range(&format!("{text:?}"), kind),
        (Err(error), _) => {
            let why = match error {
                DurationError::UnknownUnit { unit, .. } if unit.is_empty() => {
                    if let Some(help) = with_unit(text, kind) {
                        let message = format!("{text:?} is not a duration: its unit is missing");
                        return wrong(message, format!("write {help}"));
                    }
                    ": its unit is missing".to_owned()
                }
                DurationError::UnknownUnit { unit, .. } => format!(": {unit:?} is not a unit"),
                DurationError::InvalidCharacter(_)
                | DurationError::NumberExpected(_)
                | DurationError::NumberOverflow
                | DurationError::Empty => String::new(),
            };
            wrong(
                format!("{text:?} is not a duration{why}"),
                "write a number and a unit, such as \"500ms\", \"5s\" or \"75m\"",
            )
        }
    }
}

/// The likely meaning of a number without a unit: one or two values, written as in the file.
pub(super) fn with_unit(number: &str, kind: &Kind) -> Option<String> {
    let number: u64 = number.parse().ok()?;
    if let Kind::Size(range) = kind {
        let size = if number.is_multiple_of(1 << 10) {
            format!("\"{}KiB\"", number >> 10)
        } else {
            format!("\"{number}B\"")
        };
        return range.contains(&number).then_some(size);
    }
    let (Kind::Duration(range) | Kind::DurationOr(range, _)) = kind else {
        return None;
    };
    let fits = |unit| {
        let seconds = number.checked_mul(unit);
        seconds.is_some_and(|seconds| range.contains(&Duration::from_secs(seconds)))
    };
    match (fits(1), fits(60)) {
        (true, true) if number > 0 => Some(format!(
            "\"{number}s\", or \"{number}m\" if you mean minutes"
        )),
        (true, _) => Some(format!("\"{number}s\"")),
        (false, _) => None,
    }
}

pub(super) fn size<T: TryFrom<u64>>(text: &str, kind: &Kind) -> Result<T, Wrong> {
    match (text.parse(), kind) {
        (Ok(ByteSize(size)), Kind::Size(range)) if range.contains(&size) => {
            T::try_from(size).or_else(|_| out_of_range(&format!("{text:?}"), kind))
        }
        (Ok(_), _) => out_of_range(&format!("{text:?}"), kind),
        (Err(_), _) => wrong(format!("{text:?} is not a size"), what_to_write(kind)),
    }
}

pub(super) fn boolean(text: &str, kind: &Kind) -> Result<bool, Wrong> {
    text.parse().or_else(|_| out_of_range(text, kind))
}

/// One of the words of a closed list.
pub(super) fn choice<T: FromStr>(text: &str, kind: &Kind) -> Result<T, Wrong> {
    (text.parse()).or_else(|_| {
        let meant = if let Kind::Choice(words) | Kind::Choices(words) = kind {
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
        Kind::Duration(range) | Kind::DurationOr(range, _) => {
            let [least, most] = [*range.start(), *range.end()].map(humantime::format_duration);
            format!("write a duration from \"{least}\" to \"{most}\"")
        }
        Kind::Size(range) => {
            let [least, most] = [range.start(), range.end()].map(|size| size >> 10);
            format!("write a size from \"{least}KiB\" to \"{most}KiB\", such as \"64KiB\"")
        }
        Kind::Choice(words) | Kind::Choices(words) => format!("write one of {}", words.join(", ")),
        Kind::Boolean
        | Kind::AddressOrFalse
        | Kind::Text(_)
        | Kind::Texts(_)
        | Kind::TextsOrFalse(_)
        | Kind::Ports
        | Kind::Endpoints(_) => "write another value".to_owned(),
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
            format!("{text:?} is not a name"),
            "write up to 64 of A-Z a-z 0-9 _ . - and begin with a letter or digit",
        )
    }
}

/// A pattern of `server_names`, with U-labels converted to A-labels.
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
    } else if let Some(suffix) = text.strip_prefix('.') {
        format!("write \"**.{suffix}\" for the names below {suffix}")
    } else if text.is_empty() {
        "write a name; connections without one are taken by no_server_name = true".to_owned()
    } else if text
        .split([',', ' '])
        .filter(|name| !name.is_empty())
        .count()
        > 1
    {
        "write each name in quotes of its own, with commas between them".to_owned()
    } else {
        "write a host name, such as \"fleet.example.com\"".to_owned()
    };
    wrong(format!("{text:?} is not a server name: {}", reason.0), help)
}

/// The server name of a hello that portway sends.
pub(super) fn one_name(text: &str) -> Result<ServerName, Wrong> {
    if text.parse::<IpAddr>().is_ok() {
        return wrong(
            format!("{text:?} is not a server name: text of an address"),
            "leave it out: the hello of a client that dials an address has no server name",
        );
    }
    match server_name(text)? {
        Pattern::Exact(name) => Ok(name),
        Pattern::Any | Pattern::AnyDepth(_) | Pattern::OneLabel(_) => wrong(
            format!("{text:?} is a pattern, and a hello carries one name"),
            "write a host name, such as \"fleet.example.com\"",
        ),
    }
}

/// A name in the URLs of the admin pages.
pub(super) fn host(text: &str) -> Result<ServerName, Wrong> {
    if text.parse::<IpAddr>().is_ok() {
        return wrong(
            format!("{text:?} is an address, and each address is allowed already"),
            "leave it out",
        );
    }
    match server_name(text)? {
        Pattern::Exact(name) => Ok(name),
        Pattern::Any | Pattern::AnyDepth(_) | Pattern::OneLabel(_) => wrong(
            format!("{text:?} is a pattern, and a URL has one name"),
            "write each name, such as \"portway-1.internal\"",
        ),
    }
}

/// A reason to end connections.
pub(super) fn close_on(text: &str) -> Result<CloseOn, Wrong> {
    choice(text, &Kind::Choices(CloseOn::VARIANTS))
}

/// A port that a client can arrive at.
pub(super) fn port(text: &str) -> Result<u16, Wrong> {
    let port = text.parse().ok().map(NonZero::<u16>::get);
    port.map_or_else(
        || {
            wrong(
                format!("{text} is not a port"),
                "write a number from 1 to 65535, such as 8220",
            )
        },
        Ok,
    )
}

pub(super) fn alpn(text: &str) -> Result<Box<[u8]>, Wrong> {
    if (1..=255).contains(&text.len()) {
        Ok(text.as_bytes().into())
    } else {
        wrong(
            format!("{text:?} is not an ALPN protocol"),
            "write 1 to 255 bytes, such as \"h2\" or \"http/1.1\"",
        )
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
