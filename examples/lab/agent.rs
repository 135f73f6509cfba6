//! The requests of an agent to Fleet Server.

use std::time::Instant;

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::client::{Client, Failure, Reply};
use crate::fleet_server::{ENROLLMENT_TOKEN, POLL};

const JSON: (&str, &str) = ("content-type", "application/json");
const KBN_XSRF: (&str, &str) = ("kbn-xsrf", "1");
const USER_AGENT: (&str, &str) = ("user-agent", "Elastic Agent v9.5.1");

/// An enrolled agent.
pub(crate) struct Agent {
    id: String,
    authorization: String,
}

impl Agent {
    /// Asks Fleet Server for its status, and enrolls.
    pub(crate) async fn enroll(client: &mut Client) -> Result<Self, Failure> {
        let status = client
            .send(Method::GET, "/api/status", &[USER_AGENT], "")
            .await?;
        field(&status, "/status")?;
        let request =
            json!({ "type": "PERMANENT", "metadata": { "local": {}, "user_provided": {} } });
        let reply = post(client, "enroll", ENROLLMENT_TOKEN, &request).await?;
        client.saw.answered_by = field(&reply, "/item/policy_id")?;
        let authorization = format!("ApiKey {}", field(&reply, "/item/access_api_key")?);
        Ok(Self {
            id: field(&reply, "/item/id")?,
            authorization,
        })
    }

    /// Checks in, waits for the answer, and acknowledges.
    pub(crate) async fn check_in(&self, client: &mut Client) -> Result<(), Failure> {
        let started = Instant::now();
        let request = json!({ "status": "online", "message": "Running" });
        let path = format!("{}/checkin", self.id);
        let reply = post(client, &path, &self.authorization, &request).await?;
        let token = field(&reply, "/ack_token")?;
        if started.elapsed() < POLL {
            return Err(Failure::Other("the check-in was not held".to_owned()));
        }
        let request = json!({ "events": [{ "type": "ACTION_RESULT", "action_id": token }] });
        let path = format!("{}/acks", self.id);
        let reply = post(client, &path, &self.authorization, &request).await?;
        field(&reply, "/items/0/message").map(drop)
    }
}

async fn post(client: &mut Client, path: &str, key: &str, body: &Value) -> Result<Reply, Failure> {
    let path = format!("/api/fleet/agents/{path}");
    let headers = [JSON, KBN_XSRF, USER_AGENT, ("authorization", key)];
    client
        .send(Method::POST, &path, &headers, body.to_string())
        .await
}

/// A text that the answer must contain.
fn field(reply: &Reply, pointer: &str) -> Result<String, Failure> {
    let text = reply.body.pointer(pointer).and_then(Value::as_str);
    match text {
        Some(text) if reply.status == StatusCode::OK => Ok(text.to_owned()),
        _ => Err(Failure::Other(format!(
            "Fleet Server: {} {}",
            reply.status, reply.body
        ))),
    }
}
