//! Names that clients ask for, over reloads.

use super::*;

/// More names than one client may have looked up at once.
const NAMES: usize = 12;

/// Reaches many names, whose answers hold for an hour.
fn reach_many(portway: &Portway, dns: &Server) -> Vec<String> {
    let names = (0..NAMES).map(|number| format!("n{number}.es.test"));
    let names: Vec<String> = names.collect();
    for name in &names {
        dns.set(name, Reply::Addresses(vec![ip("127.0.0.2")], 3600));
        drop(relayed(portway, name));
    }
    names
}

/// Asks for all of them at once, and awaits a relay for each.
fn relayed_at_once(portway: &Portway, names: &[String]) {
    let clients: Vec<_> = names.iter().map(|name| ask(portway, name)).collect();
    for (mut client, name) in clients.into_iter().zip(names) {
        await_echo(&mut client, name);
    }
}

#[test]
fn a_connection_from_before_a_reload_that_removes_its_backend_reaches_its_name() {
    let (dns, servers) = (Server::start(), two_servers());
    for name in ["known.es.test", "new.es.test"] {
        dns.set(name, Reply::Addresses(vec![ip("127.0.0.2")], 3600));
    }
    let port = servers[0].address().port();
    let portway = Portway::start(&file(port, &dns, LOOPBACK));
    drop(relayed(&portway, "known.es.test"));
    let accepted = || {
        portway
            .metrics()
            .sum("portway_connections_accepted_total", &[])
    };
    let clients =
        ["known.es.test", "new.es.test"].map(|name| (connect(portway.address("agents")), name));
    within(PATIENCE, "both are accepted", || {
        (accepted() > 2.5).then_some(())
    });
    let written = format!("endpoints = [\"127.0.0.3:{port}\"]");
    let toml = file(port, &dns, LOOPBACK);
    let toml = toml.replace(
        &format!("endpoints = [\"{{server_name}}:{port}\"]"),
        &written,
    );
    portway.reload_with(&toml.replace(&dns.resolver(), ""));
    for (mut client, name) in clients {
        client.write_all(&Builder::new(name).build()).unwrap();
        await_echo(&mut client, name);
    }
    assert_eq!(servers.each_ref().map(Backend::accepted), [3, 0]);
    drop(relayed(&portway, "known.es.test"));
    assert_eq!(servers.each_ref().map(Backend::accepted), [3, 1]);
}

#[test]
fn names_that_were_reached_count_for_no_client_after_a_reload_that_changes_listeners_or_networks() {
    let (dns, servers) = (Server::start(), two_servers());
    let toml = file(servers[0].address().port(), &dns, LOOPBACK);
    let portway = Portway::start(&toml);
    let names = reach_many(&portway, &dns);
    for name in &names {
        dns.set(name, Reply::Silence);
    }
    let listener = "[listeners.more]\nbind = [\"127.0.0.1:0\"]\n";
    portway.reload_with(&(toml.clone() + listener));
    relayed_at_once(&portway, &names);
    portway.reload_with(&toml.replace("127.0.0.0/8", "127.0.0.2/32"));
    relayed_at_once(&portway, &names);
    assert_eq!(servers.each_ref().map(Backend::accepted), [3 * NAMES, 0]);
}

#[test]
fn with_another_resolver_names_that_were_reached_are_looked_up_for_no_client() {
    let (dns, servers) = (Server::start(), two_servers());
    let port = servers[0].address().port();
    let portway = Portway::start(&file(port, &dns, LOOPBACK));
    let names = reach_many(&portway, &dns);
    let other = Server::start();
    for name in &names {
        other.set(name, Reply::Later);
    }
    portway.reload_with(&file(port, &other, LOOPBACK));
    let clients: Vec<_> = names.iter().map(|name| ask(&portway, name)).collect();
    within(PATIENCE, "all names are looked up at once", || {
        let mut names = names.iter();
        names
            .all(|name| !other.asked(name).is_empty())
            .then_some(())
    });
    // While this one fails, the last answers are used.
    for name in &names {
        other.set(name, Reply::Code(ResponseCode::ServFail));
    }
    for (mut client, name) in clients.into_iter().zip(&names) {
        await_echo(&mut client, name);
    }
    assert_eq!(servers.each_ref().map(Backend::accepted), [2 * NAMES, 0]);
    // This one leads elsewhere.
    let third = Server::start();
    for name in &names {
        third.set(name, Reply::Addresses(vec![ip("127.0.0.3")], 3600));
    }
    portway.reload_with(&file(port, &third, LOOPBACK));
    relayed_at_once(&portway, &names);
    assert_eq!(
        servers.each_ref().map(Backend::accepted),
        [2 * NAMES, NAMES]
    );
}

#[test]
fn invariant_10_a_known_name_is_not_dialled_where_a_reload_forbids_it() {
    let (dns, servers) = (Server::start(), two_servers());
    dns.set("one.es.test", Reply::Addresses(vec![ip("127.0.0.2")], 3600));
    let port = servers[0].address().port();
    let keys = "connect_timeout = \"1s\"\ndial_timeout = \"2s\"";
    let toml = file(port, &dns, &format!("{LOOPBACK}\n{keys}"));
    let portway = Portway::start(&toml);
    drop(relayed(&portway, "one.es.test"));
    // A new answer would be judged in any case.
    dns.set("one.es.test", Reply::Silence);
    portway.reload_with(&toml.replace("127.0.0.0/8", "127.0.0.3/32"));
    let line = refused(&portway, "one.es.test");
    assert_eq!(line["outcome"], "forbidden_address", "{line}");
    assert_eq!(servers[0].accepted(), 1);
    // Permitted again, it is dialled. Then the address becomes one of portway's own.
    dns.set("one.es.test", Reply::Addresses(vec![ip("127.0.0.2")], 3600));
    portway.reload_with(&toml);
    drop(relayed(&portway, "one.es.test"));
    dns.set("one.es.test", Reply::Silence);
    let [first, _second] = servers;
    let own = first.address();
    drop(first);
    portway.reload_with(&format!("{toml}[listeners.own]\nbind = [\"{own}\"]\n"));
    let line = refused(&portway, "one.es.test");
    assert_eq!(line["outcome"], "backend_unresolved", "{line}");
    assert_eq!(line["attempts"][0]["reason"], "loop", "{line}");
    let accepted = portway
        .metrics()
        .sum("portway_connections_accepted_total", &[("listener", "own")]);
    assert!(accepted < 0.5, "{accepted}");
}
