//! The cost of a routes.toml depends only on its size, whatever is in it. The program reads it with little
//! memory, on a small stack.

use std::fs;
use std::process::Command;

use super::shapes;

/// The address space of the program, in KiB: a pod has 256 MiB of memory for everything.
const MEMORY: usize = 256 << 10;

/// The stack, in KiB: a thread that reloads the file has 2 MiB.
const STACK: usize = 512;

/// Longest time in seconds: a hundred times what a reload may take.
const LONGEST: usize = 500;

#[test]
fn a_large_file_is_checked_with_little_memory_and_told_in_bounded_length() {
    let directory = tempfile::tempdir().unwrap();
    for shape in shapes::all() {
        fs::write(directory.path().join("routes.toml"), &shape.text).unwrap();
        let limited =
            format!("ulimit -v {MEMORY}; ulimit -s {STACK}; exec timeout {LONGEST} \"$0\" check");
        let output = Command::new("sh")
            .args(["-c", &limited])
            .arg(env!("CARGO_BIN_EXE_portway"))
            .current_dir(directory.path())
            .output()
            .unwrap();
        let (status, told) = (output.status, String::from_utf8(output.stderr).unwrap());
        let name = shape.name;
        let expected = if shape.faults == 0 { 0 } else { 78 };
        assert_eq!(
            status.code(),
            Some(expected),
            "{name}: {status} {}",
            start_of(&told)
        );
        assert!(told.len() < 64 << 10, "{name}: {} bytes", told.len());
        if shape.faults > 0 {
            assert_eq!(faults(&told), shape.faults, "{name}: {}", start_of(&told));
        }
    }
}

/// How many faults the output lists and counts.
fn faults(told: &str) -> usize {
    let counted = told.lines().filter_map(|line| {
        let (count, _) = line.strip_prefix("error: ")?.split_once(" more in ")?;
        count.parse::<usize>().ok()
    });
    let counted: Vec<usize> = counted.collect();
    told.matches("error: ").count() - counted.len() + counted.iter().sum::<usize>()
}

fn start_of(told: &str) -> &str {
    told.get(..1000).unwrap_or(told)
}
