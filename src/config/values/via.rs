//! The URL of a proxy of the site.

use std::net::{IpAddr, SocketAddr};

use super::addresses::endpoint;
use super::{Wrong, wrong};
use crate::backend::{Allowed, Target, Via};
use crate::credentials::LineFault;
use crate::wire::{InvalidLogin, Login, TunnelProtocol};

/// `http://host:port` or `socks5://host:port`. A message never shows a value that has a user or a password.
pub(in crate::config) fn via(text: &str) -> Result<Via, Wrong> {
    if text.contains('@') {
        return wrong(
            "the URL of the proxy has a user and a password, which must not be in this file"
                .to_owned(),
            "write scheme, host and port alone, such as \"http://proxy.corp:3128\"",
        );
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        let help = match endpoint(text) {
            Ok(proxy) => {
                format!("write \"http://{proxy}\", or \"socks5://{proxy}\" for a SOCKS proxy")
            }
            Err(_) => EXAMPLE.to_owned(),
        };
        return wrong(format!("{text:?} has no scheme"), help);
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let protocol = protocol(text, scheme, authority)?;
    if authority != rest {
        return wrong(
            format!("{text:?} has something behind its host and port"),
            format!("write \"{scheme}://{authority}\""),
        );
    }
    proxy(text, authority).map(|proxy| Via::new(protocol, proxy))
}

/// The user and the password for a proxy, from a file of one line. No message has anything of it.
pub(in crate::config) fn login(
    protocol: TunnelProtocol,
    text: &str,
) -> Result<Login, Vec<LineFault>> {
    let wrong = |line, message: String| {
        vec![LineFault {
            line,
            message,
            help: "write one line with the user, a colon and the password: user:password",
        }]
    };
    let line = text.strip_suffix('\n').unwrap_or(text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.contains('\n') {
        return Err(wrong(None, "has several lines".to_owned()));
    }
    let Some((user, password)) = line.split_once(':') else {
        return Err(wrong(Some(1), "has no colon".to_owned()));
    };
    Login::for_proxy(protocol, user, password)
        .map_err(|InvalidLogin(rule)| wrong(Some(1), format!("does not fit: {rule}")))
}

const EXAMPLE: &str = "write \"http://proxy.corp:3128\" or \"socks5://proxy.corp:1080\"";

fn protocol(text: &str, scheme: &str, authority: &str) -> Result<TunnelProtocol, Wrong> {
    match scheme {
        "http" => Ok(TunnelProtocol::Http),
        "socks5" => Ok(TunnelProtocol::Socks5),
        "https" => wrong(
            format!("{text:?} needs TLS as far as the proxy, and portway has no TLS stack"),
            "write http:// and a port at which the proxy takes plain CONNECT requests: what passes there \
             is TLS of the client already",
        ),
        "socks5h" => wrong(
            format!("{scheme:?} is a word of curl"),
            format!("write \"socks5://{authority}\": portway leaves every name to the proxy"),
        ),
        "socks" | "socks4" | "socks4a" => wrong(
            format!("{scheme:?} is not SOCKS5"),
            format!("write \"socks5://{authority}\" if the proxy speaks version 5"),
        ),
        _ if matches!(&*scheme.to_lowercase(), "http" | "socks5") => wrong(
            format!("{scheme:?} has capital letters"),
            format!("write \"{}://{authority}\"", scheme.to_lowercase()),
        ),
        _ => wrong(
            format!("{scheme:?} is not a protocol that portway speaks with proxies"),
            EXAMPLE,
        ),
    }
}

fn proxy(text: &str, authority: &str) -> Result<Target, Wrong> {
    let has_port = match authority.parse::<SocketAddr>() {
        Ok(address) => address.port() > 0,
        Err(_) => authority.contains(':') && !is_address(authority),
    };
    if !has_port {
        return wrong(
            format!("{text:?} has no port"),
            "write the port of the proxy too, such as \"http://proxy.corp:3128\": without one, curl takes \
             1080 and an agent takes 80",
        );
    }
    if let Ok(address) = authority.parse::<SocketAddr>()
        && !Allowed::Servers.permits(address.ip())
    {
        return wrong(
            format!("{text:?} is not an address to dial"),
            "write the address of the proxy",
        );
    }
    endpoint(authority)
}

fn is_address(text: &str) -> bool {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<IpAddr>().is_ok()
}
