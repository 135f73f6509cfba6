//! A stand-in for Fleet Server: status, enroll, check-ins that it holds open, and acks. If it has an output, it
//! stores its agents in Elasticsearch, which it reaches through portway like all other clients.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::header::AUTHORIZATION;
use hyper::{Method, StatusCode};
use rustls::ClientConfig;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::client::{Client, Failure, Saw};
use crate::output;
use crate::server::{Answer, Call, json};

/// How long it holds a check-in, silent in both directions. A real Fleet Server holds it for minutes.
pub(crate) const POLL: Duration = Duration::from_secs(1);
/// The token that an agent needs to enroll.
pub(crate) const ENROLLMENT_TOKEN: &str = "ApiKey bGFiLWVucm9sbG1lbnQtdG9rZW4=";
const AGENT_ID: &str = "6f1c1f0e-8d3b-4b8e-9a39-2f7f5e0c1a11";
const ACCESS_API_KEY: &str = "bGFiLWFjY2Vzcy1hcGkta2V5";

/// A Fleet Server with one policy.
pub(crate) struct FleetServer {
    policy: &'static str,
    output: Option<Output>,
    saw: Mutex<Option<Saw>>,
}

/// Where a Fleet Server keeps its data.
pub(crate) struct Output {
    pub(crate) host: &'static str,
    pub(crate) address: SocketAddr,
    pub(crate) tls: Arc<ClientConfig>,
}

impl FleetServer {
    pub(crate) fn new(policy: &'static str, output: Option<Output>) -> Self {
        Self {
            policy,
            output,
            saw: Mutex::new(None),
        }
    }

    /// Its observations of Elasticsearch when it enrolled the last agent.
    pub(crate) fn saw(&self) -> Option<Saw> {
        self.saw
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) async fn answer(&self, call: Call) -> Answer {
        let authorization = call
            .headers
            .get(AUTHORIZATION)
            .map_or(&b""[..], |value| value.as_bytes());
        let enrolled = authorization == format!("ApiKey {ACCESS_API_KEY}").as_bytes();
        let path: Vec<&str> = call.path.trim_matches('/').split('/').collect();
        match (&call.method, path.as_slice()) {
            (&Method::GET, ["api", "status"]) => json(StatusCode::OK, &status()),
            (&Method::POST, ["api", "fleet", "agents", "enroll"]) => {
                if authorization == ENROLLMENT_TOKEN.as_bytes() {
                    self.enroll().await
                } else {
                    unauthorized()
                }
            }
            (&Method::POST, ["api", "fleet", "agents", AGENT_ID, _]) if !enrolled => unauthorized(),
            (&Method::POST, ["api", "fleet", "agents", AGENT_ID, "checkin"]) => {
                sleep(POLL).await;
                json(
                    StatusCode::OK,
                    &json!({ "action": "checkin", "ack_token": "1", "actions": [] }),
                )
            }
            (&Method::POST, ["api", "fleet", "agents", AGENT_ID, "acks"]) => {
                let item = json!({ "status": 200, "message": "OK" });
                json(
                    StatusCode::OK,
                    &json!({ "action": "acks", "errors": false, "items": [item] }),
                )
            }
            _ => error(StatusCode::NOT_FOUND, "no such path"),
        }
    }

    async fn enroll(&self) -> Answer {
        if let Err(failure) = self.record_agent().await {
            return error(
                StatusCode::SERVICE_UNAVAILABLE,
                &format!("Elasticsearch: {failure}"),
            );
        }
        json(
            StatusCode::OK,
            &json!({ "action": "created", "item": {
                "id": AGENT_ID,
                "policy_id": self.policy,
                "access_api_key_id": "lab",
                "access_api_key": ACCESS_API_KEY,
                "status": "online",
                "actions": [],
            } }),
        )
    }

    async fn record_agent(&self) -> Result<(), Failure> {
        let Some(Output { host, address, tls }) = &self.output else {
            return Ok(());
        };
        let stream = TcpStream::connect(address).await;
        let stream = stream.map_err(|error| Failure::of("connect", &error))?;
        let mut client = Client::over(host, Box::new(stream), Arc::clone(tls)).await?;
        output::identify(&mut client).await?;
        let document = json!({ "active": true, "policy_id": self.policy });
        let path = format!("/.fleet-agents/_doc/{AGENT_ID}");
        output::index(&mut client, &path, &document).await?;
        *self.saw.lock().unwrap_or_else(PoisonError::into_inner) = Some(client.saw);
        Ok(())
    }
}

fn status() -> Value {
    json!({ "name": "fleet-server", "status": "HEALTHY", "version": { "number": "9.5.1" } })
}

fn unauthorized() -> Answer {
    error(StatusCode::UNAUTHORIZED, "ApiKey is not valid")
}

fn error(status: StatusCode, message: &str) -> Answer {
    let reason = status.canonical_reason().unwrap_or_default();
    json(
        status,
        &json!({ "statusCode": status.as_u16(), "error": reason, "message": message }),
    )
}
