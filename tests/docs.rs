//! The facts that README, ARCHITECTURE and the pages of `docs` state: names, links, defaults, dependencies.
//! Tables that belong to one module (metrics, outcomes, log fields, keys) are tested beside it.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};

use portway::config;
use portway::outcome::Outcome;
use portway::routing::Query;
use portway::telemetry::metrics::{Kind, TABLE};
use portway::tls::{AlertDescription, Alpn, ServerName};
use strum::VariantArray;

#[path = "docs/elastic.rs"]
mod elastic;
#[path = "docs/observing.rs"]
mod observing;
#[path = "support/settings.rs"]
mod settings;

const README: &str = include_str!("../README.md");
const ARCHITECTURE: &str = include_str!("../ARCHITECTURE.md");
const OUTCOMES: &str = include_str!("../docs/outcomes.md");
const TROUBLESHOOTING: &str = include_str!("../docs/troubleshooting.md");
const ROUTES: &str = include_str!("../docs/routes.md");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn under(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(under(&path, extension));
        } else if path.extension().is_some_and(|it| it == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Every page for readers: its path and text.
fn pages() -> Vec<(PathBuf, String)> {
    let mut paths = under(&root().join("docs"), "md");
    for entry in fs::read_dir(root()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|it| it == "md") {
            paths.push(path);
        }
    }
    assert!(paths.len() > 5, "{paths:?}");
    let text = |path: PathBuf| (path.clone(), fs::read_to_string(path).unwrap());
    paths.into_iter().map(text).collect()
}

/// The text outside fenced blocks.
fn prose(page: &str) -> String {
    page.split("```").step_by(2).collect()
}

/// The texts between backticks outside fenced blocks.
fn quoted(page: &str) -> Vec<String> {
    let prose = prose(page);
    prose
        .split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// The blocks of a language.
fn blocks<'p>(page: &'p str, language: &str) -> Vec<&'p str> {
    let fence = format!("```{language}\n");
    let after = page.split(fence.as_str()).skip(1);
    after
        .map(|rest| rest.split("```").next().unwrap())
        .collect()
}

/// The cells of the table under these headings.
fn table<'p>(page: &'p str, headings: &str) -> Vec<Vec<&'p str>> {
    let (_, rest) = (page.split_once(headings)).unwrap_or_else(|| panic!("no table {headings}"));
    let rows = rest
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let cells = |line: &'p str| line.trim_matches('|').split(" | ").map(str::trim).collect();
    let rows: Vec<_> = rows.map(cells).collect();
    assert!(!rows.is_empty(), "{headings}");
    rows
}

/// The words of a text that begin with a prefix. Names of Prometheus recording rules contain colons and
/// begin differently.
fn words<'p>(page: &'p str, prefix: &'static str) -> impl Iterator<Item = &'p str> {
    page.split(|c: char| !(c.is_ascii_alphanumeric() || "_:".contains(c)))
        .map(|word| word.trim_matches(':'))
        .filter(move |word| word.len() > prefix.len() && word.starts_with(prefix))
}

/// The source of one module, or of all modules.
fn source(module: Option<&str>) -> String {
    let src = root().join("src");
    let mut files = under(&src, "rs");
    if let Some(module) = module {
        let (file, directory) = (src.join(format!("{module}.rs")), src.join(module));
        files.retain(|path| *path == file || path.starts_with(&directory));
    }
    let texts = files.iter().map(|path| fs::read_to_string(path).unwrap());
    texts.collect()
}

/// The links of a page that lead to a file: its path, and the heading in it, empty if there is none.
fn links(page: &Path, text: &str) -> Vec<(PathBuf, String)> {
    let prose = prose(text);
    let targets = prose.split("](").skip(1);
    targets
        .map(|rest| rest.split(')').next().unwrap())
        .filter(|target| !target.starts_with("https://"))
        .map(|target| {
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let directory = page.parent().unwrap();
            let file = match file {
                "" => page.to_owned(),
                file => plain(&directory.join(file)),
            };
            (file, heading.to_owned())
        })
        .collect()
}

/// The path without `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        if component == Component::ParentDir {
            plain.pop();
        } else {
            plain.push(component);
        }
    }
    plain
}

/// Whether the page has a heading of this anchor, as GitHub makes it.
fn has_heading(page: &str, anchor: &str) -> bool {
    let mut headings = page.lines().filter(|line| line.starts_with('#'));
    headings.any(|line| {
        let words = line.trim_start_matches('#').trim().to_lowercase();
        let kept = |c: &char| c.is_alphanumeric() || " -_".contains(*c);
        let kept: String = words.chars().filter(kept).collect();
        kept.replace(' ', "-") == anchor
    })
}

#[test]
fn every_link_inside_the_repository_resolves() {
    let mut headings = 0;
    for (page, text) in pages() {
        for (file, heading) in links(&page, &text) {
            let (from, to) = (page.display(), file.display());
            assert!(file.exists(), "{from}: {to}");
            if !heading.is_empty() {
                headings += 1;
                let text = fs::read_to_string(&file).unwrap();
                assert!(has_heading(&text, &heading), "{from}: {to}#{heading}");
            }
        }
    }
    assert!(headings > 1, "{headings}");
}

#[test]
fn the_index_has_every_page_once() {
    let index = root().join("docs/README.md");
    let text = fs::read_to_string(&index).unwrap();
    let docs = root().join("docs");
    let mut listed: Vec<PathBuf> = links(&index, &text).into_iter().map(|it| it.0).collect();
    listed.retain(|file| file.starts_with(&docs));
    listed.sort();
    let mut pages = under(&docs, "md");
    pages.retain(|page| *page != index);
    assert_eq!(listed, pages);
    let first = links(&root().join("README.md"), README);
    assert!(first.iter().any(|(file, _)| *file == index), "README.md");
}

#[test]
fn the_first_page_about_elastic_has_every_topology_of_the_lab() {
    let page = include_str!("../docs/elastic/README.md");
    let lab = include_str!("../examples/lab/topologies.rs");
    let promises = include_str!("../examples/lab/topologies/promises.rs");
    let rows = table(page, "| topology | page |");
    assert_eq!(lab.matches("    (\"T").count(), rows.len());
    for row in rows {
        let (_, page) = row[1].split_once("](").unwrap();
        let entry = format!("(\"{}\", \"{}\"),", row[0], page.trim_end_matches(')'));
        assert!(lab.contains(&entry), "{entry}");
        assert!(
            promises.contains(&format!("(\"{}\", ", row[0])),
            "{}",
            row[0]
        );
    }
}

/// Where the Debian package puts the files of the repository.
fn packaged() -> BTreeMap<PathBuf, PathBuf> {
    let cargo: toml::Table = include_str!("../Cargo.toml").parse().unwrap();
    let keys = ["package", "metadata", "deb", "assets"];
    let assets = keys.iter().fold(toml::Value::Table(cargo), |value, key| {
        value.get(key).unwrap().clone()
    });
    let assets: Vec<(String, String, String)> = assets.try_into().unwrap();
    let mut files = BTreeMap::new();
    for (from, to, _mode) in assets {
        // Files that the build of the package makes do not exist yet.
        if from.starts_with("target/") {
            continue;
        }
        let from = root().join(from);
        let (directory, name) = (from.parent().unwrap(), from.file_name().unwrap());
        let found = match name.to_str().unwrap().strip_prefix('*') {
            Some(end) => fs::read_dir(directory)
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .filter(|path| path.is_file() && path.to_str().unwrap().ends_with(end))
                .collect(),
            None => vec![from],
        };
        for path in found {
            let mut installed = Path::new("/").join(&to);
            if to.ends_with('/') {
                installed.push(path.file_name().unwrap());
            }
            files.insert(path, installed);
        }
    }
    files
}

#[test]
fn every_link_of_a_page_resolves_where_the_package_puts_it() {
    let packaged = packaged();
    let mut seen = 0;
    for (page, text) in pages() {
        let Some(installed) = packaged.get(&page) else {
            continue;
        };
        let there = links(installed, &text).into_iter();
        for ((file, _), (there, _)) in links(&page, &text).into_iter().zip(there) {
            seen += 1;
            let is_there = if file.is_dir() {
                packaged.values().any(|it| it.starts_with(&there))
            } else {
                packaged.get(&file) == Some(&there)
            };
            assert!(is_there, "{}: {}", installed.display(), there.display());
        }
    }
    assert!(seen > 40, "{seen}");
}

#[test]
fn every_alert_leads_to_its_section_of_the_runbook() {
    let runbook = include_str!("../docs/runbook.md");
    let component = "deploy/kubernetes/components/prometheusrule/prometheusrule.yaml";
    for rules in ["deploy/prometheus/rules.yaml", component] {
        let text = fs::read_to_string(root().join(rules)).unwrap();
        let after = text.split("- alert: ").skip(1);
        let alerts: Vec<&str> = after.collect();
        assert!(alerts.len() > 5, "{rules}");
        for alert in alerts {
            let name = alert.lines().next().unwrap();
            let (_, url) = alert.split_once("runbook_url: ").unwrap();
            let url = url.lines().next().unwrap();
            let heading = url.strip_prefix("docs/runbook.md#");
            assert_eq!(heading, Some(&*name.to_lowercase()), "{rules}: {name}");
            assert!(has_heading(runbook, heading.unwrap()), "{name}");
        }
    }
}

#[test]
fn every_file_that_is_named_exists() {
    let places = ["src/", "docs/", "tests/", "examples/", "fuzz/"];
    for (page, text) in pages() {
        for name in quoted(&text) {
            if places.iter().any(|place| name.starts_with(place)) {
                assert!(root().join(&name).exists(), "{}: {name}", page.display());
            }
        }
    }
}

#[test]
fn every_test_that_the_architecture_names_exists() {
    let mut files = under(&root().join("src"), "rs");
    files.extend(under(&root().join("tests"), "rs"));
    let sources = files.iter().map(|path| fs::read_to_string(path).unwrap());
    let sources: String = sources.collect();
    let is_sentence = |name: &String| name.matches('_').count() > 3 && !name.contains('/');
    let named: Vec<String> = quoted(ARCHITECTURE)
        .into_iter()
        .filter(is_sentence)
        .collect();
    assert!(named.len() > 20, "{named:?}");
    for name in named {
        assert!(sources.contains(&format!("fn {name}()")), "{name}");
    }
}

#[test]
fn every_item_that_the_architecture_names_is_in_its_module() {
    let mut seen = 0;
    for name in quoted(ARCHITECTURE) {
        let Some((path, item)) = name.rsplit_once("::") else {
            continue;
        };
        seen += 1;
        let first = path.split("::").next().unwrap();
        let module = first
            .starts_with(|c: char| c.is_lowercase())
            .then_some(first);
        let source = source(module);
        let defined = ["fn", "struct", "enum"].iter().any(|kind| {
            let definition = format!("{kind} {item}");
            (source.match_indices(&definition)).any(|(at, _)| {
                let next = source[at + definition.len()..].chars().next().unwrap();
                !(next.is_alphanumeric() || next == '_')
            })
        });
        assert!(defined, "{name}");
    }
    assert!(seen > 20, "{seen}");
}

#[test]
fn the_layers_have_every_module_once() {
    let rows = table(ARCHITECTURE, "| layer | modules | what |");
    let mut named: Vec<String> = rows.iter().flat_map(|row| quoted(row[1])).collect();
    let lib = include_str!("../src/lib.rs");
    let modules = lib.lines().filter_map(|line| line.strip_prefix("pub mod "));
    let mut modules: Vec<String> = modules.map(|name| name.replace(';', "")).collect();
    modules.push("main".to_owned());
    modules.sort();
    named.sort();
    assert_eq!(named, modules);
}

#[test]
fn every_normal_dependency_has_its_line_and_the_place_uses_it() {
    let cargo: toml::Table = include_str!("../Cargo.toml").parse().unwrap();
    let wanted: BTreeSet<&str> = cargo["dependencies"]
        .as_table()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    let rows = table(ARCHITECTURE, "| crate | where | why |");
    let listed: BTreeSet<&str> = rows.iter().map(|row| row[0]).collect();
    assert_eq!(listed, wanted);
    for row in rows {
        let file = root().join(row[1].trim_matches('`'));
        let used = format!("{}::", row[0].replace('-', "_"));
        assert!(fs::read_to_string(file).unwrap().contains(&used), "{row:?}");
    }
}

#[test]
fn every_metric_that_is_named_exists() {
    let mut names = BTreeSet::new();
    for metric in TABLE {
        names.insert(metric.name.to_owned());
        if matches!(metric.kind, Kind::Histogram(_)) {
            names.extend(["bucket", "sum", "count"].map(|it| format!("{}_{it}", metric.name)));
        }
    }
    for (page, text) in pages() {
        for name in words(&text, "portway_").chain(words(&text, "process_")) {
            assert!(names.contains(name), "{}: {name}", page.display());
        }
    }
}

#[test]
fn every_outcome_that_is_named_exists() {
    let known: Vec<_> = Outcome::VARIANTS.iter().map(|it| it.name()).collect();
    for (page, text) in pages() {
        let after = text.match_indices("outcome").filter_map(|(at, word)| {
            let value = text[at + word.len()..].trim_start_matches(['=', '!', '~', '"', ':']);
            let skipped = text.len() - at - word.len() - value.len();
            (skipped > 0 && value.starts_with(|c: char| c.is_lowercase())).then_some(value)
        });
        for value in after {
            let end = value.find(|c: char| !(c.is_lowercase() || "_|\\".contains(c)));
            for name in value[..end.unwrap_or(value.len())].split('|') {
                let name = name.trim_end_matches('\\');
                assert!(known.contains(&name), "{}: {name}", page.display());
            }
        }
    }
}

/// The port and the server name of a connection, and the backend that it reaches.
type Reached<'t> = (u16, Option<&'t str>, &'t str);

/// The first example of a page that `is_it` has no warning, and leads these connections where they belong.
fn assert_routes(page: &str, is_it: impl Fn(&str) -> bool, expected: &[Reached<'_>]) {
    let mut files = blocks(page, "toml").into_iter();
    let file = files.find(|file| is_it(file)).unwrap();
    let loaded = config::parse(file, "routes.toml").unwrap_or_else(|faults| panic!("{faults}"));
    // As `check --strict` judges it.
    assert_eq!(loaded.warnings.render(false), "");
    let settings = loaded.settings;
    for (port, name, backend) in expected {
        let has_port = |at: &SocketAddr| at.port() == *port;
        let mut listeners = settings.listeners.iter();
        let listener = listeners.find(|one| one.bind.iter().any(has_port));
        let listener = listener.unwrap_or_else(|| panic!("nothing listens at {port}"));
        let name = name.map(|name| ServerName::parse(name.as_bytes()).unwrap());
        let route = settings.routes.find(&Query {
            listener: &listener.name,
            port: *port,
            server_name: name.as_ref(),
            alpn: Alpn::default(),
            client: [10, 1, 2, 3].into(),
        });
        let route = settings.routes.routes().get(route.unwrap()).unwrap();
        let found = settings.backends.get(route.backend).unwrap();
        assert_eq!(&*found.name, *backend, "{port} {name:?}");
    }
}

#[test]
fn the_examples_have_no_warning_and_listen_where_agents_dial() {
    let (fleet, es) = (Some("fleet.example.com"), Some("es.example.com"));
    let short = [
        (443, fleet, "fleet"),
        (8220, fleet, "fleet"),
        (9200, es, "elasticsearch"),
        (443, es, "elasticsearch"),
    ];
    assert_routes(README, |_| true, &short);
    let whole = include_str!("../docs/getting-started.md");
    let has_addresses = |example: &str| example.contains("no_server_name");
    assert_routes(whole, has_addresses, &short);
    let rest = [
        (5044, Some("logstash.example.com"), "logstash"),
        // The URLs have an address.
        (8220, None, "fleet"),
        (9200, None, "elasticsearch"),
    ];
    assert_routes(whole, has_addresses, &rest);
}

#[test]
fn the_log_of_an_agent_leads_to_outcomes_that_send_it() {
    let answers: BTreeMap<String, &str> = (OUTCOMES.lines())
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").collect();
            (cells[0].trim().trim_matches('`').to_owned(), cells[1])
        })
        .collect();
    for row in table(TROUBLESHOOTING, "| the agent logs | outcome | what to do |") {
        let quoted_error = quoted(row[0]);
        let error = quoted_error.first().map_or(row[0], String::as_str);
        // The number that openssl shows stands behind the name that an agent logs. Without one, it is the backend's alert.
        let number = row[0].split_once("` (").map(|(_, number)| number);
        let answer = match error.strip_prefix("remote error: tls: ").zip(number) {
            Some((alert, number)) => {
                format!(
                    "{} ({})",
                    number.trim_end_matches(')'),
                    alert.replace(' ', "_")
                )
            }
            None if error == "EOF" => "FIN".to_owned(),
            None if error == "connection reset by peer" => "RST".to_owned(),
            None if error.starts_with("portway is not an HTTP proxy") => "405".to_owned(),
            None if error.starts_with("portway asks for a user") => "407".to_owned(),
            None if error == "400 Bad Request" => "400".to_owned(),
            // No connection has begun.
            None if error == "connection refused" => "nothing".to_owned(),
            None => "what the backend sent".to_owned(),
        };
        for outcome in quoted(row[1]) {
            let sent = answers.get(&outcome).unwrap_or_else(|| panic!("{outcome}"));
            assert!(sent.contains(&answer), "{error}: {outcome} sends {sent}");
        }
    }
}

#[test]
fn alerts_have_the_number_and_name_of_the_registry() {
    let known = AlertDescription::VARIANTS.iter();
    let known: Vec<(&str, u8)> = known.map(|it| (it.name(), *it as u8)).collect();
    let mut seen = BTreeSet::new();
    for (number, rest) in OUTCOMES
        .match_indices(" (")
        .map(|(at, _)| OUTCOMES.split_at(at))
    {
        let number = number.rsplit(' ').next().unwrap().parse::<u8>();
        let name = rest[2..].split(')').next().unwrap();
        if let Ok(number) = number {
            assert!(known.contains(&(name, number)), "{number} {name}");
            seen.insert(name);
        }
    }
    assert_eq!(seen.len(), known.len(), "{seen:?}");
}

#[test]
fn a_line_of_the_log_in_the_readme_has_documented_fields() {
    let log = include_str!("../docs/log.md");
    let fields: BTreeSet<String> = table(log, "| field | meaning |")
        .iter()
        .map(|row| row[0].trim_matches('`').to_owned())
        .collect();
    let lines = blocks(README, "json");
    assert!(!lines.is_empty());
    for line in lines {
        let line: BTreeMap<String, serde_json::Value> = serde_json::from_str(line).unwrap();
        let unknown: Vec<&String> = line.keys().filter(|key| !fields.contains(*key)).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }
}

/// The keys of the reference with their defaults, as written.
fn defaults() -> BTreeMap<&'static str, &'static str> {
    let rows = ROUTES.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| {
        let (key, rest) = row.split_once("` | ").unwrap();
        (key, rest.split(" | ").next().unwrap())
    })
    .collect()
}

#[test]
fn every_key_that_is_named_in_full_is_in_the_reference() {
    let defaults = defaults();
    let sections = ["limits.", "admin.", "log.", "listeners.N.", "backends.N."];
    let mut seen = 0;
    for (page, text) in pages() {
        for name in quoted(&text) {
            let is_key = |section| name.strip_prefix(section).is_some_and(is_word);
            if sections.into_iter().any(is_key) {
                assert!(defaults.contains_key(&*name), "{}: {name}", page.display());
                seen += 1;
            }
        }
    }
    assert!(seen > 40, "{seen}");
}

fn is_word(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

#[test]
fn the_defaults_in_the_readme_are_those_of_the_reference() {
    let defaults = defaults();
    for row in table(README, "| key | default | why |") {
        assert_eq!(
            Some(&row[1]),
            defaults.get(row[0].trim_matches('`')),
            "{row:?}"
        );
    }
    let admin = defaults["admin.bind"].trim_matches('`').trim_matches('"');
    let stated = format!("`admin.bind` (default `{admin}`");
    assert!(README.contains(&stated), "{stated}");
}

/// Where other pages repeat a default, with its key in braces: as it is written, or with ~ as sentences have it.
const REPEATED: [(&str, &str); 21] = [
    ("docs/metrics.md", "(default `{admin.bind}`)"),
    (
        "docs/scaling.md",
        "portway sends every {~backends.N.keepalive}",
    ),
    (
        "docs/kubernetes.md",
        "portway sends every\n{~backends.N.keepalive}",
    ),
    (
        "docs/migrating.md",
        "timeout client {backends.N.idle_timeout}\n",
    ),
    (
        "docs/migrating.md",
        "timeout server {backends.N.idle_timeout}\n",
    ),
    (
        "docs/migrating.md",
        "client-fin {backends.N.half_close_timeout}\n",
    ),
    (
        "docs/migrating.md",
        "server-fin {backends.N.half_close_timeout}\n",
    ),
    (
        "docs/migrating.md",
        "timeout connect {backends.N.connect_timeout}\n",
    ),
    (
        "docs/migrating.md",
        "inspect-delay {limits.client_hello_timeout}\n",
    ),
    (
        "docs/migrating.md",
        "preread_timeout {limits.client_hello_timeout};",
    ),
    (
        "docs/migrating.md",
        "proxy_connect_timeout {backends.N.connect_timeout};",
    ),
    (
        "docs/migrating.md",
        "proxy_next_upstream_timeout {backends.N.dial_timeout};",
    ),
    (
        "docs/migrating.md",
        "proxy_timeout {backends.N.idle_timeout};",
    ),
    ("docs/migrating.md", "so_keepalive={backends.N.keepalive}:"),
    (
        "docs/migrating.md",
        "Here it is {~backends.N.idle_timeout}utes, of silence",
    ),
    (
        "docs/migrating.md",
        "ends it after {~backends.N.stall_timeout}utes.",
    ),
    (
        "SECURITY.md",
        "to the whole hello | {~limits.client_hello_timeout} |",
    ),
    ("SECURITY.md", "say so | {~limits.max_client_hello} |"),
    (
        "SECURITY.md",
        "keepalive | {~backends.N.idle_timeout}, {~backends.N.keepalive} |",
    ),
    ("SECURITY.md", "meanwhile | {~backends.N.stall_timeout} |"),
    (
        "SECURITY.md",
        "`half_close_timeout` | {~backends.N.half_close_timeout} |",
    ),
];

#[test]
fn a_default_that_another_page_repeats_is_that_of_the_reference() {
    let defaults = defaults();
    for (page, repeated) in REPEATED {
        let mut said = repeated.to_owned();
        for (key, default) in &defaults {
            let plain = default.trim_matches(['`', '"']);
            let unit = plain.find(char::is_alphabetic).unwrap_or(plain.len());
            let prose = match plain.split_at(unit) {
                (number, "m") => format!("{number} min"),
                (number, unit) => format!("{number} {unit}"),
            };
            said = said.replace(&format!("{{{key}}}"), plain);
            said = said.replace(&format!("{{~{key}}}"), &prose);
        }
        let text = fs::read_to_string(root().join(page)).unwrap();
        assert!(text.contains(&said), "{page}: {said}");
    }
}

#[test]
fn a_file_that_writes_out_the_documented_defaults_changes_nothing() {
    let least = "listeners.N.bind = [\"[::]:443\"]\n\
        backends.N.endpoints = [\"fleet-1.internal:8220\"]\n\
        backends.N.health.check = \"tls\"\n\
        routes.N.server_names = [\"fleet.example.com\"]\n\
        routes.N.backend = \"N\"\n";
    // A cell that is not in backticks depends on the machine, or is not a value.
    let mut endpoint = "{ address = \"fleet-1.internal:8220\"".to_owned();
    let mut values = String::new();
    // The idle time alone is another way to write a part of the table.
    for (key, default) in defaults()
        .into_iter()
        .filter(|(key, _)| *key != "backends.N.keepalive")
    {
        let value = default
            .strip_prefix('`')
            .and_then(|it| it.strip_suffix('`'));
        match (key.strip_prefix("backends.N.endpoints[]."), value) {
            (Some(key), Some(value)) => endpoint.extend([", ", key, " = ", value]),
            (None, Some(value)) => values.extend([key, " = ", value, "\n"]),
            (_, None) => {}
        }
    }
    let least_endpoint = "\"fleet-1.internal:8220\"";
    let full = least.replace(least_endpoint, &(endpoint + " }")) + &values;
    assert!(full.contains("backup = false"), "{full}");
    assert!(full.lines().count() > 18, "{full}");
    let shown = |text| {
        let loaded = config::parse(text, "routes.toml");
        let loaded = loaded.unwrap_or_else(|faults| panic!("{faults}"));
        settings::shown(&loaded.settings)
    };
    assert_eq!(shown(&full), shown(least));
}

#[test]
fn the_readme_asks_for_the_rust_of_the_package() {
    let cargo: toml::Table = include_str!("../Cargo.toml").parse().unwrap();
    let version = cargo["package"]["rust-version"].as_str().unwrap();
    assert!(README.contains(&format!("with Rust {version} or newer")));
}
