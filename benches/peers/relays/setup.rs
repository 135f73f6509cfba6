//! The configurations: each routes `fleet.example.com` to the backend, and has two more names. Silent
//! connections stay for hours. Only portway logs, into a file.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

use super::Room;
use super::programs::stream_module;

/// Names of routes, and the server names that clients send. All lead to the same backend.
const ROUTES: [(&str, &str); 3] = [
    ("fleet", "fleet.example.com"),
    ("elasticsearch", "es.example.com"),
    ("logstash", "logstash.example.com"),
];

/// The texts of all routes, one after the other.
fn each(text: impl Fn(&str, &str) -> String) -> String {
    ROUTES.map(|(route, name)| text(route, name)).concat()
}

pub(super) fn portway(room: Room, backend: SocketAddr) -> String {
    let Room {
        workers,
        connections,
        ..
    } = room;
    let routes = each(|route, name| {
        format!(
            "
[backends.{route}]
endpoints = [\"{backend}\"]
idle_timeout = \"24h\"
half_close_timeout = \"24h\"
stall_timeout = \"24h\"

[routes.{route}]
server_names = [\"{name}\"]
backend = \"{route}\"
"
        )
    });
    // All clients have one address here, and many hellos may be under way.
    format!(
        "workers = {workers}

[admin]
bind = \"127.0.0.1:0\"

[log]
connections = \"all\"

[limits]
max_connections = {connections}
max_pending_connections = {connections}
max_pending_per_client = {connections}
drain_timeout = \"1s\"

[listeners.agents]
bind = [\"127.0.0.1:0\"]
{routes}"
    )
}

/// The configuration of HAProxy. `pipe_size` is set if it shall splice; `shards` if each of its threads can
/// have its own listening socket, as in the other relays.
pub(super) fn haproxy(
    room: Room,
    (pipe_size, shards): (Option<usize>, bool),
    address: SocketAddr,
    backend: SocketAddr,
) -> String {
    let room = if pipe_size.is_some() {
        room.with_pipes()
    } else {
        room
    };
    let (global, options) = match pipe_size {
        Some(size) => (
            format!("\n    maxpipes {}\n    tune.pipesize {size}", room.pipes),
            "\n    option splice-request\n    option splice-response",
        ),
        None => (String::new(), ""),
    };
    let Room {
        workers,
        connections,
        ..
    } = room;
    let shards = if shards { " shards by-thread" } else { "" };
    let rules =
        each(|route, name| format!("    use_backend {route} if {{ req.ssl_sni -i {name} }}\n"));
    let backends = each(|route, _| format!("\nbackend {route}\n    server one {backend}\n"));
    format!(
        "global
    nbthread {workers}
    maxconn {connections}{global}

defaults
    mode tcp
    option tcp-smart-accept
    option tcp-smart-connect{options}
    timeout connect 10s
    timeout client 24h
    timeout server 24h

frontend agents
    bind {address} backlog 4096{shards}
    tcp-request inspect-delay 10s
    tcp-request content accept if {{ req.ssl_hello_type 1 }}
{rules}{backends}"
    )
}

pub(super) fn nginx(files: &Path, room: Room, address: SocketAddr, backend: SocketAddr) -> String {
    let module =
        stream_module().map_or_else(String::new, |module| format!("load_module {module};\n"));
    let map = each(|route, name| format!("        {name} {route};\n"));
    let upstreams = each(|route, _| format!("    upstream {route} {{ server {backend}; }}\n"));
    // nginx counts each side as a connection, and its listening sockets too.
    let sides = room.connections * 2 + 64;
    format!(
        "{module}daemon off;
worker_processes {workers};
pid {pid};
error_log stderr crit;
events {{
    worker_connections {sides};
}}
stream {{
    map $ssl_preread_server_name $route {{
{map}    }}
{upstreams}    server {{
        listen {address} backlog=4096 reuseport;
        ssl_preread on;
        preread_timeout 10s;
        proxy_connect_timeout 10s;
        proxy_timeout 24h;
        proxy_pass $route;
    }}
}}
",
        workers = room.workers,
        pid = files.join("nginx.pid").display(),
    )
}

pub(super) fn envoy(room: Room, address: SocketAddr, backend: SocketAddr) -> String {
    let kind = |name: &str| format!("type.googleapis.com/envoy.extensions.filters.{name}");
    let socket = |address: SocketAddr| {
        json!({ "socket_address": {
            "address": address.ip().to_string(),
            "port_value": address.port(),
        } })
    };
    let chain = |(route, name): (&str, &str)| {
        json!({
            "filter_chain_match": { "server_names": [name] },
            "filters": [{
                "name": "envoy.filters.network.tcp_proxy",
                "typed_config": {
                    "@type": kind("network.tcp_proxy.v3.TcpProxy"),
                    "stat_prefix": route,
                    "cluster": route,
                    "idle_timeout": "86400s",
                },
            }],
        })
    };
    let cluster = |(route, _): (&str, &str)| {
        json!({
            "name": route,
            "type": "STATIC",
            "connect_timeout": "10s",
            "circuit_breakers": { "thresholds": [{
                "max_connections": room.connections,
                "max_pending_requests": room.connections,
            }] },
            "load_assignment": {
                "cluster_name": route,
                "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": socket(backend) } }] }],
            },
        })
    };
    let chains: Vec<Value> = ROUTES.into_iter().map(chain).collect();
    let clusters: Vec<Value> = ROUTES.into_iter().map(cluster).collect();
    let setup = json!({ "static_resources": {
        "listeners": [{
            "name": "agents",
            "address": socket(address),
            "listener_filters_timeout": "10s",
            "listener_filters": [{
                "name": "envoy.filters.listener.tls_inspector",
                "typed_config": {
                    "@type": kind("listener.tls_inspector.v3.TlsInspector"),
                },
            }],
            "filter_chains": chains,
        }],
        "clusters": clusters,
    } });
    setup.to_string()
}
