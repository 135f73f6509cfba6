//! A stand-in for an Elasticsearch node. It has what the official clients, Beats and Fleet Server need to
//! accept it as one, and a `cluster_uuid` that shows which node answered.

use std::io::Read;

use flate2::read::GzDecoder;
use hyper::header::{CONTENT_ENCODING, HeaderValue};
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::server::{Answer, Call, json};

/// Without this header the official clients refuse to go on.
pub(crate) const PRODUCT_HEADER: &str = "x-elastic-product";

/// A node of a cluster.
#[derive(Clone)]
pub(crate) struct Elasticsearch {
    pub(crate) cluster_uuid: &'static str,
}

impl Elasticsearch {
    pub(crate) fn answer(&self, call: &Call) -> Answer {
        let mut answer = match (&call.method, call.path.as_str()) {
            (&Method::GET, "/") => json(StatusCode::OK, &self.root()),
            (&Method::GET, "/_license") => json(StatusCode::OK, &self.license()),
            (&Method::PUT | &Method::POST, "/_bulk") => bulk(call),
            (&Method::PUT, path) if path.contains("/_doc/") => {
                json(StatusCode::CREATED, &json!({ "result": "created" }))
            }
            _ => json(StatusCode::OK, &json!({})),
        };
        let product = HeaderValue::from_static("Elasticsearch");
        answer.headers_mut().insert(PRODUCT_HEADER, product);
        answer
    }

    fn root(&self) -> Value {
        json!({
            "name": "lab",
            "cluster_name": "lab",
            "cluster_uuid": self.cluster_uuid,
            "version": { "number": "9.5.1", "build_flavor": "default" },
            "tagline": "You Know, for Search",
        })
    }

    fn license(&self) -> Value {
        json!({ "license": {
            "status": "active",
            "uid": self.cluster_uuid,
            "type": "trial",
            "expiry_date_in_millis": 4_102_444_800_000_u64,
        } })
    }
}

/// Returns one item for each action. An action other than `delete` has its document on the next line.
fn bulk(call: &Call) -> Answer {
    let Ok(lines) = lines(call) else {
        return json(
            StatusCode::BAD_REQUEST,
            &json!({ "error": "the body is neither JSON nor gzip" }),
        );
    };
    let mut items = Vec::new();
    let mut lines = lines.into_iter();
    while let Some(line) = lines.next() {
        let action = line
            .as_object()
            .and_then(|action| action.keys().next().cloned());
        let Some(action) = action else {
            return json(
                StatusCode::BAD_REQUEST,
                &json!({ "error": "an action is missing" }),
            );
        };
        if action != "delete" && lines.next().is_none() {
            return json(
                StatusCode::BAD_REQUEST,
                &json!({ "error": "a document is missing" }),
            );
        }
        items.push(json!({ action: { "status": 201 } }));
    }
    json(
        StatusCode::OK,
        &json!({ "took": 1, "errors": false, "items": items }),
    )
}

fn lines(call: &Call) -> std::io::Result<Vec<Value>> {
    let gzip = call
        .headers
        .get(CONTENT_ENCODING)
        .is_some_and(|encoding| encoding == "gzip");
    let mut text = String::new();
    if gzip {
        GzDecoder::new(call.body.as_ref()).read_to_string(&mut text)?;
    } else {
        call.body.as_ref().read_to_string(&mut text)?;
    }
    text.lines()
        .map(|line| Ok(serde_json::from_str(line)?))
        .collect()
}
