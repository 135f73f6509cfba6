//! Finds the routes.toml that a command works on.

use std::env;
use std::path::{Path, PathBuf};

use clap::Args;

/// The environment variable that names the file.
const VARIABLE: &str = "PORTWAY_CONFIG";
/// The file if neither the command line nor the environment names one.
const DEFAULT: &str = "routes.toml";

/// The file, given by an option.
#[derive(Debug, Args)]
pub(super) struct File {
    /// Use FILE as routes.toml; reload, upgrade and explain find a running portway by this path
    /// [env: PORTWAY_CONFIG] [default: routes.toml]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// The file, given by an argument or an option.
#[derive(Debug, Args)]
pub(super) struct FileArgument {
    /// The same as --config FILE
    #[arg(value_name = "FILE", conflicts_with = "config")]
    file: Option<PathBuf>,
    #[command(flatten)]
    option: File,
}

impl File {
    /// The file that the command line names, else the environment, else the default.
    pub(super) fn path(&self) -> PathBuf {
        let variable = || env::var_os(VARIABLE).filter(|value| !value.is_empty());
        let named = self.config.clone();
        let named = named.or_else(|| variable().map(PathBuf::from));
        named.unwrap_or_else(|| Path::new(DEFAULT).to_owned())
    }
}

impl FileArgument {
    /// The file that the command line names, else the environment, else the default.
    pub(super) fn path(&self) -> PathBuf {
        self.file.clone().unwrap_or_else(|| self.option.path())
    }
}
