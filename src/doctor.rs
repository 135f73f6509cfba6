//! `portway doctor`: tries every endpoint as clients would, and says what is wrong and what to do.
//!
//! It uses nothing of a running portway: it reads the file, resolves, dials, sends real hellos and reads what comes back.
//! No handshake is finished, because the binary has no TLS stack.

mod certificate;
mod examine;
mod finding;
mod hello;
mod hellos;
mod judge;
mod machine;
mod plan;
mod probe;
mod report;
mod seen;
mod shared;
mod words;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::runtime::Builder;
use tokio::task::JoinSet;

use crate::backend::{NameRules, Target, Via};
use crate::config::{Loaded, Settings};
use crate::control::names::{Own, canonical};
use crate::telemetry::Millis;
use crate::tls::ServerName;
use crate::wire::TunnelProtocol;
pub use certificate::Certificate;
use examine::{Asked, Examiner};
pub use finding::{Finding, Place, Problem, Severity};
use judge::Examined;
pub use machine::Gauge;
use plan::{Caller, MOST_NAMES, Plan, plans};
pub use report::{Address, Answer, Endpoint, Hello, Name, Report};

/// The most addresses of one endpoint that are tried.
const MOST_ADDRESSES: usize = 64;

/// The part of a file to examine.
#[derive(Clone, Copy, Debug)]
pub struct Request<'r> {
    /// The only backend to look at.
    pub backend: Option<&'r str>,
    /// Names that clients use, for routes with a wildcard.
    pub names: &'r [ServerName],
}

/// Why nothing was examined.
#[derive(Debug)]
pub enum Unexamined {
    /// The request does not fit the file; the text says how.
    Usage(String),
    /// This machine lacks what it takes.
    Machine(io::Error),
}

/// Examines the backends of a file. It takes some seconds per address that does not answer.
pub fn examine(loaded: &Loaded, request: &Request<'_>) -> Result<Report, Unexamined> {
    let settings = &loaded.settings;
    let plans = plans(settings, request.backend, request.names).map_err(Unexamined::Usage)?;
    let mut builder = Builder::new_current_thread();
    let runtime = builder.enable_all().build().map_err(Unexamined::Machine)?;
    let mut report = runtime.block_on(all(settings, plans));
    // A look-up that hangs does not delay the exit.
    runtime.shutdown_background();
    report.findings.extend(shared::findings(&report.endpoints));
    report.findings.extend(warnings(loaded));
    let addresses = report.endpoints.iter().flat_map(|it| &it.addresses);
    let dialled = addresses.filter(|address| address.connect_ms.is_some());
    let dialled: Vec<SocketAddr> = dialled
        .map(|it| canonical(it.address, it.address.port()))
        .collect();
    report.machine = machine::gauges(settings, &dialled);
    let near = report.machine.iter().filter_map(Gauge::finding);
    report.findings.extend(near);
    Ok(report)
}

/// Each endpoint in a task of its own. The examiner bounds the connections of all.
async fn all(settings: &Settings, plans: Vec<Plan<'_>>) -> Report {
    let mut findings = Vec::new();
    let mut tasks = JoinSet::new();
    let examiner = Examiner::new();
    let own = Arc::new(own(settings));
    for plan in plans {
        if let Some(via) = &plan.backend.via {
            findings.push(behind(&plan, via));
            continue;
        }
        findings.extend(untried(&plan));
        for (target, callers) in plan.targets() {
            let task = Task {
                place: Place {
                    backend: Some(plan.backend.name.to_string()),
                    endpoint: Some(target.to_string()),
                    ..Place::default()
                },
                target,
                callers,
                rules: plan.backend.names.clone(),
                connect_timeout: plan.backend.dial.connect_timeout,
                own: Arc::clone(&own),
            };
            let (position, examiner) = (tasks.len(), Arc::clone(&examiner));
            tasks.spawn(async move { (position, task.run(examiner).await) });
        }
    }
    let mut done = tasks.join_all().await;
    done.sort_unstable_by_key(|(position, _)| *position);
    let mut endpoints = Vec::new();
    for (_, (endpoint, found)) in done {
        endpoints.push(endpoint);
        findings.extend(found);
    }
    Report {
        endpoints,
        machine: Vec::new(),
        findings,
    }
}

/// The addresses that portway would listen on.
fn own(settings: &Settings) -> Own {
    let bound = settings
        .listeners
        .iter()
        .flat_map(|listener| &listener.bind);
    let bound = bound.copied().chain(settings.admin);
    Own::new(bound.filter(|bound| bound.port() != 0).collect())
}

/// A backend behind a proxy: its endpoints cannot be tried from here, and nothing is asked of the proxy.
fn behind(plan: &Plan<'_>, via: &Via) -> Finding {
    let place = Place {
        backend: Some(plan.backend.name.to_string()),
        ..Place::default()
    };
    let message = format!(
        "the endpoints of this backend were not tried: portway reaches them through the proxy {via}, and doctor \
         does not go through proxies"
    );
    let scheme = match via.protocol() {
        TunnelProtocol::Http => "http",
        // Else curl resolves the name itself.
        TunnelProtocol::Socks5 => "socks5h",
    };
    let help = format!(
        "try each from this machine: `curl -vk -x {scheme}://{} https://HOST:PORT`",
        via.proxy()
    );
    place.warning(Problem::NotTried, message, help)
}

/// The names of a backend that get no hello.
fn untried(plan: &Plan<'_>) -> Vec<Finding> {
    let place = Place {
        backend: Some(plan.backend.name.to_string()),
        ..Place::default()
    };
    let warning = |message| {
        let help = "give the names that matter with --name";
        place.warning(Problem::NotTried, message, help)
    };
    let unnamed = plan.unnamed.iter();
    let unnamed = unnamed.map(|route| {
        warning(format!(
            "the route {route} takes any name, so none was tried"
        ))
    });
    let left_out = (plan.left_out > 0).then(|| {
        let more = plan.left_out;
        warning(format!(
            "{more} more server names lead here; the first {MOST_NAMES} were tried"
        ))
    });
    let asked = plan.backend.endpoints.iter().find(|one| one.is_asked());
    let asked = asked.filter(|_| plan.targets().is_empty()).map(|endpoint| {
        warning(format!(
            "clients choose where {endpoint} leads, so nothing was tried"
        ))
    });
    unnamed.chain(left_out).chain(asked).collect()
}

/// The warnings of `portway check`, such as an idle timeout that cuts waiting agents.
fn warnings(loaded: &Loaded) -> Vec<Finding> {
    let (warnings, _) = loaded.warnings.told_warnings();
    let warnings = warnings.into_iter().map(|fault| {
        let place = Place {
            key: fault.key,
            ..Place::default()
        };
        let help = fault.help.unwrap_or("run `portway check`");
        place.warning(Problem::Configuration, fault.message.to_owned(), help)
    });
    warnings.collect()
}

/// One endpoint to examine.
struct Task {
    place: Place,
    target: Target,
    rules: NameRules,
    callers: Arc<[Caller]>,
    connect_timeout: Duration,
    own: Arc<Own>,
}

impl Task {
    async fn run(self, examiner: Arc<Examiner>) -> (Endpoint, Vec<Finding>) {
        let (took, resolved) = examiner.resolve(&self.target, &self.rules).await;
        let is_name = matches!(self.target, Target::Name { .. });
        let mut endpoint = Endpoint {
            backend: self.place.backend.clone().unwrap_or_default(),
            endpoint: self.place.endpoint.clone().unwrap_or_default(),
            lookup_ms: is_name.then_some(Millis(took)),
            addresses: Vec::new(),
        };
        let addresses = match resolved {
            Ok(addresses) if !addresses.is_empty() => addresses,
            Ok(_) => return (endpoint, vec![self.unresolved("the name has no address")]),
            Err(error) => {
                let found = vec![self.unresolved(&error.to_string())];
                return (endpoint, found);
            }
        };
        let (dialled, mut findings) = self.dialled(addresses);
        let mut tasks = JoinSet::new();
        for (position, address) in dialled.into_iter().take(MOST_ADDRESSES).enumerate() {
            let (examiner, callers) = (Arc::clone(&examiner), Arc::clone(&self.callers));
            let timeout = self.connect_timeout;
            tasks.spawn(async move {
                (
                    position,
                    address,
                    examiner.address(address, callers, timeout).await,
                )
            });
        }
        let mut done = tasks.join_all().await;
        done.sort_unstable_by_key(|(position, ..)| *position);
        for (_, address, asked) in done {
            let (seen, found) = self.judge(address, &asked);
            endpoint.addresses.push(seen);
            findings.extend(found);
        }
        (endpoint, findings)
    }

    fn judge(&self, address: SocketAddr, asked: &[Asked]) -> (Address, Vec<Finding>) {
        let place = Place {
            address: Some(address),
            ..self.place.clone()
        };
        let examined = Examined {
            place: &place,
            callers: &self.callers,
            asked,
            connect_timeout: self.connect_timeout,
            now: SystemTime::now(),
        };
        (examined.report(address), examined.findings())
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
        let place = Place {
            address: Some(address),
            ..self.place.clone()
        };
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

#[cfg(test)]
mod tests;
