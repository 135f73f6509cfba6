//! Routes files of the largest allowed size, in shapes that could cost more than their size.

use std::fmt::{self, Write as _};

/// Less than the largest routes.toml.
const LARGEST: usize = (1 << 20) - 100;

const LISTENER: &str = "[listeners.agents]\nbind = [\"[::]:443\"]\n";
const BACKEND: &str = "[backends.fleet]\nendpoints = [\"fleet-1.internal:8220\"]\n";
const ROUTE: &str = "[routes.fleet]\nserver_names = [\"a.example\"]\nbackend = \"fleet\"\n";

/// A file.
pub(crate) struct Shape {
    /// The part that is large.
    pub(crate) name: &'static str,
    /// The text.
    pub(crate) text: String,
    /// The number of faults; 0 if the file is good.
    pub(crate) faults: usize,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// `head`, then as many pieces as fit before `tail`, and the number of pieces.
fn fill(head: &str, piece: impl Fn(usize) -> String, tail: &str) -> (String, usize) {
    let mut text = head.to_owned();
    for count in 0.. {
        let piece = piece(count);
        if text.len() + piece.len() + tail.len() > LARGEST {
            return (text + tail, count);
        }
        text += &piece;
    }
    (text, 0)
}

/// The number as an address in 10.0.0.0/8.
fn network(number: usize) -> String {
    let [.., a, b, c] = number.to_be_bytes();
    format!("\"10.{a}.{b}.{c}/32\"")
}

fn route(number: usize, name: &str, rest: &str) -> String {
    format!("[routes.r{number}]\nserver_names=[\"{name}\"]\nbackend=\"fleet\"\n{rest}")
}

fn shape(name: &'static str, (text, faults): (String, usize)) -> Shape {
    Shape { name, text, faults }
}

fn fine(name: &'static str, (text, _): (String, usize)) -> Shape {
    shape(name, (text, 0))
}

/// Every shape.
pub(crate) fn all() -> Vec<Shape> {
    let mut all = routes();
    all.extend(values());
    all.extend(syntax());
    all.push(shape("listeners and backends", (pairs(), 1)));
    all
}

fn routes() -> Vec<Shape> {
    let head = format!("{LISTENER}{BACKEND}");
    let named = |n: usize| route(n, &format!("n{n}.example"), "");
    let apart = |n| route(n, "a.example", &format!("clients=[{}]\n", network(n)));
    let (ties, routes) = fill(&head, |n| route(n, "a.example", ""), "");
    let backend = |n| format!("[backends.b{n}]\nendpoints=[\"a:1\"]\n");
    let unused = fill(&format!("{head}{ROUTE}"), backend, "");
    vec![
        fine("routes", fill(&head, named, "")),
        fine("routes of one name, networks apart", fill(&head, apart, "")),
        shape("ties", (ties, routes - 1)),
        shape("ties by many names", many_names(&head)),
        fine("64 routes of the same names", crowd(&head, 64)),
        fine("512 routes of the same names", crowd(&head, 512)),
        fine("8,192 routes of the same names", crowd(&head, 8192)),
        shape("unknown backends", unknown_backends()),
        fine("backends that no route uses", unused),
    ]
}

fn values() -> Vec<Shape> {
    let head = format!("{LISTENER}{BACKEND}");
    let names = format!("{head}[routes.fleet]\nbackend = \"fleet\"\nserver_names = [");
    let keys = fill("", |n| format!("k{n}=1\n"), &format!("{head}{ROUTE}"));
    let lines = fill(&names, |n| format!("\"{n}..example\",\n"), "]\n");
    let line = fill(&names, |n| format!("\"{n}..a\","), "]\n");
    let (twice, values) = fill(&names, |_| "\"a.b\",".to_owned(), "]\n");
    let numbers = fill(&names, |_| "1,".to_owned(), "]\n");
    let address = |n: usize| {
        let [.., a, b, c] = n.to_be_bytes();
        format!(",\"10.{a}.{b}.{c}:443\"")
    };
    let listener = "[listeners.agents]\nbind = [\"[::]:443\"";
    let addresses = fill(listener, address, &format!("]\n{BACKEND}{ROUTE}"));
    vec![
        shape("unknown keys", keys),
        shape("values of another type", numbers),
        shape("bad names, one in a line", lines),
        shape("bad names in one line", line),
        shape("one name over and over", (twice, values - 1)),
        shape("networks that are denied", networks()),
        shape("addresses that clash", addresses),
        shape("faults below a long name", long_name(&head)),
    ]
}

fn syntax() -> Vec<Shape> {
    let head = format!("{LISTENER}{BACKEND}{ROUTE}");
    let one = |name, begin: &str, piece: &str, tail| {
        let (text, _) = fill(&format!("{head}{begin}"), |_| piece.to_owned(), tail);
        shape(name, (text, 1))
    };
    let dotted = |n| format!("a{n}{}=1\n", ".a".repeat(78));
    // A file may not have more tables.
    let level = format!("{{{}=", ["a"; 79].join("."));
    let deep = |n| format!("k{n}={}1{}\n", level.repeat(79), "}".repeat(79));
    let deep: String = (0..10).map(deep).collect();
    let (twice, keys) = fill(
        &format!("{head}[log]\n"),
        |_| "connections=\"all\"\n".to_owned(),
        "",
    );
    vec![
        one("arrays in arrays", "x=", "[", ""),
        one("tables in tables", "x=", "{a=", ""),
        shape("deep tables", (deep + &head, 1)),
        one("a key of many parts", "a", ".a", "=1\n"),
        shape("errors of syntax", fill(&head, |_| "=\n".to_owned(), "")),
        shape("keys that are there twice", (twice, keys - 1)),
        one("a list that is not closed", "x=[", "\n", ""),
        one("errors of syntax in one line", "", "=", ""),
        shape("many keys of many parts", (fill("", dotted, &head).0, 1)),
    ]
}

/// Routes of the same names.
fn many_names(head: &str) -> (String, usize) {
    let names: Vec<String> = (0..300).map(|n| format!("\"n{n}\"")).collect();
    let mut text = head.to_owned();
    for n in 0..300 {
        writeln!(
            text,
            "[routes.r{n}]\nbackend=\"fleet\"\nserver_names=[{}]",
            names.join(",")
        )
        .ok();
    }
    (text, 299 * 300)
}

/// `routes` routes that share all their names and have no network in common. Names and networks take half of
/// the file each.
fn crowd(head: &str, routes: usize) -> (String, usize) {
    let room = (LARGEST / routes - 64) / 2;
    let values = |value: &dyn Fn(usize) -> String| {
        let mut length = 0;
        let fit = |value: &String| {
            length += value.len() + 1;
            length < room
        };
        let values: Vec<String> = (0..room).map(value).take_while(fit).collect();
        values.join(",")
    };
    let names = values(&|n| format!("\"n{n}\""));
    let route = |route: usize| {
        let networks = values(&|n| network(n * routes + route));
        format!(
            "[routes.r{route}]\nbackend=\"fleet\"\nserver_names=[{names}]\nclients=[{networks}]\n"
        )
    };
    let text = (0..routes)
        .map(route)
        .fold(head.to_owned(), |text, route| text + &route);
    assert!(text.len() <= LARGEST, "{} bytes", text.len());
    (text, 0)
}

fn unknown_backends() -> (String, usize) {
    let name = |n| format!("a-backend-whose-name-is-as-long-as-it-may-be-{n:019}");
    let piece = |n| {
        let name: String = name(n);
        format!(
            "[backends.{name}]\nendpoints=[\"a:1\"]\n\
             [routes.r{n}]\nserver_names=[\"n{n}.a\"]\nbackend=\"{}x\"\n",
            name.get(1..).unwrap_or_default()
        )
    };
    fill(LISTENER, piece, "")
}

fn networks() -> (String, usize) {
    let list: Vec<String> = (0..25_000).map(network).collect();
    let list = list.join(",");
    let lists = format!("allow_clients = [{list}]\ndeny_clients = [{list}]\n");
    (format!("{LISTENER}{lists}{BACKEND}{ROUTE}"), 25_000)
}

fn long_name(head: &str) -> (String, usize) {
    let name = "n".repeat(LARGEST / 2);
    let values = "\"..\",".repeat(LARGEST / 11);
    (
        format!("{head}[routes.{name}]\nbackend=\"x\"\nserver_names=[{values}]\n"),
        1,
    )
}

fn pairs() -> String {
    let piece = |n: usize| {
        let [.., a, b, c] = n.to_be_bytes();
        format!(
            "[listeners.l{n}]\nbind=[\"10.{a}.{b}.{c}:1\"]\n{}",
            if n < 300 {
                format!(
                    "[backends.b{n}]\nendpoints=[\"a:1\"]\n\
                     [routes.r{n}]\nserver_names=[\"n{n}.a\"]\nbackend=\"b{n}\"\n"
                )
            } else {
                String::new()
            }
        )
    };
    fill(
        "[routes.fleet]\nno_server_name=true\nbackend=\"b0\"\n",
        piece,
        "",
    )
    .0
}
