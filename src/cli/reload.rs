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
                io::stdout().write_all(text.as_bytes())?;
                Ok(ExitCode::SUCCESS)
            }
            Ok(Some((status, text))) => {
                io::stderr().write_all(text.as_bytes())?;
                Ok(ExitCode::from(status))
            }
            Ok(None) => failed(
                &"no portway runs with this file here; it is known by the path that its --config has",
            ),
            Err(error) => failed(&error),
        }
    }
}
