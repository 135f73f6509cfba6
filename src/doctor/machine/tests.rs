use std::io::Cursor;

use super::*;
use crate::config;
use crate::doctor::Severity;

const ROUTES: &str = "[listeners.agents]\nbind = [\"[::]:443\"]\n\
     [backends.one]\nendpoints = [\"10.0.0.1:443\"]\n\
     [routes.a]\nserver_names = [\"a.example\"]\nbackend = \"one\"\n";

fn settings(more: &str) -> Settings {
    config::parse(&format!("{more}\n{ROUTES}"), "routes.toml")
        .unwrap()
        .settings
}

/// In the byte order of this machine.
fn table(lines: &[(&str, &str)]) -> String {
    let word = |ip: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(ip));
    let shown = |address: &str| match address.parse().unwrap() {
        SocketAddr::V4(address) => {
            format!("{}:{:04X}", word(address.ip().octets()), address.port())
        }
        SocketAddr::V6(address) => {
            let words = address.ip().octets();
            let words = words.chunks(4).map(|it| word(it.try_into().unwrap()));
            format!("{}:{:04X}", words.collect::<String>(), address.port())
        }
    };
    let rows = lines.iter().map(|(local, remote)| {
        let [local, remote] = [local, remote].map(|address| shown(address));
        format!("   0: {local} {remote} 01 00000000:00000000\n")
    });
    let heading = "  sl  local_address rem_address   st tx_queue rx_queue\n".to_owned();
    [heading].into_iter().chain(rows).collect()
}

#[test]
fn sockets_are_counted_by_their_other_end() {
    let one: SocketAddr = "10.0.0.1:443".parse().unwrap();
    let six: SocketAddr = "[2001:db8::1]:443".parse().unwrap();
    let mut used = HashMap::from([(one, 0), (six, 0)]);
    let text = table(&[
        ("10.0.0.9:40000", "10.0.0.1:443"),
        ("10.0.0.9:40001", "10.0.0.1:443"),
        ("10.0.0.9:40002", "10.0.0.1:444"),
        ("10.0.0.1:443", "10.0.0.9:40000"),
        ("[2001:db8::9]:40000", "[2001:db8::1]:443"),
        // IPv4 in a socket of IPv6.
        ("[::ffff:10.0.0.9]:40003", "[::ffff:10.0.0.1]:443"),
    ]);
    count_towards(Cursor::new(text), &mut used);
    assert_eq!((used[&one], used[&six]), (3, 1));
    // A large relay: the last line stands behind 16 MiB of others.
    let other = table(&[("10.0.0.9:40000", "10.0.0.7:443")]);
    let lines = (16 << 20) / other.len() + 1;
    let last = table(&[("10.0.0.9:40000", "10.0.0.1:443")]);
    count_towards(Cursor::new(other.repeat(lines) + &last), &mut used);
    assert_eq!(used[&one], 4);
    count_towards(
        Cursor::new("nonsense\n x y 0100:1 z\n a b 0100007F:99999999 c\n"),
        &mut used,
    );
}

#[test]
fn the_sockets_of_this_process_are_found() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let _clients: Vec<_> = (0..3)
        .map(|_| std::net::TcpStream::connect(address).unwrap())
        .collect();
    let gauges = local_ports(&[address]);
    // The kernel may still hold a socket of an earlier listener at this port.
    assert!(gauges[0].used >= Some(3), "{:?}", gauges[0].used);
    assert_eq!((gauges[0].address, gauges[0].near), (Some(address), false));
}

#[test]
fn a_limit_is_near_from_four_fifths_on() {
    let near = |used| Gauge::new("x", [used, 1000], "", "").near;
    assert!(!near(799) && near(800) && near(2000));
    let gauge = system_descriptors("900\t50\t1000\n").unwrap();
    assert_eq!(
        (gauge.used, gauge.limit, gauge.near),
        (Some(850), 1000, true)
    );
    let finding = gauge.finding().unwrap();
    assert_eq!(
        finding.message,
        "850 of 1000 open descriptors of the whole system"
    );
    assert_eq!(finding.help, "raise the sysctl fs.file-max");
    assert_eq!(tracked("10\n", "262144\n").unwrap().finding(), None);
    assert_eq!(system_descriptors("1 2"), None);
}

#[test]
fn a_range_of_ports_counts_both_ends() {
    assert_eq!(ports_in_range("32768\t60999\n"), Some(28232));
    assert_eq!(ports_in_range("32768\n"), None);
}

#[test]
fn pipes_queue_and_connections_are_near_below_what_portway_needs() {
    let pipes = |text, workers| pipe_pages(text, &settings(workers));
    assert!(!pipes("16384\n", "workers = 8").unwrap().near);
    assert!(pipes("16384\n", "workers = 9").unwrap().near);
    assert_eq!(pipes("0\n", ""), None, "it is without a limit");
    assert!(accept_queue("128\n").unwrap().near && !accept_queue("4096\n").unwrap().near);
    assert!(!connections(&settings("")).near);
    assert!(connections(&settings("limits.max_connections = 100000000")).near);
}

#[test]
fn a_limit_that_is_near_has_its_sentence_and_its_remedy() {
    let told = |gauge: Gauge| {
        let finding = gauge.finding().unwrap();
        assert_eq!(
            (finding.problem, finding.severity),
            (Problem::MachineLimit, Severity::Warning)
        );
        (finding.message, finding.help)
    };
    let (message, help) = told(connections(&settings("limits.max_connections = 100000000")));
    assert!(message.starts_with("100000000 of "), "{message}");
    assert!(message.contains(" connections that descriptors and memory allow in this shell"));
    assert!(
        help.starts_with("raise LimitNOFILE= of the unit or `ulimit -n`"),
        "{help}"
    );
    let (message, help) = told(pipe_pages("16384\n", &settings("workers = 9")).unwrap());
    assert!(
        message.starts_with("18432 of 16384 pages that the pipes"),
        "{message}"
    );
    assert!(
        help.starts_with("raise the sysctl fs.pipe-user-pages-soft"),
        "{help}"
    );
    let (message, help) = told(accept_queue("128\n").unwrap());
    assert!(
        message.starts_with("128 connections that may wait in the queue"),
        "{message}"
    );
    assert!(
        help.starts_with("raise the sysctl net.core.somaxconn"),
        "{help}"
    );
    let (message, help) = told(tracked("9\n", "10\n").unwrap());
    assert!(
        message.starts_with("9 of 10 connections that the firewall"),
        "{message}"
    );
    assert!(
        help.starts_with("raise the sysctl net.netfilter.nf_conntrack_max"),
        "{help}"
    );
    let address = "10.0.0.1:443".parse().unwrap();
    let (message, help) = told(ports_towards(address, [9, 10]));
    assert_eq!(message, "9 of 10 local ports in use towards 10.0.0.1:443");
    assert!(
        help.starts_with("widen the sysctl net.ipv4.ip_local_port_range"),
        "{help}"
    );
}
