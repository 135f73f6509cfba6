//! The endpoints of one backend, and the proxy before them: finds their addresses, and has those examined.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::task::JoinSet;

use super::examine::{Asked, Examiner};
use super::finding::{Finding, Place, Problem, Severity};
use super::judge::Examined;
use super::plan::{Caller, Plan};
use super::report::{Address, Endpoint};
use super::words;
use crate::backend::{Check, NameRules, Target, Via};
use crate::config;
use crate::control::names::{Own, canonical};
use crate::control::probe::certificates::RENEW;
use crate::control::probe::{Unreached, Way};
use crate::net::has_way;
use crate::telemetry::Millis;
use crate::wire::ProxyVersion;

/// The most addresses of one endpoint that are tried.
const MOST_ADDRESSES: usize = 64;

/// A backend to examine.
pub(super) struct Backend {
    proxy: Option<(Task, Behind)>,
    endpoints: Vec<Task>,
}

/// The proxy before endpoints.
#[derive(Clone)]
struct Behind {
    via: Arc<Via>,
    /// Whether it gets the names of endpoints, and resolves them.
    gets_names: bool,
    /// Its addresses that can be connected.
    alive: Vec<SocketAddr>,
}

/// One endpoint to examine, or the proxy.
struct Task {
    place: Place,
    target: Target,
    rules: NameRules,
    callers: Arc<[Caller]>,
    connect_timeout: Duration,
    /// The version of the PROXY header that the server expects.
    header: Option<ProxyVersion>,
    /// Whether checks of the backend could show its certificates, and none is made.
    is_unwatched: bool,
    own: Arc<Own>,
}

/// Whether no check shows the certificates of the backend, although one could.
fn is_unwatched(backend: &config::Backend) -> bool {
    let is_checked = backend
        .checks
        .as_ref()
        .is_some_and(|it| it.check == Check::Tls);
    !is_checked && !backend.endpoints.iter().any(Target::is_asked)
}

/// The report of an endpoint, and everything that is wrong with it.
pub(super) type Seen = (Endpoint, Vec<Finding>);

impl Backend {
    pub(super) fn new(plan: &Plan<'_>, own: &Arc<Own>) -> Self {
        let backend = plan.backend;
        let task = |endpoint: String, target, callers, rules: &NameRules| Task {
            place: Place {
                backend: Some(backend.name.to_string()),
                endpoint: Some(endpoint),
                ..Place::default()
            },
            target,
            rules: rules.clone(),
            callers,
            connect_timeout: backend.dial.connect_timeout,
            header: backend.send_proxy_protocol,
            is_unwatched: is_unwatched(backend),
            own: Arc::clone(own),
        };
        let targets = plan.targets().into_iter();
        let endpoints = targets
            .map(|(target, callers)| task(target.to_string(), target, callers, &backend.names));
        let endpoints: Vec<Task> = endpoints.collect();
        let via = backend.via.as_ref().filter(|_| !endpoints.is_empty());
        let proxy = via.map(|via| {
            let itself = via.proxy().clone();
            let rules = NameRules::default();
            let behind = Behind {
                via: Arc::new(via.clone()),
                gets_names: backend.resolving_proxy().is_some(),
                alive: Vec::new(),
            };
            (task(via.to_string(), itself, Arc::new([]), &rules), behind)
        });
        Self { proxy, endpoints }
    }

    /// Examines the proxy, and then all endpoints together.
    pub(super) async fn run(self, examiner: Arc<Examiner>) -> Vec<Seen> {
        let mut seen = Vec::new();
        let mut behind = None;
        if let Some((task, mut proxy)) = self.proxy {
            let (endpoint, findings) = task.run_as_proxy(&examiner).await;
            let alive = endpoint.addresses.iter();
            let alive = alive.filter(|address| address.connect_ms.is_some());
            proxy.alive = alive.map(|address| address.address).collect();
            seen.push((endpoint, findings));
            behind = Some(proxy);
        }
        let tasks = self.endpoints.into_iter();
        let tasks = tasks.map(|task| task.run(Arc::clone(&examiner), behind.clone()));
        seen.extend(in_order(tasks).await);
        seen
    }
}

/// The results of all, in their order.
pub(super) async fn in_order<T: Send + 'static>(
    all: impl Iterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let mut tasks = JoinSet::new();
    for (position, one) in all.enumerate() {
        tasks.spawn(async move { (position, one.await) });
    }
    let mut done = tasks.join_all().await;
    done.sort_unstable_by_key(|(position, _)| *position);
    done.into_iter().map(|(_, result)| result).collect()
}

impl Task {
    async fn run(self, examiner: Arc<Examiner>, behind: Option<Behind>) -> Seen {
        let via = behind.as_ref().map(|behind| behind.via.to_string());
        let mut endpoint = self.endpoint(via);
        let (ways, mut findings) = self.ways(&examiner, behind, &mut endpoint).await;
        let answers = ways.into_iter().take(MOST_ADDRESSES).map(|(address, way)| {
            let (examiner, callers) = (Arc::clone(&examiner), Arc::clone(&self.callers));
            let (timeout, way) = (self.connect_timeout, (way, self.header));
            async move { (address, examiner.address(way, callers, timeout).await) }
        });
        for (address, asked) in in_order(answers).await {
            let (seen, found) = self.judge(address, &asked);
            endpoint.addresses.push(seen);
            findings.extend(found);
        }
        excuse(&endpoint, &mut findings, has_way);
        (endpoint, findings)
    }

    fn endpoint(&self, via: Option<String>) -> Endpoint {
        Endpoint {
            backend: self.place.backend.clone().unwrap_or_default(),
            endpoint: self.place.endpoint.clone().unwrap_or_default(),
            role: None,
            via,
            lookup_ms: None,
            addresses: Vec::new(),
        }
    }

    /// The ways to the endpoint, each with the address that stands for it: its own, or that of a proxy that gets names.
    async fn ways(
        &self,
        examiner: &Examiner,
        behind: Option<Behind>,
        endpoint: &mut Endpoint,
    ) -> (Vec<(SocketAddr, Way)>, Vec<Finding>) {
        let Some(behind) = behind else {
            let (addresses, findings) = self.addresses(examiner, endpoint).await;
            let direct = |address| (address, Way::Direct(address));
            return (addresses.into_iter().map(direct).collect(), findings);
        };
        let through = |proxy, end| Way::Through {
            proxy,
            via: Arc::clone(&behind.via),
            end,
        };
        if behind.gets_names {
            let each = behind.alive.iter();
            let ways = each.map(|proxy| (*proxy, through(*proxy, self.target.clone())));
            return (ways.collect(), Vec::new());
        }
        let (addresses, findings) = self.addresses(examiner, endpoint).await;
        // Without a proxy none of them is tried.
        let ways = behind.alive.first().map(|proxy| {
            let way = |address| (address, through(*proxy, Target::Address(address)));
            addresses.into_iter().map(way).collect()
        });
        (ways.unwrap_or_default(), findings)
    }

    /// Connects to each address of the proxy, and asks nothing of it.
    async fn run_as_proxy(self, examiner: &Arc<Examiner>) -> Seen {
        let mut endpoint = self.endpoint(None);
        let (addresses, mut findings) = self.addresses(examiner, &mut endpoint).await;
        let dialled = addresses.into_iter().take(MOST_ADDRESSES).map(|address| {
            let (examiner, timeout) = (Arc::clone(examiner), self.connect_timeout);
            async move { (address, examiner.proxy(address, timeout).await) }
        });
        for (address, result) in in_order(dialled).await {
            if let Err(why) = &result {
                findings.push(self.unreached(address, why));
            }
            endpoint.addresses.push(Address {
                address,
                connect_ms: result.ok().map(Millis),
                names: Vec::new(),
                hellos: Vec::new(),
            });
        }
        excuse(&endpoint, &mut findings, has_way);
        (endpoint, findings)
    }

    fn unreached(&self, address: SocketAddr, why: &Unreached) -> Finding {
        let (problem, message, help) = words::unreached(why, self.connect_timeout);
        self.at(address).error(problem, message, help)
    }

    /// The addresses to dial, and what is wrong with the others.
    async fn addresses(
        &self,
        examiner: &Examiner,
        endpoint: &mut Endpoint,
    ) -> (Vec<SocketAddr>, Vec<Finding>) {
        let (took, resolved) = examiner.resolve(&self.target, &self.rules).await;
        let is_name = matches!(self.target, Target::Name { .. });
        endpoint.lookup_ms = is_name.then_some(Millis(took));
        match resolved {
            Ok(addresses) => self.dialled(addresses),
            Err(error) => (Vec::new(), vec![self.unresolved(&error.to_string())]),
        }
    }

    fn judge(&self, address: SocketAddr, asked: &[Asked]) -> (Address, Vec<Finding>) {
        let place = self.at(address);
        let examined = Examined {
            place: &place,
            callers: &self.callers,
            asked,
            connect_timeout: self.connect_timeout,
            now: SystemTime::now(),
        };
        let mut findings = examined.findings();
        if self.is_unwatched {
            let renew = findings.iter_mut().filter(|it| it.help == RENEW);
            renew.for_each(|finding| words::RENEW_AND_WATCH.clone_into(&mut finding.help));
        }
        (examined.report(address), findings)
    }

    fn at(&self, address: SocketAddr) -> Place {
        Place {
            address: Some(address),
            ..self.place.clone()
        }
    }

    fn unresolved(&self, error: &str) -> Finding {
        self.place.error(
            Problem::Unresolved,
            format!("the name cannot be resolved: {error}"),
            self.remedy_of_name(),
        )
    }

    const fn remedy_of_name(&self) -> &'static str {
        match self.rules.resolver {
            Some(_) => {
                "correct the name, or resolver of the backend; `dig NAME @SERVER` asks such a server"
            }
            None => {
                "correct the name, or the DNS of this machine; `getent ahosts NAME` asks the same resolver"
            }
        }
    }

    /// The addresses to dial, and what is wrong with the others. Portway does without those if another one remains.
    fn dialled(&self, addresses: Vec<SocketAddr>) -> (Vec<SocketAddr>, Vec<Finding>) {
        let (mut dialled, mut excluded) = (Vec::new(), Vec::new());
        for address in addresses {
            let address = canonical(address, address.port());
            match self.undialled(address) {
                Some(found) => excluded.push(found),
                None => dialled.push(address),
            }
        }
        if !dialled.is_empty() {
            for found in &mut excluded {
                found.severity = Severity::Warning;
            }
        }
        (dialled, excluded)
    }

    /// Why an address must not be dialled.
    fn undialled(&self, address: SocketAddr) -> Option<Finding> {
        let place = self.at(address);
        if !self.rules.allowed.permits(address.ip()) {
            let (message, help) = words::forbidden(&self.rules.allowed);
            return Some(place.error(Problem::ForbiddenAddress, message.to_owned(), help));
        }
        self.own.contains(address, false).then(|| {
            place.error(
                Problem::Loop,
                "this address is portway itself: a connection would come back to it".to_owned(),
                "let the name lead to the server on this machine (DNS or /etc/hosts), or write the server's address",
            )
        })
    }
}

/// Makes a warning of each address that this machine has no way to, if another one of the endpoint can be connected: a name
/// often has addresses of a family that the machine does not have, and clients do not notice.
fn excuse(endpoint: &Endpoint, findings: &mut [Finding], has_way: impl Fn(SocketAddr) -> bool) {
    let mut addresses = endpoint.addresses.iter();
    if !addresses.any(|address| address.connect_ms.is_some()) {
        return;
    }
    for found in findings {
        let is_lost = found.problem == Problem::Unreachable
            && found.place.address.is_some_and(|address| !has_way(address));
        if is_lost {
            found.severity = Severity::Warning;
        }
    }
}

#[cfg(test)]
mod tests;
