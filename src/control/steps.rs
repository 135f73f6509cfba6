//! The steps of a reload, each of which may block: read the file, check its text, prepare the change. A failure
//! leaves everything as it was.

use std::path::Path;
use std::sync::Arc;

use tokio::task::JoinError;

use super::StartError;
use super::change::{Change, ChangeBuilder};
use super::inherited::Inherited;
#[cfg(test)]
use super::tests::StepGates;
use crate::config::{self, Faults, Files, Loaded};

/// The state that the steps of a reload need.
#[derive(Clone)]
pub(super) struct Steps {
    /// Empty if the settings came without a file; then there are no reloads.
    file: Arc<Path>,
    builder: Arc<ChangeBuilder>,
    /// Where each step waits for its test.
    #[cfg(test)]
    pub(super) gates: Arc<StepGates>,
}

impl Steps {
    pub(super) fn new(file: &Path, builder: ChangeBuilder) -> Self {
        Self {
            file: file.into(),
            builder: Arc::new(builder),
            #[cfg(test)]
            gates: Arc::default(),
        }
    }

    /// Reads the file again, and those that it names.
    pub(super) fn read(&self) -> Result<Files, Rejected> {
        #[cfg(test)]
        self.gates.reading.pass();
        config::read_files(&self.file).map_err(|faults| Rejected::faulty(&faults))
    }

    /// Checks the files.
    pub(super) fn check(&self, files: &Files) -> Result<Loaded, Rejected> {
        #[cfg(test)]
        self.gates.checking.pass();
        let checked = config::parse_files(files, &self.file.display().to_string());
        checked.map_err(|faults| Rejected::faulty(&faults))
    }

    /// Prepares the change, and the steps for the next one if this one comes into force.
    pub(super) fn prepare(mut self, loaded: Loaded) -> Result<(Self, Change), Rejected> {
        #[cfg(test)]
        self.gates.preparing.pass();
        let Loaded {
            settings,
            source,
            warnings,
        } = loaded;
        let hash = source.fingerprint;
        let mut builder = ChangeBuilder::clone(&self.builder);
        let change = builder.change(settings, source, &mut Inherited::default());
        let change = change.map_err(|error| Rejected::unfit(&self.file, hash, &error))?;
        self.builder = Arc::new(builder);
        // A change that fails for a passing reason is tried again and again, and would log them each time.
        for warning in warnings.warning_lines() {
            tracing::warn!("{warning}");
        }
        Ok((self, change))
    }
}

/// Why a reload failed.
#[derive(Debug)]
pub(super) struct Rejected {
    /// CRC-32 of the file and those that it names, if it could be read.
    pub(super) hash: Option<u32>,
    /// The same file may succeed later: the fault is not in its content.
    pub(super) may_pass: bool,
    /// The faults for the log, one per line.
    pub(super) lines: Vec<String>,
    /// The faults as people read them.
    pub(super) text: String,
}

impl Rejected {
    /// For a file that cannot be read, or whose content has faults.
    fn faulty(faults: &Faults) -> Self {
        Self {
            hash: faults.hash(),
            // A file that could not be read has no hash. The watch tries it again once it can be read, even if
            // its content is then the one in force.
            may_pass: false,
            lines: faults.lines().collect(),
            text: faults.to_string(),
        }
    }

    /// For content without faults that cannot be put in force.
    fn unfit(file: &Path, hash: u32, error: &StartError) -> Self {
        let text = error.with_cause(file);
        // The address may be free later, and so may what the system has too little of.
        let may_pass = matches!(error, StartError::Listen { .. } | StartError::System { .. });
        Self {
            may_pass,
            ..Self::for_now(Some(hash), text)
        }
    }

    /// For a failure that may pass, because the fault is not in the content.
    pub(super) fn for_now(hash: Option<u32>, text: String) -> Self {
        Self {
            hash,
            may_pass: true,
            lines: vec![text.clone()],
            text,
        }
    }

    pub(super) fn log(&self) {
        for line in &self.lines {
            tracing::error!("{line}");
        }
        tracing::error!("reload failed: the previous configuration stays in force");
    }
}

impl From<JoinError> for Rejected {
    fn from(error: JoinError) -> Self {
        // The error has the number of the task, and a failure that is the same as before is logged once.
        let cause = if error.is_panic() {
            "an internal error stopped the reload (please report the panic in this log)"
        } else {
            "the reload was stopped"
        };
        Self::for_now(None, cause.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Write;
    use std::process::Command;
    use std::thread;

    use super::*;
    use crate::config::Watched;

    #[test]
    fn a_content_that_is_not_read_as_text_has_the_hash_that_the_watch_sees() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("routes.toml");
        for content in [
            b"workers = 4 # caf\xe9\n".to_vec(),
            vec![b'#'; (1 << 20) + 1],
            vec![b'#'; 3 << 20],
        ] {
            fs::write(&file, content).unwrap();
            let rejected = Rejected::faulty(&config::read(&file).unwrap_err());
            assert!(rejected.hash.is_some());
            let seen = Watched::default().fingerprint(&file);
            assert_eq!(rejected.hash, seen, "{rejected:?}");
        }
    }

    #[test]
    fn a_change_for_which_the_system_has_too_little_is_tried_again() {
        let error = StartError::System {
            step: "start the thread that checks passwords",
            remedy: "raise the limit of processes",
            source: std::io::ErrorKind::WouldBlock.into(),
        };
        assert!(Rejected::unfit(Path::new("routes.toml"), 1, &error).may_pass);
    }

    /// Good content that replaces the file a moment later has not been judged.
    #[test]
    fn content_that_was_read_has_the_hash_of_its_own_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let [file, good] = ["routes.toml", "fine"].map(|name| directory.path().join(name));
        fs::write(&good, include_str!("../../routes.toml")).unwrap();
        let made = Command::new("mkfifo").arg(&file).status();
        assert!(made.unwrap().success());
        let rejected = thread::scope(|scope| {
            let reading = scope.spawn(|| Rejected::faulty(&config::read(&file).unwrap_err()));
            // Opening waits for the reader.
            let mut pipe = File::create(&file).unwrap();
            fs::rename(&good, &file).unwrap();
            pipe.write_all(b"\xff").unwrap();
            drop(pipe);
            reading.join().unwrap()
        });
        assert_eq!(
            rejected.hash,
            Some(crc32fast::hash(b"\xff")),
            "{rejected:?}"
        );
    }

    /// Otherwise `--watch` would reload again and again, or never.
    #[test]
    fn a_reload_and_the_watch_have_the_same_hash_of_a_file_and_those_that_it_names() {
        let directory = tempfile::tempdir().unwrap();
        let [file, users] = ["routes.toml", "users"].map(|name| directory.path().join(name));
        let text = include_str!("../../routes.toml").replace(
            "agents]\n",
            "agents]\nprotocol = \"socks5\"\ncredentials_file = \"users\"\n",
        );
        fs::write(&file, text).unwrap();
        let mut watched = Watched::default();
        let mut seen = Vec::new();
        let hash = "$2b$04$DCq7YPn5Rq63x1Lad4cll..B5WFVPnYJVH.PLKCr5kRSbWcFWwXDO";
        let right = format!("one:{hash}\n");
        let contents = [None, Some("x\n"), Some(&*right), Some("\u{fc}"), Some("")];
        for content in contents {
            if let Some(content) = content {
                fs::write(&users, content).unwrap();
            }
            let name = file.display().to_string();
            let loaded = config::parse_files(&config::read_files(&file).unwrap(), &name);
            let hash = match &loaded {
                Ok(loaded) => Some(loaded.source.fingerprint),
                Err(faults) => faults.hash(),
            };
            assert_eq!(loaded.is_ok(), content == Some(&*right));
            assert_eq!(hash, watched.fingerprint(&file), "{content:?}");
            assert!(!seen.contains(&hash), "{content:?}");
            seen.push(hash);
        }
        assert_eq!(watched.paths(&file), [users]);
    }

    #[test]
    fn a_file_that_cannot_be_read_has_no_hash() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("missing.toml");
        for file in [directory.path(), &missing] {
            assert_eq!(config::read(file).unwrap_err().hash(), None);
        }
    }
}
