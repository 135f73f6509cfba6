//! The listener and the port at which an explained connection arrives.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use crate::config::{Listener, Settings};
use crate::telemetry::list;

/// The most ports that a message names; the rest are counted.
const PORTS: usize = 20;

/// The listener of this name and this port, or the only ones that the file has; else the options that are missing.
pub(super) fn at<'s>(
    settings: &'s Settings,
    listener: Option<&str>,
    port: Option<u16>,
) -> Result<(&'s Listener, Option<u16>), String> {
    let listener = listener_of(settings, listener)?;
    Ok((listener, port_of(settings, listener, port)?))
}

fn listener_of<'s>(settings: &'s Settings, name: Option<&str>) -> Result<&'s Listener, String> {
    let listeners = &settings.listeners;
    let names: Vec<&str> = listeners.iter().map(|listener| &*listener.name).collect();
    match (name, listeners.as_slice()) {
        (None, [only]) => Ok(only),
        (None, _) => Err(format!(
            "the file has several listeners: add --listener {}",
            names.join(" or --listener ")
        )),
        (Some(name), _) => (listeners.iter())
            .find(|listener| *listener.name == *name)
            .ok_or_else(|| {
                format!(
                    "the file has no listener {name:?}; it has {}",
                    names.join(", ")
                )
            }),
    }
}

/// The port, as far as it is known. It matters only if a route has `ports`.
fn port_of(
    settings: &Settings,
    listener: &Listener,
    port: Option<u16>,
) -> Result<Option<u16>, String> {
    let ports: BTreeSet<u16> = listener.bind.iter().map(SocketAddr::port).collect();
    // With port 0 the kernel chooses one.
    let is_known = !ports.contains(&0);
    let ports: Vec<u16> = ports.into_iter().collect();
    let listens = || {
        if is_known {
            format!("ports {}", list(&ports, PORTS))
        } else {
            "a port that the kernel chooses".to_owned()
        }
    };
    let matters = || (settings.routes.routes().iter()).any(|route| !route.ports.is_empty());
    if listener.protocol.is_proxy() {
        return match port {
            None if matters() => Err(
                "some routes are for some ports only: add --port with the port of the URL"
                    .to_owned(),
            ),
            port => Ok(port),
        };
    }
    if !listener.balancers.is_empty() && (port.is_some() || matters()) {
        return port.map(Some).ok_or_else(|| {
            "some routes are for some ports only: add --port with the destination port of the PROXY header".to_owned()
        });
    }
    match (port, ports.as_slice()) {
        (Some(port), _) if is_known && !ports.contains(&port) => Err(format!(
            "the listener {:?} does not listen at port {port}; it listens at {}",
            &*listener.name,
            listens()
        )),
        (Some(port), _) => Ok(Some(port)),
        (None, [only]) if is_known => Ok(Some(*only)),
        (None, _) if matters() => Err(format!(
            "some routes are for some ports only, and the listener {:?} listens at {}: add --port PORT",
            &*listener.name,
            listens()
        )),
        (None, _) => Ok(None),
    }
}
