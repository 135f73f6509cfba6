//! The status as text: what an operator asks first stands first. `tables` has the rest.

use std::fmt;
use std::time::Duration;

use super::parts::Columns;
use super::tables::{backends, connections, listeners, routes};
use crate::status::words::{
    NO_BACKEND_FAILS, NO_LIMIT_IS_NEAR, NOBODY_REFUSED, ago, byte_rate,
    connections as connections_in_words, counted, silent, span,
};
use crate::status::{
    Connections, Refused, Stage, Status, causes as causes_of, failing as failing_of,
};

/// The causes of refusals that are shown, and the rows of each.
const CAUSES: usize = 8;
const ROWS: usize = 5;

/// The parts of the text.
pub(super) struct Shown {
    pub(super) status: Status,
    /// The busiest connections; absent if only refusals are asked for.
    pub(super) connections: Option<Connections>,
    /// The process and its user, if it is of another user.
    pub(super) asked: Option<(i32, u32)>,
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = &self.status;
        if let Some((pid, user)) = self.asked {
            writeln!(f, "(the answer of process {pid} of user {user})")?;
        }
        let Some(busiest) = &self.connections else {
            return refused(f, status, usize::MAX, usize::MAX);
        };
        head(f, status)?;
        writeln!(f)?;
        refused(f, status, CAUSES, ROWS)?;
        writeln!(f)?;
        failing(f, status)?;
        writeln!(f)?;
        limits(f, status)?;
        writeln!(f)?;
        backends(f, status)?;
        writeln!(f)?;
        routes(f, status)?;
        writeln!(f)?;
        listeners(f, status)?;
        writeln!(f)?;
        f.write_str(&connections(busiest))
    }
}

fn head(f: &mut fmt::Formatter<'_>, status: &Status) -> fmt::Result {
    let up = span(Duration::from_secs(status.uptime_s));
    let stage = match status.stage {
        Stage::Starting => "starting: it does not accept yet",
        Stage::Ready => "ready",
        Stage::Draining => "draining",
    };
    writeln!(
        f,
        "portway {}, process {}: {stage}, up {up}",
        status.version, status.pid
    )?;
    if let Some(drain) = &status.drain {
        let since = ago(&drain.since, &status.time);
        writeln!(
            f,
            "  the drain ({}) began {since}, and ends at {}",
            drain.cause, drain.until
        )?;
    }
    let configuration = &status.configuration;
    writeln!(
        f,
        "{}: generation {}, loaded {}",
        configuration.file.as_deref().unwrap_or("no file"),
        configuration.generation,
        ago(&configuration.loaded, &status.time)
    )?;
    if let Some(refused) = &configuration.refused_reload {
        let since = ago(&refused.time, &status.time);
        writeln!(
            f,
            "  RELOAD REFUSED {since}: the file has faults, and the configuration before it stays in force"
        )?;
        for fault in &refused.faults {
            writeln!(f, "    {fault}")?;
        }
        if refused.faults_not_shown > 0 {
            let more = counted(refused.faults_not_shown, "more line");
            writeln!(f, "    and {more}")?;
        }
    }
    let (totals, rates) = (&status.totals, &status.totals.rates);
    writeln!(
        f,
        "{} ({} without a whole hello); in the last {} s {:.1} new and {:.1} failed per second, {} up, {} down",
        connections_in_words(totals.connections),
        totals.pending,
        status.rate_window_s,
        rates.connections_per_s,
        rates.failures_per_s,
        byte_rate(rates.bytes_client_to_backend_per_s),
        byte_rate(rates.bytes_backend_to_client_per_s),
    )
}

/// The clients that are refused, by cause.
fn refused(f: &mut fmt::Formatter<'_>, status: &Status, causes: usize, rows: usize) -> fmt::Result {
    if status.silent_workers > 0 {
        let silent = silent(status.silent_workers);
        writeln!(
            f,
            "{silent}, so refused and failed connections are missing here."
        )?;
    }
    if status.refused.is_empty() {
        return writeln!(f, "{NOBODY_REFUSED}");
    }
    writeln!(f, "Refused and failed, the last ones first:")?;
    let groups = causes_of(&status.refused);
    for group in groups.iter().take(causes) {
        let reason = group.reason;
        let reason = reason.map_or_else(String::new, |reason| format!(" ({reason})"));
        writeln!(f, "  {}{reason}: {}", group.outcome, group.count)?;
        let mut columns = Columns::new(4, &["clients", "name", "count", "last", "more"]);
        for row in group.rows.iter().take(rows) {
            columns.add([
                row.clients.clone(),
                name(row),
                row.count.to_string(),
                ago(&row.last_seen, &status.time),
                more(row),
            ]);
        }
        write!(f, "{columns}")?;
        if group.rows.len() > rows {
            writeln!(
                f,
                "    and {} more: portway status --refused",
                group.rows.len() - rows
            )?;
        }
        writeln!(f, "    -> {}", group.remedy)?;
    }
    if groups.len() > causes {
        writeln!(
            f,
            "  and {}: portway status --refused",
            counted(groups.len() - causes, "more cause")
        )?;
    }
    if status.refused_forgotten > 0 {
        writeln!(
            f,
            "  and {} before them, of which only the metrics and the log know",
            connections_in_words(status.refused_forgotten)
        )?;
    }
    Ok(())
}

fn name(row: &Refused) -> String {
    match &row.name {
        Some(name) => name.clone(),
        None if row.many_names => "(many other names)".to_owned(),
        None => "-".to_owned(),
    }
}

/// Everything else that is known of a row.
fn more(row: &Refused) -> String {
    let backend = row
        .backend
        .as_ref()
        .map(|backend| format!("backend {backend}"));
    let nearest = row
        .nearest
        .as_ref()
        .map(|nearest| format!("did it mean {nearest}?"));
    let parts = [backend, nearest, row.detail.clone()];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// The backends that fail, and how.
fn failing(f: &mut fmt::Formatter<'_>, status: &Status) -> fmt::Result {
    let failing = failing_of(status);
    if failing.is_empty() {
        return writeln!(f, "{NO_BACKEND_FAILS}");
    }
    writeln!(f, "Backends that fail:")?;
    for one in failing {
        let rate = one.backend.rates.failures_per_s;
        writeln!(
            f,
            "  {}: {rate:.1} failed connections per second",
            one.backend.name
        )?;
        for fault in one.faults.iter().take(ROWS) {
            writeln!(f, "    {fault}")?;
        }
        if one.faults.len() > ROWS {
            writeln!(f, "    and {} more", one.faults.len() - ROWS)?;
        }
    }
    Ok(())
}

fn limits(f: &mut fmt::Formatter<'_>, status: &Status) -> fmt::Result {
    let is_near = status.limits.iter().any(|limit| limit.near);
    writeln!(
        f,
        "{}",
        if is_near {
            "Limits that are near or reached:"
        } else {
            NO_LIMIT_IS_NEAR
        }
    )?;
    let mut columns = Columns::new(2, &["limit", "in use", "of", "rejected"]);
    let shown = status
        .limits
        .iter()
        .filter(|it| if is_near { it.near } else { it.used.is_some() });
    for limit in shown {
        let number = |count: Option<u64>| count.map_or_else(|| "-".to_owned(), |it| it.to_string());
        columns.add([
            limit.name.clone(),
            number(limit.used),
            number(limit.limit),
            limit.rejected.to_string(),
        ]);
    }
    write!(f, "{columns}")
}
