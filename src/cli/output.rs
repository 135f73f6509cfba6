//! The result of a command as text or JSON: `--output`.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::BAD_CONFIGURATION;
use crate::config::{Faults, ToldFault};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    #[default]
    Text,
    Json,
}

#[derive(Debug, Args)]
pub(super) struct Output {
    /// Print text for people, or one JSON object on one line
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    output: Format,
}

/// The result of checking a file.
#[derive(Debug, Default, Serialize)]
pub(super) struct Checked<'f> {
    pub(super) file: String,
    pub(super) valid: bool,
    pub(super) errors: Vec<ToldFault<'f>>,
    pub(super) errors_not_shown: usize,
    pub(super) warnings: Vec<ToldFault<'f>>,
    pub(super) warnings_not_shown: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) listeners: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) backends: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) routes: Option<usize>,
}

impl<'f> Checked<'f> {
    /// The faults of a file.
    pub(super) fn of(file: &Path, faults: &'f Faults) -> Self {
        let (errors, errors_not_shown) = faults.told_errors();
        let (warnings, warnings_not_shown) = faults.told_warnings();
        Self {
            file: file.display().to_string(),
            errors,
            errors_not_shown,
            warnings,
            warnings_not_shown,
            ..Self::default()
        }
    }
}

impl Output {
    pub(super) fn is_json(&self) -> bool {
        self.output == Format::Json
    }

    /// Prints the faults of a file. Returns the exit status for a bad file.
    pub(super) fn faults(&self, file: &Path, faults: &Faults) -> io::Result<ExitCode> {
        if self.is_json() {
            json(&Checked::of(file, faults))?;
        } else {
            tell(faults)?;
        }
        Ok(ExitCode::from(BAD_CONFIGURATION))
    }
}

/// Writes one JSON object on a line of its own.
pub(super) fn json<T: Serialize>(value: &T) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    io::stdout().write_all(&line)
}

/// Prints the faults of a file as text.
pub(super) fn tell(faults: &Faults) -> io::Result<()> {
    writeln!(io::stderr(), "{}", faults.render(colours()))
}

/// Whether to use colours: standard error is a terminal, and `NO_COLOR` is not set.
pub(super) fn colours() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
