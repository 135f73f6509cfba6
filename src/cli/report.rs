//! The text of `portway explain`: each line is a label and its value.

use std::fmt::{self, Display};

use super::addresses::{self, Addresses};
use super::configuration::Origin;
use super::explanation::{Explanation, Hello, PassedOver, Reason, Refused, Taken};
use crate::telemetry::list;

/// The most routes shown whose names match and that were passed over; the rest are counted.
const SHOWN: usize = 100;
/// The most routes shown whose names do not match.
const OTHERS: usize = 10;

/// The lines so far.
#[derive(Debug, Default)]
struct Lines(Vec<(&'static str, String)>);

/// Leaves out a label that is the same as on the line before.
impl Display for Explanation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last = "";
        for (label, text) in &lines(self).0 {
            let shown = if *label == last { "" } else { label };
            writeln!(f, "{shown:<12} {text}")?;
            last = label;
        }
        Ok(())
    }
}

fn lines(explanation: &Explanation<'_>) -> Lines {
    let mut lines = Lines::default();
    if let Origin::Running { generation, pid } = explanation.origin {
        let process = match pid {
            0 => "a process of another container".to_owned(),
            _ => format!("process {pid}"),
        };
        let text = format!("generation {generation}, which is in force in {process}");
        lines.line("config", &text);
    }
    if let Some(note) = &explanation.note {
        lines.line("note", note);
    }
    lines.line("listener", explanation.listener);
    if let Some(port) = explanation.port {
        lines.line("port", &port.to_string());
    }
    lines.line("client", &explanation.client.to_string());
    if let Some(from) = &explanation.client_from {
        lines.line("client from", from);
    }
    if let Some(target) = &explanation.target {
        lines.line("target", target);
    }
    if let Some(hello) = &explanation.hello {
        lines.hello(hello);
    }
    if let Some(taken) = &explanation.taken {
        lines.taken(taken);
    }
    lines.passed_over(&explanation.passed_over);
    if let Some(refused) = &explanation.refused {
        lines.refused(refused);
    }
    lines
}

impl Lines {
    fn line(&mut self, label: &'static str, text: &str) {
        self.0.push((label, text.to_owned()));
    }

    fn hello(&mut self, hello: &Hello) {
        let name = hello.server_name.as_deref().unwrap_or("none");
        match &hello.unicode {
            Some(unicode) => self.line("server name", &format!("{name} ({unicode})")),
            None => self.line("server name", name),
        }
        self.line("ALPN", &list(&hello.alpn, SHOWN));
        if let Some(size) = hello.size {
            self.line("hello", &format!("{size} bytes"));
        }
        if hello.ech {
            self.line("ECH", "offered; the server name is the outer one");
        }
    }

    fn taken(&mut self, taken: &Taken<'_>) {
        let pattern = taken.pattern.as_deref().unwrap_or("no server name");
        self.line("route", &format!("{} ({pattern})", taken.route));
        self.line("backend", taken.backend);
        self.endpoints(taken);
        let mut table = "";
        for limit in &taken.limits {
            if limit.table != table {
                table = &limit.table;
                self.line("limit", &format!("[{table}]"));
            }
            let default = if limit.is_default { " # default" } else { "" };
            let (key, value) = (limit.key, limit.in_file());
            self.line("limit", &format!("{key} = {value}{default}"));
        }
    }

    /// The proxy and the endpoints, with the addresses below each of them.
    fn endpoints(&mut self, taken: &Taken<'_>) {
        let lines = taken.addresses.as_ref().map(addresses::lines);
        let lines = lines.unwrap_or_default();
        let proxy = taken.via.iter().map(|via| ("via", via));
        let endpoints = taken.endpoints.iter().map(|it| ("endpoint", it));
        for (label, endpoint) in proxy.chain(endpoints) {
            match taken.roles.get(endpoint) {
                Some(role) => self.line(label, &format!("{endpoint} ({role})")),
                None => self.line(label, endpoint),
            }
            for line in lines.get(endpoint.as_str()).into_iter().flatten() {
                self.line(label, &format!("  {line}"));
            }
        }
        match &taken.addresses {
            Some(Addresses::Known {
                not_shown: more @ 1..,
                ..
            }) => self.line("endpoint", &format!("{more} more addresses or endpoints")),
            Some(Addresses::Unknown { why }) => self.line("addresses", why),
            Some(Addresses::Known { .. }) | None => {}
        }
    }

    fn passed_over(&mut self, routes: &[PassedOver<'_>]) {
        let is_other = |route: &&PassedOver<'_>| route.reason == Reason::ServerName;
        let (others, matching): (Vec<_>, Vec<_>) = routes.iter().partition(is_other);
        let shown = [
            (matching, SHOWN, "more whose names match"),
            (others, OTHERS, "more whose names do not match"),
        ];
        for (routes, most, rest) in shown {
            for PassedOver {
                route,
                patterns,
                detail,
                ..
            } in routes.iter().take(most)
            {
                self.line("passed over", &format!("{route} ({patterns}): {detail}"));
            }
            if let Some(more @ 1..) = routes.len().checked_sub(most) {
                self.line("passed over", &format!("{more} {rest}"));
            }
        }
    }

    fn refused(&mut self, refused: &Refused) {
        let Refused { outcome, why, .. } = refused;
        let detail = refused.detail.as_deref();
        let detail = detail.map(|detail| format!(": {detail}"));
        let text = format!("{}: {why}{}", outcome.name(), detail.unwrap_or_default());
        self.line("refused", &text);
        if let Some(nearest) = &refused.nearest {
            self.line("nearest", nearest);
        }
        self.line("client gets", &refused.client_gets);
        if let Some(remedy) = refused.remedy {
            self.line("remedy", remedy);
        }
    }
}
