//! The command line: the only code that prints.
//!
//! Exit status: 0 fine, 1 failed (of `explain`: the connection would be refused), 2 bad usage, 78
//! bad configuration (`EX_CONFIG` of sysexits.h: systemd then does not restart).

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::{self, Faults, Loaded};
use crate::{app, telemetry};

mod explain;
mod generate;
mod healthcheck;
mod reload;
mod report;

const BAD_USAGE: u8 = 2;
const BAD_CONFIGURATION: u8 = 78;
/// What a reader of the faults of the first file may take.
const TELL_TIMEOUT: Duration = Duration::from_secs(5);

/// A Layer-4 relay for Elastic fleets: it routes TLS connections by server name, and never
/// terminates TLS.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Relay connections until SIGTERM or SIGINT, then let them finish. A second signal stops at
    /// once; SIGHUP reads the file again.
    #[command(after_help = "\
Examples:
  portway run
  portway run --config /etc/portway/routes.toml --log-format text
  portway run --config /etc/portway/routes.toml --watch --takeover")]
    Run(Run),
    /// Let the portway that runs with this file read it again, and tell how that went.
    #[command(after_help = "\
Examples:
  portway reload --config /etc/portway/routes.toml

Exit status: 0 the new configuration is in force, 78 it is not and the one before stays, 1 no portway \
runs with this file.")]
    Reload(reload::Reload),
    /// Report everything that is wrong with a routes.toml. Opens no socket and asks no DNS.
    #[command(after_help = "\
Examples:
  portway check
  portway check --config routes.toml --strict

Exit status: 0 the file is fine, 78 it is not.")]
    Check(Check),
    /// Tell which route a connection takes, and why no other.
    #[command(after_help = "\
Examples:
  portway explain --server-name fleet.example.com
  portway explain --server-name fleet.example.com --listener agents --alpn h2 --client 10.1.2.3
  portway explain --hello hello.bin

Exit status: 0 the connection takes a route, 1 it is refused.")]
    Explain(explain::Explain),
    /// Ask the running portway whether it is alive: for probes where there is no shell.
    #[command(after_help = "\
Examples:
  portway healthcheck
  portway healthcheck --config /etc/portway/routes.toml --ready

It asks where admin.bind says, for at most 2 s; of the rest of the file no fault matters.

Exit status: 0 it is, 1 it is not, or cannot be asked.")]
    Healthcheck(healthcheck::Healthcheck),
    /// Print the JSON Schema of routes.toml, for editors and linters.
    #[command(after_help = "\
An editor reads it if the first line of the file names it: #:schema ./routes.schema.json")]
    Schema,
    /// Print the completions for a shell.
    #[command(after_help = "\
Examples:
  portway completions bash
  portway completions zsh")]
    Completions(generate::Completions),
    /// Print the page of the manual, or write the pages of all commands.
    #[command(after_help = "\
Examples:
  portway man
  portway man --directory man1")]
    Man(generate::Man),
}

#[derive(Debug, Args)]
struct File {
    /// The file with listeners, backends and routes
    #[arg(long, value_name = "FILE", default_value = "routes.toml")]
    config: PathBuf,
}

#[derive(Debug, Args)]
struct Run {
    #[command(flatten)]
    file: File,
    /// Lines of the log as JSON objects, or as text for people
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = LogFormat::Json)]
    log_format: LogFormat,
    /// Read the file again whenever it changes
    #[arg(long)]
    watch: bool,
    /// Take the listeners over from the portway that runs with the same file, which then drains
    #[arg(long)]
    takeover: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Json,
    Text,
}

#[derive(Debug, Args)]
struct Check {
    #[command(flatten)]
    file: File,
    /// Warnings are errors
    #[arg(long)]
    strict: bool,
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(command) => command.run(),
        Command::Check(command) => command.run(),
        Command::Explain(command) => command.run(),
        Command::Reload(command) => command.run(),
        Command::Healthcheck(command) => command.run(),
        Command::Schema => generate::schema(),
        Command::Completions(command) => command.run(),
        Command::Man(command) => command.run(),
    };
    // Nobody is left to be told that nobody reads.
    done.unwrap_or(ExitCode::FAILURE)
}

impl Run {
    fn run(self) -> io::Result<ExitCode> {
        let format = match self.log_format {
            LogFormat::Json => telemetry::Format::Json,
            LogFormat::Text => telemetry::Format::Text,
        };
        let options = app::Options {
            file: self.file.config,
            format,
            watch: self.watch,
            take_over: self.takeover,
        };
        app::run(options).or_else(|faults| {
            // No signal ends the process any more, so somebody who does not read must not hold it up.
            let (teller, told) = mpsc::channel();
            thread::Builder::new().spawn(move || drop(teller.send(tell(&faults))))?;
            let told = told.recv_timeout(TELL_TIMEOUT);
            told.unwrap_or(Ok(ExitCode::from(BAD_CONFIGURATION)))
        })
    }
}

impl Check {
    fn run(self) -> io::Result<ExitCode> {
        let Loaded {
            settings, warnings, ..
        } = match self.file.load()? {
            Ok(loaded) => loaded,
            Err(bad) => return Ok(bad),
        };
        if self.strict && !warnings.is_empty() {
            writeln!(io::stderr(), "{}", warnings.render(colours()))?;
            return Ok(ExitCode::from(BAD_CONFIGURATION));
        }
        if !warnings.is_empty() {
            writeln!(io::stderr(), "{}\n", warnings.render_warnings(colours()))?;
        }
        writeln!(
            io::stdout(),
            "{} is fine: {}, {}, {}",
            self.file.config.display(),
            counted(settings.listeners.len(), "listener"),
            counted(settings.backends.len(), "backend"),
            counted(settings.routes.routes().len(), "route"),
        )?;
        Ok(ExitCode::SUCCESS)
    }
}

impl File {
    /// What the file says, or the exit status of a bad one, whose faults have been told.
    fn load(&self) -> io::Result<Result<Loaded, ExitCode>> {
        Ok(match config::load(&self.config) {
            Ok(loaded) => Ok(loaded),
            Err(faults) => Err(tell(&faults)?),
        })
    }
}

/// Tells what is wrong with a file. Returns the exit status of a bad one.
fn tell(faults: &Faults) -> io::Result<ExitCode> {
    writeln!(io::stderr(), "{}", faults.render(colours()))?;
    Ok(ExitCode::from(BAD_CONFIGURATION))
}

fn colours() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn counted(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}
