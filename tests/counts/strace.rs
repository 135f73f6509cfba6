//! Runs portway under strace, and parses what strace has written.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::fixture::{PATIENCE, PORTWAY, Portway, within};
use super::process::sockets;
use super::required::{STRACE, did_not_run};

/// Whether strace cannot be used here. A machine without it still passes, unless
/// `PORTWAY_STRACE=required` is set.
pub(crate) fn is_missing() -> bool {
    // Traced in the same way as portway: as a child that is not a child of strace.
    let tried = Command::new("strace")
        .args(["-D", "-o", "/dev/null", "true"])
        .output();
    match tried {
        Ok(output) if output.status.success() => return false,
        Ok(output) => missing(&String::from_utf8_lossy(&output.stderr)),
        Err(error) => missing(&error.to_string()),
    }
    true
}

fn missing(fault: &str) {
    let remedy = "install strace (Debian: apt-get install strace), and allow ptrace";
    did_not_run(STRACE, fault, remedy);
}

/// A portway whose system calls are recorded.
pub(crate) struct Traced {
    pub(crate) portway: Portway,
    directory: TempDir,
}

impl Traced {
    /// Starts portway under strace with further options, such as which calls to trace.
    pub(crate) fn start(options: &[&str], toml: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new("strace");
        command
            // With -D strace is not the parent of portway, so the child's process id is portway's, and
            // strace ends with portway. With -ff each thread has its own file, so no line is cut.
            .args(["-D", "-ff", "-qq", "-y", "-s16", "-esignal=none", "-o"])
            .arg(directory.path().join("trace"))
            .args(options)
            .arg(PORTWAY);
        let portway = Portway::start_by(command, toml, Stdio::piped());
        Self { portway, directory }
    }

    /// The calls so far, of all threads.
    pub(crate) fn calls(&self) -> Vec<Call> {
        let files = self.files();
        files.iter().flat_map(|path| calls(&read(path))).collect()
    }

    /// The thread of this name.
    pub(crate) fn thread(&self, name: &str) -> Thread {
        let named = format!("PR_SET_NAME, \"{name}\"");
        let path = within(PATIENCE, "a thread's trace", || {
            let is = |path: &PathBuf| read(path).contains(&named);
            self.files().into_iter().find(is)
        });
        let id = path.extension().unwrap().to_str().unwrap();
        let stat = format!("/proc/{}/task/{id}/stat", self.portway.pid()).into();
        Thread { path, stat }
    }

    fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.directory.path()).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

/// A thread that is traced.
pub(crate) struct Thread {
    path: PathBuf,
    stat: PathBuf,
}

impl Thread {
    /// The calls so far that have returned.
    pub(crate) fn calls(&self) -> Vec<Call> {
        calls(&read(&self.path))
    }

    /// Waits until the thread has made such a call after `from` others, and sleeps in `epoll_wait`.
    pub(crate) fn wait(&self, from: usize, what: &str, is: impl Fn(&Call) -> bool) {
        within(PATIENCE, what, || {
            let text = read(&self.path);
            let waits = text.rsplit('\n').next()?.starts_with("epoll_wait(");
            // strace writes a call when it begins. If events are ready, the call does not sleep.
            let sleeps = read(&self.stat).rsplit_once(") ")?.1.starts_with('S');
            let found = calls(&text).iter().skip(from).any(&is);
            (waits && sleeps && found).then_some(())
        });
    }
}

/// A strace attached to a running process. Dropping it ends strace.
pub(crate) struct Attached {
    strace: Child,
    output: PathBuf,
    _directory: TempDir,
}

impl Attached {
    /// Attaches to every thread of a process. `None` if that is forbidden and strace is not required: Yama
    /// lets an ordinary user trace only its children.
    pub(crate) fn start(pid: u32, options: &[&str]) -> Option<Self> {
        Self::attach(pid, &[&["-f"], options].concat())
    }

    /// Attaches to one thread.
    pub(crate) fn start_thread(id: u32, options: &[&str]) -> Option<Self> {
        Self::attach(id, options)
    }

    fn attach(pid: u32, options: &[&str]) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let output = directory.path().join("trace");
        let mut strace = Command::new("strace")
            .args(["-y", "-s16", "-esignal=none", "-o"])
            .arg(&output)
            .args(options)
            .args(["-p", &pid.to_string()])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // strace prints "Process … attached", or why it cannot attach.
        let mut said = String::new();
        let mut stderr = BufReader::new(strace.stderr.take().unwrap());
        while !said.contains("attached") && stderr.read_line(&mut said).unwrap() > 0 {}
        if !said.contains("attached") {
            drop(strace.wait());
            missing(&said);
            return None;
        }
        Some(Self {
            strace,
            output,
            _directory: directory,
        })
    }

    /// Ends strace, and returns the calls.
    pub(crate) fn finish(mut self) -> Vec<Call> {
        self.detach();
        calls(&read(&self.output))
    }

    fn detach(&mut self) {
        let pid = Pid::from_raw(i32::try_from(self.strace.id()).unwrap()).unwrap();
        // This fails only if strace has ended by itself, as it does when the traced process ends.
        _ = kill_process(pid, Signal::TERM);
        drop(self.strace.wait());
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        if matches!(self.strace.try_wait(), Ok(None)) {
            self.detach();
        }
    }
}

/// A system call that has returned.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) name: String,
    /// Arguments and result, as strace writes them.
    pub(crate) rest: String,
}

impl Call {
    /// The file of its first argument, as in [`socket`], if that is a descriptor.
    pub(crate) fn file(&self) -> Option<&str> {
        let first = self.rest.split(',').next()?;
        Some(first.split_once('<')?.1.split_once('>')?.0)
    }

    /// The value that it returned, if that is a number.
    pub(crate) fn result(&self) -> Option<i64> {
        let result = self.rest.rsplit_once(" = ")?.1;
        result.split([' ', '<']).next()?.parse().ok()
    }

    /// Whether strace made it fail.
    pub(crate) fn is_injected(&self) -> bool {
        self.rest.ends_with("(INJECTED)")
    }
}

/// How often each call occurs.
pub(crate) fn tally<'a>(calls: impl IntoIterator<Item = &'a Call>) -> BTreeMap<&'a str, u32> {
    let mut tally = BTreeMap::new();
    for call in calls {
        *tally.entry(call.name.as_str()).or_default() += 1;
    }
    tally
}

/// The name that strace uses for portway's socket with this `remote` address, and this `local` one if it
/// is given.
pub(crate) fn socket(local: Option<SocketAddr>, remote: SocketAddr) -> String {
    let mut sockets = sockets().into_iter();
    let found = sockets.find(|socket| {
        // A socket in TIME_WAIT has no inode.
        socket.inode != 0
            && socket.remote == remote
            && local.is_none_or(|local| socket.local == local)
    });
    format!("socket:[{}]", found.expect("portway's socket").inode)
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned()
}

/// The whole lines that are calls, with or without the id of the thread in front.
fn calls(text: &str) -> Vec<Call> {
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let call = |line: &str| {
        let (name, rest) = line.split_once('(')?;
        let name = name.rsplit(' ').next()?;
        Some(Call {
            name: name.to_owned(),
            rest: rest.to_owned(),
        })
    };
    whole.lines().filter_map(call).collect()
}
