//! A file in another language: one fault for it, in place of one for each of its lines.

use super::faults::Fault;
use super::path::Path;

const HELP: &str = "write the file in TOML; `portway` without a command shows a small example";

/// The fault of a file that is JSON or YAML as a whole. A file that has a statement of TOML is none of them.
pub(super) fn fault(text: &str) -> Option<Fault> {
    let mut lines = text.lines().map(str::trim).filter(is_significant);
    let first = lines.next()?;
    let language = if first.starts_with('{') {
        "JSON"
    } else if first == "---" || is_of_yaml(first) {
        "YAML"
    } else {
        return None;
    };
    if is_of_toml(first) || lines.any(is_of_toml) {
        return None;
    }
    let start = first.as_ptr().addr() - text.as_ptr().addr();
    let message = format!("this file is {language}, and portway reads TOML");
    let span = start..start + first.len();
    Some(Fault::new(
        span,
        Path::default(),
        message,
        Some(HELP.to_owned()),
    ))
}

fn is_significant(line: &&str) -> bool {
    !line.is_empty() && !line.starts_with('#')
}

/// `key:`, alone or before a value.
fn is_of_yaml(line: &str) -> bool {
    let Some((key, value)) = line.split_once(':') else {
        return false;
    };
    is_key(key) && (value.is_empty() || value.starts_with(' '))
}

/// A header, or a key and an equals sign.
fn is_of_toml(line: &str) -> bool {
    line.starts_with('[') && line.ends_with(']')
        || line
            .split_once('=')
            .is_some_and(|(key, _)| is_key(key.trim_end()))
}

fn is_key(text: &str) -> bool {
    let is_of_key = |c: char| c.is_ascii_alphanumeric() || "_-.\"".contains(c);
    !text.is_empty() && text.chars().all(is_of_key)
}

#[cfg(test)]
mod tests {
    use crate::config;

    fn errors(text: &str) -> Vec<String> {
        let faults = config::parse(text, "routes.toml").unwrap_err();
        faults.lines().collect()
    }

    #[test]
    fn a_file_in_another_language_has_one_fault_that_says_so() {
        let json = "{\n  \"listeners\": { \"agents\": { \"bind\": [\"[::]:443\"] } }\n}\n";
        let yaml = "# ours\nlisteners:\n  agents:\n    bind:\n      - \"[::]:443\"\nworkers: 4\n";
        for (text, place) in [
            (json, "routes.toml:1:1: this file is JSON, "),
            ("{\"workers\": 4}", "routes.toml:1:1: this file is JSON, "),
            (yaml, "routes.toml:2:1: this file is YAML, "),
            ("---\nworkers: 4\n", "routes.toml:1:1: this file is YAML, "),
        ] {
            let errors = errors(text);
            assert_eq!(errors.len(), 1, "{errors:?}");
            assert!(errors[0].starts_with(place), "{errors:?}");
            assert!(errors[0].contains("write the file in TOML"), "{errors:?}");
        }
    }

    /// One such line hides no fault of the rest.
    #[test]
    fn a_file_with_a_statement_of_toml_is_not_another_language() {
        for first in ["workers: 4", "{", "---"] {
            for rest in [
                "[limits]\nmax_connections = 0\n",
                "limits.max_connections=0\n",
            ] {
                let errors = errors(&format!("{first}\n{rest}"));
                let is_foreign = |line: &String| line.contains("this file is");
                assert!(!errors.iter().any(is_foreign), "{first}: {errors:?}");
            }
        }
    }
}
