//! The causes for which an agent fails: each is injected, and one look at what portway says names cause and remedy.
//!
//! `docs/troubleshooting.md` shows a part of the line of the log for each of them; [`logged`] compares it.

mod backends;
mod clients;
mod handshakes;
mod machine;
mod names;

use std::net::SocketAddr;
use std::process::Command;

use serde_json::{Map, Value};

use super::fixture::{PATIENCE, PORTWAY, Portway, missing, within};
use super::handshakes::Peers;
use super::status::{read, status};

const PAGE: &str = include_str!("../../docs/troubleshooting.md");

/// The causes, as the page marks the line of each.
const CAUSES: [&str; 23] = [
    "name_without_a_route",
    "mistyped_name",
    "trailing_dot",
    "address_in_the_url",
    "unresolved_endpoint",
    "stale_address",
    "refused_by_the_backend",
    "black_hole",
    "backend_of_http",
    "backend_of_ssh",
    "certificate_expired",
    "certificate_for_another_name",
    "client_certificate_missing",
    "client_certificate_wrong",
    "proxy_header",
    "connect_request",
    "plain_http",
    "scan",
    "limit_reached",
    "descriptors_out",
    "no_local_port",
    "path_cut",
    "reload_refused",
];

/// The words of portway, in each place where an operator looks.
struct Look<'p>(&'p Portway);

impl Look<'_> {
    /// The row of the refused with this outcome, which names cause and remedy in these words. The page shows all of it.
    #[track_caller]
    fn status(&self, outcome: &str, words: &[&str]) {
        let row = within(PATIENCE, "a row of the refused", || {
            let rows = self.json()["refused"].take();
            let mut rows = rows.as_array().unwrap().iter();
            rows.find(|row| row["outcome"] == outcome).cloned()
        });
        says(&row.to_string(), words);
        let page = read(self.0);
        for field in ["outcome", "reason", "name", "nearest", "detail", "remedy"] {
            if let Some(text) = row[field].as_str() {
                says(&page, &[&text.replace('`', "")]);
            }
        }
    }

    /// The whole status.
    fn json(&self) -> Value {
        status(self.0)
    }

    /// The text of a command of portway about its file.
    fn command(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(PORTWAY);
        command.args(arguments).arg("--config").arg(self.0.file());
        let output = command.output().unwrap();
        let [out, err] = [output.stdout, output.stderr].map(|it| String::from_utf8(it).unwrap());
        format!("{out}{err}")
    }

    #[track_caller]
    fn explain(&self, arguments: &[&str], words: &[&str]) {
        within(PATIENCE, "explain can ask", || {
            (self.0.count("portway_control_socket_available") == 1).then_some(())
        });
        says(&self.command(&[&["explain"], arguments].concat()), words);
    }

    #[track_caller]
    fn doctor(&self, words: &[&str]) {
        says(&self.command(&["doctor"]), words);
    }

    /// Where clients are at fault, doctor has nothing to say.
    #[track_caller]
    fn doctor_finds_no_error(&self) {
        let text = self.command(&["doctor"]);
        assert!(!text.contains("error: "), "{text}");
    }
}

/// Compares a line of the log with the one of this cause in the page, which has some of its fields.
#[track_caller]
fn logged(cause: &str, line: &Value) {
    assert_has(cause, line, &shown(cause));
}

/// Checks that a line has what the page shows of it; the fields of the program log are one level down.
#[track_caller]
fn assert_has(cause: &str, line: &Value, shown: &Map<String, Value>) {
    for (field, shown) in shown {
        if let Value::Object(shown) = shown {
            assert_has(cause, &line[field], shown);
            continue;
        }
        let (seen, shown) = (plain(&line[field]), plain(shown));
        assert_eq!(seen, shown, "{cause} has another {field}: {line}");
    }
}

/// The fields of the line that the page shows for a cause.
fn shown(cause: &str) -> Map<String, Value> {
    let marker = format!("<!-- cause: {cause} -->\n```json\n");
    let (_, rest) = PAGE
        .split_once(&marker)
        .unwrap_or_else(|| panic!("{marker}"));
    let (line, _) = rest.split_once("\n```").unwrap();
    serde_json::from_str(line).unwrap()
}

/// A value without what differs from run to run: addresses, times and counts of bytes.
fn plain(value: &Value) -> String {
    let text = value.to_string();
    let words = text.split_inclusive([' ', '"', ',', '}']);
    let words = words.map(|word| {
        let bare = word.trim_end_matches([' ', '"', ',', '}', ':', ';']);
        let figure = bare.trim_start_matches(':');
        let is_figure = figure.parse::<f64>().is_ok() && (figure.contains('.') || figure.len() > 4);
        if bare.parse::<SocketAddr>().is_ok() || is_figure {
            word.replace(figure, "N")
        } else {
            word.to_owned()
        }
    });
    words.collect()
}

#[track_caller]
fn says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word} is missing in:\n{text}");
    }
}

/// The error of a client of rustls that asks portway for this host, and the line of the log.
fn ask(portway: &Portway, host: &'static str) -> (String, Value) {
    let mut peers = Peers::new(&rustls::version::TLS13);
    peers.host = host;
    let (error, line) = peers.ask_through(portway);
    (error.unwrap(), line)
}

/// Runs curl, or says that it is missing. Returns its output and its errors together.
fn curl(arguments: &[&str]) -> Option<String> {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--insecure", "--max-time", "60"]);
    command.env_remove("https_proxy").env_remove("HTTPS_PROXY");
    let Ok(output) = command.args(arguments).output() else {
        missing("curl", "install curl");
        return None;
    };
    let [out, err] = [output.stdout, output.stderr];
    let [out, err] = [out, err].map(|it| String::from_utf8_lossy(&it).into_owned());
    Some(format!("{out}{err}"))
}

#[test]
fn the_page_has_the_line_of_each_cause_and_no_other() {
    let marked = PAGE.split("<!-- cause: ").skip(1);
    let marked: Vec<&str> = marked
        .map(|rest| rest.split(" -->").next().unwrap())
        .collect();
    let mut sorted = marked.clone();
    sorted.sort_unstable();
    let mut causes = CAUSES;
    causes.sort_unstable();
    assert_eq!(sorted, causes);
    for cause in causes {
        let fields = shown(cause);
        let names = ["outcome", "fields"];
        assert!(
            names.iter().any(|name| fields.contains_key(*name)),
            "{cause}"
        );
    }
    let tests = [
        include_str!("causes/backends.rs"),
        include_str!("causes/clients.rs"),
        include_str!("causes/handshakes.rs"),
        include_str!("causes/machine.rs"),
        include_str!("causes/names.rs"),
    ];
    for cause in causes {
        let used = format!("\"{cause}\"");
        assert!(tests.iter().any(|test| test.contains(&used)), "{cause}");
    }
}
