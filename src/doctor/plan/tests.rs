use super::*;
use crate::config;
use crate::doctor::finding::{Problem, Severity};
use crate::doctor::untried;

fn settings(routes: &str) -> Settings {
    let toml = format!(
        "[listeners.agents]\nbind = [\"[::]:443\"]\n\
         [backends.one]\nendpoints = [\"10.0.0.1:443\"]\n\
         [backends.two]\nendpoints = [\"10.0.0.2:443\"]\n{routes}"
    );
    config::parse(&toml, "routes.toml")
        .unwrap_or_else(|faults| panic!("{faults}"))
        .settings
}

/// The names that a backend gets, `-` for none, with a `?` behind those that are made up.
fn names(settings: &Settings, backend: &str, given: &[&str]) -> Vec<String> {
    let given: Vec<ServerName> = (given.iter())
        .map(|name| ServerName::parse(name.as_bytes()).unwrap())
        .collect();
    let plans = plans(settings, Some(backend), &given).unwrap();
    let callers = plans[0].callers.iter();
    let shown = callers.map(|caller| {
        let made_up = if caller.made_up { "?" } else { "" };
        format!("{}{made_up}", caller.name().unwrap_or("-"))
    });
    shown.collect()
}

const ROUTES: &str = "[routes.a]\nserver_names = [\"a.example\", \"*.x.example\"]\nbackend = \"one\"\n\
     [routes.b]\nserver_names = [\"b.x.example\", \"**.example\"]\nbackend = \"two\"\n\
     [routes.c]\nno_server_name = true\nbackend = \"two\"\n";

#[test]
fn each_name_of_a_route_is_tried_and_a_wildcard_with_a_name_that_is_made_up() {
    let settings = settings(ROUTES);
    assert_eq!(
        names(&settings, "one", &[]),
        ["a.example", "portway-doctor.x.example?"]
    );
    assert_eq!(
        names(&settings, "two", &[]),
        ["b.x.example", "portway-doctor.example?", "-"]
    );
}

#[test]
fn a_name_of_several_routes_is_tried_once_for_each_list_of_protocols() {
    let settings = settings(
        "[routes.a]\nserver_names = [\"a.example\"]\nports = [443]\nbackend = \"one\"\n\
         [routes.b]\nserver_names = [\"a.example\"]\nports = [8443]\nbackend = \"one\"\n\
         [routes.c]\nserver_names = [\"a.example\"]\nports = [443]\nalpn = [\"h2\"]\nbackend = \"one\"\n",
    );
    assert_eq!(names(&settings, "one", &[]), ["a.example", "a.example"]);
}

#[test]
fn a_name_that_is_given_goes_where_a_connection_with_it_would() {
    let settings = settings(ROUTES);
    let given = ["c.x.example", "d.example", "b.x.example"];
    assert_eq!(
        names(&settings, "one", &given),
        ["c.x.example", "a.example"]
    );
    assert_eq!(
        names(&settings, "two", &given),
        ["b.x.example", "d.example", "-"]
    );
}

#[test]
fn a_route_for_every_name_is_tried_only_with_a_name_that_is_given() {
    let settings = settings("[routes.a]\nserver_names = [\"**\"]\nbackend = \"one\"\n");
    let plans = plans(&settings, Some("one"), &[]).unwrap();
    assert_eq!(plans[0].unnamed, [Arc::from("a")]);
    assert_eq!(names(&settings, "one", &[]), ["-?"]);
    assert_eq!(names(&settings, "one", &["x.example"]), ["x.example"]);
}

#[test]
fn names_beyond_the_bound_are_counted() {
    let list: Vec<String> = (0..20).map(|it| format!("n{it}.example")).collect();
    let settings = settings(&format!(
        "[routes.a]\nserver_names = {list:?}\nbackend = \"one\"\n"
    ));
    let plans = plans(&settings, None, &[]).unwrap();
    assert_eq!(
        (plans.len(), plans[0].callers.len(), plans[0].left_out),
        (2, MOST_NAMES, 4)
    );
    let shown = names(&settings, "one", &["n19.example"]);
    assert_eq!(
        (shown.len(), shown[0].as_str(), shown[1].as_str()),
        (MOST_NAMES, "n19.example", "n0.example")
    );
    // No route leads to the other one, which is dialled all the same.
    assert_eq!(
        (plans[1].callers.len(), plans[1].callers[0].name()),
        (1, None)
    );
}

#[test]
fn what_the_file_does_not_have_is_refused_with_what_it_has() {
    let settings = settings(ROUTES);
    let error = plans(&settings, Some("three"), &[]).unwrap_err();
    assert_eq!(error, "the file has no backend \"three\"; it has one, two");
    let name = ServerName::parse(b"a.test").unwrap();
    let error = plans(&settings, None, &[name]).unwrap_err();
    assert_eq!(
        error,
        "no route takes a.test: `portway explain a.test` shows why"
    );
}

/// A hello does not show at which port a client arrives, so a name is tried at the ports of all its routes.
#[test]
fn a_name_that_clients_choose_with_the_port_is_tried_at_each_port_of_its_routes() {
    let backend = "[backends.three]\nendpoints = [\"{server_name}:{port}\"]\n\
                   resolver = { servers = [\"10.0.0.53\"] }\n";
    let route = |name: &str, server_names: &str, ports: &[u16]| {
        format!(
            "[routes.{name}]\nserver_names = [{server_names}]\nports = {ports:?}\nbackend = \"three\"\n"
        )
    };
    let many: Vec<u16> = (1000..1019).collect();
    let routes = [
        route("a", "\"a.example\"", &[443, 8220]),
        route("b", "\"a.example\", \"*.b.example\"", &[9200]),
        route("c", "\"c.example\"", &many),
    ];
    let settings = settings(&format!("{backend}{}", routes.concat()));
    let plans = plans(&settings, Some("three"), &[]).unwrap();
    let targets = plans[0].targets();
    let targets: Vec<String> = targets.iter().map(|(it, _)| it.to_string()).collect();
    let of_many = many.iter().take(MOST_PORTS);
    let of_many = of_many.map(|port| format!("c.example:{port}"));
    let of_one = [443, 8220, 9200].map(|port| format!("a.example:{port}"));
    let wanted: Vec<String> = of_one.into_iter().chain(of_many).collect();
    assert_eq!(targets, wanted);
    assert_eq!(plans[0].ports_left_out(), 3);
}

/// The messages about the names of the backend `one` that get no hello.
fn untried_of(endpoint: &str, names: &[String]) -> Vec<String> {
    let toml = format!(
        "[listeners.agents]\nbind = [\"[::]:443\"]\n[backends.one]\nendpoints = [{endpoint:?}]\n\
         resolver.servers = [\"10.0.0.53\"]\n\
         [routes.a]\nserver_names = {names:?}\nbackend = \"one\"\n"
    );
    let loaded = config::parse(&toml, "routes.toml");
    let settings = loaded.unwrap_or_else(|faults| panic!("{faults}")).settings;
    let plans = plans(&settings, None, &[]).unwrap();
    let findings = untried(&plans[0]).into_iter();
    let messages = findings.map(|finding| {
        assert_eq!(finding.problem, Problem::NotTried);
        assert_eq!(finding.severity, Severity::Warning);
        assert!(finding.help.contains("--name"), "{}", finding.help);
        assert_eq!(finding.place.backend.as_deref(), Some("one"));
        finding.message
    });
    messages.collect()
}

#[test]
fn names_that_get_no_hello_are_told() {
    let names: Vec<String> = (0..MOST_NAMES + 4)
        .map(|it| format!("n{it}.example"))
        .collect();
    let server = "10.0.0.1:443";
    assert_eq!(untried_of(server, &names[..MOST_NAMES]), [""; 0]);
    assert_eq!(
        untried_of(server, &names),
        ["4 more server names lead here; the first 16 were tried"]
    );
    assert_eq!(
        untried_of(server, &["**".to_owned()]),
        ["the route a takes any name, so none was tried"]
    );
    let asked = "{server_name}:443";
    assert_eq!(untried_of(asked, &names[..1]), [""; 0]);
    assert_eq!(
        untried_of(asked, &["*.example".to_owned()]),
        ["clients choose where {server_name}:443 leads, so nothing was tried"]
    );
}
