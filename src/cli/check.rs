//! `portway check`.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Args;

use super::file::FileArgument;
use super::output::{Checked, Output, colours, json};
use super::{BAD_CONFIGURATION, counted};
use crate::config::{self, Faults, Loaded};

#[derive(Debug, Args)]
pub(super) struct Check {
    #[command(flatten)]
    file: FileArgument,
    /// Warnings are errors
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    output: Output,
}

impl Check {
    pub(super) fn run(self) -> io::Result<ExitCode> {
        let file = self.file.path();
        let loaded = match config::load(&file) {
            Ok(loaded) => loaded,
            Err(faults) => return self.output.faults(&file, &faults),
        };
        let Loaded {
            settings, warnings, ..
        } = loaded;
        let valid = !self.strict || warnings.is_empty();
        let file = file.display().to_string();
        let counts = [
            settings.listeners.len(),
            settings.backends.len(),
            settings.routes.routes().len(),
        ];
        if self.output.is_json() {
            let [listeners, backends, routes] = counts.map(Some);
            json(&Checked {
                file,
                valid,
                warnings: warnings.told().collect(),
                warnings_not_shown: warnings.not_shown(),
                listeners,
                backends,
                routes,
                ..Checked::default()
            })?;
        } else {
            tell(&file, &warnings, valid, counts)?;
        }
        Ok(if valid {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(BAD_CONFIGURATION)
        })
    }
}

fn tell(file: &str, warnings: &Faults, valid: bool, counts: [usize; 3]) -> io::Result<()> {
    if !valid {
        return writeln!(io::stderr(), "{}", warnings.render(colours()));
    }
    if !warnings.is_empty() {
        writeln!(io::stderr(), "{}\n", warnings.render_warnings(colours()))?;
    }
    let [listeners, backends, routes] = counts;
    writeln!(
        io::stdout(),
        "{file} is fine: {}, {}, {}",
        counted(listeners, "listener"),
        counted(backends, "backend"),
        counted(routes, "route"),
    )
}
