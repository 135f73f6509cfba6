//! Many connections and hostile names: the size and the time of an answer are bounded, and a look changes nothing.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{connections, page, refused, relayed, status};
use crate::it::fixture::{NAME, Over, PATIENCE, Portway, config, within};
use crate::it::hello::Builder;
use crate::it::peers::{Backend, connect};
use crate::it::process::raise_descriptors;
use crate::it::random::count;

/// Connections that wait for their hello: the cheapest that a page has to look at.
fn waiting(portway: &Portway, count: usize) -> Vec<TcpStream> {
    let address = portway.address("agents");
    (0..count).map(|_| connect(address)).collect()
}

/// The ids of all pages together, each of which must come once.
fn all_ids(portway: &Portway) -> BTreeSet<String> {
    let (mut ids, mut query) = (BTreeSet::new(), "limit=1000".to_owned());
    loop {
        let page = connections(portway, &query);
        for row in page["connections"].as_array().unwrap() {
            assert!(ids.insert(row["id"].as_str().unwrap().to_owned()), "{row}");
        }
        let Some(next) = page.get("next") else {
            return ids;
        };
        query = format!("limit=1000&after={}", next.as_str().unwrap());
    }
}

/// Looks at the connections again and again while `busy` is echoed. Returns the slowest echo.
fn echo_beside_looks(portway: &Portway, busy: &mut TcpStream) -> Duration {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let _over = Over(&is_over);
        let looks = scope.spawn(|| {
            let mut looks = 0;
            while !is_over.load(Ordering::SeqCst) || looks < 20 {
                let (head, body) = page(portway, "/connections?sort=idle&limit=1000");
                assert!(head.starts_with("http/1.1 200 "), "{head}");
                assert!(body.len() < 1 << 20, "{}", body.len());
                let (head, body) = page(portway, "/");
                assert!(head.starts_with("http/1.1 200 "), "{head}");
                assert!(body.len() < 100_000, "{}", body.len());
                looks += 2;
            }
            looks
        });
        let echoes = (0..200).map(|_| {
            let begin = Instant::now();
            busy.write_all(b"ping").unwrap();
            busy.read_exact(&mut [0; 4]).unwrap();
            begin.elapsed()
        });
        let slowest = echoes.max().unwrap();
        is_over.store(true, Ordering::SeqCst);
        let looks = looks.join().unwrap();
        println!("{looks} looks; the slowest of 200 echoes took {slowest:?}");
        slowest
    })
}

#[test]
fn invariant_15_looks_at_thousands_of_connections_are_bounded_and_change_nothing() {
    // Each has a descriptor here and one in portway.
    let most = count("PORTWAY_CONNECTIONS", 2000);
    if raise_descriptors() < most + 500 {
        eprintln!("DID NOT RUN: raise the limit of descriptors");
        return;
    }
    let most = usize::try_from(most).unwrap();
    let backend = Backend::echo();
    let limits = format!(
        "max_connections = {}\nmax_pending_connections = {}\nmax_pending_per_client = {}\nclient_hello_timeout = \"2m\"",
        most + 100,
        most + 50,
        most + 50
    );
    let portway = Portway::start(&format!(
        "workers = 2\n{}",
        config(&[backend.address()], &limits, "")
    ));
    let waits = waiting(&portway, most);
    let mut busy = relayed(&portway, NAME);
    within(PATIENCE, "all are there", || {
        (connections(&portway, "limit=1")["total"] == most + 1).then_some(())
    });
    let before = portway.metrics();

    let slowest = echo_beside_looks(&portway, &mut busy);
    // A look that stopped a worker would do so for each of these.
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");

    assert_eq!(all_ids(&portway).len(), most + 1);

    // Nobody ended, and nothing was counted.
    let after = portway.metrics();
    for series in [
        "portway_connections_active{listener=\"agents\"}",
        "portway_connections_accepted_total{listener=\"agents\"}",
    ] {
        assert_eq!(before.count(series), after.count(series), "{series}");
    }
    drop(waits);
}

#[test]
fn hostile_names_from_one_network_leave_room_for_others() {
    let backend = Backend::echo();
    let portway = Portway::start(&config(&[backend.address()], "", ""));
    // A client of another network, before the flood.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let other: std::net::SocketAddr = "127.0.9.1:0".parse().unwrap();
    socket.bind(&other.into()).unwrap();
    socket.connect(&portway.address("agents").into()).unwrap();
    let mut client = TcpStream::from(socket);
    client
        .write_all(&Builder::new("flet.example").build())
        .unwrap();
    client.read_to_end(&mut Vec::new()).unwrap();
    for number in 0..200_u32 {
        let mut name = format!("<script>{number}\u{1b}]0;\u{202e}\r\n\"}}").into_bytes();
        name.resize(60_000, 0xff);
        name.truncate(if number % 2 == 0 { 250 } else { 16_000 });
        refused(&portway, &Builder::new(name).build());
    }
    let sum = |status: &Value| -> u64 {
        let rows = status["refused"].as_array().unwrap().iter();
        rows.map(|row| row["count"].as_u64().unwrap()).sum()
    };
    let shown = within(PATIENCE, "all are counted", || {
        let status = status(&portway);
        (sum(&status) == 201).then_some(status)
    });
    assert_eq!(shown["refused_forgotten"], 0);
    let rows = shown["refused"].as_array().unwrap();
    // Two workers may have 16 names each.
    assert!(rows.len() < 40, "{}", rows.len());
    assert!(rows.iter().any(|row| row["many_names"] == true));
    let of_other = rows
        .iter()
        .find(|row| row["clients"] == "127.0.9.0/24")
        .unwrap();
    assert_eq!(
        (&of_other["name"], &of_other["nearest"]),
        (&"flet.example".into(), &NAME.into())
    );
    for row in rows {
        let name = row["name"].as_str().unwrap_or_default();
        assert!(name.chars().count() <= 256, "{name}");
    }
    let (_, body) = page(&portway, "/status");
    assert!(body.is_ascii() && body.len() < 100_000, "{}", body.len());
    let (_, body) = page(&portway, "/");
    assert!(body.is_ascii() && body.len() < 200_000, "{}", body.len());
    assert!(body.contains("&lt;script&gt;") && !body.contains("<script"));
}
