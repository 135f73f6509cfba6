//! Another time of day for a portway, by libfaketime.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use super::fixture::{PORTWAY, missing};

/// A time of day that jumps.
pub(crate) struct Clock {
    library: PathBuf,
    directory: TempDir,
}

impl Clock {
    /// One that shows the time of the machine; `None` if the library is not there.
    pub(crate) fn new() -> Option<Self> {
        let directories = fs::read_dir("/usr/lib").ok()?;
        let library = directories.flatten().find_map(|directory| {
            let library = directory.path().join("faketime/libfaketimeMT.so.1");
            library.exists().then_some(library)
        });
        if library.is_none() {
            missing("libfaketime", "install faketime");
        }
        let clock = Self {
            library: library?,
            directory: tempfile::tempdir().unwrap(),
        };
        clock.jump("+0");
        Some(clock)
    }

    /// The command of a portway with this time of day. Its other clocks go on as they are.
    pub(crate) fn portway(&self) -> Command {
        let mut command = Command::new(PORTWAY);
        command
            .env("LD_PRELOAD", &self.library)
            .env("FAKETIME_TIMESTAMP_FILE", self.file())
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        command
    }

    /// Jumps to the time of the machine and this, as in `+2d`.
    pub(crate) fn jump(&self, by: &str) {
        let next = self.directory.path().join("next");
        fs::write(&next, by).unwrap();
        // The program never reads a file that is empty.
        fs::rename(next, self.file()).unwrap();
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("clock")
    }
}
