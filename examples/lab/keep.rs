//! Leaves the lab running, and prints commands to try by hand.

use std::net::SocketAddr;
use std::path::Path;

use tempfile::TempDir;

use crate::artifacts::PACKAGE;
use crate::lab::{ADDRESS, Lab, Who};
use crate::rows::{Promise, Reach, Run, Talk};
use crate::site::{Front, Site};
use crate::topologies::Group;
use crate::{Result, progress};

/// Prints the commands, and waits for Ctrl-C.
pub(crate) async fn until_interrupted(
    lab: &Lab,
    sites: &[(Group, Site)],
    selects: impl Fn(&Promise) -> bool,
) -> Result<()> {
    let files = write(lab)?;
    println!("\nCertificates are in {}.", files.path().display());
    println!("Each command shows the subject of the server that answers, and its answer.\n");
    for (group, site) in sites {
        if let Some(dns) = &site.dns {
            println!("# The DNS server of the agents is at {}.\n", dns.address);
        }
        for promise in group.promises().filter(|promise| selects(promise)) {
            if let Some(command) = command(promise, site, files.path())? {
                let Promise { id, what, .. } = promise;
                println!("# {id}: {what}, {}\n{command}\n", expectation(promise));
            }
        }
    }
    progress("keeps everything running until Ctrl-C");
    tokio::signal::ctrl_c().await?;
    Ok(())
}

/// Writes the certificates that a client needs into a directory, which goes with the value.
fn write(lab: &Lab) -> Result<TempDir> {
    let directory = TempDir::with_prefix("portway-lab-")?;
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text);
    write("ca.pem", lab.authority.pem())?;
    let agent = lab
        .identity(Who::Agent)
        .ok_or("the agent has no certificate")?;
    write("agent.pem", &agent.pem)?;
    write("agent.key", &agent.key_pem)?;
    Ok(directory)
}

/// The outcome of the command: `.ci/lab_commands` compares it with the output.
fn expectation(promise: &Promise) -> String {
    let server = match &promise.run {
        Run::Reach(reach) => reach.server,
        Run::Spread { .. } => "fleet-*",
        Run::Refusal(refusal) => return format!("refused: {}", refusal.reason),
    };
    let tls = if promise.is_mutual {
        "mutual"
    } else {
        "one-way"
    };
    format!("{tls} TLS of {server}")
}

/// A command that does by hand what the row does, if there is one.
fn command(promise: &Promise, site: &Site, files: &Path) -> Result<Option<String>> {
    let at = site.relay.address(promise.way.listener)?;
    let shows_certificate = match (&promise.run, promise.who()) {
        (_, Who::Stranger) => return Ok(None),
        (Run::Refusal(_), who) => who == Who::Agent,
        (Run::Reach(_) | Run::Spread { .. }, _) => promise.is_mutual,
    };
    let path = match &promise.run {
        Run::Reach(Reach { talk, .. }) => match talk {
            Talk::Frames(_) if promise.way.front == Front::Direct => {
                let host = promise.way.host;
                let certificate = certificate(files, "-", shows_certificate);
                let files = files.display();
                return Ok(Some(format!(
                    "openssl s_client -brief -connect {at} -servername {host} \\\n    \
                     -CAfile {files}/ca.pem -verify_return_error{certificate} </dev/null"
                )));
            }
            Talk::Frames(_) | Talk::EnrollAndRecord(_) => return Ok(None),
            Talk::Bulk | Talk::BulkOfLogstash | Talk::Identify => "/".to_owned(),
            Talk::Download => format!("{PACKAGE}.sha512"),
            Talk::CheckIn(_) => "/api/status".to_owned(),
        },
        Run::Spread { .. } | Run::Refusal(_) => "/api/status".to_owned(),
    };
    let Some((front, port)) = front(promise, at, files) else {
        return Ok(None);
    };
    let host = promise.way.host;
    let certificate = certificate(files, "--", shows_certificate);
    let files = files.display();
    Ok(Some(format!(
        "curl -sSv --cacert {files}/ca.pem{certificate}{front} \\\n    \
         https://{host}:{port}{path} 2>&1 | grep -E 'subject:|^[{{]\"|^[0-9a-f]{{128}}|^curl:'"
    )))
}

/// The options of curl for the way, and the port of the URL.
fn front(promise: &Promise, at: SocketAddr, files: &Path) -> Option<(String, u16)> {
    let way = &promise.way;
    let login = way.login.credentials();
    let login = login.map_or_else(String::new, |it| format!(" --proxy-user {}", it.join(":")));
    let resolve = |host: &str| format!(" --resolve {host}:{}:{ADDRESS}", at.port());
    match way.front {
        Front::Direct if way.host == ADDRESS => Some((String::new(), at.port())),
        Front::Direct => Some((resolve(way.host), at.port())),
        Front::HttpConnect => Some((format!(" --proxy http://{at}{login}"), way.port)),
        Front::Socks5 => Some((format!(" --socks5-hostname {at}{login}"), way.port)),
        Front::HttpsProxy(proxy) => {
            let certificate = certificate(files, "--proxy-", promise.who() == Who::Agent);
            let (resolve, at, files) = (resolve(proxy), at.port(), files.display());
            let front = format!(
                " --proxy https://{proxy}:{at}{resolve} \\\n    \
                 --proxy-cacert {files}/ca.pem{certificate}"
            );
            Some((front, way.port))
        }
        Front::Beside | Front::HttpConnectThenOther(_) => None,
    }
}

/// The options for the certificate of the agent.
fn certificate(files: &Path, prefix: &str, is_shown: bool) -> String {
    if is_shown {
        let files = files.display();
        format!(" {prefix}cert {files}/agent.pem {prefix}key {files}/agent.key")
    } else {
        String::new()
    }
}
