//! The lab: a whole Elastic fleet in one process, to see portway work and to prove that it does.
//!
//! `cargo run --example lab` makes an authority and certificates, starts Fleet Servers and
//! Elasticsearch nodes with real TLS on loopback, starts portway in front of them, and lets agents
//! enroll, check in and send data through it. It prints a table, in which each row is one promise, with
//! what both ends saw. The exit status is 1 if a promise does not hold.
//!
//! Read `lab.rs` first (the layout, and the routes.toml), then `rows.rs` (the promises).

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the table is what the lab is for"
)]

mod agent;
mod certificates;
mod client;
mod elasticsearch;
mod fleet_server;
mod lab;
mod output;
mod relay;
mod rows;
mod server;
mod table;
mod tls;

use std::process::ExitCode;
use std::sync::LazyLock;
use std::time::Instant;

use clap::Parser;

use crate::lab::Lab;

/// Agents, Fleet Servers and Elasticsearch, all on this machine, talk through portway.
#[derive(Parser)]
#[command(name = "lab")]
struct Options {
    /// Cross the two Elasticsearch backends in routes.toml: TLS still succeeds, so only the rows
    /// that ask who answered can fail, and they must
    #[arg(long)]
    swap: bool,
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
    // All stand-ins and agents share one thread; portway has its own.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (rows, relay, routes) = runtime.block_on(async {
        let mut lab = Lab::start(options.swap).await?;
        let rows = rows::all(&mut lab).await;
        Ok::<_, Error>((rows, lab.relay, lab.routes))
    })?;
    // The stand-ins end first, so that open connections do not delay the drain.
    drop(runtime);
    progress("stops portway");
    let log = relay.stop();

    println!("{}", table::render(&rows));
    if options.verbose {
        println!("routes.toml\n\n{routes}\nconnections\n\n{log}");
    }
    let failed = rows.iter().filter(|row| !row.faults.is_empty()).count();
    if failed == 0 {
        println!("All {} rows hold.", rows.len());
    } else {
        println!("{failed} of {} rows do not hold.", rows.len());
    }
    Ok(failed == 0)
}
