//! The program as a child process: started on a routes.toml, watched by its own log and metrics.

use std::fs::Permissions;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::hello::Builder;
use super::metrics::Metrics;
use super::peers::connect;
use super::required::{PEERS, did_not_run};

/// The longest wait of a test: ten times what the slowest event takes, because the machine may be busy with
/// other tests.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// The program.
pub(crate) const PORTWAY: &str = env!("CARGO_BIN_EXE_portway");

/// The name of the route in [`config`].
pub(crate) const NAME: &str = "fleet.example";

/// A routes.toml with one listener `agents`, one route `fleet` and its backend `fleet`. `limits` and
/// `backend` are further keys of those tables.
pub(crate) fn config(endpoints: &[SocketAddr], limits: &str, backend: &str) -> String {
    let endpoints: Vec<_> = endpoints.iter().map(SocketAddr::to_string).collect();
    format!(
        "admin.bind = \"127.0.0.1:0\"\n\
         [limits]\n{limits}\n\
         [listeners.agents]\nbind = [\"127.0.0.1:0\"]\n\
         [backends.fleet]\nendpoints = {endpoints:?}\n{backend}\n\
         [routes.fleet]\nserver_names = [\"{NAME}\"]\nbackend = \"fleet\"\n"
    )
}

/// A further route and backend of this name, for `<name>.example`.
pub(crate) fn route(name: &str, endpoint: SocketAddr, backend: &str) -> String {
    format!(
        "[backends.{name}]\nendpoints = [\"{endpoint}\"]\n{backend}\n\
         [routes.{name}]\nserver_names = [\"{name}.example\"]\nbackend = \"{name}\"\n"
    )
}

/// A running `portway run`. Dropping it kills the process.
pub(crate) struct Portway {
    child: Child,
    /// stdout: the connection log.
    pub(crate) connections: Arc<Lines>,
    /// stderr: the program log.
    pub(crate) program: Arc<Lines>,
    /// Its routes.toml.
    file: Arc<File>,
}

/// A routes.toml, shared by the processes that run with it.
struct File {
    path: PathBuf,
    /// The directory of the file, if the fixture has made it.
    _directory: Option<TempDir>,
}

impl Portway {
    /// Starts on `toml` and waits until it is ready.
    pub(crate) fn start(toml: &str) -> Self {
        Self::start_with(toml, Stdio::piped())
    }

    /// The same with another stdout; `connections` stays empty unless that is a pipe to the test.
    pub(crate) fn start_with(toml: &str, stdout: Stdio) -> Self {
        Self::start_by(program(), toml, stdout)
    }

    /// The same with another command, which gets the arguments of portway.
    pub(crate) fn start_by(command: Command, toml: &str, stdout: Stdio) -> Self {
        Self::spawn_by(command, toml, stdout).until_ready()
    }

    /// The same with further arguments of `run`.
    pub(crate) fn start_args(toml: &str, arguments: &[&str]) -> Self {
        Self::spawn_on(file(toml), program(), arguments, Stdio::piped()).until_ready()
    }

    /// The same without waiting.
    pub(crate) fn spawn_args(toml: &str, arguments: &[&str]) -> Self {
        Self::spawn_on(file(toml), program(), arguments, Stdio::piped())
    }

    /// The same with a file that the test keeps.
    pub(crate) fn start_at(path: &Path, arguments: &[&str]) -> Self {
        Self::start_at_by(program(), path, arguments)
    }

    /// The same with another command.
    pub(crate) fn start_at_by(command: Command, path: &Path, arguments: &[&str]) -> Self {
        let file = Arc::new(File {
            path: path.to_owned(),
            _directory: None,
        });
        Self::spawn_on(file, command, arguments, Stdio::piped()).until_ready()
    }

    /// Starts another one with the same file.
    pub(crate) fn start_beside(&self, arguments: &[&str]) -> Self {
        self.spawn_beside(arguments).until_ready()
    }

    /// The same without waiting, for a process that may have to fail.
    pub(crate) fn spawn_beside(&self, arguments: &[&str]) -> Self {
        let file = Arc::clone(&self.file);
        Self::spawn_on(file, program(), arguments, Stdio::piped())
    }

    /// Starts another one with the same file and another command.
    pub(crate) fn start_again(&self, command: Command) -> Self {
        Self::spawn_on(Arc::clone(&self.file), command, &[], Stdio::piped()).until_ready()
    }

    fn until_ready(self) -> Self {
        let mut portway = self;
        let ready = |line: &Value| message(line) == "ready";
        within(PATIENCE, "portway is ready", || {
            if portway.program.find(ready).is_some() {
                return Some(());
            }
            let exited = portway.child.try_wait().unwrap();
            assert!(exited.is_none(), "portway ended at start: {exited:?}");
            None
        });
        portway
    }

    /// Waits until so many addresses of endpoints are known. portway is ready before that if DNS takes longer than a
    /// second.
    pub(crate) fn until_known(self, addresses: u32) -> Self {
        within(PATIENCE, "the names resolve", || {
            let known = self.metrics().sum("portway_endpoint_addresses", &[]);
            (known > f64::from(addresses) - 0.5).then_some(())
        });
        self
    }

    /// Starts without waiting: for configurations that must fail.
    pub(crate) fn spawn(toml: &str, stdout: Stdio) -> Self {
        Self::spawn_by(program(), toml, stdout)
    }

    /// The same with another command.
    pub(crate) fn spawn_by(command: Command, toml: &str, stdout: Stdio) -> Self {
        Self::spawn_on(file(toml), command, &[], stdout)
    }

    fn spawn_on(file: Arc<File>, mut command: Command, arguments: &[&str], stdout: Stdio) -> Self {
        let mut child = command
            .args(["run", "--log-format", "json", "--config"])
            .arg(&file.path)
            .args(arguments)
            .env_remove("RUST_LOG")
            .env_remove("PORTWAY_CONFIG")
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let program = Lines::collect(child.stderr.take());
        let connections = Lines::collect(child.stdout.take());
        Self {
            child,
            connections,
            program,
            file,
        }
    }

    /// Its routes.toml.
    pub(crate) fn file(&self) -> &Path {
        &self.file.path
    }

    /// Replaces its routes.toml by a rename, as editors do.
    pub(crate) fn write(&self, toml: &str) {
        let new = self.file.path.with_extension("new");
        std::fs::write(&new, toml).unwrap();
        std::fs::rename(new, self.file()).unwrap();
    }

    /// Runs `portway reload` on its file.
    pub(crate) fn reload(&self) -> process::Output {
        let mut command = Command::new(PORTWAY);
        command.args(["reload", "--config"]).arg(self.file());
        command.output().unwrap()
    }

    /// Replaces its routes.toml and reloads.
    pub(crate) fn reload_with(&self, toml: &str) {
        self.write(toml);
        let output = self.reload();
        assert!(output.status.success(), "{output:?}");
    }

    /// The first address to which a listener is bound. The log shows a new one shortly after its reload.
    pub(crate) fn address(&self, listener: &str) -> SocketAddr {
        let listening =
            |line: &Value| message(line) == "listening" && line["fields"]["listener"] == listener;
        let line = self.program.wait(PATIENCE, listening);
        line["fields"]["address"].as_str().unwrap().parse().unwrap()
    }

    /// A client of `agents` that has sent its hello.
    pub(crate) fn client(&self) -> TcpStream {
        let mut client = connect(self.address("agents"));
        client.write_all(&hello()).unwrap();
        client
    }

    /// A client of `agents` whose hello an echoing backend has sent back.
    pub(crate) fn relayed(&self) -> TcpStream {
        let mut client = self.client();
        let mut echoed = hello();
        client.read_exact(&mut echoed).unwrap();
        assert!(alike(&echoed, &hello()));
        client
    }

    /// Checks that so many clients, one after the other, are relayed within ten times the usual time, most of them, and
    /// none much later: the machine may be busy for a moment.
    pub(crate) fn relays_at_once(&self, clients: usize) {
        let times = (0..clients).map(|_| {
            let begin = Instant::now();
            drop(self.relayed());
            begin.elapsed()
        });
        let mut times: Vec<_> = times.collect();
        times.sort();
        assert!(
            times[clients / 2] < Duration::from_millis(2500),
            "{times:?}"
        );
        assert!(times[clients - 1] < Duration::from_secs(20), "{times:?}");
    }

    /// The address of the admin listener.
    pub(crate) fn admin(&self) -> SocketAddr {
        let line = self
            .program
            .find(|line| message(line) == "admin listening")
            .unwrap_or_else(|| panic!("no admin: {}", self.program.tail()));
        line["fields"]["address"].as_str().unwrap().parse().unwrap()
    }

    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The metrics now.
    pub(crate) fn metrics(&self) -> Metrics {
        let (status, page) = get(self.admin(), "/metrics").unwrap();
        assert_eq!(status, 200, "{page}");
        Metrics::parse(&page)
    }

    /// The value of a series now, by `name` or `name{label="value",…}` with labels in any order.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        self.metrics().get(series)
    }

    /// The same for a series with whole numbers.
    pub(crate) fn count(&self, series: &str) -> u64 {
        self.metrics().count(series)
    }

    /// Waits for a line of the program log whose message contains this.
    pub(crate) fn tells(&self, what: &str) -> Value {
        self.program
            .wait(PATIENCE, |line| message(line).contains(what))
    }

    /// Waits for a line of the connection log.
    pub(crate) fn wait_line(&self, what: impl Fn(&Value) -> bool) -> Value {
        self.connections.wait(PATIENCE, what)
    }

    /// Waits for the line of the connection that came from this socket.
    pub(crate) fn line_of(&self, client: SocketAddr) -> Value {
        let client = client.to_string();
        self.wait_line(|line| line["client"] == client.as_str())
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// The status of the process, if it has ended.
    pub(crate) fn has_exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for the end of the process.
    pub(crate) fn wait_exit(&mut self) -> ExitStatus {
        within(PATIENCE, "portway exits", || self.has_exited())
    }
}

/// The program, with an empty stdin.
fn program() -> Command {
    let mut command = Command::new(PORTWAY);
    command.stdin(Stdio::null());
    command
}

/// Writes a routes.toml into its own directory.
fn file(toml: &str) -> Arc<File> {
    let directory = tempfile::tempdir().unwrap();
    // portway may run as another user.
    std::fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    let path = directory.path().join("routes.toml");
    std::fs::write(&path, toml).unwrap();
    Arc::new(File {
        path,
        _directory: Some(directory),
    })
}

impl Drop for Portway {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("program log:\n{}", self.program.tail());
            eprintln!("connection log:\n{}", self.connections.tail());
        }
        // Both fail only if the process has ended by itself, which a test may want.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The hello for the route of [`config`].
pub(crate) fn hello() -> Vec<u8> {
    Builder::new(NAME).build()
}

/// Whether two hellos, or beginnings of them of the same length, differ at most in their random.
pub(crate) fn alike(one: &[u8], other: &[u8]) -> bool {
    // Behind the headers of the record and of the message, and the version.
    let is_random = |at: usize| (11..43).contains(&at);
    let mut pairs = one.iter().zip(other).enumerate();
    one.len() == other.len() && pairs.all(|(at, (one, other))| is_random(at) || one == other)
}

/// The message of a line of the program log.
pub(crate) fn message(line: &Value) -> &str {
    line["fields"]["message"].as_str().unwrap_or_default()
}

/// The JSON lines that have come from a stream so far.
#[derive(Default)]
pub(crate) struct Lines {
    lines: Mutex<Vec<Value>>,
    grown: Condvar,
}

impl Lines {
    fn collect(stream: Option<impl Read + Send + 'static>) -> Arc<Self> {
        let lines = Arc::new(Self::default());
        let Some(stream) = stream else { return lines };
        let into = Arc::clone(&lines);
        thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                // A line that is not JSON is kept as text: a test of the log's form will fail on it.
                let value = serde_json::from_str(&line).unwrap_or(Value::String(line));
                into.lines.lock().unwrap().push(value);
                into.grown.notify_all();
            }
        });
        lines
    }

    /// Waits for a line; a line that has come already counts too.
    pub(crate) fn wait(&self, patience: Duration, what: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + patience;
        let mut seen = 0;
        let mut lines = self.lines.lock().unwrap();
        loop {
            if let Some(line) = lines[seen..].iter().find(|line| what(line)) {
                return line.clone();
            }
            seen = lines.len();
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                drop(lines);
                panic!(
                    "no such line within {patience:?}; the last ones:\n{}",
                    self.tail()
                );
            }
            lines = self.grown.wait_timeout(lines, left).unwrap().0;
        }
    }

    /// The first line of this kind, if it has come.
    pub(crate) fn find(&self, what: impl Fn(&Value) -> bool) -> Option<Value> {
        self.all().into_iter().find(|line| what(line))
    }

    /// All lines so far.
    pub(crate) fn all(&self) -> Vec<Value> {
        self.lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Forgets all lines so far. Nobody may be waiting for one.
    pub(crate) fn forget(&self) {
        self.lines.lock().unwrap().clear();
    }

    /// The last lines, for a failure's report.
    pub(crate) fn tail(&self) -> String {
        let lines = self.all();
        let from = lines.len().saturating_sub(12);
        let lines: Vec<_> = lines[from..]
            .iter()
            .map(|line| format!("  {line}"))
            .collect();
        lines.join("\n")
    }
}

/// Sends one GET over HTTP/1.1 and closes the connection. Returns status and body.
pub(crate) fn get(admin: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(admin)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: portway\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let invalid = || std::io::Error::new(std::io::ErrorKind::InvalidData, answer.clone());
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(invalid)?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|word| word.parse().ok())
        .ok_or_else(invalid)?;
    Ok((status, body.to_owned()))
}

/// Says that a test did not run because the machine lacks a program. Fails if `PORTWAY_PEERS=required` is set.
#[track_caller]
pub(crate) fn missing(program: &str, remedy: &str) {
    did_not_run(PEERS, &format!("{program} is missing"), remedy);
}

/// Asks until there is an answer; panics after `patience`.
pub(crate) fn within<T>(patience: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + patience;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "not within {patience:?}: {what}");
        pause(Duration::from_millis(5));
    }
}

/// Lets time pass, if the test is about time: the pace of bytes, or that nothing happens.
#[expect(
    clippy::disallowed_methods,
    reason = "a thread of a test serves no connection"
)]
pub(crate) fn pause(time: Duration) {
    thread::sleep(time);
}

/// Ends what other threads do until a flag is set, also if the test fails: a scope waits for its threads.
pub(crate) struct Over<'f>(pub(crate) &'f AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
