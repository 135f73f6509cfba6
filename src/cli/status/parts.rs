//! Small parts of the text: times, counts, columns.

use std::fmt::{self, Write};
use std::time::{Duration, SystemTime};

use crate::cli::counted;

/// How long ago a time was, at another time: `12 s ago`.
pub(super) fn ago(time: &str, now: &str) -> String {
    let parse = |time: &str| humantime::parse_rfc3339(time).ok();
    let since = |now: SystemTime| now.duration_since(parse(time)?).ok();
    let since = parse(now).and_then(since);
    since.map_or_else(|| "now".to_owned(), |since| format!("{} ago", span(since)))
}

/// A time span in its two largest units.
pub(super) fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours, minutes) = (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// A count of connections.
pub(super) fn connections(count: u64) -> String {
    counted(usize::try_from(count).unwrap_or(usize::MAX), "connection")
}

/// Bytes in a unit that fits.
pub(super) fn bytes(count: u64) -> String {
    bytesize::ByteSize(count).to_string()
}

/// Bytes per second in a unit that fits.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate is not negative, and far below 2^64"
)]
pub(super) fn byte_rate(rate: f64) -> String {
    format!("{}/s", bytes(rate.round() as u64))
}

/// Counts by name, without those that say that all is well: `3 no_route, 1 probe`.
pub(super) fn counts<'c>(counts: impl IntoIterator<Item = (&'c String, &'c u64)>) -> String {
    let counts = counts
        .into_iter()
        .map(|(name, count)| format!("{count} {name}"));
    counts.collect::<Vec<_>>().join(", ")
}

/// Rows in columns that are as wide as their widest cell, with an indent.
pub(super) struct Columns {
    indent: usize,
    rows: Vec<Vec<String>>,
}

impl Columns {
    /// With these titles.
    pub(super) fn new(indent: usize, titles: &[&str]) -> Self {
        let titles = titles.iter().map(|title| (*title).to_owned()).collect();
        Self {
            indent,
            rows: vec![titles],
        }
    }

    pub(super) fn add<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.len() < 2
    }
}

impl fmt::Display for Columns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut widths: Vec<usize> = Vec::new();
        for row in &self.rows {
            widths.resize(widths.len().max(row.len()), 0);
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.len().max(*width);
            }
        }
        for row in &self.rows {
            let mut line = " ".repeat(self.indent);
            for (cell, width) in row.iter().zip(&widths) {
                write!(line, "{cell:width$}  ")?;
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}
