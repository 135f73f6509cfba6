//! The shares of look-ups that clients have.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::*;

#[test]
fn clients_that_ask_for_one_new_name_share_its_look_up() {
    let (dns, servers) = (Server::start(), two_servers());
    dns.set("one.es.test", Reply::Addresses(vec![ip("127.0.0.2")], 3600));
    let portway = Portway::start(&file(servers[0].address().port(), &dns, LOOPBACK));
    let clients: Vec<TcpStream> = (0..100).map(|_| ask(&portway, "one.es.test")).collect();
    for mut client in clients {
        await_echo(&mut client, "one.es.test");
    }
    // One for each family.
    assert_eq!(dns.asked("one.es.test").len(), 2);
}

#[test]
fn a_client_over_its_share_of_look_ups_is_refused_and_another_one_is_not() {
    let (dns, servers) = (Server::start(), two_servers());
    dns.lead("one.es.test", &["127.0.0.2"]);
    let hangs: Vec<String> = (0..8).map(|number| format!("h{number}.es.test")).collect();
    for name in &hangs {
        dns.set(name, Reply::Silence);
    }
    let portway = Portway::start(&file(servers[0].address().port(), &dns, LOOPBACK));
    let held: Vec<TcpStream> = hangs.iter().map(|name| ask(&portway, name)).collect();
    within(PATIENCE, "all of them are looked up", || {
        hangs
            .iter()
            .all(|name| !dns.asked(name).is_empty())
            .then_some(())
    });
    let line = refused(&portway, "one.es.test");
    assert_eq!(line["outcome"], "rate_limited", "{line}");
    assert_eq!(line["alert"], 80, "{line}");
    let detail = line["detail"].as_str().unwrap();
    assert!(detail.contains("8 other names"), "{detail}");
    assert_eq!(dns.asked("one.es.test").len(), 0);
    // Those that ask for a name that is being looked up wait with the others.
    let mut waits = ask(&portway, &hangs[0]);
    let mut other = ask_from(&portway, "127.0.0.9", "one.es.test");
    await_echo(&mut other, "one.es.test");
    // A name that is known costs no share.
    drop(relayed(&portway, "one.es.test"));
    drop(held);
    assert_eq!(read_to_end(&mut waits), (ALERT_80.to_vec(), End::Fin));
    let count = portway.metrics().sum(
        "portway_connections_closed_total",
        &[("outcome", "rate_limited")],
    );
    assert!((count - 1.0).abs() < 0.5, "{count}");
}

/// Agents whose names are known reconnect, while somebody at the same address invents names as fast as it can.
#[test]
fn a_storm_of_invented_names_delays_no_agent_whose_name_is_known() {
    const AGENTS: usize = 20;
    const INVENTED: usize = 10_000;
    let (dns, servers) = (Server::start(), two_servers());
    let portway = Portway::start(&file(servers[0].address().port(), &dns, LOOPBACK));
    let names: Vec<String> = (0..AGENTS)
        .map(|number| format!("agent{number}.es.test"))
        .collect();
    for name in &names {
        // Each of them is refreshed again and again during the storm.
        dns.lead(name, &["127.0.0.2"]);
        drop(relayed(&portway, name));
    }
    let is_over = AtomicBool::new(false);
    let (worst, rounds, took) = thread::scope(|scope| {
        let agents = scope.spawn(|| {
            let (mut worst, mut rounds) = (Duration::ZERO, 0);
            while rounds == 0 || !is_over.load(Ordering::Relaxed) {
                for name in &names {
                    let begun = Instant::now();
                    drop(relayed(&portway, name));
                    worst = worst.max(begun.elapsed());
                }
                rounds += 1;
            }
            (worst, rounds)
        });
        let begun = Instant::now();
        let mut refused = Vec::new();
        for number in 0..INVENTED {
            refused.push(ask(&portway, &format!("invented{number}.es.test")));
            if refused.len() == 500 {
                refused.drain(..).for_each(await_end);
            }
        }
        refused.drain(..).for_each(await_end);
        is_over.store(true, Ordering::Relaxed);
        let took = begun.elapsed();
        let (worst, rounds) = agents.join().unwrap();
        (worst, rounds, took)
    });
    let (limited, unresolved) = within(PATIENCE, "all of them have ended", || {
        let metrics = portway.metrics();
        let ended =
            |outcome| metrics.sum("portway_connections_closed_total", &[("outcome", outcome)]);
        let (limited, unresolved) = (ended("rate_limited"), ended("backend_unresolved"));
        (limited + unresolved > 9_999.5).then_some((limited, unresolved))
    });
    println!(
        "{INVENTED} invented names in {took:?}: {limited} over the share, {unresolved} looked up; {rounds} rounds of \
         {AGENTS} agents, of which the slowest connected in {worst:?}"
    );
    // A burst, and then 20 per second.
    let most = 110.0 + 21.0 * took.as_secs_f64();
    assert!(
        unresolved <= most,
        "{unresolved} names were looked up in {took:?}"
    );
    assert!(worst < Duration::from_secs(10), "{worst:?}");
    within(PATIENCE, "the last connections have ended", || {
        (portway.metrics().sum("portway_endpoint_connections", &[]) < 0.5).then_some(())
    });
}

fn await_end(mut client: TcpStream) {
    let mut alert = Vec::new();
    match client.read_to_end(&mut alert) {
        Ok(_) => assert_eq!(alert, ALERT_80),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}
