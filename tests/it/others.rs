//! HAProxy and nginx, as relays beside, before or behind portway.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::fixture::{PATIENCE, missing, within};

/// A program that relays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    Haproxy,
    Nginx,
}

/// The module of nginx that relays TCP.
const MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

impl Program {
    /// Its name, if it is installed. Otherwise a test that needs it did not run.
    fn name(self) -> Option<&'static str> {
        let (name, option) = match self {
            Self::Haproxy => ("haproxy", "-v"),
            Self::Nginx => ("nginx", "-v"),
        };
        let answer = Command::new(name).arg(option).output();
        let is_whole = self == Self::Haproxy || Path::new(MODULE).exists();
        if answer.is_ok() && is_whole {
            return Some(name);
        }
        let remedy = "install haproxy, nginx-light and libnginx-mod-stream of Debian";
        missing(name, remedy);
        None
    }

    /// The whole configuration around `text`: for HAProxy the rest of the section `defaults`, and what follows it; for
    /// nginx the blocks behind `events`.
    fn configuration(self, files: &Path, text: &str) -> String {
        match self {
            Self::Haproxy => {
                format!("global\n nbthread 1\n hard-stop-after 60s\ndefaults\n mode tcp\n{text}")
            }
            Self::Nginx => format!(
                "load_module {MODULE};\ndaemon off;\nworker_processes 1;\npid {};\n\
                 error_log /dev/null;\nworker_shutdown_timeout 60s;\nevents {{}}\n{text}\n",
                files.join("pid").display()
            ),
        }
    }
}

/// A running relay. It ends with this value, and with it every process that has taken its place.
pub(crate) struct Other {
    program: &'static str,
    file: &'static str,
    processes: Vec<Running>,
    directory: TempDir,
}

impl Other {
    /// Starts one with this configuration (see [`Program::configuration`]), and waits until it listens at `address`;
    /// `None` if the machine does not have it.
    pub(crate) fn start(program: Program, address: SocketAddr, text: &str) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let configuration = program.configuration(directory.path(), text);
        fs::write(directory.path().join("conf"), configuration).unwrap();
        let mut other = Self {
            program: program.name()?,
            file: match program {
                Program::Haproxy => "-f",
                Program::Nginx => "-c",
            },
            processes: Vec::new(),
            directory,
        };
        other.start_again(&[]);
        within(PATIENCE, "the other relay listens", || {
            TcpStream::connect(address).ok()
        });
        Some(other)
    }

    /// Starts another process with the same configuration and these arguments.
    pub(crate) fn start_again(&mut self, arguments: &[&str]) {
        let mut command = Command::new(self.program);
        command
            .arg(self.file)
            .arg(self.directory.path().join("conf"));
        self.processes.push(Running::start(command.args(arguments)));
    }

    /// The first process.
    pub(crate) fn process(&self) -> &Running {
        &self.processes[0]
    }
}

/// A silent process of another program. It ends with this value, by a signal that it can pass on to its children.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Self(command.stderr(Stdio::null()).spawn().unwrap())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has not been waited for, so the signal reaches no other process.
        self.signal(Signal::TERM);
        within(PATIENCE, "the other program ends", || {
            self.0.try_wait().unwrap()
        });
    }
}
