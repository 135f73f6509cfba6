//! A DNS server on port 53 of a network of one's own, and a portway that asks it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use tempfile::TempDir;

use crate::it::fixture::{PORTWAY, Portway};

type Zone = HashMap<String, Vec<IpAddr>>;

/// The server; ends with the value. Names that it does not have do not exist.
pub(crate) struct Dns {
    address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    answering: Option<JoinHandle<()>>,
    /// The files that its clients have in /etc.
    etc: TempDir,
}

/// Where the resolver of a portway asks at its start.
const FIRST: Ipv4Addr = Ipv4Addr::LOCALHOST;

const A: u16 = 1;
const AAAA: u16 = 28;

impl Dns {
    /// Starts in the network of this thread.
    pub(crate) fn start() -> Self {
        Self::start_at(FIRST)
    }

    /// The same at another address.
    pub(crate) fn start_at(ip: Ipv4Addr) -> Self {
        let socket = UdpSocket::bind((ip, 53)).unwrap();
        let address = socket.local_addr().unwrap();
        let zone = Arc::new(Mutex::new(Zone::new()));
        let known = Arc::clone(&zone);
        let answering = thread::spawn(move || {
            let mut query = [0; 512];
            // Drop sends an empty one.
            while let Ok((length @ 1.., client)) = socket.recv_from(&mut query) {
                let answer = answer(&query[..length], &known.lock().unwrap());
                // The client may be gone.
                drop(socket.send_to(&answer, client));
            }
        });
        let etc = tempfile::tempdir().unwrap();
        let resolv = format!("nameserver {FIRST}\noptions timeout:1\n");
        std::fs::write(etc.path().join("resolv.conf"), resolv).unwrap();
        std::fs::write(etc.path().join("nsswitch.conf"), "hosts: files dns\n").unwrap();
        Self {
            address,
            zone,
            answering: Some(answering),
            etc,
        }
    }

    /// Gives a name these addresses, from the next query on.
    pub(crate) fn set(&self, name: &str, addresses: &[IpAddr]) {
        let mut zone = self.zone.lock().unwrap();
        zone.insert(name.to_owned(), addresses.to_vec());
    }

    /// The resolv.conf of the portway that [`portway`](Self::portway) starts. It may be written anew.
    pub(crate) fn resolv_conf(&self) -> PathBuf {
        self.etc.path().join("resolv.conf")
    }

    /// Starts a portway whose resolver asks the server at the first address, and waits until it is ready.
    pub(crate) fn portway(&self, toml: &str) -> Portway {
        let script = "for file in resolv.conf nsswitch.conf; do \
                          [ ! -e /etc/$file ] || mount --bind \"$ETC/$file\" /etc/$file || exit; \
                      done; exec \"$0\" \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script, PORTWAY]);
        command.env("ETC", self.etc.path()).stdin(Stdio::null());
        Portway::start_by(command, toml, Stdio::piped())
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        let anywhere: SocketAddr = "127.0.0.1:0".parse().unwrap();
        drop(UdpSocket::bind(anywhere).and_then(|socket| socket.send_to(&[], self.address)));
        if let Some(answering) = self.answering.take() {
            drop(answering.join());
        }
    }
}

/// The answer to a query with one question (RFC 1035 section 4.1).
fn answer(query: &[u8], zone: &Zone) -> Vec<u8> {
    const HEADER: usize = 12;
    let mut labels = Vec::new();
    let mut at = HEADER;
    while query[at] != 0 {
        let end = at + 1 + usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..end]).to_lowercase());
        at = end;
    }
    let kind = u16::from_be_bytes([query[at + 1], query[at + 2]]);
    let question = &query[HEADER..at + 5];
    let addresses = zone.get(&labels.join("."));
    let wanted = |address: &&IpAddr| kind == if address.is_ipv4() { A } else { AAAA };
    let records: Vec<&IpAddr> = addresses.into_iter().flatten().filter(wanted).collect();
    // A response, recursion available; NXDOMAIN or no error.
    let code = if addresses.is_some() { 0 } else { 3 };
    let count = u8::try_from(records.len()).unwrap();
    let mut answer = query[..2].to_vec();
    answer.extend([0x81, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0]);
    answer.extend(question);
    for address in records {
        // The name of the question, class IN, no time to live.
        answer.extend([0xc0, 0x0c]);
        answer.extend(kind.to_be_bytes());
        answer.extend([0, 1, 0, 0, 0, 0, 0]);
        match address {
            IpAddr::V4(address) => {
                answer.push(4);
                answer.extend(address.octets());
            }
            IpAddr::V6(address) => {
                answer.push(16);
                answer.extend(address.octets());
            }
        }
    }
    answer
}
