//! A password that somebody writes into routes.toml is in no message about it.

use portway::config;

/// Ways to write a URL with a user and a password, right and wrong.
const WRITTEN: &[&str] = &[
    "via = \"http://agent:hunter2@proxy.corp:3128\"",
    "via = \"agent:hunter2@proxy.corp:3128\"",
    "via = \"https://agent:hunter2@proxy.corp\"",
    "via = \"http://agent:hunt@hunter2@proxy.corp:3128\"",
    "via = \"http://agent:hun ter2 hunter2@proxy.corp:3128\"",
    "via = http://agent:hunter2@proxy.corp:3128",
    "via = agent:hunter2@proxy.corp:3128",
    "via = \"http://agent:hunter2@proxy.corp:3128",
    "via = http://agent:hunter2@proxy.corp:3128\"",
    "via = 'http://agent:hunter2@proxy.corp:3128",
    "via = [\"http://agent:hunter2@proxy.corp:3128\"]",
    "via = [http://agent:hunter2@proxy.corp:3128]",
    "via = { url = \"http://agent:hunter2@proxy.corp:3128\" }",
    "via http://agent:hunter2@proxy.corp:3128",
    "via: http://agent:hunter2@proxy.corp:3128",
    "http://agent:hunter2@proxy.corp:3128",
    "viaa = \"http://agent:hunter2@proxy.corp:3128\"",
    "via = \"http://agent:hunter2@proxy.corp:3128\" \"",
    "via = \"http://agent:hunter2@proxy.corp:3128\", \"http://agent:hunter2@b:1\"",
    "via = “http://agent:hunter2@proxy.corp:3128”",
    "via = \"http://agent:\\hunter2@proxy.corp:3128\"",
    "via == \"http://agent:hunter2@proxy.corp:3128\"",
    "endpoints = [\"https://agent:hunter2@es-1.internal:9200\"]",
    "endpoints = [\"agent:hunter2@es-1.internal:9200\"]",
    "idle_timeout = \"http://agent:hunter2@proxy.corp:3128\"",
    "keepalive = http://agent:hunter2@proxy.corp:3128",
];

#[test]
fn no_fault_shows_a_password() {
    for written in WRITTEN {
        let endpoints = if written.starts_with("endpoints") {
            ""
        } else {
            "endpoints = [\"es-1.internal:9200\"]\n"
        };
        let text = format!(
            "[listeners.agents]\nbind = [\"[::]:443\"]\n\
             [backends.es]\n{endpoints}balance = \"fair\"\n{written}\nkeepalive = \"soon\"\n\
             [routes.es]\nserver_names = [\"es.example.com\"]\nbackend = \"es\"\n"
        );
        let faults = config::parse(&text, "routes.toml").unwrap_err();
        let lines: Vec<_> = faults.lines().chain(faults.warning_lines()).collect();
        let (errors, _) = faults.told_errors();
        let all = format!("{faults}\n{lines:?}\n{errors:?}\n{}", faults.render(true));
        assert!(!all.contains("ter2"), "{written}\n{all}");
        assert!(
            lines.len() >= 2,
            "the value itself is a fault: {written}\n{all}"
        );
    }
}
