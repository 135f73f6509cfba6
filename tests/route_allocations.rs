//! `Table::find` and `Networks::admit` allocate nothing: every connection pays for them.

use std::net::{IpAddr, Ipv4Addr};

use portway::config;
use portway::routing::Query;
use portway::tls::{Alpn, ServerName};

#[path = "support/allocations.rs"]
mod allocations;

use allocations::ALLOCATIONS;

#[test]
fn a_look_up_allocates_nothing() {
    let text = include_str!("cli/explain.toml");
    let routes = config::parse(text, "explain.toml").unwrap().settings.routes;
    let names = [
        "fleet.example.com",
        "a.b.c.example.com",
        "nobody.example.org",
    ];
    let names = names.map(|name| ServerName::parse(name.as_bytes()).unwrap());
    let find = |server_name| {
        routes.find(&Query {
            listener: "agents",
            port: 443,
            server_name,
            alpn: Alpn::new(b"\x02h2"),
            client: IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3)),
        })
    };
    let before = ALLOCATIONS.get();
    let found = names.each_ref().map(|name| find(Some(name)).is_ok());
    let nameless = find(None).is_ok();
    assert_eq!(ALLOCATIONS.get() - before, 0);
    assert_eq!((found, nameless), ([true, true, false], false));
}

#[test]
fn a_look_up_among_many_networks_allocates_nothing() {
    let network = |n: usize| format!("10.{}.{}.0/{}", n / 256, n % 256, 24 + n % 9);
    let list: Vec<String> = (0..2_000).map(|n| format!("\"{}\"", network(n))).collect();
    let route = |n| {
        let network = network(n);
        format!(
            "[routes.r{n}]\nserver_names = [\"**\"]\nbackend = \"fleet\"\n\
             clients = [\"{network}\"]\nalpn = [\"h2\"]\n"
        )
    };
    let text = format!(
        "[listeners.agents]\nbind = [\"[::]:443\"]\nallow_clients = [{}]\n\
         [backends.fleet]\nendpoints = [\"fleet.internal:8220\"]\n{}",
        list.join(", "),
        (0..2_000).map(route).collect::<String>()
    );
    let settings = config::parse(&text, "many.toml").unwrap().settings;
    let clients = &settings.listeners[0].clients;
    let name = ServerName::parse(b"fleet.example.com").unwrap();
    let find = |client| {
        let found = settings.routes.find(&Query {
            listener: "agents",
            port: 443,
            server_name: Some(&name),
            alpn: Alpn::new(b"\x02h2"),
            client,
        });
        (clients.admit(client), found.is_ok())
    };
    let before = ALLOCATIONS.get();
    let known = find(IpAddr::V4(Ipv4Addr::new(10, 7, 207, 0)));
    let unknown = find(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)));
    assert_eq!(ALLOCATIONS.get() - before, 0);
    assert_eq!((known, unknown), ((true, true), (false, false)));
}
