//! The lab: a whole Elastic fleet in one process, to see portway work and to prove that it does.
//!
//! `cargo run --example lab` makes an authority and certificates, starts the servers of each topology that
//! Elastic describes with real TLS on loopback, starts portway in front of them, and lets agents enroll, check in
//! and send data through it. It prints a table, in which each row is one promise, with what both ends saw. The
//! exit status is 1 if a promise does not hold.
//!
//! Read `topologies/promises.rs` first (the promises, one line each), then the sites beside it (the layouts and the
//! routes.toml), then `rows.rs` (how a row is made).

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the table is what the lab is for"
)]

mod agent;
mod artifacts;
mod certificates;
mod client;
mod connect_proxy;
mod dns;
mod elasticsearch;
mod fleet_server;
mod kafka;
mod keep;
mod lab;
mod lumberjack;
mod output;
mod pages;
mod relay;
mod rows;
mod server;
mod site;
mod spread;
mod table;
mod talk;
mod tls;
mod topologies;
mod transport;
mod tunnel;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::LazyLock;
use std::time::Instant;

use clap::Parser;

use crate::lab::Lab;
use crate::rows::{Promise, Stage};
use crate::table::Row;
use crate::topologies::{Group, PAGES};

/// Agents, Fleet Servers and Elasticsearch, all on this machine, talk through portway.
#[derive(Parser)]
#[command(name = "lab")]
struct Options {
    /// Run only the rows of this topology, T1 to T15; may be repeated
    #[arg(long, value_name = "ID")]
    only: Vec<String>,
    /// Cross the two Elasticsearch backends in routes.toml: TLS still succeeds, so only the rows
    /// that ask who answered can fail, and they must
    #[arg(long)]
    swap: bool,
    /// Run each routes.toml in the pages of this directory instead, with servers of the kinds that it names
    #[arg(long, value_name = "DIRECTORY", conflicts_with_all = ["only", "keep", "swap"])]
    pages: Option<PathBuf>,
    /// Leave everything running after the rows, until Ctrl-C, and print what to try by hand
    #[arg(long)]
    keep: bool,
    /// Also print the routes.toml and portway's line for each connection
    #[arg(long)]
    verbose: bool,
}

/// Any error; the reader gets its text.
type Error = Box<dyn std::error::Error + Send + Sync>;
type Result<T, E = Error> = std::result::Result<T, E>;

static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Says what the lab does now, on standard error: keys and held check-ins take seconds each.
fn progress(what: &str) {
    eprintln!("{:6.1} s  {what}", STARTED.elapsed().as_secs_f64());
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("lab: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every row holds.
fn run(options: &Options) -> Result<bool> {
    if let Some(unknown) = options.only.iter().find(|id| !is_known(id)) {
        return Err(format!(
            "there is no topology {unknown} here: {}",
            PAGES.map(|page| page.0).join(" ")
        )
        .into());
    }
    // All stand-ins and agents share one thread; each portway has its own.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (is_kept, sites) = runtime.block_on(async {
        let (lab, mut journal) = Lab::new(options.swap)?;
        if let Some(directory) = &options.pages {
            let rows = pages::run(&lab, &mut journal, directory).await?;
            return Ok((report(&rows), Vec::new()));
        }
        let mut rows = Vec::new();
        let mut sites = Vec::new();
        for group in Group::ALL {
            let mut promises = group.promises().filter(|it| options.selects(it)).peekable();
            if promises.peek().is_none() {
                continue;
            }
            let site = group.start(&lab).await?;
            for promise in promises {
                let stage = Stage {
                    lab: &lab,
                    site: &site,
                    promise,
                };
                rows.push(stage.run(&mut journal).await);
            }
            sites.push((group, site));
        }
        rows.sort_by_key(|row| number(row.id));
        let is_kept = report(&rows);
        cite(&rows);
        if options.keep {
            keep::until_interrupted(&lab, &sites, |promise| options.selects(promise)).await?;
        }
        Ok::<_, Error>((is_kept, sites))
    })?;
    // The stand-ins end first, so that open connections do not delay the drain.
    drop(runtime);
    progress("stops portway");
    let mut logs = String::new();
    for (_, site) in sites {
        let log = site.relay.stop();
        logs.extend([
            "routes.toml\n\n",
            &site.routes,
            "\nconnections\n\n",
            &log,
            "\n",
        ]);
    }

    if options.verbose {
        println!("{logs}");
    }
    Ok(is_kept)
}

/// Prints the table. Returns whether every row holds.
fn report(rows: &[Row]) -> bool {
    println!("{}", table::render(rows));
    let failed = rows.iter().filter(|row| !row.faults.is_empty()).count();
    if failed == 0 {
        println!("All {} rows hold.", rows.len());
    } else {
        println!("{failed} of {} rows do not hold.", rows.len());
    }
    failed == 0
}

/// Prints where the documentation has each topology of the rows.
fn cite(rows: &[Row]) {
    println!("\nThe pages of docs/elastic about these topologies:\n");
    for (id, page) in PAGES {
        if rows.iter().any(|row| row.id == id) {
            println!("{id:4} {page}");
        }
    }
}

fn is_known(id: &str) -> bool {
    PAGES
        .iter()
        .any(|(known, _)| known.eq_ignore_ascii_case(id))
}

/// The number in the id of a topology.
fn number(id: &str) -> Option<u8> {
    id.trim_start_matches('T').parse().ok()
}

impl Options {
    /// Whether the promise belongs to a topology that `--only` names.
    fn selects(&self, promise: &Promise) -> bool {
        let is_it = |id: &String| id.eq_ignore_ascii_case(promise.id);
        self.only.is_empty() || self.only.iter().any(is_it)
    }
}
