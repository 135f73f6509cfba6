//! A DNS server on a port of its own, over UDP and TCP, whose answers the test chooses.

use std::collections::{BTreeSet, HashMap};
use std::io::{Read, Write};
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use socket2::SockRef;

use crate::it::fixture::{PATIENCE, within};

/// The answer to the queries for a name.
#[derive(Clone)]
pub(in crate::it) enum Reply {
    /// These addresses, with their time to live. One that is too long for UDP is truncated there.
    Addresses(Vec<IpAddr>, u32),
    /// The name is an alias of another one.
    Alias(&'static str),
    /// An error; `NXDomain` comes with the time to live of a negative answer.
    Code(ResponseCode),
    /// One for IPv4 and another one for IPv6.
    Families(Box<[Self; 2]>),
    /// None at all.
    Silence,
    /// None over UDP until the name has another one, which then answers the queries that have come.
    Later,
    /// Over UDP one that is cut short after this IPv4 address, and over TCP none.
    Truncated(Ipv4Addr),
}

#[derive(Default)]
struct State {
    zone: Mutex<HashMap<String, Reply>>,
    /// For names that the zone does not have.
    otherwise: Mutex<Option<Reply>>,
    asked: Mutex<Vec<Asked>>,
    /// The queries over UDP that wait for their answer, and who has sent them.
    waiting: Mutex<Vec<(Message, SocketAddr)>>,
    /// Bytes of the longest answer.
    longest: AtomicUsize,
}

/// A query that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::it) struct Asked {
    pub(in crate::it) name: String,
    pub(in crate::it) kind: RecordType,
    pub(in crate::it) over_tcp: bool,
}

/// The server; it ends with the value. Names that it does not have do not exist, unless it is set otherwise.
pub(in crate::it) struct Server {
    state: Arc<State>,
    address: SocketAddr,
    listener: Arc<TcpListener>,
    socket: Arc<UdpSocket>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    pub(in crate::it) fn start() -> Self {
        let (listener, socket) = loop {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            // Another program may have the port of UDP.
            if let Ok(socket) = UdpSocket::bind(listener.local_addr().unwrap()) {
                break (Arc::new(listener), socket);
            }
        };
        Self::start_on(listener, socket)
    }

    /// Starts where another one has ended.
    pub(in crate::it) fn start_at(address: SocketAddr) -> Self {
        // A query of somebody else may come from there just now.
        let both = || {
            Some((
                TcpListener::bind(address).ok()?,
                UdpSocket::bind(address).ok()?,
            ))
        };
        let (listener, socket) = within(PATIENCE, "the port is free", both);
        Self::start_on(Arc::new(listener), socket)
    }

    fn start_on(listener: Arc<TcpListener>, socket: UdpSocket) -> Self {
        let (state, socket) = (Arc::new(State::default()), Arc::new(socket));
        let (udp, tcp, accepting) = (
            Arc::clone(&state),
            Arc::clone(&state),
            Arc::clone(&listener),
        );
        let answering = Arc::clone(&socket);
        let threads = vec![
            thread::spawn(move || answer_udp(&answering, &udp)),
            thread::spawn(move || {
                while let Ok((stream, _)) = accepting.accept() {
                    let state = Arc::clone(&tcp);
                    thread::spawn(move || answer_tcp(stream, &state));
                }
            }),
        ];
        Self {
            state,
            address: listener.local_addr().unwrap(),
            listener,
            socket,
            threads,
        }
    }

    pub(in crate::it) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Refuses connections from now on. UDP goes on.
    pub(in crate::it) fn refuse_tcp(&self) {
        SockRef::from(&*self.listener)
            .shutdown(Shutdown::Both)
            .unwrap();
    }

    /// Bytes of the longest answer so far.
    pub(in crate::it) fn longest_answer(&self) -> usize {
        self.state.longest.load(Ordering::Relaxed)
    }

    /// The key of a backend that asks this server.
    pub(in crate::it) fn resolver(&self) -> String {
        format!("resolver = {{ servers = [\"{}\"] }}", self.address())
    }

    /// Answers for a name so, from the next query on.
    pub(in crate::it) fn set(&self, name: &str, reply: Reply) {
        let mut waiting = self.state.waiting.lock().unwrap();
        self.state.zone.lock().unwrap().insert(name.into(), reply);
        for (query, client) in mem::take(&mut *waiting) {
            if self.state.waits(&query) {
                waiting.push((query, client));
            } else if let Some(answer) = self.state.answer(&query, false) {
                send(&self.socket, &query, &answer, client);
            }
        }
    }

    /// Answers for the names that it does not have so, from the next query on.
    pub(in crate::it) fn set_otherwise(&self, reply: Reply) {
        *self.state.otherwise.lock().unwrap() = Some(reply);
    }

    /// Gives a name these addresses, with a time to live of 0.
    pub(in crate::it) fn lead(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
        self.set(name, Reply::Addresses(addresses, 0));
    }

    /// The queries for a name so far.
    pub(in crate::it) fn asked(&self, name: &str) -> Vec<Asked> {
        let asked = self.state.asked.lock().unwrap();
        asked.iter().filter(|it| it.name == name).cloned().collect()
    }

    /// The names of all queries so far.
    pub(in crate::it) fn all_asked(&self) -> BTreeSet<String> {
        let asked = self.state.asked.lock().unwrap();
        asked.iter().map(|it| it.name.clone()).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // An empty datagram ends the one thread, and a shut down socket the other.
        let waker = UdpSocket::bind("127.0.0.1:0");
        drop(waker.and_then(|socket| socket.send_to(&[], self.address())));
        drop(SockRef::from(&*self.listener).shutdown(Shutdown::Both));
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

fn answer_udp(socket: &UdpSocket, state: &State) {
    let mut query = [0; 4096];
    while let Ok((length @ 1.., client)) = socket.recv_from(&mut query) {
        let query = Message::from_vec(&query[..length]).unwrap();
        let mut waiting = state.waiting.lock().unwrap();
        state.asked.lock().unwrap().push(Asked::by(&query, false));
        if let Some(answer) = state.answer(&query, false) {
            let length = send(socket, &query, &answer, client);
            state.longest.fetch_max(length, Ordering::Relaxed);
        } else if state.waits(&query) {
            waiting.push((query, client));
        }
    }
}

/// Sends an answer over UDP. Returns its length.
fn send(socket: &UdpSocket, query: &Message, answer: &Message, client: SocketAddr) -> usize {
    let mut bytes = answer.to_vec().unwrap();
    if bytes.len() > usize::from(query.max_payload()) {
        bytes = answer.truncate().to_vec().unwrap();
    }
    // The client may be gone.
    drop(socket.send_to(&bytes, client));
    bytes.len()
}

fn answer_tcp(mut stream: TcpStream, state: &State) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut length = [0; 2];
    while stream.read_exact(&mut length).is_ok() {
        let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
        if stream.read_exact(&mut query).is_err() {
            return;
        }
        let query = Message::from_vec(&query).unwrap();
        state.asked.lock().unwrap().push(Asked::by(&query, true));
        let Some(answer) = state.answer(&query, true) else {
            continue;
        };
        let answer = answer.to_vec().unwrap();
        state.longest.fetch_max(answer.len(), Ordering::Relaxed);
        let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
        if stream.write_all(&[&length[..], &answer].concat()).is_err() {
            return;
        }
    }
}

impl Asked {
    fn by(query: &Message, over_tcp: bool) -> Self {
        let question = query.queries.first().unwrap();
        let name = question.name().to_lowercase().to_ascii();
        Self {
            name: name.trim_end_matches('.').to_owned(),
            kind: question.query_type(),
            over_tcp,
        }
    }
}

impl State {
    /// Whether the answer to the query comes later.
    fn waits(&self, query: &Message) -> bool {
        let zone = self.zone.lock().unwrap();
        matches!(zone.get(&Asked::by(query, false).name), Some(Reply::Later))
    }

    fn answer(&self, query: &Message, over_tcp: bool) -> Option<Message> {
        let question = query.queries.first().unwrap().clone();
        let name = question.name().to_lowercase();
        let Asked {
            name: text, kind, ..
        } = Asked::by(query, over_tcp);
        let reply = match self.zone.lock().unwrap().get(&text).cloned() {
            Some(Reply::Families(replies)) => {
                let [v4, v6] = *replies;
                Some(if kind == RecordType::AAAA { v6 } else { v4 })
            }
            Some(reply) => Some(reply),
            None => self.otherwise.lock().unwrap().clone(),
        };
        let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
        answer.metadata.recursion_available = true;
        answer.add_query(question);
        match reply.unwrap_or(Reply::Code(ResponseCode::NXDomain)) {
            Reply::Silence | Reply::Later | Reply::Families(_) => return None,
            Reply::Truncated(_) if over_tcp => return None,
            Reply::Truncated(address) => {
                answer.metadata.truncation = true;
                if kind == RecordType::A {
                    answer.add_answer(Record::from_rdata(name, 60, RData::A(A(address))));
                }
            }
            Reply::Alias(to) => {
                let to = RData::CNAME(CNAME(Name::from_ascii(to).unwrap()));
                answer.add_answer(Record::from_rdata(name, 60, to));
            }
            Reply::Addresses(addresses, life) => {
                let wanted = addresses.iter().filter_map(|ip| match (ip, kind) {
                    (IpAddr::V4(ip), RecordType::A) => Some(RData::A(A(*ip))),
                    (IpAddr::V6(ip), RecordType::AAAA) => Some(RData::AAAA(AAAA(*ip))),
                    _ => None,
                });
                let record = |data| Record::from_rdata(name.clone(), life, data);
                answer.add_answers(wanted.map(record).collect::<Vec<_>>());
            }
            Reply::Code(code) => {
                answer.metadata.response_code = code;
                if code == ResponseCode::NXDomain {
                    let root = Name::root();
                    let soa = SOA::new(root.clone(), root.clone(), 1, 60, 60, 60, 4);
                    let soa = Record::from_rdata(root, 4, RData::SOA(soa));
                    answer.add_authority(soa);
                }
            }
        }
        Some(answer)
    }
}
