//! The TLS settings of the stand-ins and the agents, and how to find a refusal in an error.

use std::error::Error;
use std::io;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::WebPkiClientVerifier;
use rustls::{AlertDescription, ClientConfig, ServerConfig};

use crate::Result;
use crate::certificates::{Authority, Identity};

/// HTTP/2 and HTTP/1.1, in this order.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The TLS settings of a server, as `ssl.client_authentication` or `--fleet-server-client-auth` sets them:
/// `required` with `client_authority`, else `none`.
pub(crate) fn server(
    identity: &Identity,
    client_authority: Option<&Authority>,
) -> Result<Arc<ServerConfig>> {
    let builder =
        ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let builder = match client_authority {
        None => builder.with_no_client_auth(),
        Some(authority) => builder.with_client_cert_verifier(
            WebPkiClientVerifier::builder_with_provider(authority.roots()?, provider()).build()?,
        ),
    };
    let chain = vec![identity.certificate.clone()];
    let mut config = builder.with_single_cert(chain, identity.key.clone_key())?;
    config.alpn_protocols = ALPN.map(Vec::from).into();
    Ok(Arc::new(config))
}

/// The protocols that a client offers by ALPN.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offer {
    /// Nothing, as an agent that connects directly.
    Nothing,
    /// HTTP/2 and HTTP/1.1, as an agent behind an explicit proxy.
    Http2,
}

/// The TLS settings of a client that trusts `authority`, checks the server's name
/// (`ssl.verification_mode: strict`), and shows its certificate to a server that asks for one.
pub(crate) fn client(
    authority: &Authority,
    identity: Option<&Identity>,
    offer: Offer,
) -> Result<Arc<ClientConfig>> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(authority.roots()?);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let chain = vec![identity.certificate.clone()];
            builder.with_client_auth_cert(chain, identity.key.clone_key())?
        }
    };
    if offer == Offer::Http2 {
        config.alpn_protocols = ALPN.map(Vec::from).into();
    }
    // Neither agents nor Fleet Server resume sessions: each connection has a full handshake.
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// The alert that the other side sent, if an error was caused by one.
pub(crate) fn alert(error: &(dyn Error + 'static)) -> Option<AlertDescription> {
    let mut next = Some(error);
    while let Some(error) = next {
        // The source of an `io::Error` is the source of what it wraps: look inside it first.
        let inner = error.downcast_ref().and_then(io::Error::get_ref);
        let inner = inner.and_then(|inner| inner.downcast_ref());
        if let Some(rustls::Error::AlertReceived(alert)) = inner {
            return Some(*alert);
        }
        next = error.source();
    }
    None
}

/// The name of an alert in RFC 8446, as agents log it.
pub(crate) fn alert_name(alert: AlertDescription) -> String {
    match u8::from(alert) {
        48 => "unknown_ca".to_owned(),
        49 => "access_denied".to_owned(),
        80 => "internal_error".to_owned(),
        112 => "unrecognized_name".to_owned(),
        116 => "certificate_required".to_owned(),
        _ => format!("{alert:?}"),
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
