//! The kinds of promises, and how a row is made of each: what both ends saw, and whether that is right.

use std::time::Duration;

use hyper::Method;
use tokio::time::timeout;

use crate::client::Failure;
use crate::lab::{Lab, Who};
use crate::server::{Journal, Kind, Seen};
use crate::site::{Front, Site, Way};
use crate::table::Row;
use crate::tls::Offer;
use crate::topologies::Group;
use crate::{Result, progress};

/// Longest time of a row, including a held check-in.
const ROW_TIMEOUT: Duration = Duration::from_secs(20);
/// The cell for a missing certificate or server name.
pub(crate) const NONE: &str = "none";

/// One row of the table.
pub(crate) struct Promise {
    /// The topology that it belongs to.
    pub(crate) id: &'static str,
    pub(crate) what: &'static str,
    /// Whether the server requires a certificate of the client.
    pub(crate) is_mutual: bool,
    pub(crate) way: Way,
    pub(crate) run: Run,
}

/// The end that a promise must come to.
pub(crate) enum Run {
    Reach(Reach),
    Refusal(Refusal),
    /// Many clients share several servers, of which this one ends.
    Spread {
        ends: usize,
    },
}

/// A client reaches a server.
pub(crate) struct Reach {
    pub(crate) talk: Talk,
    /// The common name of the certificate of the server that must answer.
    pub(crate) server: &'static str,
    /// The policy, cluster or other name by which the server must answer.
    pub(crate) answer: &'static str,
}

/// The requests of a row.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Talk {
    /// An agent enrolls at Fleet Server and checks in.
    CheckIn(Offer),
    /// An agent enrolls at Fleet Server, which records that in Elasticsearch under this host.
    EnrollAndRecord(&'static str),
    /// An agent sends events to Elasticsearch.
    Bulk,
    /// Logstash does the same.
    BulkOfLogstash,
    /// A client asks Elasticsearch which node it is.
    Identify,
    /// An agent downloads a package.
    Download,
    /// A client that does not speak HTTP.
    Frames(Protocol),
}

/// The protocols besides HTTP.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// An agent sends events to Logstash.
    Lumberjack,
    /// A node of one cluster opens its sockets towards another cluster.
    Transport,
    /// An agent sends records to all brokers.
    Kafka,
}

/// A client is refused.
pub(crate) struct Refusal {
    pub(crate) who: Who,
    /// The beginning of the reason that must arrive at the client.
    pub(crate) reason: &'static str,
    /// The kind of the server whose alert portway passes on; none if portway itself refuses.
    pub(crate) by: Option<Kind>,
}

/// A promise with everything that it needs.
pub(crate) struct Stage<'s> {
    pub(crate) lab: &'s Lab,
    pub(crate) site: &'s Site,
    pub(crate) promise: &'s Promise,
}

impl Promise {
    /// The client of the row.
    pub(crate) fn who(&self) -> Who {
        match &self.run {
            Run::Refusal(refusal) => refusal.who,
            // An agent shows the certificate of its `ssl` settings to the proxy too.
            Run::Reach(_) if matches!(self.way.front, Front::HttpsProxy(_)) => Who::Agent,
            Run::Reach(_) | Run::Spread { .. } if !self.is_mutual => Who::Nobody,
            Run::Reach(reach) if reach.talk == Talk::Frames(Protocol::Transport) => Who::Node,
            Run::Reach(reach) if reach.talk == Talk::BulkOfLogstash => Who::Logstash,
            Run::Reach(_) | Run::Spread { .. } => Who::Agent,
        }
    }

    /// The server name and the client certificate that the far end must see.
    pub(crate) fn expected(&self) -> (&'static str, &'static str) {
        match &self.run {
            Run::Reach(Reach {
                talk: Talk::EnrollAndRecord(host),
                ..
            }) => {
                let client = if self.is_mutual {
                    Who::FleetServer
                } else {
                    Who::Nobody
                };
                (host, client.common_name())
            }
            Run::Reach(_) | Run::Refusal(_) | Run::Spread { .. } => {
                let client = if self.is_mutual {
                    self.who()
                } else {
                    Who::Nobody
                };
                (self.way.server_name(), client.common_name())
            }
        }
    }
}

impl Stage<'_> {
    /// Keeps the promise, and says what did not hold.
    pub(crate) async fn run(&self, journal: &mut Journal) -> Row {
        let Promise { id, what, .. } = self.promise;
        progress(&format!("{id:4} {what}"));
        journal.clear();
        let mut row = Row::new(id, what);
        let tls = if self.promise.is_mutual {
            "mutual"
        } else {
            "one-way"
        };
        tls.clone_into(&mut row.tls);
        let running = async {
            match &self.promise.run {
                Run::Reach(reach) => self.reach(reach, journal, &mut row).await,
                Run::Refusal(refusal) => self.refusal(refusal, journal, &mut row).await,
                Run::Spread { ends } => self.spread(*ends, journal, &mut row).await,
            }
        };
        match timeout(ROW_TIMEOUT, running).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => row.faults.push(error.to_string()),
            Err(_) => row.faults.push(format!("not done after {ROW_TIMEOUT:?}")),
        }
        row
    }

    /// Sends the requests, and judges what the near and the far end saw.
    async fn reach(&self, reach: &Reach, journal: &mut Journal, row: &mut Row) -> Result<()> {
        let (saw, offer) = self.talk(reach.talk).await?;
        row.server.clone_from(&saw.certificate);
        row.answer.clone_from(&saw.answered_by);
        row.bytes = format!("{}/{}", saw.sent, saw.received);
        row.check("server certificate", &saw.certificate, reach.server);
        if saw.answered_by != reach.answer {
            let (host, got, expected) = (self.promise.way.host, &saw.answered_by, reach.answer);
            let fault = format!("{host} was answered by {got} instead of {expected}");
            row.faults.push(fault);
        }

        let Way {
            group, front, host, ..
        } = self.promise.way;
        if group == Group::Egress || matches!(front, Front::HttpsProxy(_)) {
            let target = format!("{host}:{}", self.promise.way.port);
            let asked = self.site.proxy.take_asked().join(", ");
            row.check("target at the proxy", &asked, &target);
        }
        let seen = journal.next(self.far_end(reach.talk)).await?;
        row.server_name = seen.server_name.unwrap_or_else(|| NONE.to_owned());
        row.client = seen.client.unwrap_or_else(|| NONE.to_owned());
        let (server_name, client) = self.promise.expected();
        row.check("server name", &row.server_name.clone(), server_name);
        row.check("client certificate", &row.client.clone(), client);
        let alpn = seen.alpn.unwrap_or_else(|| NONE.to_owned());
        let http2 = offer == Offer::Http2;
        row.check("ALPN", &alpn, if http2 { "h2" } else { NONE });
        Ok(())
    }

    /// The kind of the server whose observations count.
    fn far_end(&self, talk: Talk) -> Kind {
        match talk {
            Talk::Download => Kind::Artifacts,
            Talk::Frames(Protocol::Lumberjack) => Kind::Logstash,
            Talk::Frames(Protocol::Transport) => Kind::Node,
            Talk::Frames(Protocol::Kafka) => Kind::Kafka,
            Talk::CheckIn(_)
            | Talk::EnrollAndRecord(_)
            | Talk::Bulk
            | Talk::BulkOfLogstash
            | Talk::Identify
                if self.promise.way.group == Group::Cloud =>
            {
                Kind::ElasticCloud
            }
            Talk::CheckIn(_) => Kind::FleetServer,
            Talk::EnrollAndRecord(_) | Talk::Bulk | Talk::BulkOfLogstash | Talk::Identify => {
                Kind::Elasticsearch
            }
        }
    }

    /// Connects and sends, and judges why that fails. In TLS 1.3 a client learns only with the first answer
    /// that its certificate was refused.
    async fn refusal(&self, refusal: &Refusal, journal: &mut Journal, row: &mut Row) -> Result<()> {
        match self.attempt(refusal.who, row).await {
            Ok(()) => row.faults.push("the client was let in".to_owned()),
            Err(failure) => {
                refusal.reason.clone_into(&mut row.answer);
                let reason = failure.to_string();
                if !reason.starts_with(refusal.reason) {
                    row.check("the client got", &reason, refusal.reason);
                    row.answer = reason;
                }
            }
        }
        let Some(kind) = refusal.by else {
            "-".clone_into(&mut row.tls);
            if journal.clear() > 0 {
                row.faults.push("a server was reached".to_owned());
            }
            return Ok(());
        };
        let Seen {
            server_name,
            refusal: Some(_),
            ..
        } = journal.next(kind).await?
        else {
            return Err("the server refused nothing".into());
        };
        row.server_name = server_name.unwrap_or_else(|| NONE.to_owned());
        "refused".clone_into(&mut row.client);
        let expected = match (kind, self.promise.way.front) {
            (Kind::HttpsProxy, Front::HttpsProxy(proxy)) => proxy,
            _ => self.promise.way.server_name(),
        };
        row.check("server name", &row.server_name.clone(), expected);
        Ok(())
    }

    async fn attempt(&self, who: Who, row: &mut Row) -> Result<(), Failure> {
        let mut client = self.client(who, Offer::Nothing).await?;
        row.server.clone_from(&client.saw.certificate);
        let path = "/api/status";
        client.send(Method::GET, path, &[], "").await.map(drop)
    }
}
