//! Connections that nobody means to finish.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use socket2::{Domain, Protocol, Socket, Type};

use crate::it::far::shell;
use crate::it::fixture::{Over, PATIENCE, Portway, config, within};
use crate::it::namespace::{TUN, counter, granted_by, in_a_network};
use crate::it::peers::Backend;

/// The address that is flooded. The answers go to the other addresses of its network, where nobody is.
const FLOODED: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);

/// The ones' complement sum of RFC 1071, over an even number of bytes.
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let words = bytes.chunks_exact(2);
    let sum: u32 = words
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    (!u16::try_from(folded).unwrap()).to_be_bytes()
}

/// A packet that asks for a connection, in IPv4. The kernel fills in the checksum of the first header.
fn syn(number: u32, to: SocketAddrV4) -> Vec<u8> {
    // 65,280 clients, and so many times other ports.
    let [low, high] = [number % 255, number / 255 % 255].map(|it| u8::try_from(it).unwrap());
    let from = Ipv4Addr::new(10, 9, high + 1, low);
    let port = u16::try_from(1024 + number % 60_000).unwrap();
    let mut tcp = [port.to_be_bytes(), to.port().to_be_bytes()].concat();
    tcp.extend(number.to_be_bytes());
    tcp.extend([0, 0, 0, 0, 0x50, 2, 0x40, 0, 0, 0, 0, 0]);
    let mut summed = [from.octets(), to.ip().octets()].concat();
    summed.extend([0, 6, 0, 20]);
    summed.extend(&tcp);
    tcp[16..18].copy_from_slice(&checksum(&summed));
    let mut packet = vec![0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0];
    packet.extend(from.octets());
    packet.extend(to.ip().octets());
    packet.extend(tcp);
    packet
}

#[test]
fn f41_a_flood_of_connections_that_are_not_finished_keeps_no_client_out() {
    in_a_network(|| {
        // Nobody reads from this device.
        let device = "ip tuntap add dev flooded mode tun && ip addr add 10.9.0.1/16 dev flooded && \
                      ip link set flooded up";
        if granted_by(TUN, shell(device)).is_none() {
            return;
        }
        let backend = Backend::echo();
        let toml = config(&[backend.address()], "", "").replace(
            "bind = [\"127.0.0.1:0\"]\n[backends",
            &format!("bind = [\"{FLOODED}:0\"]\n[backends"),
        );
        // Each worker has a queue of its own, and cookies come when it is full.
        let portway = Portway::start(&format!("workers = 1\n{toml}"));
        let SocketAddr::V4(to) = portway.address("agents") else {
            unreachable!()
        };
        let cookies = || counter("netstat", "TcpExt:", "SyncookiesSent").unwrap();
        let (is_over, sent) = (AtomicBool::new(false), AtomicU32::new(0));
        thread::scope(|scope| {
            let flood = scope.spawn(|| {
                let raw = Some(Protocol::from(libc::IPPROTO_RAW));
                let socket = Socket::new(Domain::IPV4, Type::RAW, raw).unwrap();
                while !is_over.load(Ordering::Relaxed) {
                    let number = sent.fetch_add(1, Ordering::Relaxed);
                    socket.send_to(&syn(number, to), &to.into()).unwrap();
                }
            });
            let over = Over(&is_over);
            within(PATIENCE, "the queue is full", || {
                (cookies() > 10_000 || flood.is_finished()).then_some(())
            });
            for _ in 0..100 {
                drop(portway.relayed());
            }
            drop(over);
        });
        println!("{} cookies for {sent:?} packets", cookies());
    });
}
