//! `run --watch` notices changes of the file.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::far::shell;
use super::fixture::{PATIENCE, PORTWAY, Portway, config, message, pause, route, within};
use super::namespace::{USER_NAMESPACES, granted_by};
use super::peers::Backend;

/// Ten times what it may take where inotify is silent.
const NOTICED: Duration = Duration::from_secs(50);

fn wait_generation(portway: &Portway, generation: u64) {
    within(NOTICED, "the new file is in force", || {
        let known = portway.count("portway_config_generation");
        (known >= generation).then_some(())
    });
}

/// A process that has begun to watch its file.
fn watching(toml: &str) -> Portway {
    begun(Portway::start_args(toml, &["--watch"]))
}

/// The same with a file that the test keeps.
fn watching_at(file: &Path) -> Portway {
    begun(Portway::start_at(file, &["--watch"]))
}

fn begun(portway: Portway) -> Portway {
    within(PATIENCE, "it watches", || {
        (portway.count("portway_config_watch{mode=\"inotify\"}") == 1).then_some(())
    });
    portway
}

/// Makes a symbolic link to `target`, or replaces it by a rename.
fn link(target: &str, link: &Path) {
    let new = link.with_file_name("new-link");
    symlink(target, &new).unwrap();
    fs::rename(new, link).unwrap();
}

/// Does what the kubelet does with a volume of a ConfigMap: the file is a link through `..data`, which is a
/// link to a directory, and that link is replaced by a rename.
fn publish(volume: &Path, time: &str, toml: &str) {
    let data = volume.join(format!("..{time}"));
    fs::create_dir(&data).unwrap();
    fs::write(data.join("routes.toml"), toml).unwrap();
    link(&format!("..{time}"), &volume.join("..data"));
}

/// A routes.toml with one route, and the same with another one.
fn versions() -> (Backend, String, impl Fn(&str) -> String) {
    let backend = Backend::echo();
    let toml = config(&[backend.address()], "", "");
    let (first, address) = (toml.clone(), backend.address());
    let with = move |name: &str| format!("{toml}{}", route(name, address, ""));
    (backend, first, with)
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

#[test]
fn f23_the_swap_of_a_kubernetes_volume_is_in_force() {
    let (_backend, toml, with) = versions();
    let directory = tempfile::tempdir().unwrap();
    let volume = directory.path();
    publish(volume, "one", &toml);
    let file = volume.join("routes.toml");
    symlink("..data/routes.toml", &file).unwrap();
    let portway = watching_at(&file);
    publish(volume, "two", &with("two"));
    fs::remove_dir_all(volume.join("..one")).unwrap();
    wait_generation(&portway, 2);
    publish(volume, "bad", "nonsense");
    within(PATIENCE, "the metrics show the fault", || {
        (portway.metric("portway_config_last_reload_successful") < 0.5).then_some(())
    });
    publish(volume, "three", &toml);
    wait_generation(&portway, 3);
}

/// inotify watches the directory of the link, where nothing happens.
#[test]
fn a_swap_in_another_directory_to_which_the_file_is_a_link_is_in_force() {
    let (_backend, toml, with) = versions();
    let directory = tempfile::tempdir().unwrap();
    let (etc, volume) = (
        directory.path().join("etc"),
        directory.path().join("volume"),
    );
    fs::create_dir(&etc).unwrap();
    fs::create_dir(&volume).unwrap();
    publish(&volume, "one", &toml);
    symlink("..data/routes.toml", volume.join("routes.toml")).unwrap();
    let file = etc.join("routes.toml");
    symlink("../volume/routes.toml", &file).unwrap();
    let portway = watching_at(&file);
    publish(&volume, "two", &with("two"));
    wait_generation(&portway, 2);
}

#[test]
fn a_file_in_another_directory_that_is_changed_in_place_is_in_force() {
    let (_backend, toml, with) = versions();
    let directory = tempfile::tempdir().unwrap();
    let (etc, shared) = (
        directory.path().join("etc"),
        directory.path().join("shared"),
    );
    fs::create_dir(&etc).unwrap();
    fs::create_dir(&shared).unwrap();
    fs::write(shared.join("routes.toml"), &toml).unwrap();
    let file = etc.join("routes.toml");
    symlink("../shared/routes.toml", &file).unwrap();
    let portway = watching_at(&file);
    fs::write(shared.join("routes.toml"), with("two")).unwrap();
    wait_generation(&portway, 2);
}

/// inotify goes on watching the directory that was there at the start.
#[test]
fn a_directory_that_is_replaced_is_in_force_and_so_are_changes_in_the_new_one() {
    let (_backend, toml, with) = versions();
    let directory = tempfile::tempdir().unwrap();
    let release = |name: &str, toml: &str| {
        let release = directory.path().join(name);
        fs::create_dir(&release).unwrap();
        fs::write(release.join("routes.toml"), toml).unwrap();
    };
    let current = directory.path().join("current");
    release("one", &toml);
    link("one", &current);
    let portway = watching_at(&current.join("routes.toml"));
    release("two", &with("two"));
    link("two", &current);
    wait_generation(&portway, 2);
    fs::write(current.join("routes.toml"), with("changed")).unwrap();
    wait_generation(&portway, 3);
}

/// Runs in a user namespace without inotify instances.
#[test]
fn without_inotify_a_changed_file_is_looked_for() {
    let namespace = ["--user", "--map-root-user"];
    let given = shell("unshare --user --map-root-user true");
    if granted_by(USER_NAMESPACES, given).is_none() {
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
