//! routes.toml from outside: every file of `config/valid` is fine, every fault of `config/invalid`
//! reads as its snapshot says, and what the repository shows to users parses.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use portway::backend::Target;
use portway::config::keys::{self, Absent, Kind, Under};
use portway::config::{self, Loaded};
use proptest::prelude::*;
use settings::shown;

#[path = "config/large.rs"]
mod large;
#[path = "config/mistakes.rs"]
mod mistakes;
#[path = "config/named.rs"]
mod named;
#[path = "config/secrets.rs"]
mod secrets;
#[path = "support/settings.rs"]
mod settings;
#[path = "support/shapes.rs"]
mod shapes;
#[path = "config/together.rs"]
mod together;

fn files(directory: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let mut files: Vec<PathBuf> = fs::read_dir(&directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{}", directory.display());
    files
}

fn stem(path: &Path) -> &str {
    path.file_stem().unwrap().to_str().unwrap()
}

/// Compares with `tests/config/snapshots/NAME.snap`.
fn assert_snapshot(name: &str, text: &str) {
    insta::with_settings!({
        snapshot_path => "config/snapshots",
        prepend_module_to_snapshot => false,
        omit_expression => true,
    }, {
        insta::assert_snapshot!(name, text);
    });
}

#[track_caller]
fn parse_shown(text: &str, name: &str) -> Loaded {
    config::parse(text, name).unwrap_or_else(|faults| panic!("{faults}"))
}

#[test]
fn valid_files_are_fine() {
    for path in files("tests/config/valid") {
        parse_shown(&fs::read_to_string(&path).unwrap(), stem(&path));
    }
}

#[test]
fn invalid_files_have_every_fault_reported_with_place_and_remedy() {
    for path in files("tests/config/invalid") {
        let text = fs::read_to_string(&path).unwrap();
        let Err(faults) = config::parse(&text, "routes.toml") else {
            panic!("{} is fine", path.display());
        };
        assert_snapshot(stem(&path), &faults.to_string());
    }
}

/// A file as `check --strict` takes it.
#[track_caller]
fn assert_strictly_fine(text: &str, name: &str) {
    let warnings = parse_shown(text, name).warnings;
    assert!(warnings.is_empty(), "{}", warnings.render(false));
}

/// The files of this name below a directory.
fn all_named(name: &str, directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap();
    let below = |path: PathBuf| {
        if path.is_dir() {
            all_named(name, &path)
        } else {
            Vec::from_iter(path.ends_with(name).then_some(path))
        }
    };
    entries
        .flat_map(|entry| below(entry.unwrap().path()))
        .collect()
}

#[test]
fn every_file_that_ships_is_fine_without_a_warning() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut shipped = all_named("routes.toml", &root.join("deploy"));
    assert!(shipped.len() >= 2, "{shipped:?}");
    shipped.push(root.join("routes.toml"));
    for path in shipped {
        assert_strictly_fine(
            &fs::read_to_string(&path).unwrap(),
            &path.display().to_string(),
        );
    }
}

/// The blocks of a Markdown file that are marked as TOML.
fn toml_blocks(markdown: &str) -> impl Iterator<Item = &str> {
    (markdown.split("```toml\n").skip(1)).map(|rest| rest.split("```").next().unwrap_or(rest))
}

#[test]
fn every_file_in_the_documentation_is_fine_without_a_warning() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = files("docs");
    pages.extend(
        [root.join("README.md")]
            .into_iter()
            .filter(|path| path.exists()),
    );
    for page in pages
        .iter()
        .filter(|page| page.extension().is_some_and(|e| e == "md"))
    {
        for block in toml_blocks(&fs::read_to_string(page).unwrap()) {
            assert_strictly_fine(block, &page.display().to_string());
        }
    }
}

/// Every key that has a value, as docs/routes.md writes it.
fn leaves(table: keys::Table, prefix: &str) -> Vec<(String, &'static keys::Key)> {
    let under = |key: &'static keys::Key| match &key.under {
        Under::Value(kind, _) => {
            let path = format!("{prefix}{}", key.name);
            let below = if let Kind::Endpoints(table) = kind {
                leaves(table, &format!("{path}[]."))
            } else if let Kind::DurationOr(_, table) = kind {
                leaves(table, &format!("{path}."))
            } else {
                Vec::new()
            };
            [vec![(path, key)], below].concat()
        }
        Under::Table(table) => leaves(table, &format!("{prefix}{}.", key.name)),
        Under::Named(table, _) => leaves(table, &format!("{prefix}{}.N.", key.name)),
    };
    table.iter().flat_map(under).collect()
}

/// The rows of docs/routes.md: the key, the default, the rest.
fn documented() -> BTreeMap<&'static str, [&'static str; 2]> {
    let rows = include_str!("../docs/routes.md").lines();
    let row = |line: &'static str| {
        let (key, rest) = line.strip_prefix("| `")?.split_once("` | ")?;
        let (default, what) = rest.split_once(" | ")?;
        Some((key, [default, what]))
    };
    rows.filter_map(row).collect()
}

#[test]
fn the_reference_documents_exactly_the_keys_that_work() {
    let mut known: Vec<String> = leaves(keys::ROOT, "").into_iter().map(|(k, _)| k).collect();
    known.sort();
    let documented: Vec<&str> = documented().into_keys().collect();
    assert_eq!(documented, known);
}

#[test]
fn the_reference_says_what_holds_where_a_key_is_left_out() {
    let documented = documented();
    for (path, key) in leaves(keys::ROOT, "") {
        let [stated, _] = documented[&*path];
        let Under::Value(kind, absent) = &key.under else {
            panic!("{path}");
        };
        let is_right = match absent {
            Absent::Default(value) => stated == format!("`{}`", kind.written(value)),
            Absent::Required(_) => stated == "required",
            Absent::RequiredOrNext(_) => stated == "required, or the next",
            Absent::Example(_) => match key.about.split_once("Default: ") {
                Some((_, words)) => words.starts_with(&stated.replace('`', "")),
                None => stated == "none",
            },
        };
        assert!(is_right, "{path}: {stated}: {absent:?}, {:?}", key.about);
    }
}

/// A range as the page states it; `None` if it is the range of all durations or connection counts.
fn range(kind: &Kind) -> Option<String> {
    let unit = |value: u64, units: &[(u64, &str)]| {
        let (size, name) = units.iter().find(|(size, _)| value >= *size).unwrap();
        format!("{} {name}", value / size)
    };
    let size = |value| {
        unit(
            value,
            &[(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")],
        )
    };
    let time = |value: Duration| unit(value.as_secs(), &[(3600, "h"), (1, "s")]);
    let year = Duration::from_hours(8766);
    let [least, most] = match kind {
        Kind::Count(range) if *range.end() < 100_000_000 => {
            [range.start(), range.end()].map(i64::to_string)
        }
        Kind::Size(range) => [*range.start(), *range.end()].map(size),
        Kind::DurationOr(range, _) => [*range.start(), *range.end()].map(time),
        Kind::Duration(range) if *range.end() < year => [*range.start(), *range.end()].map(time),
        Kind::Count(_)
        | Kind::Duration(_)
        | Kind::Choice(_)
        | Kind::Boolean
        | Kind::AddressOrFalse
        | Kind::Text(_)
        | Kind::Texts(_)
        | Kind::TextsOrFalse(_)
        | Kind::Choices(_)
        | Kind::Ports
        | Kind::Endpoints(_) => return None,
    };
    Some(format!("{least} to {most}"))
}

#[test]
fn the_range_of_a_key_is_the_one_that_is_told() {
    let documented = documented();
    let mut seen = 0;
    for (path, key) in leaves(keys::ROOT, "") {
        let Under::Value(kind, _) = &key.under else {
            panic!("{path}");
        };
        let Some(range) = range(kind) else { continue };
        seen += 1;
        let [_, what] = documented[&*path];
        assert!(what.contains(&range), "{path}: {range}: {what}");
        // The schema states the range of a number anyway.
        let is_number = matches!(kind, Kind::Count(_));
        assert!(is_number || key.about.contains(&range), "{path}: {range}");
    }
    assert_eq!(seen, 16);
}

#[test]
fn the_file_with_every_key_has_every_key() {
    let text = include_str!("config/valid/every_key.toml");
    for (path, key) in leaves(keys::ROOT, "") {
        let mut names = text.lines().map(|line| line.split(" = ").next());
        let is_in_a_list = path.contains("[]") && text.contains(&format!(" {} = ", key.name));
        assert!(
            names.any(|name| name == Some(key.name)) || is_in_a_list,
            "{path}"
        );
    }
}

#[test]
fn a_key_that_is_left_out_has_the_documented_default() {
    let text = include_str!("../routes.toml");
    assert_snapshot(
        "defaults",
        &shown(&parse_shown(text, "routes.toml").settings),
    );
}

#[test]
fn each_value_of_the_file_arrives_in_the_settings() {
    let text = include_str!("config/valid/every_key.toml");
    assert_snapshot(
        "every_key",
        &shown(&parse_shown(text, "every_key.toml").settings),
    );
}

#[test]
fn a_listener_admits_whom_it_allows_and_does_not_deny() {
    let text = include_str!("config/valid/every_key.toml");
    let listener = &parse_shown(text, "every_key.toml").settings.listeners[0];
    let admits = |client: &str| listener.clients.admit(client.parse().unwrap());
    assert!(admits("10.1.2.3") && admits("fd00::1"));
    assert!(!admits("10.66.0.1"), "deny wins");
    assert!(!admits("192.0.2.1"), "not allowed");
}

#[test]
fn addresses_and_networks_are_canonical() {
    let text = r#"
[listeners.agents]
bind = ["[::ffff:127.0.0.1]:443"]
deny_clients = ["::ffff:10.0.0.0/104"]

[backends.fleet]
endpoints = ["[::ffff:10.0.0.7]:8220"]

[routes.fleet]
server_names = ["B\u00dcCHER.example", "*.b\u00fccher.example"]
backend = "fleet"
"#;
    let settings = parse_shown(text, "routes.toml").settings;
    let listener = &settings.listeners[0];
    assert_eq!(listener.bind, ["127.0.0.1:443".parse().unwrap()]);
    assert_eq!(*listener.clients.deny, ["10.0.0.0/8".parse().unwrap()]);
    let endpoint = Target::Address("10.0.0.7:8220".parse().unwrap());
    assert_eq!(settings.backends[0].endpoints, [endpoint]);
    let names = &settings.routes.routes()[0].server_names;
    assert_eq!(names[0].to_string(), "xn--bcher-kva.example");
    assert_eq!(names[1].to_string(), "*.xn--bcher-kva.example");
}

#[test]
fn warnings_leave_the_settings_valid() {
    let text = r#"
[admin]
bind = "0.0.0.0:9355"

[listeners.agents]
bind = ["[::]:443"]

[listeners.forgotten]
bind = ["[::]:444"]

[backends.fleet]
endpoints = ["fleet-1.internal:8220"]
idle_timeout = "5m"

[backends.spare]
endpoints = [{ address = "spare.internal:8220", backup = true }]

[backends.lonely]
endpoints = ["10.0.0.1:8220"]
health = { check = "tcp" }
close_on = ["unhealthy"]

[routes.fleet]
server_names = ["fleet.example.com"]
listeners = ["agents"]
alpn = ["h2"]
backend = "fleet"
"#;
    let loaded = parse_shown(text, "routes.toml");
    assert_snapshot("warnings", &loaded.warnings.render(false));
}

/// The warnings of a file whose only backend has these keys.
fn warned_of_backend(keys: &str) -> Vec<String> {
    warned(&format!(
        "[listeners.agents]\nbind = [\"[::]:443\"]\n[backends.fleet]\n{keys}\n\
         [routes.fleet]\nserver_names = [\"fleet.example.com\"]\nbackend = \"fleet\"\n"
    ))
}

#[test]
fn close_on_unhealthy_is_a_warning_only_if_there_is_one_place() {
    let at = |keys: &str| {
        let close = "health = { check = \"tcp\" }\nclose_on = [\"unhealthy\"]";
        warned_of_backend(&format!("{keys}\n{close}"))
    };
    for one_place in [
        "endpoints = [\"10.0.0.1:8220\"]",
        "endpoints = [\"10.0.0.1:8220\"]\nvia = \"http://10.0.0.9:3128\"",
        "endpoints = [\"fleet-1.internal:8220\"]\nvia = \"http://10.0.0.9:3128\"",
        "endpoints = [\"10.0.0.1:8220\"]\nvia = \"http://proxy.corp:3128\"\nresolver.servers = [\"10.0.0.53\"]",
    ] {
        assert_eq!(at(one_place), ["backends.fleet.close_on"], "{one_place}");
    }
    for several in [
        // The proxy may have several addresses.
        "endpoints = [\"10.0.0.1:8220\"]\nvia = \"http://proxy.corp:3128\"",
        // Connections of an unhealthy endpoint that drains go to the other one.
        "endpoints = [\"10.0.0.1:8220\", { address = \"10.0.0.2:8220\", state = \"drain\" }]",
        "endpoints = [\"fleet-1.internal:8220\"]",
    ] {
        assert_eq!(at(several), [""; 0], "{several}");
    }
}

/// An address of this machine can be dialled from a loopback address, and `check` does not know which ones it has.
#[test]
fn a_loopback_source_is_a_warning_if_a_place_that_is_dialled_is_elsewhere() {
    let from = |source: &str, keys: &str| {
        warned_of_backend(&format!("{keys}\nsource_addresses = [\"{source}\"]"))
    };
    for (source, far) in [
        ("127.0.0.1", "endpoints = [\"10.0.0.7:8220\"]"),
        (
            "127.0.0.2",
            "endpoints = [\"127.0.0.1:8220\", \"10.0.0.7:8220\"]",
        ),
        (
            "::1",
            "endpoints = [\"[fd00::7]:8220\", \"fleet-1.internal:8220\"]",
        ),
        (
            "127.0.0.1",
            "endpoints = [\"127.0.0.1:8220\"]\nvia = \"http://10.0.0.9:3128\"",
        ),
    ] {
        let warned = from(source, far);
        assert_eq!(
            warned,
            ["backends.fleet.source_addresses[0]"],
            "{source}: {far}"
        );
    }
    for (source, near) in [
        (
            "127.0.0.2",
            "endpoints = [\"127.0.0.1:8220\", \"[fd00::7]:8220\"]",
        ),
        ("127.0.0.1", "endpoints = [\"fleet-1.internal:8220\"]"),
        ("10.0.0.1", "endpoints = [\"127.0.0.1:8220\"]"),
        (
            "127.0.0.1",
            "endpoints = [\"10.0.0.7:8220\"]\nvia = \"http://127.0.0.1:3128\"",
        ),
    ] {
        assert_eq!(from(source, near), [""; 0], "{source}: {near}");
    }
}

#[test]
fn a_rate_at_which_a_fleet_needs_longer_than_a_check_in_to_come_back_is_a_warning() {
    let file = |limits: &str| {
        format!(
            "[limits]\n{limits}\n[listeners.agents]\nbind = [\"[::]:443\"]\n\
             [backends.fleet]\nendpoints = [\"fleet-1.internal:8220\"]\n\
             [routes.fleet]\nserver_names = [\"fleet.example.com\"]\nbackend = \"fleet\"\n"
        )
    };
    let slow = "accept_rate = 10\nmax_connections = 3010\n\
                accept_rate_per_client = 2\nmax_connections_per_client = 602";
    let warnings = parse_shown(&file(slow), "routes.toml").warnings;
    assert_snapshot("slow_rates", &warnings.render(false));
    for fine in [
        "accept_rate = 10\nmax_connections = 3009",
        "accept_rate_per_client = 2\nmax_connections_per_client = 600",
        "accept_rate = 1\naccept_rate_per_client = 1",
    ] {
        assert_eq!(warned(&file(fine)), [""; 0], "{fine}");
    }
}

/// A file with so many listeners and as many backends, each of which has a route with these further keys.
fn many_pairs(count: usize, keys: impl Fn(usize) -> String) -> String {
    let piece = |n: usize| {
        format!(
            "[listeners.l{n}]\nbind = [\"10.0.{}.{}:443\"]\n\
             [backends.b{n}]\nendpoints = [\"b{n}.internal:443\"]\n\
             [routes.r{n}]\nserver_names = [\"r{n}.example.com\"]\nbackend = \"b{n}\"\n{}",
            n / 256,
            n % 256,
            keys(n)
        )
    };
    (0..count).map(piece).collect()
}

/// Each warning of a file: its key.
fn warned(text: &str) -> Vec<String> {
    let warnings = parse_shown(text, "routes.toml").warnings;
    let key = |line: String| line.split(": ").nth(1).map(str::to_owned);
    warnings.warning_lines().filter_map(key).collect()
}

#[test]
fn a_file_that_makes_very_many_series_is_warned_of_with_their_number() {
    let warnings = |text: &str| {
        let loaded = parse_shown(text, "routes.toml");
        loaded.warnings.render(false)
    };
    let number = |warning: &str| {
        let told = warning.split(" series of metrics").next().unwrap();
        let number = told.rsplit(' ').next().unwrap();
        number.parse::<usize>().unwrap()
    };
    let any = warnings(&many_pairs(100, |_| String::new()));
    assert!(number(&any) > 100 * 100 * 5, "{any}");
    assert!(any.contains("write in each route"), "{any}");
    let endpoints: Vec<String> = (0..10_000).map(|n| format!("n{n}.internal:443")).collect();
    let many = warnings(&format!(
        "listeners.agents.bind = [\"[::]:443\"]\nbackends.fleet.endpoints = {endpoints:?}\n\
         routes.fleet = {{ server_names = [\"**\"], backend = \"fleet\" }}\n"
    ));
    assert!(number(&many) > 10_000 * 7, "{many}");
    assert!(!many.contains("write in each route"), "{many}");
    let own = warnings(&many_pairs(100, |n| format!("listeners = [\"l{n}\"]\n")));
    assert_eq!(own, "");
}

#[test]
fn the_pairs_that_routes_join_are_bounded() {
    let few = many_pairs(300, |n| format!("listeners = [\"l{n}\"]\n"));
    assert!(config::parse(&few, "routes.toml").is_ok());
    let faults = config::parse(&many_pairs(300, |_| String::new()), "routes.toml").unwrap_err();
    let text = faults.render(false);
    assert!(
        text.contains("join 90000 pairs of a listener and a backend"),
        "{text}"
    );
}

const FINE: &str = include_str!("../routes.toml");

#[test]
fn an_admin_address_that_others_can_reach_is_a_warning_until_it_is_acknowledged() {
    let with = |admin: &str| warned(&format!("{FINE}[admin]\n{admin}\n"));
    for address in ["0.0.0.0:9355", "[::]:9355", "10.0.0.1:9355"] {
        assert_eq!(with(&format!("bind = \"{address}\"")), ["admin.bind"]);
        let exposed = |value| with(&format!("bind = \"{address}\"\nexposed = {value}"));
        assert_eq!(exposed("false"), ["admin.bind"]);
        assert!(exposed("true").is_empty());
    }
    for quiet in [
        "bind = false",
        "bind = \"127.0.0.1:1\"",
        "bind = \"[::1]:1\"",
        "",
    ] {
        assert!(with(quiet).is_empty(), "{quiet}");
        assert!(
            with(&format!("{quiet}\nexposed = true")).is_empty(),
            "{quiet}"
        );
    }
}

/// A file with this server name and this endpoint.
fn led(server_name: &str, endpoint: &str) -> String {
    let text = FINE.replace("\"fleet.example.com\"", &format!("{server_name:?}"));
    text.replace(
        "\"es-1.internal:9200\"",
        &format!("\"es-1.internal:9200\", {endpoint:?}"),
    )
}

#[test]
fn an_endpoint_under_a_name_that_clients_use_is_a_warning_of_both_places() {
    let text = led("fleet.example.com", "fleet.example.com:8220");
    let warnings = parse_shown(&text, "routes.toml").warnings;
    assert_snapshot("own_names", &warnings.render(false));
    for (server_name, endpoint) in [
        ("Fleet.Example.com", "fleet.example.COM.:443"),
        ("b\u{fc}cher.example", "xn--bcher-kva.example:443"),
    ] {
        let key = "backends.elasticsearch.endpoints[1]";
        assert_eq!(warned(&led(server_name, endpoint)), [key], "{endpoint}");
    }
}

#[test]
fn an_endpoint_that_may_well_lead_elsewhere_causes_no_warning() {
    for (server_name, endpoint) in [
        ("fleet.example.com", "10.0.0.7:443"),
        ("fleet.example.com", "fleet-1.example.com:443"),
        ("*.es.example.com", "es-1.es.example.com:9200"),
        ("**.example.com", "es-1.es.example.com:9200"),
        ("**", "es-1.es.example.com:9200"),
    ] {
        assert!(warned(&led(server_name, endpoint)).is_empty(), "{endpoint}");
    }
}

#[test]
fn a_file_that_is_not_text_is_a_clear_fault() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::write(at("large.toml"), "#".repeat(1 + (1 << 20))).unwrap();
    fs::write(at("latin1.toml"), b"workers = 4\n# caf\xe9\n").unwrap();
    let told = |path: &Path| {
        let faults = config::load(path).unwrap_err().to_string();
        faults.replace(directory.path().to_str().unwrap(), "DIR")
    };
    let all: Vec<String> = ["missing.toml", "large.toml", "latin1.toml", ""]
        .iter()
        .map(|name| told(&at(name)))
        .collect();
    assert_snapshot("unreadable", &all.join("\n\n"));
}

#[test]
fn the_admin_address_can_be_read_whatever_is_wrong_elsewhere() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("routes.toml");
    let admin = |text: &str| {
        fs::write(&path, text).unwrap();
        let admin = config::admin(&path);
        admin.map_err(|faults| faults.lines().collect::<Vec<_>>())
    };
    let at = |line| {
        Ok(config::Admin {
            address: Some("127.0.0.1:7".parse().unwrap()),
            line: Some(line),
        })
    };
    let section = "[admin]\nbind = \"127.0.0.1:7\"\n";
    // More faults than are shown.
    let many = format!("[limits]\n{}", "max_connections = =\n".repeat(200));
    for broken in [
        "[listeners.agents]\nbind = [\"[::]:443\"\n",
        "[listeners.agents\nbind = 1\n",
        "[routes.fleet]\nbackend = \"\"\"fleet\"\n",
        "[limits]\nmax_connections = 0\n",
        &many,
    ] {
        assert_eq!(
            admin(&format!("{broken}{section}")),
            at(broken.lines().count() + 2),
            "{broken}"
        );
        assert_eq!(admin(&format!("{section}{broken}")), at(2), "{broken}");
        for wrong in ["[admin]\nbind = 127.0.0.1:7\n", "[admin\nbind = false\n"] {
            let faults = admin(&format!("{broken}{wrong}")).unwrap_err();
            assert!(
                faults.len() == 1 && faults[0].contains(": admin"),
                "{faults:?}"
            );
        }
        let default = admin(&format!("{broken}[admin]\nexposed = true\n")).unwrap();
        assert_eq!(
            (default.line, default.address.unwrap().port()),
            (None, 9355)
        );
    }
}

#[test]
fn a_line_of_the_log_has_every_place_that_its_fault_has() {
    let text = "[listeners.agents]\nbind = [\"[::]:443\", \"0.0.0.0:443\"]\n\
                [backends.fleet]\nendpoints = [\"a:1\"]\n";
    let faults = config::parse(text, "routes.toml").unwrap_err();
    let lines: Vec<String> = faults.lines().collect();
    assert_eq!(
        lines,
        [
            "routes.toml:1:1: there are no routes; write [routes.fleet], server_names = \
             [\"fleet.example.com\"] and backend = \"fleet\"",
            "routes.toml:2:21: listeners.agents.bind[1]: 0.0.0.0:443 is in use by \
             listeners.agents.bind[0] = [::]:443; listeners.agents.bind[0] is at routes.toml:2:9; \
             write another port, or addresses that do not overlap",
        ]
    );
    let faults = config::read(Path::new("missing.toml")).unwrap_err();
    let lines: Vec<String> = faults.lines().collect();
    assert_eq!(
        lines,
        [
            "missing.toml: cannot be read: No such file or directory (os error 2); \
          check the path, or name the file with --config FILE"
        ]
    );
}

#[test]
fn a_file_of_garbage_is_reported_in_bounded_length() {
    let lines: Vec<String> = (0..100).map(|n| format!("key{n} = {n}")).collect();
    let text = lines.join("\n");
    let faults = config::parse(&text, "routes.toml").unwrap_err().to_string();
    assert_eq!(faults.matches("error: ").count(), 51);
    assert!(faults.contains("more in routes.toml"), "{faults}");
}

/// Pieces that make a mutated file wrong in ways other than syntax.
const PIECES: [&str; 24] = [
    "0",
    "-1",
    "\"\"",
    "[]",
    "true",
    "\"5s\"",
    "\"64KiB\"",
    "\"**\"",
    "\"::1:443\"",
    "\"10.0.0.1/8\"",
    "\"\u{fc}.example\"",
    "\"*.\"",
    "\u{0}",
    "\r\n",
    "\u{feff}",
    "[routes.\"\"]\n",
    "bind = [\"[::]:443\"]\n",
    "{ a = 1 }",
    "[[routes]]\n",
    "1979-05-27",
    "nan",
    "9223372036854775807",
    "\"\"\"",
    "#",
];

proptest! {
    #[test]
    fn no_mutation_of_a_file_makes_the_parser_panic(
        seed in prop::sample::select(vec![
            include_str!("../routes.toml"),
            include_str!("config/valid/every_key.toml"),
            include_str!("config/invalid/ties.toml"),
        ]),
        cuts in prop::collection::vec(
            (any::<prop::sample::Index>(), 0..30_usize, prop::sample::select(PIECES.to_vec())),
            1..4,
        ),
    ) {
        let mut text: Vec<char> = seed.chars().collect();
        for (place, length, piece) in cuts {
            let start = place.index(text.len());
            let end = (start + length).min(text.len());
            text.splice(start..end, piece.chars());
            if text.is_empty() { break; }
        }
        let text: String = text.into_iter().collect();
        match config::parse(&text, "routes.toml") {
            Ok(loaded) => drop(loaded.warnings.render(true)),
            Err(faults) => {
                prop_assert!(!faults.is_empty());
                drop(faults.render(true));
            }
        }
    }

    #[test]
    fn no_nesting_needs_more_than_a_small_stack(
        levels in prop::collection::vec(
            (prop::sample::select(vec!["{", "[", "", "[{"]), 1..90_usize),
            1..90,
        ),
        key in prop::sample::select(vec!["x", "limits", "routes.a.backend", "listeners.a.bind"]),
    ) {
        let level = |(open, parts): &(&str, usize)| format!("{open}{}=", vec!["a"; *parts].join("."));
        let opened: String = levels.iter().map(level).collect();
        let opens = levels.iter().flat_map(|(open, _)| open.chars());
        let closed: String = opens.rev().map(|c| if c == '{' { '}' } else { ']' }).collect();
        let text = format!("{key}={opened}1{closed}\n{opened}\n[{key}]\n{opened}");
        let small = std::thread::Builder::new().stack_size(256 << 10);
        let check = move || config::parse(&text, "routes.toml").is_err();
        prop_assert!(small.spawn(check).unwrap().join().unwrap());
    }
}
