//! The program that an upgrade starts: the file at the path that this process was started by, and no other one.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{self, Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use std::{env, fs, io};

use tokio::io::{AsyncRead, AsyncReadExt, copy, sink};
use tokio::process::{Child, Command};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::control::inherited::{Inherited, SYSTEMD_SOCKETS};
use crate::control::socket::printable;

#[cfg(test)]
mod tests;

/// The link to the program of this process.
const OWN: &str = "/proc/self/exe";
/// The kernel adds this to the path of a file that was replaced.
const DELETED: &[u8] = b" (deleted)";
/// Longest time for an answer of the new program, which only reads a file for it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Most bytes that are kept of each output of the new program.
const LONGEST_OUTPUT: u64 = 4096;
/// Variables that are for one process alone. The sockets come by the takeover.
const FOR_ONE_PROCESS: [&str; 6] = [
    SYSTEMD_SOCKETS,
    "WATCHDOG_PID",
    "LISTEN_PID",
    "LISTEN_PIDFDID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
];

/// The program of this process.
#[derive(Debug)]
pub struct Program {
    path: PathBuf,
    /// Those of a process that takes over from this one.
    arguments: Vec<OsString>,
    /// The sockets that systemd has too, for the new process.
    from_systemd: String,
}

impl Program {
    /// Finds the path at the start, before an upgrade replaces the file. `None` without /proc.
    pub fn own() -> Option<Self> {
        Some(Self {
            path: own_path()?,
            arguments: arguments(env::args_os().skip(1)),
            from_systemd: String::new(),
        })
    }

    /// Keeps which sockets systemd has too, for the new process. Those of a predecessor are among them.
    #[must_use]
    pub fn with_sockets(mut self, inherited: &Inherited) -> Self {
        let addresses = inherited.of_systemd();
        let addresses: Vec<_> = addresses.iter().map(SocketAddr::to_string).collect();
        self.from_systemd = addresses.join(",");
        self
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Starts the successor. It inherits the standard streams, so that the logs go on where they are.
    pub(super) fn start(&self) -> io::Result<Child> {
        let mut command = self.command();
        command.args(&self.arguments);
        if !self.from_systemd.is_empty() {
            command.env(SYSTEMD_SOCKETS, &self.from_systemd);
        }
        command.spawn()
    }

    /// The version of the file that is at the path now.
    pub(super) async fn version(&self) -> Result<String, String> {
        let told = self.ask(&["--version".into()]).await?;
        match told.trim().strip_prefix("portway ") {
            Some(version) => Ok(printable(version)),
            None => Err(format!("{} is not portway", self.path.display())),
        }
    }

    /// Has the new program check the file that it will run with.
    pub(super) async fn check(&self, file: &Path) -> Result<(), String> {
        let arguments = ["check".into(), "--config".into(), file.into()];
        self.ask(&arguments).await.map(drop)
    }

    /// Runs the program until it ends, and returns its output. If it fails, the error has its words.
    async fn ask(&self, arguments: &[OsString]) -> Result<String, String> {
        let mut command = self.command();
        command.args(arguments).env_remove("NOTIFY_SOCKET");
        command.stdin(Stdio::null()).kill_on_drop(true);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let asked = self.path.display();
        let first = arguments.first().map(|first| first.to_string_lossy());
        let asked = format!("`{asked} {}`", first.unwrap_or_default());
        let answered = async {
            // If the disk of the program hangs, this may take any time. A child that comes late is killed.
            let started = spawn_blocking(move || command.spawn()).await;
            let started = started.map_err(io::Error::from).flatten();
            let mut child = started.map_err(|error| format!("cannot start {asked}: {error}"))?;
            let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
            let ended = tokio::join!(kept(stdout), kept(stderr), child.wait());
            let (stdout, stderr, status) = ended;
            let status = status.map_err(|error| format!("cannot wait for {asked}: {error}"))?;
            Ok((stdout, stderr, status))
        };
        let answered = timeout(ANSWER_TIMEOUT, answered).await;
        let (stdout, stderr, status) = answered.unwrap_or_else(|_| {
            let limit = ANSWER_TIMEOUT.as_secs();
            Err(format!("{asked} did not end within {limit} s"))
        })?;
        if status.success() {
            return Ok(stdout);
        }
        let said = if stderr.trim().is_empty() {
            stdout
        } else {
            stderr
        };
        Err(failed(&asked, status, &said))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        for variable in FOR_ONE_PROCESS {
            command.env_remove(variable);
        }
        command
    }
}

/// The words for a program that has failed, with its own.
pub(super) fn failed(program: &str, status: ExitStatus, said: &str) -> String {
    let said = said.trim();
    let colon = if said.is_empty() { "" } else { ": " };
    format!("{program} failed ({status}){colon}{}", printable(said))
}

/// The first bytes of an output as text. The rest is read too, because the program would wait otherwise.
async fn kept(output: Option<impl AsyncRead + Unpin>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut output) = output {
        // An output that breaks has ended.
        drop(
            (&mut output)
                .take(LONGEST_OUTPUT)
                .read_to_end(&mut bytes)
                .await,
        );
        drop(copy(&mut output, &mut sink()).await);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The arguments with which a process takes over from one that has these.
fn arguments(own: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let rest = own.skip(1).filter(|argument| argument != "--takeover");
    let first = ["run".into(), "--takeover".into()];
    first.into_iter().chain(rest).collect()
}

/// The path that this process was started by. A link stays one, so that an upgrade may change what it leads to.
fn own_path() -> Option<PathBuf> {
    let named = env::args_os().next().map(PathBuf::from);
    let named = named.filter(|named| named.as_os_str().as_bytes().contains(&b'/'));
    let named = named.filter(|named| is_same(named, Path::new(OWN)));
    if let Some(named) = named.and_then(|named| path::absolute(named).ok()) {
        return Some(named);
    }
    let resolved = fs::read_link(OWN).ok()?.into_os_string().into_vec();
    let resolved = resolved.strip_suffix(DELETED).unwrap_or(&resolved);
    Some(OsString::from_vec(resolved.to_vec()).into())
}

fn is_same(one: &Path, other: &Path) -> bool {
    let identity = |path| fs::metadata(path).map(|it| (it.dev(), it.ino()));
    matches!((identity(one), identity(other)), (Ok(one), Ok(other)) if one == other)
}
