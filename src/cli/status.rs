//! `portway status`.

mod page;
mod parts;
mod tables;
#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::file::FileArgument;
use super::output::{Output, json};
use super::reload::nobody;
use crate::control::socket::{self, Answered};
use crate::status::words::printable;
use crate::status::{Connections, Query};
use crate::telemetry;
use page::Shown;

/// Time between two looks of `--watch`.
const EVERY: Duration = Duration::from_secs(2);
/// The connections that the text shows.
const BUSIEST: &str = "sort=bytes&limit=10";
/// The fields of a status with `--refused`.
const OF_REFUSED: [&str; 5] = [
    "time",
    "pid",
    "refused",
    "refused_forgotten",
    "silent_workers",
];
/// Moves the cursor of a terminal to its first place, and clears the rest.
const CLEAR: &str = "\x1b[H\x1b[J";

#[derive(Debug, Args)]
pub(super) struct Status {
    #[command(flatten)]
    file: FileArgument,
    /// Show who is refused and whose connections fail, all of them, and nothing else
    #[arg(long, conflicts_with = "connections")]
    refused: bool,
    /// Show the live connections that QUERY selects, such as sort=age&limit=20 or client=10.1.0.0/16&phase=dial
    #[arg(long, value_name = "QUERY")]
    connections: Option<String>,
    /// Look again every 2 seconds, until Ctrl-C
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    output: Output,
}

/// Why nothing can be shown, for programs.
#[derive(Serialize)]
struct Failed {
    file: String,
    error: String,
}

impl Status {
    pub(super) fn run(self) -> io::Result<ExitCode> {
        let file = self.file.path();
        let clears = self.watch && !self.output.is_json() && io::stdout().is_terminal();
        loop {
            let looked = self.look(&file);
            let is_fine = looked.is_ok();
            match looked {
                Ok(text) if clears => write!(io::stdout(), "{CLEAR}{text}")?,
                Ok(text) => write!(io::stdout(), "{text}")?,
                Err(error) if self.output.is_json() => json(&Failed {
                    file: file.display().to_string(),
                    error: error.to_string(),
                })?,
                Err(error) => writeln!(io::stderr(), "cannot show the status: {error}")?,
            }
            if !self.watch {
                return Ok(if is_fine {
                    ExitCode::SUCCESS
                } else {
                    ExitCode::FAILURE
                });
            }
            io::stdout().flush()?;
            wait();
        }
    }

    /// One look, as the text to write.
    fn look(&self, file: &Path) -> io::Result<String> {
        let connections = match &self.connections {
            None => None,
            Some(query) => {
                Query::parse(query).map_err(io::Error::other)?;
                Some(connections_of(file, query)?)
            }
        };
        if self.output.is_json() {
            let answered = match connections {
                Some((_, answered)) => answered,
                None => fine(file, socket::status(file))?,
            };
            return self.for_programs(&answered);
        }
        if let Some((connections, _)) = connections {
            return Ok(tables::connections(&connections));
        }
        let status = fine(file, socket::status(file))?;
        let shown = Shown {
            status: read(&status.text)?,
            connections: if self.refused {
                None
            } else {
                Some(connections_of(file, BUSIEST)?.0)
            },
            asked: status
                .is_of_another_user()
                .then_some((status.pid, status.user)),
        };
        Ok(shown.to_string())
    }

    /// The answer as it came, or the part of it that was asked for.
    fn for_programs(&self, answered: &Answered) -> io::Result<String> {
        let mut answer: Value = serde_json::from_str(&answered.text)?;
        let Some(fields) = answer.as_object_mut().filter(|_| self.refused) else {
            return Ok(format!("{}\n", answered.printable().trim_end()));
        };
        fields.retain(|name, _| OF_REFUSED.contains(&name.as_str()));
        // The names of clients are escaped again, as they came.
        Ok(String::from_utf8_lossy(&telemetry::json(&answer)).into_owned())
    }
}

/// The connections that a query selects.
fn connections_of(file: &Path, query: &str) -> io::Result<(Connections, Answered)> {
    let answered = fine(file, socket::connections(file, query))?;
    Ok((read(&answered.text)?, answered))
}

/// Waits until the next look.
#[expect(
    clippy::disallowed_methods,
    reason = "a command serves no connection, and Ctrl-C ends it"
)]
fn wait() {
    thread::sleep(EVERY);
}

/// The answer, if it is what was asked for.
fn fine(file: &Path, answered: io::Result<Option<Answered>>) -> io::Result<Answered> {
    let answered = answered?.ok_or_else(|| io::Error::other(nobody(file)))?;
    if answered.is_of_old_version() {
        let pid = answered.pid;
        return Err(io::Error::other(format!(
            "process {pid} is of a version that does not know this request; its metrics page works"
        )));
    }
    if answered.status != socket::FINE {
        return Err(io::Error::other(answered.printable().trim_end().to_owned()));
    }
    Ok(answered)
}

/// Reads an answer. Characters that could control a terminal are escaped in all of its texts: names are those of clients,
/// and root may be answered by a process of another user.
fn read<T: DeserializeOwned>(text: &str) -> io::Result<T> {
    let mut value: Value = serde_json::from_str(text)?;
    escape(&mut value);
    Ok(serde_json::from_value(value)?)
}

fn escape(value: &mut Value) {
    match value {
        Value::String(text) if !text.bytes().all(|byte| matches!(byte, b' '..=b'~')) => {
            *text = printable(text);
        }
        Value::Array(values) => values.iter_mut().for_each(escape),
        Value::Object(fields) => {
            // The names of outcomes and reasons are names of fields.
            let known = std::mem::take(fields);
            fields.extend(known.into_iter().map(|(name, mut value)| {
                escape(&mut value);
                let name = name
                    .chars()
                    .filter(|character| matches!(character, ' '..='~'));
                (name.collect::<String>(), value)
            }));
        }
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
