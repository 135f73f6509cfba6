//! Measures portway against other relays: `cargo bench --bench peers`.
//!
//! Each scenario is run with each relay in turn (A B C, B C A, …), round by round, each time with a
//! relay and a backend that were started for it. Only ratios within a round, and their medians over
//! the rounds, mean something. The results go to `docs/performance`, a table of them to the
//! terminal. Relays that are not installed are left out, and it says so.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "progress and a table are what it is for"
)]
#![expect(
    unreachable_pub,
    reason = "nothing is reachable from outside of a program"
)]

#[path = "../floor/mod.rs"]
mod floor;
mod load;
mod machine;
mod relay;
mod relays;
mod report;
mod results;
mod run;
mod scenarios;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::relays::Kind;

/// Measure portway against HAProxy, nginx, Envoy and a bare loop
#[derive(Debug, Parser)]
#[command(name = "peers", max_term_width = 100)]
struct Options {
    #[command(subcommand)]
    command: Option<Command>,
    /// How often each scenario is run with each relay
    #[arg(long, value_name = "COUNT", default_value_t = 3)]
    rounds: usize,
    /// See whether all of it works: the figures mean nothing
    #[arg(long)]
    quick: bool,
    /// Only scenarios that begin so, such as `bulk` or `messages-1024`
    #[arg(long, value_name = "PREFIX", value_delimiter = ',')]
    only: Vec<String>,
    /// Only these relays
    #[arg(long, value_name = "NAME", value_enum, value_delimiter = ',')]
    subjects: Vec<Kind>,
    /// Threads of each relay
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    workers: usize,
    /// How long one measurement takes
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    seconds: f64,
    /// Where the results go [default: docs/performance, or target/performance if quick]
    #[arg(long, value_name = "DIRECTORY")]
    output: Option<PathBuf>,
    /// Comes from cargo
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(hide = true)]
    Floor(floor::Options),
}

fn main() -> ExitCode {
    let options = Options::parse();
    let done = match &options.command {
        Some(Command::Floor(options)) => floor::run(options).map_err(|error| error.to_string()),
        None => compare(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn compare(options: &Options) -> Result<(), String> {
    if let Some(load) = machine::load().filter(|load| *load > 0.5) {
        eprintln!("warning: the machine is not quiet (load average {load}): expect noise");
    }
    let mut run = run::Run::prepare(options)?;
    run.all()?;
    let results = run.results();
    println!("{}", report::table(results));
    for skipped in &results.skipped {
        eprintln!("not run: {}: {}", skipped.what, skipped.why);
    }
    Ok(())
}

/// The command line, without the path of this program and what cargo adds.
fn command_line() -> String {
    let arguments = env::args().skip(1).filter(|argument| argument != "--bench");
    let mut words = vec!["cargo bench --bench peers".to_owned()];
    words.extend(arguments);
    if words.len() > 1 {
        words.insert(1, "--".to_owned());
    }
    words.join(" ")
}

impl Options {
    fn directory(&self) -> PathBuf {
        let default = if self.quick {
            "target/performance"
        } else {
            "docs/performance"
        };
        self.output.clone().unwrap_or_else(|| default.into())
    }
}
