//! The pages of `docs/elastic`: their order, their routes.toml, the commands that they show and what these print.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};

use portway::config;
use portway::outcome::Outcome;
use strum::VariantArray;

use super::{OUTCOMES, TROUBLESHOOTING, blocks, prose, quoted, root, table, under};

/// The pages without a topology of their own.
const OTHER: [&str; 4] = [
    "README.md",
    "certificates.md",
    "observing.md",
    "other-servers.md",
];

/// The headings of a page, in their order. The drawing comes before the first of them.
const HEADINGS: [&str; 6] = [
    "Names and Fleet settings",
    "Install",
    "routes.toml",
    "Verify",
    "When it fails",
    "Not possible",
];

/// The name and the text of each page.
fn pages() -> BTreeMap<String, String> {
    let paths = under(&root().join("docs/elastic"), "md").into_iter();
    let pages = paths.map(|path| {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, fs::read_to_string(path).unwrap())
    });
    pages.collect()
}

/// The pages with one topology each.
fn topologies() -> BTreeMap<String, String> {
    let mut pages = pages();
    pages.retain(|name, _| !OTHER.contains(&&**name));
    assert!(pages.len() >= 16, "{:?}", pages.keys());
    pages
}

/// Every fenced block of a page: its language and its text.
fn fences(page: &str) -> Vec<(&str, &str)> {
    let inside = page.split("```").skip(1).step_by(2);
    inside.map(|it| it.split_once('\n').unwrap()).collect()
}

/// The commands of a shell block. A backslash joins a line with the next one.
fn commands(block: &str) -> Vec<String> {
    let joined = block.replace("\\\n", " ");
    joined.lines().map(|line| line.trim().to_owned()).collect()
}

#[test]
fn every_topology_has_the_same_parts_in_the_same_order() {
    for (name, page) in topologies() {
        let outside = prose(&page);
        let headings = outside.lines().filter_map(|line| line.strip_prefix("## "));
        assert_eq!(headings.collect::<Vec<_>>(), HEADINGS, "{name}");
        let before = page.split("\n## ").next().unwrap();
        assert_eq!(blocks(before, "mermaid").len(), 1, "{name}: the drawing");
        let purpose = before.split("\n\n").nth(1).unwrap();
        assert!(purpose.ends_with('.'), "{name}: {purpose}");
        assert!(
            page.contains("docs/elastic/") && !blocks(&page, "sh").is_empty(),
            "{name}"
        );
    }
}

#[test]
fn every_page_has_one_file_that_names_the_page() {
    let mut seen = 0;
    for (name, page) in pages() {
        let files = blocks(&page, "toml");
        if files.is_empty() {
            assert!(OTHER.contains(&&*name), "{name}");
            continue;
        }
        seen += 1;
        assert_eq!(files.len(), 1, "{name}");
        assert_eq!(blocks(&page, "mermaid").len(), 1, "{name}: the drawing");
        let first = files[0].lines().next();
        assert_eq!(first, Some(&*format!("# docs/elastic/{name}")));
    }
    assert!(seen > 16, "{seen}");
}

#[test]
fn the_first_page_leads_to_every_other_one() {
    let pages = pages();
    for name in pages.keys().filter(|name| *name != "README.md") {
        let link = format!("]({name})");
        assert!(pages["README.md"].contains(&link), "{name}");
    }
}

#[test]
fn portway_prints_what_the_pages_show() {
    let mut lines = 0;
    for (name, page) in pages() {
        let Some(file) = blocks(&page, "toml").first().copied() else {
            continue;
        };
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("routes.toml"), file).unwrap();
        let fences = fences(&page);
        for pair in fences.windows(2) {
            let [("sh", shell), ("text", shown)] = pair else {
                continue;
            };
            let commands = commands(shell);
            if !commands.iter().all(|it| it.starts_with("portway ")) {
                continue;
            }
            let mut printed = String::new();
            for command in commands {
                let arguments = command.split_whitespace().skip(1);
                let mut portway = Command::new(env!("CARGO_BIN_EXE_portway"));
                portway.args(arguments).current_dir(&directory);
                portway.env_remove("PORTWAY_CONFIG").stdin(Stdio::null());
                let output = portway.output().unwrap();
                printed += &String::from_utf8(output.stdout).unwrap();
                printed += &String::from_utf8(output.stderr).unwrap();
            }
            let mut rest = printed.lines();
            for line in shown.lines() {
                lines += 1;
                assert!(rest.any(|it| it == line), "{name}: `{line}` in\n{printed}");
            }
        }
    }
    assert!(lines > 40, "{lines}");
}

/// The flags that `elastic-agent` declares, and whether only `install` has it.
fn agent_flags() -> BTreeMap<&'static str, bool> {
    let lines = include_str!("elastic_agent_flags.txt").lines();
    let lines = lines.filter(|line| !line.starts_with('#'));
    lines
        .map(|line| match line.split_once(' ') {
            Some((flag, _install)) => (flag, true),
            None => (line, false),
        })
        .collect()
}

#[test]
fn elastic_agent_declares_every_flag_that_the_docs_give_it() {
    let known = agent_flags();
    let mut seen = 0;
    for (path, text) in super::pages() {
        for (language, block) in fences(&text) {
            if language != "sh" {
                continue;
            }
            for command in commands(block) {
                let mut words = command.split_whitespace().skip_while(|it| *it == "sudo");
                if !words.next().is_some_and(|it| it.ends_with("elastic-agent")) {
                    continue;
                }
                let subcommand = words.next().unwrap_or_default();
                for word in words {
                    let flag = word.split('=').next().unwrap();
                    let place = format!("{}: {subcommand} {word}", path.display());
                    let name = flag.strip_prefix("--");
                    let only_install = name.and_then(|it| known.get(it));
                    let only_install = only_install.unwrap_or_else(|| panic!("{place}"));
                    assert!(!only_install || subcommand == "install", "{place}");
                    assert!(["install", "enroll"].contains(&subcommand), "{place}");
                    seen += 1;
                }
            }
        }
        for word in quoted(&text) {
            let flag = word.split('=').next().unwrap();
            let ours = ["--fleet-server-", "--elastic-agent-", "--certificate-"];
            if ours.iter().any(|it| flag.starts_with(it)) && !flag.contains(' ') {
                let name = flag.trim_start_matches("--");
                let begins = known.keys().any(|it| *it == name);
                assert!(begins, "{}: {word}", path.display());
                seen += 1;
            }
        }
    }
    assert!(seen > 80, "{seen}");
}

#[test]
fn the_tables_of_failures_have_our_outcomes() {
    let known: Vec<&str> = Outcome::VARIANTS.iter().map(|it| it.name()).collect();
    let rows = failures();
    for (name, cell, outcomes) in &rows {
        let words = quoted(outcomes);
        if words.is_empty() {
            assert_eq!(outcomes.trim(), "nothing", "{name}: {cell}");
            continue;
        }
        assert!(known.contains(&&*words[0]), "{name}: {cell}");
    }
    assert!(rows.len() > 80, "{}", rows.len());
}

/// The rows of the tables of failures: the page, what the agent logs, and the outcomes.
fn failures() -> Vec<(String, String, String)> {
    let mut rows = Vec::new();
    for (name, page) in pages() {
        let mut lines = page.lines();
        while lines.any(|line| line.ends_with("logs | portway logs | what to do |")) {
            for row in lines.by_ref().skip(1).take_while(|it| it.starts_with('|')) {
                let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
                let [cell, outcomes, _] = cells[..] else {
                    panic!("{name}: {row}");
                };
                rows.push((name.clone(), cell.to_owned(), outcomes.to_owned()));
            }
        }
    }
    rows
}

/// The texts that Go showed in `tests/clients`.
fn texts_of_go() -> Vec<&'static str> {
    let lines = include_str!("../clients/go_errors.txt").lines();
    let lines = lines.filter(|line| !line.starts_with('#'));
    let texts = lines.map(|line| line.split_once(' ').unwrap().1.trim());
    texts.collect()
}

/// Whether a page quotes this text, of which it may leave out the end.
fn quotes(quoted: &str, text: &str) -> bool {
    match quoted.split_once(" …") {
        Some((begin, _)) => text.starts_with(begin),
        None => text.contains(quoted) || quoted.ends_with(text),
    }
}

#[test]
fn the_pages_quote_every_text_that_go_shows_and_portway_causes_no_other() {
    let rows = failures();
    let texts = texts_of_go();
    assert!(texts.len() > 14, "{texts:?}");
    for text in &texts {
        let mut cells = rows.iter().flat_map(|(_, cell, _)| quoted(cell));
        assert!(cells.any(|it| quotes(&it, text)), "no page quotes {text}");
    }
    // portway closes the connection, or the kernel does; the others are not of Go's TLS or HTTP.
    let other = [
        "EOF",
        "unexpected EOF",
        "connection reset by peer",
        "DEGRADED",
        "kafka: client has run out of available brokers to talk to",
        "raw response:",
        "raw response: This port speaks TLS, not plain HTTP: use an https:// URL.",
    ];
    let mut seen = 0;
    for (page, cell, outcomes) in &rows {
        let outcome = quoted(outcomes).into_iter().next();
        // The words of the other side, which portway passed on.
        let passed_on = ["closed", "handshake_failed", "backend_not_tls"];
        let is_portway =
            outcome.is_some_and(|it| !passed_on.contains(&&*it)) && !outcomes.contains("nothing");
        // Elasticsearch is Java.
        if !is_portway || page == "remote-clusters.md" {
            continue;
        }
        for quoted in quoted(cell) {
            let is_known = texts.iter().any(|text| quotes(&quoted, text));
            let place = format!("{page}: go_errors.txt has nothing of {quoted}");
            assert!(is_known || other.contains(&&*quoted), "{place}");
            seen += 1;
        }
    }
    assert!(seen > 30, "{seen}");
}

/// An operator who finds an outcome that is not in the row would look in vain.
#[test]
fn the_row_of_an_alert_has_every_outcome_that_sends_it() {
    let general = &pages()["README.md"];
    let mut seen = 0;
    for (page, headings) in [
        (TROUBLESHOOTING, "| the agent logs | outcome | what to do |"),
        (general, "| the agent logs | portway logs | what to do |"),
    ] {
        for row in table(page, headings) {
            let words = quoted(row[0]);
            let alert = words
                .first()
                .and_then(|it| it.strip_prefix("remote error: tls: "));
            let Some(alert) = alert else { continue };
            seen += 1;
            let sent = format!("({})", alert.replace(' ', "_"));
            let lines = OUTCOMES.lines().filter(|line| line.starts_with("| `"));
            for line in lines {
                let cells: Vec<&str> = line.trim_matches('|').split(" | ").collect();
                let outcome = cells[0].trim();
                let is_there = row[1].contains(outcome);
                assert!(
                    !cells[1].contains(&sent) || is_there,
                    "{alert}: no {outcome}"
                );
            }
        }
    }
    assert_eq!(seen, 10);
}

#[test]
fn the_endpoints_are_never_the_names_of_the_clients() {
    for (name, page) in pages() {
        for file in blocks(&page, "toml") {
            let settings = config::parse(file, "routes.toml").unwrap().settings;
            for backend in &settings.backends {
                for endpoint in &backend.endpoints {
                    let text = endpoint.to_string();
                    assert!(!text.contains("example.com"), "{name}: {text}");
                }
            }
        }
    }
}

/// The commands of `certificates.md` as somebody pastes them.
#[test]
fn the_openssl_commands_make_certificates_that_verify() {
    let page = &pages()["certificates.md"];
    let (_, section) = page.split_once("## With openssl\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let shells = blocks(section, "sh");
    let [make, verify, passphrase] = shells[..] else {
        panic!("{shells:?}")
    };
    let directory = tempfile::tempdir().unwrap();
    let run = |script: &str, directory: &std::path::Path| {
        let mut shell = Command::new("sh");
        shell.args(["-euc", script]).current_dir(directory);
        let output = shell.stdin(Stdio::null()).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{script}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    };
    // Small keys are made in less time, and verify in the same way.
    run(&make.replace("rsa:3072", "rsa:2048"), directory.path());
    let certificates = directory.path().join("certs");
    let printed = run(verify, &certificates);
    assert_eq!(printed, blocks(section, "text")[0]);
    assert_eq!(run(passphrase, &certificates), "Key is valid\n");
}
