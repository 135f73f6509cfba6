//! Small parts of what people read: times, counts, characters that are safe to show.

use std::net::SocketAddr;
use std::time::Duration;

use crate::outcome::ResolveFailure;

/// The answers to the first questions, if there is nothing to tell.
pub const NOBODY_REFUSED: &str = "Nobody was refused, and no connection failed.";
/// See [`NOBODY_REFUSED`].
pub const NO_BACKEND_FAILS: &str = "No backend fails.";
/// See [`NOBODY_REFUSED`].
pub const NO_LIMIT_IS_NEAR: &str = "No limit is near.";

/// How long ago a time was, at another time: `12 s ago`.
pub fn ago(time: &str, now: &str) -> String {
    let since = since(time, now);
    since.map_or_else(|| "now".to_owned(), |since| format!("{} ago", span(since)))
}

/// The time from one time to another one; `None` if it comes later, or if either of them cannot be read.
pub fn since(time: &str, now: &str) -> Option<Duration> {
    let parse = |time: &str| humantime::parse_rfc3339(time).ok();
    parse(now)?.duration_since(parse(time)?).ok()
}

/// A time span in its two largest units.
pub fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours, minutes) = (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// A count of things of this name.
pub fn counted(count: impl TryInto<u64>, name: &str) -> String {
    let count = count.try_into().unwrap_or(u64::MAX);
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {name}{plural}")
}

/// A count of connections.
pub fn connections(count: u64) -> String {
    counted(count, "connection")
}

/// The beginning of a sentence about workers that did not answer in time.
pub fn silent(workers: usize) -> String {
    let workers = counted(workers, "worker");
    format!("{workers} did not answer within a second")
}

/// Bytes in a unit that fits.
pub fn bytes(count: u64) -> String {
    bytesize::ByteSize(count).to_string()
}

/// Bytes per second in a unit that fits.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate is not negative, and far below 2^64"
)]
pub fn byte_rate(rate: f64) -> String {
    format!("{}/s", bytes(rate.round() as u64))
}

/// Counts by name: `3 no_route, 1 probe`.
pub fn counts<'c>(counts: impl IntoIterator<Item = (&'c String, &'c u64)>) -> String {
    let counts = counts
        .into_iter()
        .map(|(name, count)| format!("{count} {name}"));
    counts.collect::<Vec<_>>().join(", ")
}

/// The text, or a word that says that there is none.
pub const fn or_none(text: &str) -> &str {
    if text.is_empty() { "none" } else { text }
}

/// Why an endpoint has no address, or none of a new look-up: the address that must not be dialled, or the error of the
/// resolver.
pub fn unresolved(
    reason: ResolveFailure,
    address: Option<SocketAddr>,
    error: Option<&str>,
) -> String {
    let name = reason.name();
    let address = address.map(|address| address.to_string());
    let address = address.unwrap_or_default();
    match reason {
        ResolveFailure::Loop => format!("{name}: {address} is portway itself"),
        ResolveFailure::Forbidden => {
            format!(
                "{name}: {address} is not the address of a server, or allow_networks excludes it"
            )
        }
        ResolveFailure::Unresolved => format!("{name}: {}", error.unwrap_or_default()),
    }
}

/// A text in which everything except printable ASCII is escaped, as in `\u{202e}`: it controls neither a terminal nor the
/// direction of the text around it.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            ' '..='~' => shown.push(character),
            other => shown.extend(other.escape_unicode()),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_has_no_plural() {
        assert_eq!(
            [0, 1, 2].map(connections),
            ["0 connections", "1 connection", "2 connections"]
        );
        assert_eq!(counted(1_usize, "more row"), "1 more row");
    }

    #[test]
    fn times_are_told_in_their_two_largest_units() {
        let spans = [0, 59, 61, 3599, 3600, 86_399, 90_000].map(|it| span(Duration::from_secs(it)));
        assert_eq!(
            spans,
            [
                "0 s",
                "59 s",
                "1 min 1 s",
                "59 min 59 s",
                "1 h 0 min",
                "23 h 59 min",
                "1 d 1 h"
            ]
        );
        assert_eq!(
            ago("2026-11-30T19:00:00.000Z", "2026-11-30T19:00:59.500Z"),
            "59 s ago"
        );
        assert_eq!(ago("", "2026-11-30T19:00:59.500Z"), "now");
        assert_eq!(
            ago("2026-11-30T19:00:01.000Z", "2026-11-30T19:00:00.000Z"),
            "now"
        );
    }
}
