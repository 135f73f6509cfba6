//! Warnings about the rates of new connections.

use std::time::Duration;

use crate::admission::Quotas;
use crate::config::notes::Notes;
use crate::config::path::Path;

/// The time between two check-ins of an agent, by default.
const CHECK_IN: Duration = Duration::from_mins(5);

/// Reports a rate at which as many connections as the file allows need longer than a check-in to come back, as after a
/// restart: the storm is over then, and agents wait for nothing.
pub(super) fn come_back(limits: &Quotas, notes: &mut Notes<'_>) {
    let pairs = [
        (
            ("accept_rate", limits.accept_rate),
            ("max_connections", limits.max_connections),
        ),
        (
            ("accept_rate_per_client", limits.accept_rate_per_client),
            (
                "max_connections_per_client",
                limits.max_connections_per_client,
            ),
        ),
    ];
    for ((rate_key, rate), (count_key, count)) in pairs {
        let (Some(rate), Some(count)) = (rate, count) else {
            continue;
        };
        let needed = Duration::from_secs((count / rate.max(1)) as u64);
        if needed > CHECK_IN {
            let [needed, check_in] = [needed, CHECK_IN].map(humantime::format_duration);
            let least = (count as u64).div_ceil(CHECK_IN.as_secs());
            notes.warn(
                &Path::of(&["limits", rate_key]),
                format!("at {rate} per second, {count_key} = {count} connections need {needed} to come back"),
                format!("write at least {least}, so that they are back in {check_in}, the time between two check-ins"),
            );
        }
    }
}
