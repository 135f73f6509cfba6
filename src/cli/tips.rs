//! Tips for a command line that portway does not have.

use std::io;
use std::process::ExitCode;

use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::Cli;

/// Words that other programs have, and what does the same here.
const COMMANDS: [(&[&str], &str); 11] = [
    (&["version"], "use `portway --version`"),
    (&["start", "serve", "up"], "use `portway run`"),
    (
        &["metrics"],
        "look at /metrics of the address in admin.bind",
    ),
    (
        &["logs", "log"],
        "read the standard output of `portway run`: one line per connection",
    ),
    (
        &["config", "show", "routes"],
        "use `portway check`, or `portway explain NAME` for the route of a connection",
    ),
    (
        &["stop", "quit", "shutdown", "drain"],
        "send SIGTERM to the process, or use Ctrl-C in its terminal",
    ),
    (
        &["restart"],
        "use `portway reload` for a new file, or `portway upgrade` for a new version",
    ),
    (&["diagnose", "probe", "verify"], "use `portway doctor`"),
    (
        &["test", "validate", "lint", "configtest"],
        "use `portway check`",
    ),
    (
        &["health", "ping"],
        "use `portway healthcheck`, or look at /metrics of the address in admin.bind",
    ),
    (
        &["show", "stats", "top", "connections", "sessions"],
        "use `portway status`",
    ),
];

/// The same for options.
const OPTIONS: [(&[&str], &str); 5] = [
    (&["--json", "-j", "--format"], "use `--output json`"),
    (
        &["-f", "--file", "--conf", "--configuration"],
        "use `--config FILE`",
    ),
    (&["-n", "--dry-run", "--test", "-t"], "use `portway check`"),
    (
        &["-p", "--port", "--listen", "--bind"],
        "write the address as bind in a table [listeners.NAME] of routes.toml",
    ),
    (
        &["-v", "--verbose", "--debug", "--log-level"],
        "set the environment variable RUST_LOG=debug for `portway run`",
    ),
];

/// Prints what is wrong with a command line, and what to write. Help and version come here too.
pub(super) fn print(mut error: clap::Error) -> io::Result<ExitCode> {
    // clap proposes to pass any unknown option as a value, which means nothing here.
    if error.kind() == ErrorKind::UnknownArgument {
        error.remove(ContextKind::Suggested);
    }
    let tips = tips(&error);
    if !tips.is_empty() {
        let tips = tips.into_iter().map(Into::into).collect();
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips));
    }
    error.print()?;
    let status = u8::try_from(error.exit_code()).unwrap_or(super::BAD_USAGE);
    Ok(ExitCode::from(status))
}

fn tips(error: &clap::Error) -> Vec<String> {
    let named = |kind| match error.get(kind) {
        Some(ContextValue::String(word)) => Some(word.as_str()),
        _ => None,
    };
    let of = |list: &[(&[&str], &str)], word: &str| {
        let known = list.iter().find(|(words, _)| words.contains(&word));
        known.map(|(_, tip)| (*tip).to_owned())
    };
    if error.kind() == ErrorKind::InvalidSubcommand {
        let word = named(ContextKind::InvalidSubcommand).unwrap_or_default();
        let tip = if word.contains('.') {
            Some(format!(
                "write the command first, such as `portway check {word}`"
            ))
        } else {
            of(&COMMANDS, word)
        };
        let all = Cli::command();
        let all = all.get_subcommands().map(clap::Command::get_name);
        let all = format!("the commands are {}", all.collect::<Vec<_>>().join(", "));
        return tip.into_iter().chain([all]).collect();
    }
    if error.kind() != ErrorKind::UnknownArgument {
        return Vec::new();
    }
    let word = named(ContextKind::InvalidArg).unwrap_or_default();
    let first = std::env::args_os().nth(1).unwrap_or_default();
    let first = first.to_string_lossy();
    match word.split('=').next().unwrap_or_default() {
        "-c" | "--config" if first.starts_with('-') => {
            vec!["write it after the command, such as `portway check --config FILE`".to_owned()]
        }
        "--json" | "-j" | "--format" if first == "run" => {
            vec!["use `--log-format json`".to_owned()]
        }
        word => of(&OPTIONS, word).into_iter().collect(),
    }
}
