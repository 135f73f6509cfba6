//! What `portway explain` shows: a label, then text, a line each.

use std::collections::HashSet;
use std::fmt::{self, Display};

use super::counted;
use crate::config::{Backend, Settings};
use crate::conn::Refusal;
use crate::outcome::Outcome;
use crate::routing::{Candidate, Consideration, Route, Unmet};
use crate::tls::Alpn;

/// Routes that were passed over, and values of one of their conditions; the rest is counted.
const SHOWN: usize = 100;

/// The lines so far.
#[derive(Debug, Default)]
pub(super) struct Report {
    lines: Vec<(&'static str, String)>,
}

impl Report {
    pub(super) fn line(&mut self, label: &'static str, text: &str) {
        self.lines.push((label, text.to_owned()));
    }

    /// Bytes of a client are shown escaped.
    pub(super) fn hello(&mut self, server_name: Option<&[u8]>, alpn: Alpn<'_>) {
        let name = server_name.map(|name| name.escape_ascii().to_string());
        self.line("server name", name.as_deref().unwrap_or("none"));
        self.line("ALPN", &list(alpn.iter().map(<[u8]>::escape_ascii)));
    }

    pub(super) fn look_up(&mut self, seen: &Consideration<'_>, settings: &Settings) {
        let routes = settings.routes.routes();
        let route = |candidate: &Candidate<'_>| routes.get(candidate.route);
        let (taken, passed_over): (Vec<_>, Vec<_>) = (seen.candidates.iter())
            .filter_map(|candidate| Some((route(candidate)?, candidate)))
            .partition(|(_, candidate)| seen.taken == Ok(candidate.route));
        // Its best pattern; one route may take a name by several.
        if let Some((route, candidate)) = taken.first() {
            self.line("route", &by_pattern(route, candidate));
            if let Some(backend) = settings.backends.get(route.backend) {
                self.line("backend", &backend.name);
                for endpoint in &backend.endpoints {
                    self.line("endpoint", &endpoint.to_string());
                }
                self.limits(settings, backend);
            }
        }
        for (route, candidate) in passed_over.iter().take(SHOWN) {
            let text = format!(
                "{}: {}",
                by_pattern(route, candidate),
                reason(route, candidate)
            );
            self.line("passed over", &text);
        }
        if let Some(more @ 1..) = passed_over.len().checked_sub(SHOWN) {
            let text = format!("{more} more whose names match");
            self.line("passed over", &text);
        }
        let considered: HashSet<usize> = seen.candidates.iter().map(|c| c.route).collect();
        if let Some(others @ 1..) = routes.len().checked_sub(considered.len()) {
            let others = counted(others, "route");
            self.line("passed over", &format!("{others}: the name does not match"));
        }
    }

    fn limits(&mut self, settings: &Settings, backend: &Backend) {
        for (key, limit) in [
            ("client_hello_timeout", settings.hello.timeout),
            ("connect_timeout", backend.dial.connect_timeout),
            ("dial_timeout", backend.dial.dial_timeout),
            ("idle_timeout", backend.relay.idle_timeout),
            ("half_close_timeout", backend.relay.half_close_timeout),
            ("stall_timeout", backend.relay.stall_timeout),
            ("keepalive", backend.relay.leg.keepalive),
        ] {
            let limit = humantime::format_duration(limit);
            self.line("limit", &format!("{key} {limit}"));
        }
        let unsent = u64::from(backend.relay.leg.max_unsent);
        for (key, most) in [
            ("max_unsent", unsent),
            ("max_client_hello", settings.hello.max_size as u64),
        ] {
            self.line("limit", &format!("{key} {most} bytes"));
        }
    }

    pub(super) fn refusal(&mut self, refusal: &Refusal) {
        let detail = refusal
            .detail
            .as_deref()
            .map(|detail| format!(": {detail}"));
        let text = format!(
            "{}: {}{}",
            refusal.outcome.name(),
            why(refusal.outcome),
            detail.unwrap_or_default()
        );
        self.line("refused", &text);
        self.line("client gets", &refusal.to_string());
    }
}

/// Labels that repeat are left out.
impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last = "";
        for (label, text) in &self.lines {
            let shown = if *label == last { "" } else { label };
            writeln!(f, "{shown:<12} {text}")?;
            last = label;
        }
        Ok(())
    }
}

fn by_pattern(route: &Route, candidate: &Candidate<'_>) -> String {
    match candidate.precedence.pattern {
        Some(pattern) => format!("{} ({pattern})", route.name),
        None => format!("{} (no server name)", route.name),
    }
}

fn reason(route: &Route, candidate: &Candidate<'_>) -> String {
    match candidate.unmet {
        Some(Unmet::Listener) => format!("only on listener {}", list(&route.listeners)),
        Some(Unmet::Alpn) => {
            let protocols = route.alpn.iter().map(|protocol| protocol.escape_ascii());
            format!("only with ALPN {}", list(protocols))
        }
        Some(Unmet::Client) => format!("only from {}", list(&route.clients)),
        None => "lower precedence".to_owned(),
    }
}

fn list(items: impl IntoIterator<Item = impl Display>) -> String {
    let mut items = items.into_iter();
    let shown = items.by_ref().take(SHOWN).map(|item| item.to_string());
    let mut shown: Vec<String> = shown.collect();
    if let more @ 1.. = items.count() {
        shown.push(format!("{more} more"));
    }
    if shown.is_empty() {
        "none".to_owned()
    } else {
        shown.join(", ")
    }
}

/// What an outcome before the dial means.
const fn why(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Probe => "there is not a byte",
        Outcome::HelloEof => "the hello is not whole",
        Outcome::NotTls => "the bytes are no TLS record",
        Outcome::UnsupportedVersion => "the hello is one of SSLv2 or SSLv3",
        Outcome::HelloTooLarge => {
            "the hello is larger than max_client_hello, or a record than TLS allows"
        }
        Outcome::MalformedHello => "the hello breaks the rules of its encoding",
        Outcome::InvalidServerName => "the server name is no host name",
        Outcome::NoServerName => "no route takes connections without a server name here",
        Outcome::NoRoute => "no route takes this server name here",
        Outcome::ClientDenied => "the listener or the route does not admit this client",
        Outcome::Closed
        | Outcome::HelloTimeout
        | Outcome::Overloaded
        | Outcome::BackendUnavailable
        | Outcome::BackendUnresolved
        | Outcome::LocalExhausted
        | Outcome::BackendClosedEarly
        | Outcome::ClientReset
        | Outcome::BackendReset
        | Outcome::IdleTimeout
        | Outcome::HalfCloseTimeout
        | Outcome::Stalled
        | Outcome::Drained
        | Outcome::Error => "it depends on more than the hello",
    }
}
