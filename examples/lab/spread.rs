//! Many agents that share several servers behind one name, of which one ends.

use std::collections::BTreeMap;

use hyper::Method;

use crate::Result;
use crate::client::{Client, Failure};
use crate::rows::{NONE, Stage};
use crate::server::Journal;
use crate::table::Row;
use crate::tls::Offer;

/// Agents that are connected at the same time.
const AGENTS: usize = 30;

impl Stage<'_> {
    /// Connects all agents, ends a server, and lets each agent send again: those of the server that is gone
    /// connect anew, the others go on.
    pub(crate) async fn spread(
        &self,
        ends: usize,
        journal: &mut Journal,
        row: &mut Row,
    ) -> Result<()> {
        let mut agents = Vec::new();
        for _ in 0..AGENTS {
            agents.push(self.enter().await?);
        }
        let before = shares(&agents);
        row.server = names(&before);
        row.answer = counts(&before);
        row.check("agents of each server", &row.answer.clone(), "10+10+10");

        let server = self.site.servers.get(ends);
        server.ok_or("there is no such server")?.abort();
        let mut came_back = 0;
        for agent in &mut agents {
            if status(agent).await.is_err() {
                *agent = self.enter().await?;
                came_back += 1;
            }
        }
        let after = shares(&agents);
        row.answer = format!("{} -> {}", counts(&before), counts(&after));
        row.check("agents of both servers", &counts(&after), "15+15");
        row.check("agents that came back", &came_back.to_string(), "10");
        let stayed = after.keys().all(|name| before.contains_key(name));
        row.check("servers stayed the same", &stayed.to_string(), "true");

        let (server_name, client) = self.promise.expected();
        for seen in journal.take() {
            row.server_name = seen.server_name.unwrap_or_else(|| NONE.to_owned());
            row.client = seen.client.unwrap_or_else(|| NONE.to_owned());
            row.check("server name", &row.server_name.clone(), server_name);
            row.check("client certificate", &row.client.clone(), client);
        }
        Ok(())
    }

    async fn enter(&self) -> Result<Client, Failure> {
        let mut client = self.client(self.promise.who(), Offer::Nothing).await?;
        status(&mut client).await?;
        Ok(client)
    }
}

async fn status(client: &mut Client) -> Result<(), Failure> {
    let reply = client.send(Method::GET, "/api/status", &[], "").await?;
    if reply.status.is_success() {
        Ok(())
    } else {
        Err(Failure::Other(reply.status.to_string()))
    }
}

/// How many agents each server has, by its certificate.
fn shares(agents: &[Client]) -> BTreeMap<String, usize> {
    let mut shares = BTreeMap::new();
    for agent in agents {
        *shares.entry(agent.saw.certificate.clone()).or_default() += 1;
    }
    shares
}

fn names(shares: &BTreeMap<String, usize>) -> String {
    let names: Vec<&str> = shares.keys().map(String::as_str).collect();
    names.join(" ")
}

fn counts(shares: &BTreeMap<String, usize>) -> String {
    let counts: Vec<String> = shares.values().map(ToString::to_string).collect();
    counts.join("+")
}
