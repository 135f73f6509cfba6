//! `portway upgrade`.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::file::FileArgument;
use super::output::{Output, json};
use super::reload::nobody;
use crate::control::socket::{self, Answered};
use crate::control::upgrade::Upgraded;

/// Nobody can be asked for an upgrade (`EX_UNAVAILABLE` of sysexits.h): a restart is the other way.
const UNAVAILABLE: u8 = 69;

#[derive(Debug, Args)]
pub(super) struct Upgrade {
    #[command(flatten)]
    file: FileArgument,
    #[command(flatten)]
    output: Output,
}

/// The result, for programs.
#[derive(Serialize)]
struct Told {
    file: String,
    result: Outcome,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    upgraded: Option<Upgraded>,
    message: String,
}

#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Upgraded,
    Failed,
    Unavailable,
}

impl Upgrade {
    pub(super) fn run(self) -> io::Result<ExitCode> {
        let file = self.file.path();
        let told = told(&file, socket::upgrade(&file));
        let status = match told.result {
            Outcome::Upgraded => socket::FINE,
            Outcome::Failed => socket::FAILED,
            Outcome::Unavailable => UNAVAILABLE,
        };
        if self.output.is_json() {
            json(&told)?;
        } else if told.upgraded.is_some() {
            writeln!(io::stdout(), "{}", told.message)?;
        } else {
            let file = file.display();
            writeln!(io::stderr(), "cannot upgrade {file}: {}", told.message)?;
        }
        Ok(ExitCode::from(status))
    }
}

fn told(file: &Path, answered: io::Result<Option<Answered>>) -> Told {
    let (result, upgraded, message) = match answered {
        Ok(Some(answered)) if answered.is_of_old_version() => (
            Outcome::Unavailable,
            None,
            format!(
                "process {} is of a version that knows no upgrade: restart it instead",
                answered.pid
            ),
        ),
        Ok(Some(answered)) if answered.status == socket::FINE => {
            match serde_json::from_str::<Upgraded>(&answered.text) {
                Ok(upgraded) => {
                    let text = words(&upgraded);
                    (Outcome::Upgraded, Some(upgraded), text)
                }
                Err(error) => (Outcome::Failed, None, error.to_string()),
            }
        }
        Ok(Some(answered)) => {
            let text = answered.printable();
            (Outcome::Failed, None, text.trim_end().to_owned())
        }
        Ok(None) => (Outcome::Unavailable, None, nobody(file)),
        Err(error) => (Outcome::Failed, None, error.to_string()),
    };
    Told {
        file: file.display().to_string(),
        result,
        upgraded,
        message,
    }
}

fn words(upgraded: &Upgraded) -> String {
    let Upgraded {
        old_version,
        old_pid,
        new_version,
        new_pid,
    } = upgraded;
    let text = format!(
        "upgraded: process {new_pid} (version {new_version}) accepts new connections. Process {old_pid} (version \
         {old_version}) keeps those that it has, and ends once they have ended"
    );
    // The answer may come from a process of another user.
    socket::printable(&text)
}
