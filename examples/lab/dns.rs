//! A DNS server, over UDP and TCP, and how a client asks it. With two of them the lab has a split horizon: one
//! answers the agents, the other portway.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use crate::Result;
use crate::server::accept;

/// How often it looks for a port that is free for both UDP and TCP.
const ATTEMPTS: usize = 20;
/// The largest message over UDP.
const LARGEST: usize = 4096;
const TTL: u32 = 1;

/// One view of the names.
pub(crate) type Zone = Arc<dyn Fn(&str) -> Option<Ipv4Addr> + Send + Sync>;

/// A running DNS server.
pub(crate) struct Dns {
    pub(crate) address: SocketAddr,
}

impl Dns {
    /// Starts a server that answers each name as `zone` does, for as long as the runtime lives.
    pub(crate) async fn start(zone: Zone) -> Result<Self> {
        let (tcp, udp) = sockets().await?;
        let address = tcp.local_addr()?;
        let of_tcp = Arc::clone(&zone);
        accept(tcp, move |stream| {
            let zone = Arc::clone(&of_tcp);
            async move { drop(serve_stream(stream, &zone).await) }
        });
        tokio::spawn(async move {
            let mut question = vec![0; LARGEST];
            while let Ok((size, client)) = udp.recv_from(&mut question).await {
                let question = question.get(..size).unwrap_or_default();
                if let Ok(answer) = answer(question, &zone) {
                    drop(udp.send_to(&answer, client).await);
                }
            }
        });
        Ok(Self { address })
    }

    /// Asks this server for an IPv4 address of `name`.
    pub(crate) async fn look_up(&self, name: &str) -> Result<IpAddr> {
        let mut question = Message::new(1, MessageType::Query, OpCode::Query);
        question.metadata.recursion_desired = true;
        question.add_query(Query::query(absolute(name)?, RecordType::A));
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        socket.connect(self.address).await?;
        socket.send(&question.to_vec()?).await?;
        let mut bytes = vec![0; LARGEST];
        let size = socket.recv(&mut bytes).await?;
        let answer = Message::from_vec(bytes.get(..size).unwrap_or_default())?;
        let mut addresses = answer
            .answers
            .iter()
            .filter_map(|record| record.data.ip_addr());
        Ok(addresses
            .next()
            .ok_or_else(|| format!("DNS has no {name}"))?)
    }
}

/// A port that is free for both TCP and UDP.
async fn sockets() -> Result<(TcpListener, UdpSocket)> {
    for _ in 0..ATTEMPTS {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr()?).await {
            return Ok((tcp, udp));
        }
    }
    Err("no port is free for both TCP and UDP".into())
}

async fn serve_stream(mut stream: TcpStream, zone: &Zone) -> Result<()> {
    loop {
        let mut question = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut question).await?;
        let answer = answer(&question, zone)?;
        stream.write_u16(u16::try_from(answer.len())?).await?;
        stream.write_all(&answer).await?;
    }
}

fn answer(question: &[u8], zone: &Zone) -> Result<Vec<u8>> {
    let question = Message::from_vec(question)?;
    let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
    answer.metadata.authoritative = true;
    answer.metadata.recursion_desired = question.metadata.recursion_desired;
    answer.metadata.recursion_available = true;
    for query in &question.queries {
        answer.add_query(query.clone());
        let name = query.name().to_ascii().to_lowercase();
        match zone(name.trim_end_matches('.')) {
            Some(address) if query.query_type() == RecordType::A => {
                let address = RData::A(address.into());
                answer.add_answer(Record::from_rdata(query.name().clone(), TTL, address));
            }
            Some(_) => {}
            None => answer.metadata.response_code = ResponseCode::NXDomain,
        }
    }
    Ok(answer.to_vec()?)
}

fn absolute(name: &str) -> Result<Name> {
    let mut name = Name::from_ascii(name)?;
    name.set_fqdn(true);
    Ok(name)
}
