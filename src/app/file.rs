//! Reading routes.toml again, and why it is rejected.

use std::path::Path;

use super::StartError;
use crate::config::{self, Faults, Loaded};
use crate::control::{self, Rejected};

/// Reads the file again.
pub(super) fn read(file: &Path) -> Result<String, Rejected> {
    // What cannot be read as text has a hash all the same.
    config::read(file).map_err(|faults| faulty(&faults, control::watch::hash(file)))
}

/// Checks what was read.
pub(super) fn check(text: &str, file: &Path) -> Result<Loaded, Rejected> {
    let checked = config::parse(text, &file.display().to_string());
    checked.map_err(|faults| faulty(&faults, faults.hash()))
}

fn faulty(faults: &Faults, hash: Option<u32>) -> Rejected {
    Rejected {
        hash,
        may_pass: false,
        lines: faults.lines().collect(),
        text: faults.to_string(),
    }
}

/// A configuration that is fine and cannot be put in force.
pub(super) fn rejected(file: &Path, hash: u32, error: &StartError) -> Rejected {
    let cause = std::error::Error::source(error);
    let cause = cause.map(|cause| format!(" ({cause})"));
    let text = format!("{}{}", error.in_file(file), cause.unwrap_or_default());
    if matches!(error, StartError::Listen { .. }) {
        // The address may be free later.
        return Rejected::for_now(Some(hash), text);
    }
    Rejected::new(Some(hash), text)
}
