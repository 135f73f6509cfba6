//! The command line: the only code that prints.
//!
//! Exit status: 0 success, 1 failure (for `explain`: the connection would be refused), 2 bad usage, 78
//! bad configuration (`EX_CONFIG` of sysexits.h: systemd then does not restart portway).

use std::env;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::app;
use crate::telemetry::{Form, Format};
use file::FileArgument;

mod addresses;
mod arrival;
mod asked;
mod check;
mod configuration;
mod diagnosis;
mod doctor;
mod explain;
mod explanation;
mod file;
mod generate;
mod healthcheck;
mod limits;
mod output;
mod reload;
mod report;
mod status;
mod tips;
mod upgrade;

const BAD_USAGE: u8 = 2;
const BAD_CONFIGURATION: u8 = 78;
/// Time allowed at exit for writing the faults of the first file to standard error.
const TELL_TIMEOUT: Duration = Duration::from_secs(5);

/// Shown by `portway` without a command.
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

/// The environment variables, shown below the options in `--help`.
const ENVIRONMENT: &str = "\
Environment:
  PORTWAY_CONFIG  Use this file if the command line names none
  RUST_LOG        Set the level of the program log: error, warn, info,
                  debug or trace [default: info]";

const RUN_EXAMPLES: &str = "\
Examples:
  portway run
  portway run /etc/portway/routes.toml --log-format json
  portway run --config /etc/portway/routes.toml --watch --takeover

Signals:
  SIGTERM, SIGINT  Refuse new connections, let open ones finish, and stop;
                   the second signal stops portway at once
  SIGHUP           Reload the file";

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
    /// Relay connections until a signal stops portway.
    #[command(after_help = format!("{RUN_EXAMPLES}\n\n{ENVIRONMENT}"))]
    Run(Run),
    /// Make the running portway reload its file, and report the result.
    #[command(after_help = "\
Examples:
  portway reload
  portway reload /etc/portway/routes.toml

reload shows the warnings of the file too, as check does.

Exit status: 0 the new configuration is in force; 78 the file is rejected and the old configuration \
stays in force; 1 no running portway uses this file, or it does not answer.")]
    Reload(reload::Reload),
    /// Show who is refused and why, which backends fail, what is near a limit, and the live connections of the running
    /// portway.
    #[command(after_help = "\
Examples:
  portway status
  portway status --watch
  portway status --refused --output json
  portway status --connections 'client=10.1.0.0/16&sort=age&limit=20'

status asks through the control socket, so it needs no admin address; it works for portway's own user and for \
root. A look changes nothing and holds no connection up. docs/status.md explains what is shown.

Exit status: 0 the status was shown; 1 no running portway uses this file, or it does not answer.")]
    Status(status::Status),
    /// Make the running portway start its successor from the program that is at its own path now, and wait until
    /// that one accepts.
    #[command(after_help = "\
Examples:
  portway upgrade
  portway upgrade /etc/portway/routes.toml

Install the new program at the path of the running one first. No connection is refused, and open ones stay \
with the old process until they end. If the new process does not start, the old one goes on.

Exit status: 0 the new process accepts connections; 1 the upgrade did not succeed, and the message \
says why; 69 no running portway uses this file, or its version knows no upgrade: restart it instead.")]
    Upgrade(upgrade::Upgrade),
    /// Report everything that is wrong with a routes.toml, without opening sockets or querying DNS.
    #[command(after_help = "\
Examples:
  portway check
  portway check routes.toml --strict
  portway check --output json

Exit status: 0 the file is valid; 78 it is not.")]
    Check(check::Check),
    /// Show the route that a connection would take, its endpoints and limits, and why it would take no
    /// other route.
    #[command(
        override_usage = "portway explain [OPTIONS] <NAME|--server-name <NAME>|--no-server-name|--hello <FILE>>",
        after_help = "\
Examples:
  portway explain fleet.example.com
  portway explain fleet.example.com --listener agents --alpn h2 --client 10.1.2.3
  portway explain fleet.example.com --output json
  portway explain --hello hello.bin

If a running portway uses the file, explain asks it for the addresses of the endpoints, with the state and \
the open connections of each. explain itself resolves no name and dials nothing. If the running portway has \
a different configuration in force, explain shows that configuration. To explain the file itself, use \
--config /dev/stdin < FILE.

Exit status: 0 the connection takes a route; 1 the connection is refused."
    )]
    Explain(explain::Explain),
    /// Try every endpoint as clients would: resolve, connect, send TLS hellos, look at the certificates; and say
    /// what is wrong and what to do.
    #[command(after_help = "\
Examples:
  portway doctor
  portway doctor --backend fleet --output json
  portway doctor --name tenant-1.example.com

doctor sends hellos with the server names of the routes, and finishes no handshake: a server logs each of \
them as one that the client has given up. For a wildcard it makes a name up, unless --name gives one that the \
wildcard takes. It runs beside a running portway, with at most six connections at a time, and leaves it \
alone. Run it on the same host, because names may resolve differently elsewhere.

Exit status: 0 nothing is wrong, or there are only warnings; 1 something is wrong, with --strict also if \
there is a warning; 78 the file has faults.")]
    Doctor(doctor::Doctor),
    /// Ask the running portway whether it is alive: a probe for containers without a shell.
    #[command(after_help = "\
Examples:
  portway healthcheck
  portway healthcheck /etc/portway/routes.toml --ready

healthcheck queries the address that admin.bind has in the file, or its default, 127.0.0.1:9355, with a \
timeout of 2 s. It ignores faults elsewhere in the file. It cannot tell which file the portway at that \
address runs with, so another portway there passes too.

Exit status: 0 healthy; 1 unhealthy or unreachable.")]
    Healthcheck(healthcheck::Healthcheck),
    /// Print the JSON Schema of routes.toml, for editors and linters.
    #[command(after_help = "\
An editor uses the schema if the first line of your file names it: #:schema ./routes.schema.json")]
    Schema,
    /// Print the completion script for a shell.
    #[command(after_help = "\
Examples:
  portway completions bash
  portway completions zsh")]
    Completions(generate::Completions),
    /// Print the manual page of portway, or write the pages of all commands to a directory.
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
    /// Write both logs in this format: the connection log goes to standard output, the program log to
    /// standard error; ecs is JSON with the fields of the Elastic Common Schema [default: log.format of
    /// the file, else text on a terminal, json elsewhere]
    #[arg(long, value_name = "FORMAT", value_enum)]
    log_format: Option<LogFormat>,
    /// Reload the file whenever it changes
    #[arg(long)]
    watch: bool,
    /// Replace the running portway that uses the same file: take over its listeners without refusing a
    /// connection, and let it drain
    #[arg(long)]
    takeover: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Json,
    Text,
    Ecs,
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let done = if env::args_os().nth(1).is_none() {
        welcome()
    } else {
        match Cli::try_parse() {
            Ok(line) => run(line.command),
            Err(error) => tips::print(error),
        }
    };
    // Writing to the terminal failed; there is nowhere left to report it.
    done.unwrap_or(ExitCode::FAILURE)
}

/// Helps a person who does not know the commands yet. For a script it is bad usage.
fn welcome() -> io::Result<ExitCode> {
    write!(io::stderr(), "{WELCOME}")?;
    Ok(ExitCode::from(BAD_USAGE))
}

fn run(command: Command) -> io::Result<ExitCode> {
    match command {
        Command::Run(command) => command.run(),
        Command::Check(command) => command.run(),
        Command::Explain(command) => command.run(),
        Command::Doctor(command) => command.run(),
        Command::Reload(command) => command.run(),
        Command::Status(command) => command.run(),
        Command::Upgrade(command) => command.run(),
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
            connections: self.form(&io::stdout()),
            program: self.form(&io::stderr()),
            watch: self.watch,
            take_over: self.takeover,
        };
        app::run(options).or_else(|faults| {
            // No signal ends the process any more, so a reader that is slow must not hold it up.
            let (teller, told) = mpsc::channel();
            thread::Builder::new().spawn(move || drop(teller.send(output::tell(&faults))))?;
            let told = told.recv_timeout(TELL_TIMEOUT);
            told.unwrap_or(Ok(()))?;
            Ok(ExitCode::from(BAD_CONFIGURATION))
        })
    }

    /// How lines are written to this stream.
    fn form(&self, stream: &impl IsTerminal) -> Arc<Form> {
        let flag = self.log_format.map(|format| match format {
            LogFormat::Json => Format::Json,
            LogFormat::Text => Format::Text,
            LogFormat::Ecs => Format::Ecs,
        });
        let usual = if stream.is_terminal() {
            Format::Text
        } else {
            Format::Json
        };
        Form::new(flag, usual)
    }
}
