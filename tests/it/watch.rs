//! `run --watch` notices changes of the file.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::fixture::{PATIENCE, PORTWAY, Portway, config, message, pause, route, within};
use super::peers::Backend;

fn wait_generation(portway: &Portway, generation: u64) {
    within(PATIENCE, "the new file is in force", || {
        let known = portway.count("portway_config_generation");
        (known >= generation).then_some(())
    });
}

/// A process that has begun to watch its file.
fn watching(toml: &str) -> Portway {
    let portway = Portway::start_args(toml, &["--watch"]);
    within(PATIENCE, "it watches", || {
        (portway.count("portway_config_watch{mode=\"inotify\"}") == 1).then_some(())
    });
    portway
}

#[test]
fn a_changed_file_is_in_force_however_it_was_written() {
    let backend = Backend::echo();
    let toml = config(&[backend.address()], "", "");
    let portway = watching(&toml);
    let with = |name: &str| format!("{toml}{}", route(name, backend.address(), ""));
    // By a rename, in place, and by removing it first.
    portway.write(&with("renamed"));
    wait_generation(&portway, 2);
    fs::write(portway.file(), with("in-place")).unwrap();
    wait_generation(&portway, 3);
    fs::remove_file(portway.file()).unwrap();
    within(
        PATIENCE,
        "the metrics show that the file is missing",
        || (portway.metric("portway_config_last_reload_successful") < 0.5).then_some(()),
    );
    fs::write(portway.file(), with("anew")).unwrap();
    wait_generation(&portway, 4);
    assert_eq!(portway.count("portway_config_last_reload_successful"), 1);
    // Another file is ignored, and so is the same content.
    fs::write(portway.file().with_file_name("other"), "x").unwrap();
    fs::write(portway.file(), with("anew")).unwrap();
    pause(Duration::from_millis(700));
    assert_eq!(portway.count("portway_config_generation"), 4);
}

#[test]
fn a_file_that_cannot_be_read_as_text_is_tried_once() {
    let backend = Backend::echo();
    let portway = Portway::start_args(&config(&[backend.address()], "", ""), &["--watch"]);
    within(PATIENCE, "it watches", || {
        (portway.count("portway_config_watch{mode=\"inotify\"}") == 1).then_some(())
    });
    let failures = || portway.count("portway_reloads_total{result=\"failure\"}");
    fs::write(portway.file(), [0xff, 0xfe]).unwrap();
    within(PATIENCE, "the metrics show the fault", || {
        (failures() == 1).then_some(())
    });
    // These events of the directory do not change the file.
    for name in ["a", "b", "c"] {
        fs::write(portway.file().with_file_name(name), name).unwrap();
        pause(Duration::from_millis(300));
    }
    assert_eq!(failures(), 1);
}

#[test]
fn a_file_that_could_not_be_read_for_a_while_is_in_force_again_without_a_change() {
    let backend = Backend::echo();
    let toml = config(&[backend.address()], "", "");
    let portway = watching(&toml);
    let is_fine = |fine: u64| {
        let now = portway.count("portway_config_last_reload_successful");
        (now == fine).then_some(())
    };
    let aside = portway.file().with_file_name("aside");
    fs::rename(portway.file(), &aside).unwrap();
    // A link to itself cannot be opened.
    symlink(portway.file(), portway.file()).unwrap();
    within(PATIENCE, "the metrics show the fault", || is_fine(0));
    fs::rename(&aside, portway.file()).unwrap();
    within(PATIENCE, "the file is in force again", || is_fine(1));
}

#[test]
fn a_file_whose_address_is_busy_is_tried_until_the_address_is_free() {
    let backend = Backend::echo();
    let toml = config(&[backend.address()], "", "");
    let portway = watching(&toml);
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = other.local_addr().unwrap();
    portway.write(&format!("{toml}[listeners.more]\nbind = [\"{busy}\"]\n"));
    let failures = || portway.count("portway_reloads_total{result=\"failure\"}");
    within(PATIENCE, "the metrics show the fault", || {
        (failures() == 1).then_some(())
    });
    // The fault is counted once, however often portway tries.
    pause(Duration::from_secs(3));
    assert_eq!(failures(), 1);
    drop(other);
    wait_generation(&portway, 2);
}

/// The last reload has failed until one succeeds.
#[test]
fn a_file_that_is_again_as_before_its_address_was_busy_is_in_force_again() {
    let backend = Backend::echo();
    let toml = config(&[backend.address()], "", "");
    let portway = watching(&toml);
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = other.local_addr().unwrap();
    let is_fine = |fine: u64| {
        let now = portway.count("portway_config_last_reload_successful");
        (now == fine).then_some(())
    };
    portway.write(&format!("{toml}[listeners.more]\nbind = [\"{busy}\"]\n"));
    within(PATIENCE, "the metrics show the fault", || is_fine(0));
    portway.write(&toml);
    within(PATIENCE, "the file is in force again", || is_fine(1));
}

#[test]
fn a_file_that_changes_in_a_drain_fills_no_log() {
    let backend = Backend::echo();
    let toml = config(&[backend.address()], "drain_delay = \"60s\"", "");
    let portway = watching(&toml);
    portway.signal(Signal::TERM);
    let draining = |line: &Value| message(line) == "draining";
    portway.program.wait(PATIENCE, draining);
    portway.write(&format!("{toml}{}", route("more", backend.address(), "")));
    // portway tries again every two seconds.
    pause(Duration::from_secs(3));
    portway.signal(Signal::HUP);
    let refused = |line: &Value| message(line).contains("does not reload");
    portway.program.wait(PATIENCE, refused);
    let lines = portway.program.all();
    assert_eq!(lines.iter().filter(|line| refused(line)).count(), 1);
}

/// Does what the kubelet does with a volume of a ConfigMap: the file is a link through `..data`, which is a
/// link to a directory, and that link is replaced by a rename.
#[test]
fn f23_the_swap_of_a_kubernetes_volume_is_in_force() {
    let backend = Backend::echo();
    let toml = config(&[backend.address()], "", "");
    let volume = tempfile::tempdir().unwrap();
    let swap = |time: &str, toml: &str| {
        let data = volume.path().join(format!("..{time}"));
        fs::create_dir(&data).unwrap();
        fs::write(data.join("routes.toml"), toml).unwrap();
        let link = volume.path().join("..data_tmp");
        symlink(Path::new(&format!("..{time}")), &link).unwrap();
        fs::rename(link, volume.path().join("..data")).unwrap();
    };
    swap("one", &toml);
    let file = volume.path().join("routes.toml");
    symlink("..data/routes.toml", &file).unwrap();
    let portway = Portway::start_at(&file, &["--watch"]);
    swap(
        "two",
        &format!("{toml}{}", route("two", backend.address(), "")),
    );
    fs::remove_dir_all(volume.path().join("..one")).unwrap();
    wait_generation(&portway, 2);
    swap("bad", "nonsense");
    within(PATIENCE, "the metrics show the fault", || {
        (portway.metric("portway_config_last_reload_successful") < 0.5).then_some(())
    });
    swap("three", &toml);
    wait_generation(&portway, 3);
}

/// Runs in a user namespace without inotify instances.
#[test]
fn without_inotify_a_changed_file_is_looked_for() {
    let namespace = ["--user", "--map-root-user"];
    let given = Command::new("unshare").args(namespace).arg("true").status();
    if !given.is_ok_and(|status| status.success()) {
        eprintln!("not tested: this host gives no user namespaces");
        return;
    }
    let backend = Backend::echo();
    let toml = config(&[backend.address()], "", "");
    let mut command = Command::new("unshare");
    let script = "echo 0 >/proc/sys/user/max_inotify_instances && exec \"$0\" \"$@\" --watch";
    command.args(namespace).args(["sh", "-c", script, PORTWAY]);
    let portway = Portway::start_by(command, &toml, Stdio::piped());
    assert_eq!(portway.count("portway_config_watch{mode=\"poll\"}"), 1);
    let warns = |line: &Value| message(line).contains("inotify fails");
    portway.program.wait(PATIENCE, warns);
    portway.write(&format!("{toml}{}", route("two", backend.address(), "")));
    wait_generation(&portway, 2);
}
