//! Which routes.toml a command is about.

use std::env;
use std::path::{Path, PathBuf};

use clap::Args;

/// The environment variable that names the file.
const VARIABLE: &str = "PORTWAY_CONFIG";
/// The file if nothing names one.
const DEFAULT: &str = "routes.toml";

/// By an option.
#[derive(Debug, Args)]
pub(super) struct File {
    /// The file with listeners, backends and routes [env: PORTWAY_CONFIG] [default: routes.toml]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// By an argument or an option.
#[derive(Debug, Args)]
pub(super) struct FileArgument {
    /// The same as --config FILE
    #[arg(value_name = "FILE", conflicts_with = "config")]
    file: Option<PathBuf>,
    #[command(flatten)]
    option: File,
}

impl File {
    /// What the command line names, else the environment.
    pub(super) fn path(&self) -> PathBuf {
        let variable = || env::var_os(VARIABLE).filter(|value| !value.is_empty());
        let named = self.config.clone();
        let named = named.or_else(|| variable().map(PathBuf::from));
        named.unwrap_or_else(|| Path::new(DEFAULT).to_owned())
    }
}

impl FileArgument {
    /// What the command line names, else the environment.
    pub(super) fn path(&self) -> PathBuf {
        self.file.clone().unwrap_or_else(|| self.option.path())
    }
}
