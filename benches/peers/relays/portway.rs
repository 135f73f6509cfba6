//! portway: this tree, built by cargo beside this program, and an earlier one to compare it with.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::process::Process;
use super::programs::{find, first_line};
use super::{Room, Skipped, bare, setup};

const PROGRAM: &str = env!("CARGO_BIN_EXE_portway");

/// The environment variable that names the program of an earlier build.
const BEFORE: &str = "PORTWAY_BEFORE";

pub(super) fn version() -> Result<String, Skipped> {
    version_of(Path::new(PROGRAM))
}

pub(super) fn version_before() -> Result<String, Skipped> {
    let program = std::env::var_os(BEFORE);
    let program = program.ok_or_else(|| Skipped(format!("{BEFORE} names no program")))?;
    Ok(format!("{} before", version_of(Path::new(&program))?))
}

fn version_of(program: &Path) -> Result<String, Skipped> {
    let line = first_line(Command::new(program).arg("--version"));
    let line = line.map_err(|error| Skipped(format!("{}: {error}", program.display())))?;
    Ok(line.trim_start_matches("portway ").to_owned())
}

pub(super) fn user_version() -> Result<String, Skipped> {
    if !rustix::process::geteuid().is_root() {
        return Err(Skipped(
            "only root can change the user: run as root".to_owned(),
        ));
    }
    find("setpriv", "apt-get install util-linux")?;
    Ok(format!("{} as uid 65534", version()?))
}

/// Which portway to start.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// The one of this tree.
    This,
    /// The same, run by an ordinary user.
    ByUser,
    /// An earlier build.
    Before,
}

pub(super) fn start(
    files: &Path,
    room: Room,
    backend: SocketAddr,
    which: Which,
) -> Result<(SocketAddr, Process), String> {
    let command = command(files, room, backend, which)?;
    Process::announced_on_stderr(command, listening, &files.join("portway.log"))
}

/// The address at which portway listens, if a line of its log has it.
fn listening(line: &str) -> Option<SocketAddr> {
    let line: Value = serde_json::from_str(line).ok()?;
    let fields = line.get("fields")?;
    if fields.get("message")? != "listening" {
        return None;
    }
    fields.get("address")?.as_str()?.parse().ok()
}

/// Writes the configuration into `files`. If another user runs the program, it is copied there too, because
/// that user may not be able to reach the original.
fn command(files: &Path, room: Room, backend: SocketAddr, which: Which) -> Result<Command, String> {
    let as_user = which == Which::ByUser;
    let prepare = || -> io::Result<(PathBuf, PathBuf)> {
        let routes = files.join("routes.toml");
        fs::write(&routes, setup::portway(room, backend))?;
        let program = files.join("portway");
        if as_user && !program.exists() {
            fs::copy(PROGRAM, &program)?;
        }
        Ok((program, routes))
    };
    let (copied, routes) = prepare().map_err(|error| error.to_string())?;
    let mut command = if as_user {
        let setpriv = find("setpriv", "apt-get install util-linux").map_err(|skipped| skipped.0)?;
        let mut command = bare(&setpriv, files);
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        command.args(["--inh-caps=-all", "--"]).arg(copied);
        command
    } else {
        let before = std::env::var_os(BEFORE).filter(|_| which == Which::Before);
        bare(Path::new(&before.unwrap_or_else(|| PROGRAM.into())), files)
    };
    command.arg("run").arg("--config").arg(routes);
    Ok(command)
}
