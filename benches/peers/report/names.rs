//! How figures, scenarios and numbers are written.

use super::{Figure, Scenario};

/// The cell for a value that was not measured.
pub(crate) const NONE: &str = "–";

/// The name of a figure with its unit.
pub(crate) const fn figure(figure: Figure) -> &'static str {
    match figure {
        Figure::GigabytesPerSecond => "throughput, GB/s",
        Figure::CpuSecondsPerGib => "CPU, s/GiB",
        Figure::ConnectionsPerSecond => "connections/s",
        Figure::CpuMicrosecondsPerConnection => "CPU per connection, µs",
        Figure::CpuMicrosecondsPerMessage => "CPU per message, µs",
        Figure::P50Microseconds => "latency p50, µs",
        Figure::P99Microseconds => "latency p99, µs",
        Figure::BytesPerConnection => "memory per connection, B",
        Figure::BytesKeptPerConnection => "kept after close per connection, B",
        Figure::IdleCpuPercent => "CPU while idle, % of a core",
        Figure::ConnectP99Microseconds => "connect p99, µs",
    }
}

/// A scenario in a few words.
pub(crate) fn scenario(scenario: Scenario) -> String {
    match scenario {
        Scenario::BulkDown { flows } => format!("down, {}", counted(flows, "flow")),
        Scenario::BulkUp { flows } => format!("up, {}", counted(flows, "flow")),
        Scenario::BulkBoth { flows } => format!("both ways, {}", counted(flows, "flow")),
        Scenario::Connections { at_a_time } => format!("classic, {at_a_time} at a time"),
        Scenario::SplitConnections { at_a_time } => format!("split, {at_a_time} at a time"),
        Scenario::Messages { size, at_a_time } => {
            format!("{}, {at_a_time} at a time", bytes(size))
        }
        Scenario::Idle { connections } => format!("{} idle", thousands(connections)),
        Scenario::Beside { downloads } => format!("beside {}", counted(downloads, "download")),
        Scenario::SlowReaders { readers } => {
            format!("beside {}", counted(readers, "slow reader"))
        }
    }
}

fn counted(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {what}{plural}", thousands(count))
}

/// A size such as "64 KiB".
pub(crate) fn bytes(size: usize) -> String {
    const KIB: usize = 1 << 10;
    const MIB: usize = 1 << 20;
    match size {
        MIB.. if size.is_multiple_of(MIB) => format!("{} MiB", size / MIB),
        KIB.. if size.is_multiple_of(KIB) => format!("{} KiB", size / KIB),
        _ => format!("{size} B"),
    }
}

/// A count such as "12,500".
pub(crate) fn thousands(count: usize) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number with three significant digits, or with all digits before the point.
pub(crate) fn number(value: f64) -> String {
    let size = value.abs();
    if size < 0.0995 {
        format!("{value:.3}")
    } else if size < 9.995 {
        format!("{value:.2}")
    } else if size < 99.95 {
        format!("{value:.1}")
    } else {
        whole(value)
    }
}

/// A rounded number, with its thousands separated.
fn whole(value: f64) -> String {
    let text = format!("{value:.0}");
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.as_str()),
    };
    let digits = digits.parse().map_or_else(|_| digits.to_owned(), thousands);
    format!("{sign}{digits}")
}
