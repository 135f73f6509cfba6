//! The clients of the rows: each sends the requests of its protocol, and notes who answered.

use std::collections::BTreeSet;

use hyper::Method;
use tokio_rustls::client::TlsStream;

use crate::agent::Agent;
use crate::client::{Client, Failure, Saw, Stream, certificate, handshake};
use crate::lab::Who;
use crate::rows::{Protocol, Stage, Talk};
use crate::site::{Front, Way};
use crate::tls::Offer;
use crate::{Result, artifacts, kafka, lumberjack, output, transport};

/// Events in one window of Lumberjack.
const WINDOW: u32 = 2048;
const WINDOWS: u32 = 2;

impl Stage<'_> {
    /// Sends the requests. Returns what the client saw, and which protocols it offered.
    pub(crate) async fn talk(&self, talk: Talk) -> Result<(Saw, Offer)> {
        let offer = match talk {
            Talk::CheckIn(offer) => offer,
            Talk::EnrollAndRecord(_)
            | Talk::Bulk
            | Talk::BulkOfLogstash
            | Talk::Identify
            | Talk::Download => Offer::Nothing,
            Talk::Frames(protocol) => return Ok((self.frames(protocol).await?, Offer::Nothing)),
        };
        let mut client = self.client(self.promise.who(), offer).await?;
        match talk {
            Talk::CheckIn(_) => {
                let agent = Agent::enroll(&mut client).await?;
                agent.check_in(&mut client).await?;
            }
            Talk::EnrollAndRecord(host) => {
                Agent::enroll(&mut client).await?;
                let mut servers = self.site.fleet_servers.iter();
                let fleet_server = servers.find(|(name, _)| *name == self.promise.way.host);
                let saw = fleet_server.and_then(|(_, fleet_server)| fleet_server.saw());
                let saw = saw.ok_or_else(|| format!("{host} was not reached"))?;
                return Ok((saw, offer));
            }
            Talk::Bulk | Talk::BulkOfLogstash => {
                output::identify(&mut client).await?;
                output::bulk(&mut client).await?;
            }
            Talk::Identify => output::identify(&mut client).await?,
            Talk::Download => download(&mut client).await?,
            Talk::Frames(_) => {}
        }
        Ok((client.saw, offer))
    }

    /// A connection for HTTP that has made its handshake.
    pub(crate) async fn client(&self, who: Who, offer: Offer) -> Result<Client, Failure> {
        let way = &self.promise.way;
        let stream = self.site.connect(self.lab, way, who).await?;
        let name = match way.front {
            Front::HttpConnectThenOther(name) => name,
            Front::Direct
            | Front::Beside
            | Front::HttpConnect
            | Front::Socks5
            | Front::HttpsProxy(_) => way.host,
        };
        Client::over(name, stream, self.lab.tls(who, offer)?).await
    }

    /// A connection for other protocols, and the common name of the server's certificate.
    async fn stream(&self, way: &Way) -> Result<(TlsStream<Stream>, String)> {
        let who = self.promise.who();
        let stream = self.site.connect(self.lab, way, who).await?;
        let tls = self.lab.tls(who, Offer::Nothing)?;
        let stream = handshake(way.host, stream, tls).await?;
        let certificate = certificate(stream.get_ref().1);
        Ok((stream, certificate))
    }

    async fn frames(&self, protocol: Protocol) -> Result<Saw> {
        let mut way = self.promise.way;
        let (mut stream, certificate) = self.stream(&way).await?;
        let mut saw = Saw {
            certificate,
            ..Saw::default()
        };
        match protocol {
            Protocol::Lumberjack => {
                for _ in 0..WINDOWS {
                    saw.sent += lumberjack::send(&mut stream, WINDOW).await?;
                }
                saw.answered_by = format!("{} acknowledged", WINDOWS * WINDOW);
            }
            Protocol::Transport => {
                let mut clusters = BTreeSet::new();
                let mut open = vec![stream];
                while open.len() < transport::SOCKETS {
                    open.push(self.stream(&way).await?.0);
                }
                for (stream, request) in open.iter_mut().zip(1..) {
                    clusters.insert(transport::greet(stream, request, "cluster-a").await?);
                }
                let clusters: Vec<String> = clusters.into_iter().collect();
                saw.answered_by = format!("{}: {} sockets", clusters.join(", "), open.len());
            }
            Protocol::Kafka => {
                let mut leaders = Vec::new();
                for (partition, host) in kafka::leaders(&mut stream).await? {
                    way.host = host;
                    let (mut stream, certificate) = self.stream(&way).await?;
                    saw.sent += kafka::produce(&mut stream, partition).await?;
                    leaders.push(certificate);
                }
                saw.answered_by = leaders.join(", ");
            }
        }
        Ok(saw)
    }
}

/// Downloads the package, and compares it with its digest.
async fn download(client: &mut Client) -> Result<()> {
    let path = format!("{}.sha512", artifacts::PACKAGE);
    let digest = client.send(Method::GET, &path, &[], "").await?.bytes;
    let package = client
        .send(Method::GET, artifacts::PACKAGE, &[], "")
        .await?;
    if artifacts::digest(&package.bytes).as_bytes() != digest {
        return Err("the package is not whole".into());
    }
    "digest is right".clone_into(&mut client.saw.answered_by);
    Ok(())
}
