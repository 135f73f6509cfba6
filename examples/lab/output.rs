//! The requests of an agent's output and of Fleet Server to Elasticsearch.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::Method;
use serde_json::{Value, json};

use crate::client::{Client, Failure};
use crate::elasticsearch::PRODUCT_HEADER;

/// Events in one `_bulk` request: `bulk_max_size` of the balanced preset.
const EVENTS: usize = 1600;
const NDJSON: (&str, &str) = ("content-type", "application/x-ndjson");

/// Asks which server answers, as the official clients do before anything else.
pub(crate) async fn identify(client: &mut Client) -> Result<(), Failure> {
    let reply = client.send(Method::GET, "/", &[], "").await?;
    if reply
        .headers
        .get(PRODUCT_HEADER)
        .is_none_or(|product| product != "Elasticsearch")
    {
        return Err(Failure::Other("the server is not Elasticsearch".to_owned()));
    }
    let uuid = reply.body.get("cluster_uuid").and_then(Value::as_str);
    uuid.unwrap_or("nobody")
        .clone_into(&mut client.saw.answered_by);
    Ok(())
}

/// Indexes one document.
pub(crate) async fn index(
    client: &mut Client,
    path: &str,
    document: &Value,
) -> Result<(), Failure> {
    let headers = [("content-type", "application/json")];
    let reply = client
        .send(Method::PUT, path, &headers, document.to_string())
        .await?;
    if reply.body.get("result") != Some(&json!("created")) {
        return Err(Failure::Other(format!(
            "PUT {path}: {} {}",
            reply.status, reply.body
        )));
    }
    Ok(())
}

/// Sends events twice: uncompressed, as the Python client does, and in gzip, as Beats do.
pub(crate) async fn bulk(client: &mut Client) -> Result<(), Failure> {
    client.send(Method::GET, "/_license", &[], "").await?;
    let events = events();
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    let compressed = gzip
        .write_all(events.as_bytes())
        .and_then(|()| gzip.finish());
    let compressed = compressed.map_err(|e| Failure::Other(format!("gzip: {e}")))?;

    let plain = client
        .send(Method::PUT, "/_bulk", &[NDJSON], events)
        .await?;
    accepted(&plain.body)?;
    let gzip = [NDJSON, ("content-encoding", "gzip")];
    let compressed = client
        .send(Method::POST, "/_bulk", &gzip, compressed)
        .await?;
    accepted(&compressed.body)
}

/// Whether every event of a `_bulk` request arrived.
fn accepted(answer: &Value) -> Result<(), Failure> {
    let items = answer
        .get("items")
        .and_then(Value::as_array)
        .map_or(0, Vec::len);
    if items != EVENTS || answer.get("errors") != Some(&json!(false)) {
        return Err(Failure::Other(format!(
            "_bulk took {items} of {EVENTS} events"
        )));
    }
    Ok(())
}

fn events() -> String {
    (0..EVENTS).fold(String::new(), |mut lines, number| {
        let event = json!({
            "@timestamp": "2026-01-01T00:00:00.000Z",
            "data_stream": { "type": "logs", "dataset": "system.syslog", "namespace": "default" },
            "log": { "file": { "path": "/var/log/syslog" }, "offset": number * 120 },
            "message": format!("lab systemd[1]: Started session {number} of user root."),
        });
        lines.push_str("{\"create\":{\"_index\":\"logs-system.syslog-default\"}}\n");
        lines.push_str(&event.to_string());
        lines.push('\n');
        lines
    })
}
