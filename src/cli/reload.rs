//! `portway reload`.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Args;

use super::File;
use crate::control::socket;

#[derive(Debug, Args)]
pub(super) struct Reload {
    #[command(flatten)]
    file: File,
}

impl Reload {
    pub(super) fn run(self) -> io::Result<ExitCode> {
        let path = &self.file.config;
        let failed = |what: &dyn std::fmt::Display| {
            let path = path.display();
            writeln!(io::stderr(), "cannot reload {path}: {what}").map(|()| ExitCode::FAILURE)
        };
        match socket::reload(path) {
            Ok(Some((socket::FINE, text))) => {
                write!(io::stdout(), "{}", printable(&text))?;
                Ok(ExitCode::SUCCESS)
            }
            Ok(Some((status, text))) => {
                write!(io::stderr(), "{}", printable(&text))?;
                Ok(ExitCode::from(status))
            }
            Ok(None) => failed(
                &"no portway runs with this file here; it is known by the path that its --config has",
            ),
            Err(error) => failed(&error),
        }
    }
}

/// Without what could steer a terminal: root may be answered by a process of another user.
fn printable(text: &str) -> String {
    let is_safe = |c: &char| *c == '\n' || !c.is_control();
    text.chars().filter(is_safe).collect()
}
