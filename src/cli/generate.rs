//! Files generated from the commands and the keys, for packagers: shell completions, manual pages,
//! the schema of routes.toml.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{fs, iter};

use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;

use super::Cli;
use crate::config;

#[derive(Debug, Args)]
pub(super) struct Completions {
    /// Print the script for this shell
    #[arg(value_name = "SHELL", value_enum)]
    shell: Shell,
}

#[derive(Debug, Args)]
pub(super) struct Man {
    /// Write portway.1 and one page per command to DIR, instead of printing portway.1
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

impl Completions {
    pub(super) fn run(&self) -> io::Result<ExitCode> {
        // Generating directly into standard output would panic if its reader is gone.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "portway", &mut script);
        print(&script)
    }
}

impl Man {
    pub(super) fn run(&self) -> io::Result<ExitCode> {
        let mut command = Cli::command().disable_help_subcommand(true);
        // Without this call the pages of the commands would not be named portway-run and so on.
        command.build();
        let Some(directory) = &self.directory else {
            return print(&page(&command)?);
        };
        if let Err(error) = write_pages(&command, directory) {
            let directory = directory.display();
            writeln!(io::stderr(), "error: cannot write to {directory}: {error}")?;
            return Ok(ExitCode::FAILURE);
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn write_pages(command: &Command, directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    for command in iter::once(command).chain(command.get_subcommands()) {
        let file = format!("{}.1", name(command));
        fs::write(directory.join(file), page(command)?)?;
    }
    Ok(())
}

fn page(command: &Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone())
        .title(name(command).to_uppercase())
        .date(" ")
        .source(concat!("portway ", env!("CARGO_PKG_VERSION")))
        .manual("portway")
        .render(&mut page)?;
    // Pages are the same at every build, so they have no date. clap_mangen would omit an empty date,
    // and man would take the next value for it. clap_mangen also makes one section of all text below
    // the options in `--help`.
    let page = String::from_utf8_lossy(&page)
        .replacen(r#" 1 " " "#, r#" 1 "" "#, 1)
        .replace(".SH EXTRA\nExamples:\n", ".SH EXAMPLES\n")
        .replace(".SH EXTRA\nEnvironment:\n", ".SH ENVIRONMENT\n")
        .replace("\n\nEnvironment:\n", "\n.SH ENVIRONMENT\n")
        .replace("\n\nExit status: ", "\n.SH \"EXIT STATUS\"\n")
        .replace("\n.br\n\n.br\n", "\n.sp\n");
    Ok(page.into_bytes())
}

/// The name of a page: portway-run.
fn name(command: &Command) -> &str {
    (command.get_display_name()).unwrap_or_else(|| command.get_name())
}

/// Prints the schema of routes.toml.
pub(super) fn schema() -> io::Result<ExitCode> {
    print(config::schema().as_bytes())
}

fn print(bytes: &[u8]) -> io::Result<ExitCode> {
    io::stdout().write_all(bytes)?;
    Ok(ExitCode::SUCCESS)
}
