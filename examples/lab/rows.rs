//! The promises, one row each.

use std::time::Duration;

use hyper::Method;
use tokio::time::timeout;

use crate::agent::Agent;
use crate::client::{Failure, Saw};
use crate::lab::{
    ADDRESS, Certificate, ES_1, ES_2, ES_MTLS, FIRST_CLUSTER, FLEET, FLEET_MTLS, Lab,
    MUTUAL_POLICY, PLAIN_POLICY, SECOND_CLUSTER,
};
use crate::server::{Kind, Seen};
use crate::table::Row;
use crate::tls::Offer;
use crate::{Result, output, progress};

/// Longest time of a row, including a held check-in.
const ROW_TIMEOUT: Duration = Duration::from_secs(20);
/// The cell for a missing certificate or server name.
const NONE: &str = "none";

/// Runs every row.
pub(crate) async fn all(lab: &mut Lab) -> Vec<Row> {
    let mut rows = Vec::new();
    for reach in REACHES {
        rows.push(reach.run(lab).await);
    }
    for refusal in REFUSALS {
        rows.push(refusal.run(lab).await);
    }
    rows
}

/// A client reaches a server.
struct Reach {
    name: &'static str,
    talk: Talk,
    /// The host of the URL.
    host: &'static str,
    /// The client certificate that the server must see.
    client: &'static str,
    /// The policy or cluster that must answer.
    answer: &'static str,
}

/// The requests of a row, and the client that sends them.
#[derive(Clone, Copy)]
enum Talk {
    /// An agent enrolls at Fleet Server and checks in.
    CheckIn(Certificate, Offer),
    /// An agent enrolls at this Fleet Server, which records that in Elasticsearch.
    EnrollAt(&'static str, Certificate),
    /// An agent sends events to Elasticsearch.
    Bulk,
    /// An agent asks Elasticsearch which node it is.
    Identify,
}

const REACHES: [Reach; 9] = [
    Reach {
        name: "agent -> Fleet Server, one-way",
        talk: Talk::CheckIn(Certificate::None, Offer::Nothing),
        host: FLEET,
        client: NONE,
        answer: PLAIN_POLICY,
    },
    Reach {
        name: "agent -> Fleet Server, mutual",
        talk: Talk::CheckIn(Certificate::Own, Offer::Nothing),
        host: FLEET_MTLS,
        client: "agent-1",
        answer: MUTUAL_POLICY,
    },
    Reach {
        name: "agent -> Fleet Server, mutual, HTTP/2",
        talk: Talk::CheckIn(Certificate::Own, Offer::Http2),
        host: FLEET_MTLS,
        client: "agent-1",
        answer: MUTUAL_POLICY,
    },
    Reach {
        name: "agent -> Fleet Server, by IP address",
        talk: Talk::CheckIn(Certificate::None, Offer::Nothing),
        host: ADDRESS,
        client: NONE,
        answer: PLAIN_POLICY,
    },
    Reach {
        name: "Fleet Server -> Elasticsearch, one-way",
        talk: Talk::EnrollAt(FLEET, Certificate::None),
        host: ES_1,
        client: NONE,
        answer: FIRST_CLUSTER,
    },
    Reach {
        name: "Fleet Server -> Elasticsearch, mutual",
        talk: Talk::EnrollAt(FLEET_MTLS, Certificate::Own),
        host: ES_MTLS,
        client: "fleet-server-output",
        answer: SECOND_CLUSTER,
    },
    Reach {
        name: "agent -> Elasticsearch, _bulk",
        talk: Talk::Bulk,
        host: ES_1,
        client: NONE,
        answer: FIRST_CLUSTER,
    },
    Reach {
        name: "agent -> the first of two clusters",
        talk: Talk::Identify,
        host: ES_1,
        client: NONE,
        answer: FIRST_CLUSTER,
    },
    Reach {
        name: "agent -> the second of two clusters",
        talk: Talk::Identify,
        host: ES_2,
        client: NONE,
        answer: SECOND_CLUSTER,
    },
];

impl Reach {
    async fn run(&self, lab: &mut Lab) -> Row {
        progress(self.name);
        lab.journal.clear();
        let mut row = Row {
            name: self.name,
            ..Row::default()
        };
        match timeout(ROW_TIMEOUT, self.talk(lab)).await {
            Ok(Ok((saw, seen))) => self.judge(&mut row, saw, seen),
            Ok(Err(error)) => row.faults.push(error.to_string()),
            Err(_) => row.faults.push(format!("not done after {ROW_TIMEOUT:?}")),
        }
        row
    }

    /// Sends it, and returns what the near and the far end saw.
    async fn talk(&self, lab: &mut Lab) -> Result<(Saw, Seen)> {
        let saw = self.near_end(lab).await?;
        let far_end = match self.talk {
            Talk::CheckIn(..) => Kind::FleetServer,
            Talk::EnrollAt(..) | Talk::Bulk | Talk::Identify => Kind::Elasticsearch,
        };
        Ok((saw, lab.journal.next(far_end).await?))
    }

    async fn near_end(&self, lab: &Lab) -> Result<Saw, Failure> {
        let (host, certificate, offer) = match self.talk {
            Talk::CheckIn(certificate, offer) => (self.host, certificate, offer),
            Talk::EnrollAt(host, certificate) => (host, certificate, Offer::Nothing),
            Talk::Bulk | Talk::Identify => (self.host, Certificate::None, Offer::Nothing),
        };
        let mut client = lab.connect(host, certificate, offer).await?;
        match self.talk {
            Talk::CheckIn(..) => {
                let agent = Agent::enroll(&mut client).await?;
                agent.check_in(&mut client).await?;
            }
            Talk::EnrollAt(..) => {
                Agent::enroll(&mut client).await?;
                return lab.fleet_server_saw(host);
            }
            Talk::Bulk => {
                output::identify(&mut client).await?;
                output::bulk(&mut client).await?;
            }
            Talk::Identify => output::identify(&mut client).await?,
        }
        Ok(client.saw)
    }

    fn judge(&self, row: &mut Row, saw: Saw, seen: Seen) {
        row.server_name = seen.server_name.unwrap_or_else(|| NONE.to_owned());
        row.client = seen.client.unwrap_or_else(|| NONE.to_owned());
        row.server = saw.certificate;
        row.bytes = format!("{}/{}", saw.sent, saw.received);

        if saw.answered_by != self.answer {
            let (host, got, expected) = (self.host, &saw.answered_by, self.answer);
            row.faults.push(format!(
                "{host} was answered by {got} instead of {expected}"
            ));
        }
        row.answer = saw.answered_by;
        let server_name = if self.host == ADDRESS {
            NONE
        } else {
            self.host
        };
        row.check("server name", &row.server_name.clone(), server_name);
        row.check("client certificate", &row.client.clone(), self.client);
        let http2 = matches!(self.talk, Talk::CheckIn(_, Offer::Http2));
        let alpn = seen.alpn.unwrap_or_else(|| NONE.to_owned());
        row.check("ALPN", &alpn, if http2 { "h2" } else { NONE });
    }
}

/// A client is refused.
struct Refusal {
    name: &'static str,
    host: &'static str,
    certificate: Certificate,
    /// The alert that must arrive at the client.
    alert: &'static str,
    /// The sender of the alert: a server, whose alert portway passes on, or portway itself.
    by: By,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Server,
    Portway,
}

const REFUSALS: [Refusal; 3] = [
    Refusal {
        name: "agent of another authority",
        host: FLEET_MTLS,
        certificate: Certificate::Foreign,
        alert: "alert 48 unknown_ca",
        by: By::Server,
    },
    Refusal {
        name: "agent without a certificate",
        host: FLEET_MTLS,
        certificate: Certificate::None,
        alert: "alert 116 certificate_required",
        by: By::Server,
    },
    Refusal {
        name: "name without a route",
        host: "unknown.example",
        certificate: Certificate::Own,
        alert: "alert 112 unrecognized_name",
        by: By::Portway,
    },
];

impl Refusal {
    async fn run(&self, lab: &mut Lab) -> Row {
        progress(self.name);
        lab.journal.clear();
        let mut row = Row {
            name: self.name,
            ..Row::default()
        };
        match timeout(ROW_TIMEOUT, self.attempt(lab, &mut row)).await {
            Ok(Ok(())) => row.faults.push("the client was let in".to_owned()),
            Ok(Err(failure)) => {
                row.answer = failure.to_string();
                row.check("the client got", &failure.to_string(), self.alert);
            }
            Err(_) => row.faults.push(format!("not done after {ROW_TIMEOUT:?}")),
        }
        self.far_end(lab, &mut row).await;
        row
    }

    /// Connects and sends. In TLS 1.3 a client learns only with the first answer that its certificate was
    /// refused.
    async fn attempt(&self, lab: &Lab, row: &mut Row) -> Result<(), Failure> {
        let mut client = lab
            .connect(self.host, self.certificate, Offer::Nothing)
            .await?;
        row.server.clone_from(&client.saw.certificate);
        client
            .send(Method::GET, "/api/status", &[], "")
            .await
            .map(drop)
    }

    /// Checks that the server has refused too, or was not reached at all.
    async fn far_end(&self, lab: &mut Lab, row: &mut Row) {
        if self.by == By::Portway {
            if lab.journal.clear() > 0 {
                row.faults.push("a server was reached".to_owned());
            }
            return;
        }
        match lab.journal.next(Kind::FleetServer).await {
            Ok(Seen {
                server_name,
                refusal: Some(_),
                ..
            }) => {
                row.server_name = server_name.unwrap_or_else(|| NONE.to_owned());
                "refused".clone_into(&mut row.client);
                row.check("server name", &row.server_name.clone(), self.host);
            }
            Ok(_) => row.faults.push("the server refused nothing".to_owned()),
            Err(error) => row.faults.push(error.to_string()),
        }
    }
}
