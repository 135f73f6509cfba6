//! The status as text: what an operator asks first stands first. `tables` has the rest.

use std::fmt;
use std::time::Duration;

use super::parts::{Columns, ago, byte_rate, connections as connections_in_words, span};
use super::tables::{backends, connections, listeners, routes};
use crate::outcome::AddressState;
use crate::status::{Address, Connections, Endpoint, Refused, Stage, Status};

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
        f.write_str(&connections(busiest))?;
        if status.silent_workers > 0 {
            writeln!(
                f,
                "\n{} workers did not answer within a second: what they know is missing",
                status.silent_workers
            )?;
        }
        Ok(())
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
            writeln!(f, "    and {} more lines", refused.faults_not_shown)?;
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
    if status.refused.is_empty() {
        return writeln!(f, "Nobody was refused, and no connection failed.");
    }
    writeln!(f, "Refused and failed, the last ones first:")?;
    let mut groups: Vec<(&Refused, Vec<&Refused>)> = Vec::new();
    for row in &status.refused {
        let is_it = |(first, _): &&mut (&Refused, _)| {
            (&first.outcome, &first.reason) == (&row.outcome, &row.reason)
        };
        match groups.iter_mut().find(is_it) {
            Some((_, rows)) => rows.push(row),
            None => groups.push((row, vec![row])),
        }
    }
    for (first, group) in groups.iter().take(causes) {
        let count: u64 = group.iter().map(|row| row.count).sum();
        let reason = first.reason.as_ref();
        let reason = reason.map_or_else(String::new, |reason| format!(" ({reason})"));
        writeln!(f, "  {}{reason}: {count}", first.outcome)?;
        let mut columns = Columns::new(4, &["clients", "name", "count", "last", "more"]);
        for row in group.iter().take(rows) {
            columns.add([
                row.clients.clone(),
                name(row),
                row.count.to_string(),
                ago(&row.last_seen, &status.time),
                more(row),
            ]);
        }
        write!(f, "{columns}")?;
        if group.len() > rows {
            writeln!(
                f,
                "    and {} more: portway status --refused",
                group.len() - rows
            )?;
        }
        writeln!(f, "    -> {}", first.remedy)?;
    }
    if groups.len() > causes {
        writeln!(
            f,
            "  and {} more causes: portway status --refused",
            groups.len() - causes
        )?;
    }
    if status.refused_forgotten > 0 {
        writeln!(
            f,
            "  and {} connections before them, of which only the metrics and the log know",
            status.refused_forgotten
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
    let mut is_fine = true;
    for backend in &status.backends {
        let faults = backend.endpoints.iter().flat_map(faults);
        let faults: Vec<String> = faults.collect();
        let rate = backend.rates.failures_per_s;
        if faults.is_empty() && rate <= 0.0 {
            continue;
        }
        if is_fine {
            writeln!(f, "Backends that fail:")?;
            is_fine = false;
        }
        writeln!(
            f,
            "  {}: {rate:.1} failed connections per second",
            backend.name
        )?;
        for fault in faults.iter().take(ROWS) {
            writeln!(f, "    {fault}")?;
        }
        if faults.len() > ROWS {
            writeln!(f, "    and {} more", faults.len() - ROWS)?;
        }
    }
    if is_fine {
        writeln!(f, "No backend fails.")?;
    }
    Ok(())
}

fn faults(endpoint: &Endpoint) -> impl Iterator<Item = String> {
    let unresolved = endpoint.unresolved.iter();
    let kept = if endpoint.addresses.is_empty() {
        ""
    } else {
        "; its addresses are those of an older look-up"
    };
    let unresolved = unresolved.map(move |why| format!("{}: {why}{kept}", endpoint.name));
    let failed = endpoint.addresses.iter();
    let failed = failed.filter(|it| it.state == AddressState::Failed || it.unhealthy);
    let failed = failed.map(|it| {
        let (name, address) = (&endpoint.name, it.address.to_string());
        if *name == address {
            format!("{name}: {}", trouble(it))
        } else {
            format!("{name}, {address}: {}", trouble(it))
        }
    });
    unresolved.chain(failed)
}

fn trouble(address: &Address) -> String {
    let checks = address.unhealthy.then(|| "its checks fail".to_owned());
    let dials = address.penalty_ms.map(|left| match left {
        0 => "its last dial failed; the next client tries it".to_owned(),
        left => format!(
            "its last dial failed; ranked last for {}",
            span(Duration::from_millis(left))
        ),
    });
    let parts: Vec<String> = [checks, dials].into_iter().flatten().collect();
    if parts.is_empty() {
        address.state.name().to_owned()
    } else {
        parts.join(", ")
    }
}

fn limits(f: &mut fmt::Formatter<'_>, status: &Status) -> fmt::Result {
    let is_near = status.limits.iter().any(|limit| limit.near);
    writeln!(
        f,
        "{}",
        if is_near {
            "Limits that are near or reached:"
        } else {
            "No limit is near."
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
