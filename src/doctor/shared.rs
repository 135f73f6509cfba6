//! Finds certificates that cover servers which the routes keep apart. A browser that has a connection of HTTP/2 to
//! one of them also uses it for the other (RFC 9113 section 9.1.1), because both names lead to portway.

use super::finding::{Finding, Place, Problem};
use super::report::{Endpoint, Name};
use crate::tls::ServerName;
use crate::tls::certificate::Certificate;

/// The most names that are compared with each other.
const MOST: usize = 1000;

/// A name whose server speaks HTTP/2.
struct Server<'r> {
    endpoint: &'r Endpoint,
    name: ServerName,
    certificate: &'r Certificate,
}

/// One finding for each pair of backends.
pub(super) fn findings(endpoints: &[Endpoint]) -> Vec<Finding> {
    let servers = endpoints.iter().flat_map(|endpoint| {
        let names = endpoint.addresses.iter().flat_map(|address| &address.names);
        names.filter_map(move |name| server(endpoint, name))
    });
    let servers: Vec<Server<'_>> = servers.take(MOST).collect();
    let mut found: Vec<(&str, &str, Finding)> = Vec::new();
    for (position, one) in servers.iter().enumerate() {
        for other in servers.iter().skip(position + 1) {
            let pair = (&*one.endpoint.backend, &*other.endpoint.backend);
            let is_known = found.iter().any(|(one, other, _)| (*one, *other) == pair);
            let covers = one.certificate.covers(&other.name) || other.certificate.covers(&one.name);
            if pair.0 != pair.1 && one.name != other.name && covers && !is_known {
                found.push((pair.0, pair.1, finding(one, other)));
            }
        }
    }
    found.into_iter().map(|(_, _, finding)| finding).collect()
}

fn server<'r>(endpoint: &'r Endpoint, name: &'r Name) -> Option<Server<'r>> {
    let is_real = name.alpn.as_deref() == Some("h2") && !name.made_up;
    let server_name = name.server_name.as_deref().filter(|_| is_real)?;
    Some(Server {
        endpoint,
        name: ServerName::parse(server_name.as_bytes()).ok()?,
        certificate: name.certificates.first()?,
    })
}

fn finding(one: &Server<'_>, other: &Server<'_>) -> Finding {
    let place = Place {
        backend: Some(one.endpoint.backend.clone()),
        endpoint: Some(one.endpoint.endpoint.clone()),
        server_name: Some(one.name.as_str().to_owned()),
        ..Place::default()
    };
    place.warning(
        Problem::SharedCertificate,
        format!(
            "the certificate also covers {} of the backend {}, and both servers speak HTTP/2: a browser sends \
             requests for one of them over its connection to the other",
            other.name, other.endpoint.backend
        ),
        "give each server a certificate with its own name only; agents do not mix them up",
    )
}

#[cfg(test)]
mod tests;
