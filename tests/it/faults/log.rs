//! A log that portway cannot write to (F34).

use std::fs::File;
use std::io::pipe;
use std::process::Stdio;
use std::thread;

use crate::it::fixture::{Portway, config};
use crate::it::peers::Backend;

/// Checks that connections work as usual, and that lost lines are counted.
fn serves_without_a_log(stdout: Stdio) {
    let backend = Backend::echo();
    let portway = Portway::start_with(&config(&[backend.address()], "", ""), stdout);
    for _ in 0..60 {
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..100).for_each(|_| drop(portway.relayed())));
            }
        });
        if portway.metric("portway_log_lines_dropped_total") > 0.0 {
            drop(portway.relayed());
            return;
        }
    }
    panic!("no line was lost: {}", portway.metrics().page);
}

#[test]
fn f34_a_full_disk_under_the_log_stops_nothing() {
    serves_without_a_log(
        File::options()
            .write(true)
            .open("/dev/full")
            .unwrap()
            .into(),
    );
}

#[test]
fn f34_a_stopped_reader_of_the_log_stops_nothing() {
    let (reader, writer) = pipe().unwrap();
    serves_without_a_log(writer.into());
    drop(reader);
}

#[test]
fn f34_a_reader_of_the_log_that_has_gone_stops_nothing() {
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    serves_without_a_log(writer.into());
}
