//! The first moments of the program: what it says when it cannot start.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use super::fixture::{PORTWAY, config};

/// A routes.toml that is fine.
fn toml() -> String {
    config(&["127.0.0.1:9".parse().unwrap()], "", "")
}

/// `portway run` on a file of this text, with so many descriptors. What is said until it is ready, or
/// has ended.
fn start_with_descriptors(count: u32) -> (bool, String) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("routes.toml");
    std::fs::write(&file, toml()).unwrap();
    let mut child = Command::new("sh")
        .args(["-c", "ulimit -n $0; exec \"$@\""])
        .args([&count.to_string(), PORTWAY, "run", "--config"])
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    until_ready_or_ended(&mut child)
}

fn until_ready_or_ended(child: &mut Child) -> (bool, String) {
    let mut said = String::new();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let ready = loop {
        let mut line = String::new();
        if stderr.read_line(&mut line).unwrap() == 0 {
            break false;
        }
        said.push_str(&line);
        if line.contains("\"ready\"") {
            break true;
        }
    };
    child.kill().unwrap();
    child.wait().unwrap();
    (ready, said)
}

#[test]
fn a_start_without_descriptors_always_says_why_it_ended() {
    for count in 4..=24 {
        for _ in 0..6 {
            let (ready, said) = start_with_descriptors(count);
            // What failed, and what to do. With too few the loader of the system speaks instead.
            let says_why = said.contains("ulimit -n") || said.contains("shared libraries");
            assert!(ready || says_why, "with {count} descriptors: {said}");
        }
    }
}
