//! The rules of the checks of endpoints, and of the connections that end in a gap.

use crate::backend::{Check, Checks};
use crate::config::notes::Notes;
use crate::config::section::Section;
use crate::config::values;
use crate::snapshot::{CloseOn, Leaving};
use crate::wire::ProxyVersion;

/// The checks of a backend, if it has any.
pub(super) fn checks(
    (backend, header): (&str, Option<ProxyVersion>),
    notes: &mut Notes<'_>,
) -> Option<Checks> {
    let mut section = notes.section(&["backends", backend, "health"]);
    section.table?;
    section.require("check", "it has no check, and checks nothing");
    let check = section.read("check", values::choice);
    let faults = section.notes.faults.count();
    let interval = section.duration("interval");
    let timeout = section.duration("timeout");
    let is_sure = section.notes.faults.count() == faults
        && !section.is_lost("interval")
        && !section.is_lost("timeout");
    if is_sure && timeout > interval {
        let [longest, written] = [interval, timeout].map(humantime::format_duration);
        let key = match section.value("timeout") {
            Some(_) => "timeout",
            None => "interval",
        };
        section.notes.fault(
            &section.path.key(key),
            format!(
                "a check may take {written} (timeout), and one is due every {longest} (interval)"
            ),
            format!("write a timeout of at most \"{longest}\", or a longer interval"),
        );
    }
    let server_name = section.read("server_name", |text, _| values::one_name(text));
    if check == Some(Check::Tcp) && section.value("server_name").is_some() {
        section.notes.fault(
            &section.path.key("server_name"),
            "a tcp check sends no hello, and so no server name".to_owned(),
            "leave it out, or write check = \"tls\"",
        );
    }
    let mut count = |key| section.read(key, values::count).unwrap_or(1);
    let [unhealthy_after, healthy_after] = ["unhealthy_after", "healthy_after"].map(&mut count);
    Some(Checks {
        check: check?,
        interval,
        timeout,
        unhealthy_after,
        healthy_after,
        server_name,
        header,
    })
}

/// When connections to a backend end although the process does not drain.
pub(super) fn leaving(section: &mut Section<'_, '_>) -> Leaving {
    let close_on = section.list("close_on", values::close_on);
    let is_unchecked = section.value("health").is_none() && !section.is_lost("health");
    if is_unchecked && close_on.contains(&CloseOn::Unhealthy) {
        section.notes.fault(
            &section.path.key("close_on"),
            "nothing checks the endpoints, so none is ever unhealthy".to_owned(),
            "write health = { check = \"tls\" }, or leave \"unhealthy\" out",
        );
    }
    Leaving {
        if_unhealthy: close_on.contains(&CloseOn::Unhealthy),
        if_removed: close_on.contains(&CloseOn::Removed),
        age: section.read("max_connection_age", values::duration),
    }
}
