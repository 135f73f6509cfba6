//! The rules of the checks of endpoints.

use crate::backend::{Check, Checks};
use crate::config::notes::Notes;
use crate::config::values;

/// The checks of a backend, if it has any.
pub(super) fn checks(backend: &str, notes: &mut Notes<'_>) -> Option<Checks> {
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
            format!("a check may take {written} (timeout), and one is due every {longest} (interval)"),
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
    })
}
