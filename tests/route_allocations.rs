//! `Table::find` allocates nothing: every connection pays for it.

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
