//! Chooses the configuration to explain: the one in force in a running portway, if it differs from the file.

use std::io;
use std::path::Path;

use serde::Serialize;

use super::addresses::Process;
use crate::config::{self, Faults, Settings};
use crate::control::Configuration;
use crate::control::socket::{self, Answered};

const UNREADABLE: &str = "this is the file; the running portway has another version, and this version cannot \
                          read the configuration that it has in force";

/// The configuration that is explained.
pub(super) struct Chosen {
    pub(super) settings: Settings,
    pub(super) origin: Origin,
    /// A note for the reader about the choice.
    pub(super) note: Option<String>,
    /// The process that knows the addresses.
    pub(super) process: Process,
}

#[derive(Debug, Serialize)]
#[serde(tag = "configuration", rename_all = "snake_case")]
pub(super) enum Origin {
    /// The file.
    File,
    /// The configuration in force in a process that uses the file, if it differs from the file.
    Running { generation: u64, pid: i32 },
}

/// The configuration in force in the process that uses this file if it differs from the file, else the file.
pub(super) fn choose(path: &Path) -> Result<Chosen, Faults> {
    let name = path.display().to_string();
    let file = config::read(path).and_then(|text| config::parse(&text, &name));
    let text = file.as_ref().ok().map(|loaded| &*loaded.source.text);
    let (running, mut note, mut process) = match socket::configuration(path) {
        Ok(None) => (None, None, Process::Nobody),
        Ok(Some(running)) => {
            let (generation, pid) = (running.0.generation, running.1.pid);
            (Some(running), None, Process::With { generation, pid })
        }
        Err(error) => {
            let why = "it could not be asked".to_owned();
            (None, Some(unknown(&error)), Process::Other(why))
        }
    };
    let differs = |(running, _): &(Configuration, Answered)| text != Some(&*running.text);
    if let Some((running, answered)) = running.filter(differs) {
        if let Ok(loaded) = config::parse(&running.text, &name) {
            let Answered { pid, user, .. } = answered;
            let told = match file {
                Ok(_) => format!(
                    "{name} differs: `portway reload` puts it in force. To explain the file itself, use \
                     `--config /dev/stdin < {name}`"
                ),
                Err(_) => format!("{name} has faults: `portway check` shows them"),
            };
            return Ok(Chosen {
                settings: loaded.settings,
                origin: Origin::Running {
                    generation: running.generation,
                    pid,
                },
                // So root can see whether it is the right process.
                note: Some(if answered.is_of_another_user() {
                    format!("{told}; the process belongs to user {user}")
                } else {
                    told
                }),
                process,
            });
        }
        note = Some(UNREADABLE.to_owned());
        process = Process::Other("it has another configuration in force".to_owned());
    }
    file.map(|loaded| Chosen {
        settings: loaded.settings,
        origin: Origin::File,
        note,
        process,
    })
}

/// Says why the configuration in force is unknown, or whether any process uses the file.
fn unknown(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::PermissionDenied {
        "this is the file; only root can see what a portway of another user has in force".to_owned()
    } else {
        format!("this is the file; cannot query the running portway: {error}")
    }
}
