//! `portway doctor`: tries every endpoint, and prints what is wrong.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::BAD_USAGE;
use super::diagnosis::Diagnosis;
use super::file::File;
use super::output::{Output, json};
use crate::config;
use crate::doctor::{self, Report, Request, Severity, Unexamined};
use crate::tls::ServerName;

#[derive(Debug, Args)]
pub(super) struct Doctor {
    #[command(flatten)]
    file: File,
    /// Examine only this backend
    #[arg(long, value_name = "NAME")]
    backend: Option<String>,
    /// Try this server name first, also where a wildcard takes it; can be given several times
    #[arg(long = "name", value_name = "NAME", value_parser = server_name)]
    names: Vec<ServerName>,
    /// Treat warnings as errors
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    output: Output,
}

/// The report, for programs.
#[derive(Serialize)]
struct Told<'r> {
    file: String,
    healthy: bool,
    #[serde(flatten)]
    report: &'r Report,
}

impl Doctor {
    pub(super) fn run(self) -> io::Result<ExitCode> {
        let file = self.file.path();
        let name = file.display().to_string();
        let loaded = match config::load_for_dials(&file) {
            Ok(loaded) => loaded,
            Err(faults) => return self.output.faults(&file, &faults),
        };
        let request = Request {
            backend: self.backend.as_deref(),
            names: &self.names,
        };
        let report = match doctor::examine(&loaded, &request) {
            Ok(report) => report,
            Err(Unexamined::Usage(message)) => {
                writeln!(io::stderr(), "error: {message}")?;
                return Ok(ExitCode::from(BAD_USAGE));
            }
            Err(Unexamined::Machine(error)) => return Err(error),
        };
        let worst = if self.strict {
            Severity::Warning
        } else {
            Severity::Error
        };
        let healthy = report.findings.iter().all(|it| it.severity > worst);
        if self.output.is_json() {
            json(&Told {
                file: name,
                healthy,
                report: &report,
            })?;
        } else {
            write!(io::stdout(), "{}", Diagnosis(&report))?;
        }
        Ok(if healthy {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

/// The value of `--name`, also in Unicode.
fn server_name(text: &str) -> Result<ServerName, String> {
    let name = config::a_labels(text)?;
    let name = ServerName::parse(name.as_bytes());
    name.map_err(|invalid| format!("it is not a host name: {}", invalid.0))
}
