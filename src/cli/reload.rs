//! `portway reload`.

use std::io::{self, Write};
use std::path::{self, Path};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::file::FileArgument;
use super::output::{Output, colours, json};
use crate::config::{self, Faults, ToldFault};
use crate::control::socket::{self, Answered};

#[derive(Debug, Args)]
pub(super) struct Reload {
    #[command(flatten)]
    file: FileArgument,
    #[command(flatten)]
    output: Output,
}

/// The result, for programs.
#[derive(Serialize)]
struct Reloaded<'r> {
    file: String,
    result: Outcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    message: &'r str,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    warnings: Option<Warnings<'r>>,
}

/// The warnings of the configuration that has come into force.
#[derive(Serialize)]
struct Warnings<'r> {
    warnings: Vec<ToldFault<'r>>,
    warnings_not_shown: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    InForce,
    Rejected,
    Failed,
}

impl Reload {
    pub(super) fn run(self) -> io::Result<ExitCode> {
        let file = self.file.path();
        let answered = socket::reload(&file);
        if self.output.is_json() {
            return tell_program(&file, answered);
        }
        let failed = |what: &dyn std::fmt::Display| {
            let file = file.display();
            writeln!(io::stderr(), "cannot reload {file}: {what}").map(|()| ExitCode::FAILURE)
        };
        match answered {
            Ok(Some(answered)) => tell(&file, &answered),
            Ok(None) => failed(&nobody(&file)),
            Err(error) => failed(&error),
        }
    }
}

/// The words for a file that no running portway has. Processes are matched by its absolute path.
pub(super) fn nobody(file: &Path) -> String {
    let path = path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let path = path.display();
    if file.exists() {
        format!(
            "no running portway uses {path}. Give the path that `portway run` was given: another path to the \
             same file, through a link or .., is not the same"
        )
    } else {
        format!("{path} does not exist. Give the path that `portway run` was given")
    }
}

/// The warnings of the routes.toml that a reload has put in force; none if it is already another one. Those about files
/// that it names are in the log of portway and in `check`: their content is not asked for here.
fn warnings(file: &Path, answered: &Answered) -> Option<Faults> {
    let generation = answered.generation()?;
    let (running, _) = socket::configuration(file).ok()??;
    let is_it = generation == running.generation;
    let text = is_it.then_some(running.text)?;
    let loaded = config::parse(&text, &file.display().to_string()).ok()?;
    Some(loaded.warnings)
}

fn tell(file: &Path, answered: &Answered) -> io::Result<ExitCode> {
    let mut text = answered.printable();
    if answered.is_of_another_user() {
        // So root can see whether the right process answered.
        let Answered { pid, user, .. } = answered;
        text = format!("{text}(the answer of process {pid} of user {user})\n");
    }
    if answered.status == socket::FINE {
        write!(io::stdout(), "{text}")?;
        if let Some(warnings) = warnings(file, answered).filter(|it| !it.is_empty()) {
            let text = if answered.is_of_another_user() {
                socket::printable(&warnings.render(false))
            } else {
                warnings.render(colours())
            };
            writeln!(io::stderr(), "{text}")?;
        }
    } else {
        write!(io::stderr(), "{text}")?;
    }
    Ok(ExitCode::from(answered.status))
}

fn tell_program(file: &Path, answered: io::Result<Option<Answered>>) -> io::Result<ExitCode> {
    let warnings = (answered.as_ref().ok())
        .and_then(Option::as_ref)
        .and_then(|answered| warnings(file, answered));
    let (status, pid, generation, message) = match answered {
        Ok(Some(answered)) => (
            answered.status,
            Some(answered.pid),
            answered.generation(),
            answered.text,
        ),
        Ok(None) => (socket::FAILED, None, None, nobody(file)),
        Err(error) => (socket::FAILED, None, None, error.to_string()),
    };
    json(&Reloaded {
        file: file.display().to_string(),
        result: match status {
            socket::FINE => Outcome::InForce,
            socket::BAD_CONFIGURATION => Outcome::Rejected,
            _ => Outcome::Failed,
        },
        generation,
        pid,
        message: message.trim_end(),
        warnings: warnings.as_ref().map(|faults| {
            let (warnings, warnings_not_shown) = faults.told_warnings();
            Warnings {
                warnings,
                warnings_not_shown,
            }
        }),
    })?;
    Ok(ExitCode::from(status))
}
