//! `portway check`.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::Args;

use super::BAD_CONFIGURATION;
use super::file::FileArgument;
use super::output::{self, Checked, Output, colours, json};
use crate::config::{self, Faults, Loaded};
use crate::status::words::counted;

#[derive(Debug, Args)]
pub(super) struct Check {
    #[command(flatten)]
    file: FileArgument,
    /// Treat warnings as errors
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
            Err(faults) if self.strict && !self.output.is_json() => {
                return self.output.faults(&file, &faults.strict());
            }
            Err(faults) => return self.output.faults(&file, &faults),
        };
        let Loaded {
            settings, warnings, ..
        } = loaded;
        let valid = !self.strict || warnings.is_empty();
        let counts = [
            settings.listeners.len(),
            settings.backends.len(),
            settings.routes.routes().len(),
        ];
        if self.output.is_json() {
            let [listeners, backends, routes] = counts.map(Some);
            json(&Checked {
                valid,
                listeners,
                backends,
                routes,
                ..Checked::of(&file, &warnings)
            })?;
        } else if valid {
            tell(&file, &warnings, counts)?;
        } else {
            output::tell(&warnings.strict())?;
        }
        Ok(if valid {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(BAD_CONFIGURATION)
        })
    }
}

fn tell(file: &Path, warnings: &Faults, counts: [usize; 3]) -> io::Result<()> {
    if !warnings.is_empty() {
        writeln!(io::stderr(), "{}\n", warnings.render(colours()))?;
    }
    let [listeners, backends, routes] = counts;
    writeln!(
        io::stdout(),
        "{} is {}: {}, {}, {}",
        file.display(),
        if warnings.is_empty() {
            "fine"
        } else {
            "valid, with the warnings above"
        },
        counted(listeners, "listener"),
        counted(backends, "backend"),
        counted(routes, "route"),
    )
}
