//! `portway doctor`: tries every endpoint as clients would, and says what is wrong and what to do.
//!
//! It uses nothing of a running portway: it reads the file, resolves, dials, sends real hellos and reads what comes back.
//! No handshake is finished, because the binary has no TLS stack.

mod examine;
mod finding;
mod hellos;
mod judge;
mod machine;
mod plan;
mod report;
mod seen;
mod shared;
mod task;
mod words;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::runtime::Builder;

use crate::config::{Loaded, Settings};
use crate::control::names::{Own, canonical};
use crate::tls::ServerName;
use examine::Examiner;
pub use finding::{Finding, Place, Problem, Severity};
pub use machine::Gauge;
use plan::{MOST_NAMES, MOST_PORTS, Plan, plans};
pub use report::{Address, Answer, Endpoint, Hello, Name, Report};
use task::in_order;

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
    for endpoint in &mut report.endpoints {
        endpoint.role = role(settings, endpoint);
    }
    report.findings.extend(shared::findings(&report.endpoints));
    report.findings.extend(warnings(loaded));
    // Behind a proxy, the proxy alone is dialled from here.
    let own = report.endpoints.iter().filter(|it| it.via.is_none());
    let addresses = own.flat_map(|it| &it.addresses);
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
    let examiner = Examiner::new();
    let own = Arc::new(own(settings));
    let mut backends = Vec::new();
    for plan in plans {
        findings.extend(untried(&plan));
        let backend = task::Backend::new(&plan, &own);
        backends.push(backend.run(Arc::clone(&examiner)));
    }
    let mut endpoints = Vec::new();
    for (endpoint, found) in in_order(backends.into_iter()).await.into_iter().flatten() {
        endpoints.push(endpoint);
        findings.extend(found);
    }
    Report {
        endpoints,
        machine: Vec::new(),
        findings,
    }
}

/// The role that the file gives an endpoint.
fn role(settings: &Settings, endpoint: &Endpoint) -> Option<String> {
    let mut backends = settings.backends.iter();
    let backend = backends.find(|backend| *backend.name == *endpoint.backend)?;
    let mut members = backend.members();
    let (_, role) = members.find(|(target, _)| target.to_string() == endpoint.endpoint)?;
    (!role.is_plain()).then(|| role.to_string())
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
    let more_ports = plan.ports_left_out();
    let ports = (more_ports > 0).then(|| {
        let message = format!(
            "{more_ports} more ports lead here; the first {MOST_PORTS} of each name were tried"
        );
        let help = "try the others from this machine: `openssl s_client -connect HOST:PORT`";
        place.warning(Problem::NotTried, message, help)
    });
    unnamed.chain(left_out).chain(asked).chain(ports).collect()
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
