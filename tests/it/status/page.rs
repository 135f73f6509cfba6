//! The page for people.

use super::{Several, as_host, ask, page, refused, relayed, row};
use crate::it::fixture::{NAME, Portway, config};
use crate::it::hello::Builder;
use crate::it::peers::{Backend, free};

/// The page, for a client that may see it.
fn shown(portway: &Portway, path: &str) -> String {
    let (head, body) = page(portway, path);
    assert!(head.starts_with("http/1.1 200 "), "{head}\n{body}");
    body
}

/// The links of a page that have these words in them, as paths.
fn links(page: &str, words: &str) -> Vec<String> {
    let links = page.split("<a ").skip(1);
    let links = links.filter(|link| link.split("</a>").next().unwrap().contains(words));
    let targets = links.map(|link| {
        let target = link.split("href=\"").nth(1).unwrap();
        target
            .split(['"', '#'])
            .next()
            .unwrap()
            .replace("&amp;", "&")
    });
    targets.collect()
}

#[test]
fn the_page_says_who_is_refused_which_backend_fails_and_what_to_do() {
    let portway = Portway::start(&config(&[free()], "max_connections = 5", ""));
    refused(&portway, &Builder::new("flet.example").build());
    refused(&portway, &Builder::new(NAME).build());
    row(&portway, &[("outcome", "backend_unavailable")], 1);
    portway.write("[listeners.agents]\nbind = 7\n");
    assert!(!portway.reload().status.success());
    let page = shown(&portway, "/");
    for part in [
        "Clients: look here",
        "Did the client mean <code>fleet.<wbr>example</code>?",
        "<code>portway explain NAME</code>",
        "<code>backend_unavailable</code> (<code>refused</code>): 1 connection",
        "Failing: fleet.",
        "its last dial failed",
        "A reload was refused",
        "agents.bind: 7 is a number",
        portway.file().to_str().unwrap(),
    ] {
        assert!(page.contains(part), "{part} is not in\n{page}");
    }
}

#[test]
fn the_page_has_a_strict_policy_and_is_only_for_the_clients_and_hosts_of_the_file() {
    let backend = Backend::echo();
    let toml = config(&[backend.address()], "", "");
    let portway = Portway::start(&toml);
    let (status, head, body) = as_host(&portway, "/", "localhost:9355");
    assert_eq!(status, "200", "{body}");
    let headers = [
        "content-type: text/html; charset=utf-8",
        "content-security-policy: default-src 'none'; style-src 'sha256-",
        "frame-ancestors 'none'",
        "x-frame-options: deny",
        "x-content-type-options: nosniff",
        "cross-origin-resource-policy: same-origin",
        "referrer-policy: no-referrer",
    ];
    let missing = headers.iter().find(|header| !head.contains(**header));
    assert_eq!(missing, None, "{head}");
    assert!(!head.contains("access-control") && !head.contains("unsafe"));
    assert_eq!(as_host(&portway, "/", "evil.example").0, "421");
    let post =
        "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let (head, _) = ask(portway.admin(), post);
    assert!(head.starts_with("http/1.1 405 ") && head.contains("\r\nallow: get\r\n"));
    portway.reload_with(&toml.replacen("[limits]", "admin.status_clients = false\n[limits]", 1));
    assert_eq!(as_host(&portway, "/", "127.0.0.1").0, "403");
}

#[test]
fn the_connections_of_the_page_are_filtered_and_paged_by_its_links() {
    let several = Several::open();
    let portway = &several.portway;
    let all = shown(portway, "/?limit=5");
    assert!(all.contains("5 of 8 that match; portway has 8."), "{all}");
    let next = links(&all, "The next page");
    assert_eq!(next.len(), 1);
    let second = shown(portway, &next[0]);
    assert!(second.contains("3 of 8 that match") && links(&second, "The next page").is_empty());
    assert_eq!(links(&second, "The first page"), ["/?limit=5"]);
    // Each is on one page, and there is a link to all of the same backend.
    for client in &several.clients {
        let address = client.local_addr().unwrap().to_string();
        assert_eq!(all.contains(&address), !second.contains(&address));
    }
    let of_other = links(&all, ">other")
        .into_iter()
        .chain(links(&second, ">other"));
    let of_other: Vec<_> = of_other.collect();
    assert_eq!(of_other, ["/?backend=other"]);
    assert!(shown(portway, &of_other[0]).contains("1 of 1 that match"));
    // A form sends its empty fields too.
    let filtered = shown(
        portway,
        "/?client=&server_name=&backend=other&route=&phase=&sort=",
    );
    assert!(filtered.contains("1 of 1 that match"));
    let (status, _, body) = as_host(portway, "/?phase=sleep", "127.0.0.1");
    assert_eq!(status, "400");
    assert!(
        body.contains("phase=sleep: write one of front, hello"),
        "{body}"
    );
}

#[test]
fn the_page_counts_the_handshakes_of_a_backend() {
    let backend = Backend::echo();
    let portway = Portway::start(&config(&[backend.address()], "", ""));
    drop(relayed(&portway, NAME));
    let result = super::within(super::PATIENCE, "a handshake has ended", || {
        let status = super::status(&portway);
        let handshakes = status["backends"][0]["handshakes"].as_object()?.clone();
        handshakes.into_iter().next()
    });
    let (name, count) = result;
    assert_eq!(count, 1);
    assert!(shown(&portway, "/").contains(&format!("Handshakes: 1 {name}.")));
}
