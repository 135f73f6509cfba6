//! Measures portway against other relays: `cargo bench --bench peers`.
//!
//! Each round runs each scenario with each relay, in a new random order, with a new relay, backend and
//! network. Only ratios within a round, and their medians over the rounds, are meaningful. The results go
//! to `docs/performance`, and a table of them to the terminal. Relays that are not installed are skipped,
//! and the program says so.

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
mod network;
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
    /// How often each scenario is run with each relay [default: 3, or 1 if quick]
    #[arg(long, value_name = "COUNT")]
    rounds: Option<usize>,
    /// Only check that everything works: the figures mean nothing
    #[arg(long)]
    quick: bool,
    /// Run only scenarios with this prefix, such as `bulk` or `messages-1024`
    #[arg(long, value_name = "PREFIX", value_delimiter = ',')]
    only: Vec<String>,
    /// Run only these relays
    #[arg(long, value_name = "NAME", value_enum, value_delimiter = ',')]
    subjects: Vec<Kind>,
    /// Threads of each relay
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    workers: usize,
    /// How long one measurement takes [default: 2, or 0.3 if quick]
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<f64>,
    /// Seed of the random order of the relays
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// Where to write the results [default: docs/performance for a full run, else target/performance]
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
        None if options.bench => compare(&options),
        None => {
            println!("peers: nothing is measured without --bench; call cargo bench --bench peers");
            Ok(())
        }
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
    eprintln!(
        "the order of the relays is drawn with --seed {}",
        options.seed
    );
    run.all()?;
    let results = run.results();
    println!("{}", report::table(results));
    for skipped in &results.skipped {
        eprintln!("not run: {}: {}", skipped.what, skipped.why);
    }
    match run.failed() {
        0 => Ok(()),
        failed => Err(format!("{failed} steps have failed: see \"not run\" above")),
    }
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
    fn rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.quick { 1 } else { 3 })
    }

    fn seconds(&self) -> f64 {
        self.seconds.unwrap_or(if self.quick { 0.3 } else { 2.0 })
    }

    fn directory(&self) -> PathBuf {
        let is_whole = !self.quick && self.only.is_empty() && self.subjects.is_empty();
        let default = if is_whole {
            "docs/performance"
        } else {
            "target/performance"
        };
        self.output.clone().unwrap_or_else(|| default.into())
    }
}
