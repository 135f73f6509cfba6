//! The program that an upgrade starts: which one it is, and what happens if it hangs.

use std::io::Read;
use std::process::Command as StdCommand;
use std::time::Instant;

use tempfile::TempDir;
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::{spawn_local, yield_now};
use tokio::time::{advance, pause};

use super::*;
use crate::required;

/// A program that sleeps, at a path of its own with this name.
fn sleeping(name: &str) -> (Program, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    // If this process wrote it, a child of another test could have it open for a moment: "text file busy".
    let mut cp = StdCommand::new("cp");
    let copied = cp.args(["-L", "/bin/sleep"]).arg(&path).status();
    assert!(copied.unwrap().success());
    let program = Program {
        path,
        arguments: Vec::new(),
        from_systemd: String::new(),
    };
    (program, directory)
}

/// Whether this process has a child with this name: that of its program, or before that of the thread that starts it.
fn has_child(name: &str) -> bool {
    let stats = fs::read_dir("/proc").unwrap();
    let stats = stats.filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("stat")).ok());
    let is_it = |stat: String| {
        let (start, fields) = stat.rsplit_once(") ")?;
        let parent = fields.split(' ').nth(1)?;
        Some(start.ends_with(&format!("({name}")) && parent == std::process::id().to_string())
    };
    stats.filter_map(is_it).any(|is_it| is_it)
}

/// Asks the program, and lets the limit pass once its process is there. Returns the error that comes then.
async fn limited(program: Program, name: &str) -> String {
    pause();
    let asked = spawn_local(async move { program.ask(&["600".into()]).await });
    while !has_child(name) {
        yield_now().await;
    }
    advance(Duration::from_secs(9)).await;
    yield_now().await;
    assert!(!asked.is_finished());
    // Timers count in milliseconds.
    advance(Duration::from_millis(1010)).await;
    let said = asked.await.unwrap().unwrap_err();
    assert!(said.contains("did not end within 10 s"), "{said}");
    said
}

/// The process with the lease, which ends with the value.
struct Lessor(std::process::Child);

impl Drop for Lessor {
    fn drop(&mut self) {
        // It may have ended.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn on_threads_named(name: &str, test: impl Future<Output = ()>) {
    let mut builder = Builder::new_current_thread();
    let runtime = builder.enable_all().thread_name(name);
    let runtime = runtime.build_local(LocalOptions::default()).unwrap();
    runtime.block_on(test);
}

#[test]
fn a_program_that_hangs_is_killed_at_its_limit() {
    let name = "hangs";
    on_threads_named(name, async {
        let (program, _directory) = sleeping(name);
        let said = limited(program, name).await;
        assert!(said.contains("hangs 600`"), "{said}");
        while has_child(name) {
            yield_now().await;
        }
    });
}

/// The disk of a program hangs when the kernel opens it. Here another process has a lease on the file, which is waited for.
#[test]
fn a_program_that_cannot_be_read_holds_nothing_else_up_and_is_killed_when_it_comes() {
    let name = "comes-late";
    on_threads_named(name, async {
        let (program, _directory) = sleeping(name);
        // F_SETLEASE is 1024, F_WRLCK is 1.
        let script = "$SIG{IO} = 'IGNORE'; open(F, '<', $ARGV[0]) or die; fcntl(F, 1024, 1) or die $!; print 'x'; \
                      close(STDOUT); sleep 600";
        let mut perl = StdCommand::new("perl");
        perl.args(["-e", script]).arg(&program.path);
        let Ok(lessor) = perl.stdout(Stdio::piped()).spawn() else {
            let remedy = "install perl-base";
            return required::did_not_run(required::PEERS, "perl is missing", remedy);
        };
        let mut lessor = Lessor(lessor);
        let mut said = String::new();
        let mut told = lessor.0.stdout.take().unwrap();
        told.read_to_string(&mut said).unwrap();
        assert_eq!(said, "x");
        let begun = Instant::now();
        limited(program, name).await;
        // The kernel breaks the lease after 45 s.
        assert!(begun.elapsed() < Duration::from_secs(40));
        assert!(has_child(name));
        drop(lessor);
        while has_child(name) {
            yield_now().await;
        }
    });
}

#[test]
fn the_successor_has_the_same_arguments_and_takes_over() {
    let successor = |line: &str| {
        let own = line.split(' ').map(OsString::from);
        arguments(own).join(" ".as_ref()).into_string().unwrap()
    };
    assert_eq!(successor("run"), "run --takeover");
    let first = successor("run --config r.toml --watch");
    assert_eq!(first, "run --takeover --config r.toml --watch");
    // An upgrade after the other does not add it again.
    assert_eq!(successor(&first), first);
    assert_eq!(successor("run r.toml --takeover"), "run --takeover r.toml");
}

#[test]
fn the_own_path_is_the_program_that_runs() {
    assert!(is_same(&own_path().unwrap(), &env::current_exe().unwrap()));
}
