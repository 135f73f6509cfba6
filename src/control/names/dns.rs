//! Look-ups at the DNS servers of a backend, in place of the system's resolver.

#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ServerOrderingStrategy,
};
use hickory_resolver::lookup::Lookup as Records;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RecordType};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::resolver::{Found, LONGEST_NEGATIVE, Lookup, NO_ADDRESS, NotFound};
use crate::backend::DnsServers;
use crate::net::has_way;

/// The shortest time for which an answer is fresh. A time to live of 0 is usual for a name whose addresses change.
pub(super) const SHORTEST: Duration = Duration::from_secs(5);
/// The longest time for which an answer is fresh.
pub(super) const LONGEST: Duration = Duration::from_hours(1);
/// The time limit of an attempt. With the second one it is still below that of a look-up.
const ATTEMPT: Duration = Duration::from_secs(2);
/// Attempts after the first one, which prefer a server that answers.
const FURTHER_ATTEMPTS: usize = 1;
/// Servers that are asked at the same time, so that one that is gone delays nobody.
const AT_ONCE: usize = 2;
/// How long IPv4 addresses wait for those of IPv6, for which some servers never answer.
const OTHER_FAMILY: Duration = Duration::from_millis(500);

/// A look-up at these servers: over UDP, and over TCP for an answer that is truncated.
pub(super) fn lookup(servers: &DnsServers) -> Lookup {
    match Servers::new(servers) {
        Ok(servers) => Arc::new(move |host| {
            let servers = servers.clone();
            Box::pin(async move { ask(&servers, &host).await })
        }),
        Err(error) => Arc::new(move |_| {
            let failed = NotFound::failed(io::Error::other(error.to_string()));
            Box::pin(std::future::ready(Err(failed)))
        }),
    }
}

/// The servers of a backend.
#[derive(Clone)]
struct Servers {
    /// Asks them in the order in which they are likely to answer.
    together: TokioResolver,
    /// Each asks one, if there are several.
    alone: Arc<[TokioResolver]>,
}

impl Servers {
    fn new(servers: &DnsServers) -> Result<Self, NetError> {
        let several = servers.iter().filter(|_| servers.len() > 1);
        let alone: Result<Vec<_>, _> = several.map(|one| resolver(&[*one])).collect();
        Ok(Self {
            together: resolver(servers)?,
            alone: alone?.into(),
        })
    }

    /// The library takes an error that a server answers with for the answer of all, and goes on to ask that
    /// server first. The others may know better.
    async fn look_up(&self, name: Name, kind: RecordType) -> Result<Records, NetError> {
        let answer = self.together.lookup(name.clone(), kind).await;
        if !answer.as_ref().is_err_and(is_error_of_server) {
            return answer;
        }
        let mut asked = JoinSet::new();
        for server in &*self.alone {
            let (server, name) = (server.clone(), name.clone());
            asked.spawn(async move { server.lookup(name, kind).await });
        }
        while let Some(other) = asked.join_next().await {
            match other {
                Ok(Ok(records)) => return Ok(records),
                Ok(Err(error)) if error.is_no_records_found() => return Err(error),
                Ok(Err(_)) | Err(_) => {}
            }
        }
        answer
    }
}

/// Whether a server has answered, and others that were not asked may have an answer.
const fn is_error_of_server(error: &NetError) -> bool {
    matches!(
        error,
        NetError::Dns(DnsError::ResponseCode(_)) | NetError::Truncated
    )
}

fn resolver(servers: &[SocketAddr]) -> Result<TokioResolver, NetError> {
    let servers = servers.iter().map(|server| {
        let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
        let connections = connections.map(|mut connection| {
            connection.port = server.port();
            connection
        });
        NameServerConfig::new(server.ip(), true, connections.into())
    });
    let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
    let runtime = TokioRuntimeProvider::default();
    let mut builder = TokioResolver::builder_with_config(config, runtime);
    let options = builder.options_mut();
    options.use_hosts_file = ResolveHosts::Never;
    // `Name` keeps the answers, and asks again after a failed dial.
    options.cache_size = 0;
    options.timeout = ATTEMPT;
    options.attempts = FURTHER_ATTEMPTS;
    options.num_concurrent_reqs = AT_ONCE;
    options.server_ordering_strategy = ServerOrderingStrategy::QueryStatistics;
    builder.build()
}

async fn ask(servers: &Servers, host: &str) -> Result<Found, NotFound> {
    let name = Name::from_ascii(host).map(|mut name| {
        name.set_fqdn(true);
        name
    });
    let name = name.map_err(|error| NotFound::failed(io::Error::other(error)))?;
    let v4 = servers.look_up(name.clone(), RecordType::A);
    let v6 = servers.look_up(name, RecordType::AAAA);
    let mut found = combine(&both(v4, v6).await)?;
    put_reachable_first(&mut found.addresses, has_way);
    Ok(found)
}

/// Puts addresses last to which this machine has no way, as the system's resolver does (RFC 6724 section 6, rule 1):
/// the family of the first one is used first, and a machine may have IPv6 alone.
fn put_reachable_first(addresses: &mut [SocketAddr], has_way: impl Fn(SocketAddr) -> bool) {
    addresses.sort_by_cached_key(|address| !has_way(*address));
}

/// The answers of both families.
async fn both(
    v4: impl Future<Output = Result<Records, NetError>>,
    v6: impl Future<Output = Result<Records, NetError>>,
) -> [Result<Records, NetError>; 2] {
    let (mut v4, mut v6) = (pin!(v4), pin!(v6));
    let (mut first, mut second) = (None, None);
    let mut patience = None;
    while first.is_none() || second.is_none() {
        let limit = patience.unwrap_or_else(Instant::now);
        tokio::select! {
            answer = &mut v4, if first.is_none() => {
                patience = answer.is_ok().then(|| Instant::now() + OTHER_FAMILY);
                first = Some(answer);
            }
            answer = &mut v6, if second.is_none() => second = Some(answer),
            () = sleep_until(limit), if patience.is_some() => break,
        }
    }
    [first, second].map(|answer| answer.unwrap_or(Err(NetError::Timeout)))
}

/// The addresses of both families: IPv4 first, because portway uses the other family only if the first one
/// cannot be reached, and not every host has a way to IPv6. For the same reason the look-up fails if that of IPv4
/// does: IPv6 addresses alone must not take the place of those in use.
fn combine(families: &[Result<Records, NetError>; 2]) -> Result<Found, NotFound> {
    let records = || families.iter().flatten().flat_map(Records::answers);
    let addresses = records().filter_map(|record| record.data.ip_addr());
    let addresses: Vec<_> = addresses.map(|ip| SocketAddr::new(ip, 0)).collect();
    if addresses.is_empty() || is_lost(&families[0]) {
        return Err(not_found(families));
    }
    // A family whose look-up failed is asked for again soon.
    let is_whole = !families.iter().any(is_lost);
    let life = records().map(|record| record.ttl).min();
    let life = life.filter(|_| is_whole);
    let life = life.map_or(SHORTEST, |life| Duration::from_secs(u64::from(life)));
    Ok(Found {
        addresses,
        fresh: life.clamp(SHORTEST, LONGEST),
    })
}

/// Whether the look-up of a family failed: a negative answer is an answer.
fn is_lost(family: &Result<Records, NetError>) -> bool {
    let failure = |error: &NetError| !error.is_no_records_found();
    family.as_ref().is_err_and(failure)
}

/// Why the answers are not used. A failure counts before a negative answer, which is only half of one then. The words tell
/// the families apart if they differ, because a server that answers for one of them is there.
fn not_found(families: &[Result<Records, NetError>; 2]) -> NotFound {
    let errors = || families.iter().filter_map(|family| family.as_ref().err());
    let lost = families.iter().filter(|family| is_lost(family)).count();
    let [v4, v6] = families.each_ref().map(outcome);
    let text = if lost > 0 && v4 != v6 {
        format!("for IPv4: {v4}; for IPv6: {v6}")
    } else {
        errors().next().map_or_else(|| NO_ADDRESS.to_owned(), told)
    };
    let mut not_found = NotFound::failed(io::Error::other(text));
    if lost == 0 {
        let lives = errors().filter_map(negative_life);
        let again = lives.min().unwrap_or_default();
        not_found.again = again.clamp(not_found.again, LONGEST_NEGATIVE);
    }
    not_found
}

/// The answer for a family in words.
fn outcome(family: &Result<Records, NetError>) -> String {
    match family {
        Ok(records)
            if records
                .answers()
                .iter()
                .any(|it| it.data.ip_addr().is_some()) =>
        {
            "the name has an address".to_owned()
        }
        Ok(_) => NO_ADDRESS.to_owned(),
        Err(error) => told(error),
    }
}

fn negative_life(error: &NetError) -> Option<Duration> {
    let NetError::Dns(DnsError::NoRecordsFound(NoRecords { negative_ttl, .. })) = error else {
        return None;
    };
    negative_ttl.map(|life| Duration::from_secs(u64::from(life)))
}

/// An error in words. Those of the library show its own types.
fn told(error: &NetError) -> String {
    if error.is_nx_domain() {
        return "the name does not exist (NXDOMAIN)".to_owned();
    }
    if error.is_no_records_found() {
        return NO_ADDRESS.to_owned();
    }
    if let NetError::Dns(DnsError::ResponseCode(code)) = error {
        return if *code == ResponseCode::ServFail {
            "the DNS server failed (SERVFAIL)".to_owned()
        } else if *code == ResponseCode::Refused {
            "the DNS server refuses to answer (REFUSED)".to_owned()
        } else {
            format!("the DNS server answers with an error: {code}")
        };
    }
    if let NetError::Io(error) = error {
        return format!("cannot ask the DNS server: {error}");
    }
    if matches!(error, NetError::Timeout | NetError::NoConnections) {
        return "no DNS server answers".to_owned();
    }
    if matches!(error, NetError::Truncated) {
        return "the answer is too long for UDP, and the DNS server does not answer over TCP"
            .to_owned();
    }
    error.to_string()
}
