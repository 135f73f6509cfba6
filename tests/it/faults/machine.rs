//! A machine that gives portway little memory or time, or the wrong time of day.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::it::clock::Clock;
use crate::it::fixture::{PATIENCE, PORTWAY, Portway, alike, config, message};
use crate::it::namespace::{CGROUPS, granted_by, in_a_network};
use crate::it::peers::{Backend, End, connect, read_to_end};

/// A group of processes with a limit, gone on drop. Its processes must have ended by then.
struct Cgroup {
    path: PathBuf,
    /// The file of the limit, and whether the kernel has the second version of cgroups.
    limit: (&'static str, bool),
}

impl Cgroup {
    /// A group with this controller, and the file of its limit in either version of cgroups.
    fn new(controller: &str, [old, new]: [&'static str; 2]) -> Result<Self, String> {
        let root = Path::new("/sys/fs/cgroup");
        let is_new = root.join("cgroup.controllers").exists();
        let told = |path: &Path, error| format!("{}: {error}", path.display());
        let parent = if is_new {
            let file = root.join("cgroup.subtree_control");
            fs::write(&file, format!("+{controller}")).map_err(|error| told(&file, error))?;
            root.to_owned()
        } else {
            root.join(controller)
        };
        let path = parent.join(format!("portway-test-{controller}-{}", std::process::id()));
        fs::create_dir(&path).map_err(|error| told(&path, error))?;
        let limit = (if is_new { new } else { old }, is_new);
        Ok(Self { path, limit })
    }

    /// Sets the limit, as each version writes it.
    fn set(&self, [old, new]: [&str; 2]) {
        let (file, is_new) = self.limit;
        fs::write(self.path.join(file), if is_new { new } else { old }).unwrap();
    }

    /// portway as a process of the group.
    fn portway(&self) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$ >\"$0\"/cgroup.procs && exec \"$@\""]);
        command.arg(&self.path).arg(PORTWAY);
        command
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Nothing can be done about a failure.
        drop(fs::remove_dir(&self.path));
    }
}

/// Whether a connection is in use: its backend sends back what comes.
fn is_relayed(mut client: &TcpStream) -> bool {
    let mut echoed = [0; 5];
    client.write_all(b"hello").is_ok()
        && client.read_exact(&mut echoed).is_ok()
        && echoed == *b"hello"
}

#[test]
fn f30_with_little_memory_clients_are_refused_before_the_kernel_kills_the_process() {
    let files = ["memory.limit_in_bytes", "memory.max"];
    let Some(group) = granted_by(CGROUPS, Cgroup::new("memory", files)) else {
        return;
    };
    group.set([&(64 << 20).to_string(); 2].map(|it| &**it));
    in_a_network(|| {
        let backend = Backend::echo();
        let toml = config(&[backend.address()], "", "");
        let portway = Portway::start_by(group.portway(), &toml, Stdio::piped());
        let limits = |line: &_| message(line) == "limits";
        let limits = portway.program.wait(PATIENCE, limits);
        assert_eq!(limits["fields"]["bound_by"], "memory.max", "{limits}");
        let most = limits["fields"]["max_connections"].as_u64().unwrap();
        let clients: Vec<_> = (0..most).map(|_| portway.relayed()).collect();
        let address = portway.address("agents");
        for _ in most..10_000 {
            // The reset may come before the call returns.
            if let Ok(mut late) = TcpStream::connect(address) {
                assert_eq!(read_to_end(&mut late), (Vec::new(), End::Reset));
            }
        }
        // Had the kernel killed it, none of them would be relayed.
        assert!(clients.iter().all(is_relayed));
        let refused = [("outcome", "overloaded")];
        let refused = portway
            .metrics()
            .sum("portway_connections_closed_total", &refused);
        assert_eq!(format!("{refused}"), (10_000 - most).to_string());
    });
}

#[test]
fn f31_with_little_processor_time_clients_wait_and_no_limit_strikes() {
    let Some(group) = granted_by(CGROUPS, Cgroup::new("cpu", ["cpu.cfs_quota_us", "cpu.max"]))
    else {
        return;
    };
    let backend = Backend::echo();
    let toml = config(&[backend.address()], "", "");
    let portway = Portway::start_by(group.portway(), &toml, Stdio::piped());
    // 5 ms in each 100 ms.
    group.set(["5000", "5000 100000"]);
    let clients: Vec<_> = (0..50).map(|_| portway.client()).collect();
    let hello = crate::it::fixture::hello();
    for mut client in clients {
        let mut echoed = vec![0; hello.len()];
        client.read_exact(&mut echoed).unwrap();
        assert!(alike(&echoed, &hello));
        let local = client.local_addr().unwrap();
        drop(client);
        assert_eq!(portway.line_of(local)["outcome"], "closed");
    }
}

/// The line of a client that has ended so. A client before it may have had the same port.
fn ended(portway: &Portway, client: &TcpStream, outcome: &str) -> Value {
    let client = client.local_addr().unwrap().to_string();
    portway.wait_line(|line| line["client"] == *client && line["outcome"] == outcome)
}

#[test]
fn f32_a_time_of_day_that_jumps_moves_no_limit_and_no_duration() {
    let Some(clock) = Clock::new() else {
        return;
    };
    let backend = Backend::echo();
    let limits = "client_hello_timeout = \"2s\"";
    let toml = config(&[backend.address()], limits, "");
    let portway = Portway::start_by(clock.portway(), &toml, Stdio::piped());
    let held = portway.relayed();
    let mut years = Vec::new();
    for jump in ["+10y", "-10y", "+1h", "-1h"] {
        let relayed = portway.relayed();
        let mut silent = connect(portway.address("agents"));
        clock.jump(jump);
        assert!(is_relayed(&relayed) && is_relayed(&held), "{jump}");
        read_to_end(&mut silent);
        let line = ended(&portway, &silent, "hello_timeout");
        let took = Duration::from_secs_f64(line["duration_ms"].as_f64().unwrap() / 1000.0);
        let usual = Duration::from_millis(1900)..Duration::from_secs(20);
        assert!(usual.contains(&took), "{line}");
        relayed.shutdown(Shutdown::Write).unwrap();
        let line = ended(&portway, &relayed, "closed");
        let took = line["duration_ms"].as_f64().unwrap();
        assert!((0.0..60_000.0).contains(&took), "{line}");
        years.push(line["time"].as_str().unwrap()[..4].to_owned());
    }
    assert!(is_relayed(&held));
    let [later, earlier, ..] = &*years else {
        unreachable!()
    };
    assert!(earlier < &years[2] && &years[2] < later, "{years:?}");
}
