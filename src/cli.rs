//! The command line: the only code that prints.
//!
//! Exit status: 0 fine, 1 failed (of `explain`: the connection would be refused), 2 bad usage, 78
//! bad configuration (`EX_CONFIG` of sysexits.h: systemd then does not restart).

use std::env;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::app;
use crate::telemetry::Format;
use file::FileArgument;

mod check;
mod configuration;
mod explain;
mod explanation;
mod file;
mod generate;
mod healthcheck;
mod output;
mod reload;
mod report;

const BAD_USAGE: u8 = 2;
const BAD_CONFIGURATION: u8 = 78;
/// What a reader of the faults of the first file may take.
const TELL_TIMEOUT: Duration = Duration::from_secs(5);

/// What `portway` without a command shows.
const WELCOME: &str = "\
portway relays TLS connections to the backend that their server name belongs to. It never terminates TLS.

Write a file routes.toml:

  [listeners.agents]
  bind = [\"[::]:8443\"]

  [backends.fleet]
  endpoints = [\"fleet-1.internal:8220\"]

  [routes.fleet]
  server_names = [\"fleet.example.com\"]
  backend = \"fleet\"

Then start with these commands:

  portway check                        report everything that is wrong with the file
  portway explain fleet.example.com    show the route of a connection with this server name
  portway run                          relay connections; Ctrl-C lets them finish and stops

`portway --help` lists all commands. `portway COMMAND --help` explains one of them.
";

/// What the environment may say, below the help of a command.
const ENVIRONMENT: &str = "\
Environment:
  PORTWAY_CONFIG  The file, if the command line does not name it
  RUST_LOG        Level of the program log: error, warn, info, debug or
                  trace; info by default";

const RUN_EXAMPLES: &str = "\
Examples:
  portway run
  portway run /etc/portway/routes.toml --log-format json
  portway run --config /etc/portway/routes.toml --watch --takeover";

/// A Layer-4 relay for Elastic fleets: it routes TLS connections by server name, and never
/// terminates TLS.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, after_help = ENVIRONMENT)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Relay connections until SIGTERM or SIGINT, then let them finish. A second signal stops at
    /// once; SIGHUP reads the file again.
    #[command(after_help = format!("{RUN_EXAMPLES}\n\n{ENVIRONMENT}"))]
    Run(Run),
    /// Let the portway that runs with this file read it again, and tell how that went.
    #[command(after_help = "\
Examples:
  portway reload
  portway reload /etc/portway/routes.toml

Exit status: 0 the new configuration is in force, 78 it is not and the one before stays, 1 no portway \
runs with this file.")]
    Reload(reload::Reload),
    /// Report everything that is wrong with a routes.toml. Opens no socket and asks no DNS.
    #[command(after_help = "\
Examples:
  portway check
  portway check routes.toml --strict
  portway check --output json

Exit status: 0 the file is fine, 78 it is not.")]
    Check(check::Check),
    /// Show which route a connection would take, and why the others do not.
    #[command(
        arg_required_else_help = true,
        after_help = "\
Examples:
  portway explain fleet.example.com
  portway explain fleet.example.com --listener agents --alpn h2 --client 10.1.2.3
  portway explain fleet.example.com --output json
  portway explain --hello hello.bin

If a portway runs with the file and has another configuration in force, that one is explained. Use \
--config /dev/stdin < FILE to explain the file.

Exit status: 0 the connection takes a route, 1 it is refused."
    )]
    Explain(explain::Explain),
    /// Ask the running portway whether it is alive: for probes where there is no shell.
    #[command(after_help = "\
Examples:
  portway healthcheck
  portway healthcheck /etc/portway/routes.toml --ready

It queries the address in admin.bind, with a timeout of 2 s. Faults elsewhere in the file are ignored.

Exit status: 0 healthy, 1 unhealthy or unreachable.")]
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
struct Run {
    #[command(flatten)]
    file: FileArgument,
    /// Write both logs, the connections on standard output and the program's on standard error, as
    /// text or as JSON objects; without it a log is text on a terminal, else JSON
    #[arg(long, value_name = "FORMAT", value_enum)]
    log_format: Option<LogFormat>,
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

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let done = if env::args_os().nth(1).is_none() {
        welcome()
    } else {
        run(Cli::parse().command)
    };
    // Writing to the terminal failed; there is nowhere left to report it.
    done.unwrap_or(ExitCode::FAILURE)
}

/// Helps somebody who does not know the commands yet. To a script it is bad usage.
fn welcome() -> io::Result<ExitCode> {
    write!(io::stderr(), "{WELCOME}")?;
    Ok(ExitCode::from(BAD_USAGE))
}

fn run(command: Command) -> io::Result<ExitCode> {
    match command {
        Command::Run(command) => command.run(),
        Command::Check(command) => command.run(),
        Command::Explain(command) => command.run(),
        Command::Reload(command) => command.run(),
        Command::Healthcheck(command) => command.run(),
        Command::Schema => generate::schema(),
        Command::Completions(command) => command.run(),
        Command::Man(command) => command.run(),
    }
}

impl Run {
    fn run(self) -> io::Result<ExitCode> {
        let options = app::Options {
            file: self.file.path(),
            connections: self.format(&io::stdout()),
            program: self.format(&io::stderr()),
            watch: self.watch,
            take_over: self.takeover,
        };
        app::run(options).or_else(|faults| {
            // No signal ends the process any more, so somebody who does not read must not hold it up.
            let (teller, told) = mpsc::channel();
            thread::Builder::new().spawn(move || drop(teller.send(output::tell(&faults))))?;
            let told = told.recv_timeout(TELL_TIMEOUT);
            told.unwrap_or(Ok(()))?;
            Ok(ExitCode::from(BAD_CONFIGURATION))
        })
    }

    /// How lines are written to this stream.
    fn format(&self, stream: &impl IsTerminal) -> Format {
        let is_text = match self.log_format {
            Some(LogFormat::Json) => false,
            Some(LogFormat::Text) => true,
            None => stream.is_terminal(),
        };
        if is_text { Format::Text } else { Format::Json }
    }
}

fn counted(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}
