//! Reading routes.toml again, and why it is rejected.

use std::path::Path;

use super::StartError;
use crate::config::{self, Faults, Loaded};
use crate::control::Rejected;

/// Reads the file again.
pub(super) fn read(file: &Path) -> Result<String, Rejected> {
    config::read(file).map_err(|faults| faulty(&faults))
}

/// Checks what was read.
pub(super) fn check(text: &str, file: &Path) -> Result<Loaded, Rejected> {
    let checked = config::parse(text, &file.display().to_string());
    checked.map_err(|faults| faulty(&faults))
}

fn faulty(faults: &Faults) -> Rejected {
    Rejected {
        hash: faults.hash(),
        // A file that could not be read has no hash: the watch tries it again once it can be read, also if
        // its content is then the one in force.
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

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Write;
    use std::process::Command;
    use std::thread;

    use super::*;
    use crate::control::watch;

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
            let rejected = read(&file).unwrap_err();
            assert!(rejected.hash.is_some());
            assert_eq!(rejected.hash, watch::hash(&file), "{rejected:?}");
        }
    }

    /// What stands there a moment later, and is fine, has not been judged.
    #[test]
    fn what_was_read_has_the_hash_of_its_own_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let [file, good] = ["routes.toml", "fine"].map(|name| directory.path().join(name));
        fs::write(&good, include_str!("../../routes.toml")).unwrap();
        let made = Command::new("mkfifo").arg(&file).status();
        assert!(made.unwrap().success());
        let rejected = thread::scope(|scope| {
            let reading = scope.spawn(|| read(&file).unwrap_err());
            // It waits for the reader.
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

    #[test]
    fn what_cannot_be_read_has_no_hash() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("missing.toml");
        for file in [directory.path(), &missing] {
            assert_eq!(read(file).unwrap_err().hash, None);
        }
    }
}
