//! Mistakes of operators, one in each file: the message has the place, what is wrong, and what to write.

use portway::config;

use super::FINE;

/// The name of a snapshot, a part of the shipped file, and the mistake that replaces it.
type Mistake = (&'static str, &'static str, &'static str);

const BIND: &str = "bind = [\"[::]:443\"]";
const ENDPOINTS: &str = "endpoints = [\"fleet-1.internal:8220\", \"fleet-2.internal:8220\"]";
const ENDPOINT: &str = "endpoints = [\"es-1.internal:9200\"]";
const NAME: &str = "server_names = [\"fleet.example.com\"]";
const BACKEND: &str = "backend = \"fleet\"";

/// Statements that TOML cannot read.
const SYNTAX: &[Mistake] = &[
    ("list_not_closed", BIND, "bind = [\"[::]:443\""),
    (
        "list_of_lines_not_closed",
        ENDPOINTS,
        "endpoints = [\n  \"fleet-1.internal:8220\",\n  \"fleet-2.internal:8220\",\n",
    ),
    (
        "list_closed_by_a_parenthesis",
        BIND,
        "bind = [\"[::]:443\")",
    ),
    ("list_closed_twice", BIND, "bind = [\"[::]:443\"]]"),
    ("list_not_opened", BIND, "bind = \"[::]:443\"]"),
    ("quote_not_closed", BIND, "bind = [\"[::]:443]"),
    (
        "quote_not_opened",
        ENDPOINT,
        "endpoints = [es-1.internal:9200\"]",
    ),
    ("quotes_in_threes", BACKEND, "backend = \"\"\"fleet\""),
    (
        "quotes_of_a_text_program",
        NAME,
        "server_names = [“fleet.example.com”]",
    ),
    ("no_quotes", BACKEND, "backend = fleet"),
    (
        "no_quotes_in_a_list",
        ENDPOINTS,
        "endpoints = [fleet-1.internal:8220, fleet-2.internal:8220]",
    ),
    ("no_quotes_around_an_address", BIND, "bind = [[::]:443]"),
    (
        "no_quotes_and_no_list",
        BIND,
        "bind = 0.0.0.0:443, 0.0.0.0:8220",
    ),
    (
        "no_quotes_around_a_duration",
        BACKEND,
        "backend = \"fleet\"\n\n[limits]\ndrain_timeout = 90s",
    ),
    (
        "no_comma",
        ENDPOINTS,
        "endpoints = [\n  \"fleet-1.internal:8220\"\n  \"fleet-2.internal:8220\"\n]",
    ),
    (
        "one_comma_too_many",
        ENDPOINTS,
        "endpoints = [\"fleet-1.internal:8220\",, \"fleet-2.internal:8220\"]",
    ),
    (
        "semicolons_in_a_list",
        ENDPOINTS,
        "endpoints = [\"fleet-1.internal:8220\"; \"fleet-2.internal:8220\"]",
    ),
    ("semicolon_at_the_end", BACKEND, "backend = \"fleet\";"),
    (
        "several_values_without_a_list",
        ENDPOINTS,
        "endpoints = \"fleet-1.internal:8220\", \"fleet-2.internal:8220\"",
    ),
    (
        "list_as_in_yaml",
        BIND,
        "bind = [\"[::]:443\"]\n- \"[::]:8220\"",
    ),
    (
        "quotes_of_two_kinds",
        ENDPOINTS,
        "endpoints = [\"fleet-1.internal:8220', \"fleet-2.internal:8220\"]",
    ),
    ("no_equals_sign", BACKEND, "backend \"fleet\""),
    ("two_equals_signs", BACKEND, "backend == \"fleet\""),
    ("colon_as_in_yaml", BACKEND, "backend: fleet"),
    (
        "braces_as_in_json",
        "[routes.fleet]",
        "\"routes\": { \"fleet\": {} }\n\n[routes.fleet]",
    ),
    (
        "block_as_in_nginx",
        "[listeners.agents]",
        "stream {\n  server {\n    listen 443;\n  }\n}\n\n[listeners.agents]",
    ),
    ("line_as_in_haproxy", BIND, "bind *:443"),
    (
        "comment_as_in_c",
        BIND,
        "// all addresses\nbind = [\"[::]:443\"]",
    ),
    (
        "comment_behind_a_value",
        BIND,
        "bind = [\"[::]:443\"] // all addresses",
    ),
    ("no_value", BACKEND, "backend ="),
    ("no_value_but_a_comment", BACKEND, "backend = # fleet"),
    ("value_in_the_next_line", BIND, "bind =\n  [\"[::]:443\"]"),
    (
        "two_keys_in_one_line",
        NAME,
        "server_names = [\"fleet.example.com\"], backend = \"fleet\"",
    ),
    ("header_not_closed", "[routes.fleet]", "[routes.fleet"),
    ("header_not_opened", "[routes.fleet]", "routes.fleet]"),
    ("header_with_a_space", "[routes.fleet]", "[routes fleet]"),
    ("header_with_a_slash", "[routes.fleet]", "[routes/fleet]"),
    ("header_without_a_name", "[routes.fleet]", "[routes.]"),
    (
        "header_with_a_key_behind_it",
        "[routes.fleet]",
        "[routes.fleet] no_server_name = true",
    ),
    ("header_twice", "[routes.elasticsearch]", "[routes.fleet]"),
    (
        "key_twice",
        BIND,
        "bind = [\"[::]:443\"]\nbind = [\"[::]:8220\"]",
    ),
    (
        "value_that_is_a_table_too",
        ENDPOINT,
        "endpoints = [\"es-1.internal:9200\"]\nendpoints.more = \"es-2.internal:9200\"",
    ),
    (
        "table_not_closed",
        "[routes.fleet]",
        "[routes]\nmore = { backend = \"fleet\", no_server_name = true\n\n[routes.fleet]",
    ),
    ("no_break_space", BACKEND, "backend =\u{a0}\"fleet\""),
    (
        "backslash",
        NAME,
        "server_names = [\"fleet\\.example\\.com\"]",
    ),
    (
        "name_that_is_not_ascii",
        "[backends.fleet]",
        "[backends.flotte-é]\nendpoints = [\"a.internal:1\"]\n\n[backends.fleet]",
    ),
    (
        "switch_in_capitals",
        BACKEND,
        "backend = \"fleet\"\nno_server_name = True",
    ),
    (
        "number_with_commas",
        "[routes.fleet]",
        "[limits]\nmax_connections = 20,000\n\n[routes.fleet]",
    ),
    (
        "number_with_a_unit",
        "[routes.fleet]",
        "[limits]\nmax_connections = 20k\n\n[routes.fleet]",
    ),
    (
        "line_ends_of_old_times",
        "\n\n[routes.elasticsearch]",
        "\r\r[routes.elasticsearch]",
    ),
];

/// Statements that TOML can read and portway cannot accept.
const MEANING: &[Mistake] = &[
    (
        "endpoint_that_is_a_url",
        ENDPOINT,
        "endpoints = [\"https://es-1.internal:9200\"]",
    ),
    (
        "endpoint_that_is_a_url_without_a_port",
        ENDPOINT,
        "endpoints = [\"https://elastic:secret@es-1.internal/\"]",
    ),
    (
        "endpoint_without_a_port",
        ENDPOINT,
        "endpoints = [\"es-1.internal\"]",
    ),
    (
        "endpoint_with_options",
        ENDPOINT,
        "endpoints = [\"es-1.internal:9200 weight=2\"]",
    ),
    (
        "endpoint_with_a_wildcard",
        ENDPOINT,
        "endpoints = [\"*.internal:9200\"]",
    ),
    (
        "endpoint_with_a_variable",
        ENDPOINT,
        "endpoints = [\"${ES_HOST}:9200\"]",
    ),
    (
        "endpoint_with_a_port_beyond_65535",
        ENDPOINT,
        "endpoints = [\"es-1.internal:92000\"]",
    ),
    (
        "endpoint_without_brackets",
        ENDPOINT,
        "endpoints = [\"fd00::7:9200\"]",
    ),
    (
        "endpoint_of_five_digits",
        ENDPOINT,
        "endpoints = [\"10.0.0.300:9200\"]",
    ),
    (
        "endpoints_in_one_string",
        ENDPOINT,
        "endpoints = [\"es-1.internal:9200, es-2.internal:9200\"]",
    ),
    (
        "endpoint_that_is_portway",
        ENDPOINT,
        "endpoints = [\"127.0.0.1:443\"]",
    ),
    (
        "endpoint_twice",
        ENDPOINT,
        "endpoints = [\"es-1.internal:9200\", \"ES-1.internal:9200\"]",
    ),
    ("bind_that_is_no_list", BIND, "bind = \"0.0.0.0:443\""),
    ("bind_of_a_port", BIND, "bind = [443]"),
    ("bind_of_a_star", BIND, "bind = [\"*:443\"]"),
    ("bind_of_a_name", BIND, "bind = [\"localhost:443\"]"),
    ("bind_beyond_65535", BIND, "bind = [\"0.0.0.0:70000\"]"),
    ("bind_twice", BIND, "bind = [\"[::]:443\", \"0.0.0.0:443\"]"),
    (
        "listener_without_an_address",
        BIND,
        "allow_clients = [\"10.0.0.0/8\"]",
    ),
    ("listener_with_an_empty_list", BIND, "bind = []"),
    (
        "clients_by_address",
        BIND,
        "bind = [\"[::]:443\"]\nallow_clients = [\"10.0.0.7\"]",
    ),
    (
        "clients_with_host_bits",
        BIND,
        "bind = [\"[::]:443\"]\nallow_clients = [\"10.1.2.3/8\"]",
    ),
    (
        "clients_with_a_netmask",
        BIND,
        "bind = [\"[::]:443\"]\nallow_clients = [\"10.0.0.0/255.0.0.0\"]",
    ),
    (
        "clients_that_are_all",
        BIND,
        "bind = [\"[::]:443\"]\nallow_clients = [\"all\"]",
    ),
    (
        "clients_that_are_none",
        BIND,
        "bind = [\"[::]:443\"]\nallow_clients = []",
    ),
    (
        "key_misspelt",
        ENDPOINT,
        "endpoint = [\"es-1.internal:9200\"]",
    ),
    (
        "key_of_another_program",
        BIND,
        "bind = [\"[::]:443\"]\nssl_certificate = \"/etc/ssl/fleet.pem\"",
    ),
    (
        "key_of_another_table",
        "[routes.fleet]",
        "[limits]\ndial_timeout = \"9s\"\n\n[routes.fleet]",
    ),
    (
        "key_of_two_other_tables",
        NAME,
        "server_names = [\"fleet.example.com\"]\nbind = [\"[::]:443\"]",
    ),
    (
        "key_outside_all_tables",
        "[routes.fleet]",
        "[limits]\nworkers = 4\n\n[routes.fleet]",
    ),
    ("table_misspelt", "[listeners.agents]", "[listener.agents]"),
    ("table_without_a_name", "[listeners.agents]", "[listeners]"),
    (
        "tables_in_two_brackets",
        "[routes.fleet]",
        "[[routes.fleet]]",
    ),
    (
        "name_with_a_dot",
        "[routes.fleet]",
        "[routes.fleet.example]",
    ),
    ("name_of_a_backend_misspelt", BACKEND, "backend = \"flet\""),
    (
        "name_of_a_backend_in_a_list",
        BACKEND,
        "backend = [\"fleet\"]",
    ),
    (
        "name_of_no_listener",
        BACKEND,
        "backend = \"fleet\"\nlisteners = [\"public\"]",
    ),
    ("route_without_a_backend", BACKEND, ""),
    ("route_without_a_name", NAME, ""),
    (
        "routes_that_tie",
        "\"es.example.com\"",
        "\"fleet.example.com\"",
    ),
    (
        "server_name_that_is_a_url",
        NAME,
        "server_names = [\"https://fleet.example.com\"]",
    ),
    (
        "server_name_with_a_port",
        NAME,
        "server_names = [\"fleet.example.com:443\"]",
    ),
    (
        "server_name_that_is_an_address",
        NAME,
        "server_names = [\"10.0.0.7\"]",
    ),
    ("server_name_that_is_a_star", NAME, "server_names = [\"*\"]"),
    (
        "server_name_with_a_star_inside",
        NAME,
        "server_names = [\"fleet.*.example.com\"]",
    ),
    (
        "server_name_with_a_dot_before_it",
        NAME,
        "server_names = [\".example.com\"]",
    ),
    (
        "server_name_that_is_an_expression",
        NAME,
        "server_names = [\"~^fleet\"]",
    ),
    (
        "server_names_in_one_string",
        NAME,
        "server_names = [\"fleet.example.com fleet-2.example.com\"]",
    ),
    (
        "duration_without_a_unit",
        ENDPOINT,
        "endpoints = [\"es-1.internal:9200\"]\nidle_timeout = 75",
    ),
    (
        "duration_of_a_strange_unit",
        ENDPOINT,
        "endpoints = [\"es-1.internal:9200\"]\nidle_timeout = \"75 minuten\"",
    ),
    (
        "duration_that_is_zero",
        ENDPOINT,
        "endpoints = [\"es-1.internal:9200\"]\nidle_timeout = \"0\"",
    ),
    (
        "size_without_a_unit",
        ENDPOINT,
        "endpoints = [\"es-1.internal:9200\"]\nmax_unsent = 65536",
    ),
    (
        "word_of_another_program",
        ENDPOINT,
        "endpoints = [\"es-1.internal:9200\"]\nbalance = \"roundrobin\"",
    ),
    (
        "dial_shorter_than_an_attempt",
        ENDPOINT,
        "endpoints = [\"es-1.internal:9200\"]\ndial_timeout = \"2s\"",
    ),
    (
        "number_in_quotes",
        "[listeners.agents]",
        "workers = \"4\"\n\n[listeners.agents]",
    ),
    (
        "admin_of_a_port",
        "[listeners.agents]",
        "[admin]\nbind = 9355\n\n[listeners.agents]",
    ),
    (
        "switch_in_quotes",
        BACKEND,
        "backend = \"fleet\"\nno_server_name = \"true\"",
    ),
];

#[test]
fn each_mistake_is_told_with_its_place_and_what_to_write() {
    for (name, right, wrong) in SYNTAX.iter().chain(MEANING) {
        let text = FINE.replacen(right, wrong, 1);
        assert_ne!(text, FINE, "{name}");
        let Err(faults) = config::parse(&text, "routes.toml") else {
            panic!("{name} is fine");
        };
        let told = faults.to_string();
        super::assert_snapshot(&format!("mistakes/{name}"), &told);
        let count = |part: &str| told.matches(part).count();
        let each = ["error: ", "= help: ", "--> routes.toml:"].map(count);
        assert_eq!(each, [1; 3], "{name}: {told}");
    }
}

#[test]
fn a_mistake_hides_no_other_one_and_makes_none() {
    // Behind and before each of them.
    let before = "[backends.before]\nendpoints = [\"before.internal\"]\n\n";
    let behind = "\n[backends.behind]\nendpoints = [\"behind.internal\"]\n";
    for (name, right, wrong) in SYNTAX.iter().chain(MEANING) {
        let text = before.to_owned() + &FINE.replacen(right, wrong, 1) + behind;
        let told: Vec<String> = config::parse(&text, "routes.toml")
            .unwrap_err()
            .lines()
            .collect();
        let is_told = |part: &str| told.iter().any(|line| line.contains(part));
        assert!(
            is_told("before.internal") && is_told("behind.internal"),
            "{name}: {told:#?}"
        );
    }
}

/// The faults of a file, without the columns.
fn without_columns(text: &str) -> Vec<String> {
    let faults = config::parse(text, "routes.toml").unwrap_err();
    let without = |line: String| {
        let mut parts = line.splitn(4, ':').map(str::to_owned);
        let (file, line) = (parts.next(), parts.next());
        format!("{file:?} {line:?} {:?}", parts.nth(1))
    };
    faults.lines().map(without).collect()
}

#[test]
fn a_mistake_is_told_alike_in_a_file_of_windows_and_behind_tabs() {
    for (name, right, wrong) in SYNTAX.iter().chain(MEANING) {
        let text = FINE.replacen(right, wrong, 1);
        let told = without_columns(&text);
        if !text.contains('\r') {
            let windows = format!("\u{feff}{}", text.replace('\n', "\r\n"));
            assert_eq!(without_columns(&windows), told, "{name}");
        }
        let tabs = text.replace('\n', "\n\t").replace(" = ", "\t=\t");
        assert_eq!(without_columns(&tabs).len(), told.len(), "{name}");
    }
}
