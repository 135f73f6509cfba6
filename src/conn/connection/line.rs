//! The line of a connection in the log.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use super::{Connection, Hello, PORTS, Trouble};
use crate::net::Figures;
use crate::outcome::{BackendAnswer, Direction, Handshake, Outcome};
use crate::routing::Query;
use crate::telemetry::{ClientText, Id, Line, Millis, Phase, Protocols, Time, list};
use crate::tls::ServerName;

impl Connection {
    /// Whether the log has not been asked about it yet. From now on it has.
    pub(in crate::conn) fn begin_to_tell(&self) -> bool {
        !self.is_told.replace(true)
    }

    /// Calls `tell` with everything that the log needs, and with the figures of the paths to the client and to the backend.
    pub(in crate::conn) fn tell(
        &self,
        [client, backend]: [Figures; 2],
        tell: impl FnOnce(&Line<'_>),
    ) {
        let trouble = self.trouble.take();
        let elsewhere = self.elsewhere();
        let line = Line {
            client_rtt_ms: client.round_trip.map(Millis),
            client_retransmits: client.retransmits,
            backend_rtt_ms: backend.round_trip.map(Millis),
            backend_retransmits: backend.retransmits,
            ..self.line(trouble.as_deref(), elsewhere.as_deref())
        };
        tell(&line);
        self.trouble.set(trouble);
    }

    /// Calls `tell` with what is known of it while it is open. Nothing about it changes, and the kernel is not asked.
    pub(in crate::conn) fn tell_open(&self, tell: impl FnOnce(&Line<'_>)) {
        let trouble = self.trouble.take();
        let line = self.line(trouble.as_deref(), None);
        // Before its end a handshake has not been given up, and a silent backend may still answer.
        let handshake = line.handshake.filter(|it| *it != Handshake::Abandoned);
        let backend_answer = line.backend_answer.filter(|it| *it != BackendAnswer::None);
        tell(&Line {
            phase: Some(Phase::Open),
            outcome: None,
            closed_by: None,
            handshake,
            backend_answer,
            ..line
        });
        self.trouble.set(trouble);
    }

    /// The name in the hello, also if it is not a legal one.
    fn server_name<'a>(&'a self, trouble: Option<&'a Trouble>) -> Option<ClientText<'a>> {
        let hello = self.hello.get();
        let name = hello.and_then(|hello| hello.server_name.as_ref());
        let name = name.map(|name| name.as_str().as_bytes());
        name.or_else(|| trouble?.invalid_name.as_deref())
            .map(ClientText)
    }

    /// The address of the endpoint. Behind a proxy the address that is connected may be that of the proxy.
    fn backend_address(&self) -> Option<SocketAddr> {
        let via = self.routed()?.backend.pool.via();
        let reached = self.reached.get().filter(|_| via.is_none())?;
        Some(reached.endpoint.address().at())
    }

    /// The name that no route takes here.
    fn unrouted(&self) -> Option<&ServerName> {
        if self.outcome() == Outcome::NoRoute {
            self.hello.get()?.server_name.as_ref()
        } else if self.outcome() == Outcome::TargetDenied {
            self.target()?.name()
        } else {
            None
        }
    }

    /// The name or pattern that was probably meant in place of the name that no route takes here.
    fn nearest(&self) -> Option<String> {
        let nearest = self.snapshot.routes.nearest(self.unrouted()?)?;
        Some(nearest.to_string())
    }

    /// Which connections the routes of the name take, if they do not take this one.
    fn elsewhere(&self) -> Option<Cow<'static, str>> {
        let name = self.unrouted()?;
        let routes = &self.snapshot.routes;
        let query = Query {
            server_name: Some(name),
            ..self.query(self.hello.get())
        };
        let ports = routes.ports(&query);
        if !ports.is_empty() {
            let (port, at) = (query.port, list(&ports, PORTS));
            Some(format!("at port {port} no route takes this name; routes take it at {at}").into())
        } else if routes.has(name) {
            Some("routes have this name, but none of them for this listener and ALPN".into())
        } else {
            None
        }
    }

    fn line<'a>(&'a self, trouble: Option<&'a Trouble>, elsewhere: Option<&'a str>) -> Line<'a> {
        let (outcome, closed_by) = self.end.get();
        let routed = self.routed();
        let hello = self.hello.get();
        let reached = self.reached.get();
        let (ends, peer) = (self.ends(), self.peer());
        let hello_after = hello.map(|hello| hello.after.get());
        let connected_after = reached.map(|reached| reached.after.get());
        let between = |since: Option<Duration>, until: Option<Duration>| {
            Some(Millis(until?.saturating_sub(since?)))
        };
        let moved = |direction| reached.map(|_| self.flow.moved(direction));
        let partial = trouble.and_then(|trouble| trouble.partial);
        let handshake = reached.map(|_| self.flow.handshake());
        Line {
            time: Time(SystemTime::now()),
            id: Id(self.id),
            phase: None,
            config: self.snapshot.generation,
            client: ends.map_or(peer, |ends| ends.client),
            proxied_by: ends.map(|_| peer),
            listener: &self.listener().name,
            target: self.target().map(ToString::to_string),
            server_name: self.server_name(trouble),
            nearest: self.nearest(),
            alpn: Protocols(hello.map(Hello::alpn).unwrap_or_default()),
            tls_offered: hello.map(|hello| hello.version),
            tls_negotiated: handshake.and_then(|it| it.version),
            route: routed.map(|routed| &*routed.route.name),
            backend: routed.map(|routed| &**routed.backend.pool.name()),
            endpoint: reached.map(|reached| &**reached.endpoint.endpoint().name()),
            backend_address: self.backend_address(),
            via: routed.and_then(|routed| Some(&**routed.backend.pool.via()?.name())),
            backend_local: reached.and_then(|reached| reached.local),
            attempts: trouble.map_or(&[], |trouble| &trouble.attempts),
            hello_ms: hello_after.map(Millis),
            dial_ms: between(hello_after, connected_after),
            first_byte_ms: between(connected_after, self.flow.first_byte()),
            backend_answer: handshake.map(|it| it.answer),
            handshake: handshake.map(|it| it.result),
            client_certificate_asked: handshake.and_then(|it| it.asks_for_certificate),
            backend_alert: handshake.and_then(|it| it.backend_alert),
            client_alert: handshake.and_then(|it| it.client_alert),
            duration_ms: Millis(self.flow.accepted_at().elapsed()),
            bytes_client_to_backend: moved(Direction::ClientToBackend),
            bytes_backend_to_client: moved(Direction::BackendToClient),
            bytes_unacknowledged: trouble.and_then(|trouble| trouble.unacknowledged),
            client_rtt_ms: None,
            client_retransmits: None,
            backend_rtt_ms: None,
            backend_retransmits: None,
            outcome: Some(outcome),
            closed_by: Some(closed_by),
            alert: trouble.and_then(|trouble| trouble.alert),
            detail: trouble.and_then(|it| it.detail.as_deref()).or(elsewhere),
            limit: trouble.and_then(|trouble| trouble.limit),
            hello_bytes: partial.map(|(have, _)| have),
            hello_expected: partial.map(|(_, total)| total),
        }
    }
}
