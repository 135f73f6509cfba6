//! The limits of a connection, as they are written in routes.toml.

use std::time::Duration;

use bytesize::ByteSize;

use crate::config::{Backend, Settings, keys};
use crate::net::LegOptions;

/// One limit.
#[derive(Debug)]
pub(super) struct Limit {
    /// The header of its table: its brackets are left out.
    pub(super) table: String,
    pub(super) key: &'static str,
    /// The value without quotes.
    pub(super) value: String,
    pub(super) is_default: bool,
}

/// The limits of a connection to this backend.
pub(super) fn limits(settings: &Settings, backend: &Backend) -> Vec<Limit> {
    let hello = &settings.hello;
    let (dial, relay) = (&backend.dial, &backend.relay);
    let time = |path, key, value| Limit::of(path, key, Value::Time(value));
    let size = |path, key, value| Limit::of(path, key, Value::Size(value));
    let (limits, of) = (["limits", ""], ["backends", &backend.name]);
    let mut all = vec![
        time(limits, "client_hello_timeout", hello.timeout),
        size(limits, "max_client_hello", hello.max_size as u64),
        time(of, "connect_timeout", dial.connect_timeout),
        time(of, "dial_timeout", dial.dial_timeout),
        time(of, "idle_timeout", relay.idle_timeout),
        time(of, "half_close_timeout", relay.half_close_timeout),
        time(of, "stall_timeout", relay.stall_timeout),
    ];
    all.extend((relay.peer_timeout).map(|limit| time(of, "peer_timeout", limit)));
    let (keepalive, default) = (relay.leg.keepalive, LegOptions::DEFAULT.keepalive);
    if (keepalive.interval, keepalive.probes) == (default.interval, default.probes) {
        all.push(time(of, "keepalive", keepalive.idle));
    } else {
        let probes = Value::Count(keepalive.probes);
        all.push(time(of, "keepalive.idle", keepalive.idle));
        all.push(time(of, "keepalive.interval", keepalive.interval));
        all.push(Limit::of(of, "keepalive.probes", probes));
    }
    all.push(size(of, "max_unsent", u64::from(relay.leg.max_unsent)));
    all
}

#[derive(Clone, Copy)]
enum Value {
    Time(Duration),
    Size(u64),
    Count(u32),
}

impl Value {
    /// Whether the text is this value.
    fn is(self, text: &str) -> bool {
        match self {
            Self::Time(time) => humantime::parse_duration(text).as_ref() == Ok(&time),
            Self::Size(size) => text.parse() == Ok(ByteSize(size)),
            Self::Count(count) => text.parse() == Ok(count),
        }
    }

    fn written(self) -> String {
        match self {
            Self::Time(time) => humantime::format_duration(time).to_string(),
            Self::Size(size) if size % (1 << 20) == 0 => format!("{}MiB", size >> 20),
            Self::Size(size) if size % (1 << 10) == 0 => format!("{}KiB", size >> 10),
            Self::Size(size) => format!("{size}B"),
            Self::Count(count) => count.to_string(),
        }
    }
}

impl Limit {
    fn of([table, name]: [&str; 2], key: &'static str, value: Value) -> Self {
        let path: Vec<&str> = [table, name]
            .into_iter()
            .chain(key.split('.'))
            .filter(|part| !part.is_empty())
            .collect();
        let default = keys::default_of(&path);
        let default = default.trim_matches('"');
        let is_default = value.is(default);
        Self {
            table: match name {
                "" => table.to_owned(),
                _ if name.contains('.') => format!("{table}.{name:?}"),
                _ => format!("{table}.{name}"),
            },
            key,
            // A default is shown as the reference has it.
            value: if is_default {
                default.to_owned()
            } else {
                value.written()
            },
            is_default,
        }
    }

    /// The value as in the file, where only a count has no quotes.
    pub(super) fn in_file(&self) -> String {
        if self.value.bytes().all(|byte| byte.is_ascii_digit()) {
            self.value.clone()
        } else {
            format!("{:?}", self.value)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    /// Written below the headers that `explain` shows, in a file without them, they are the same limits.
    #[test]
    fn limits_can_be_copied_into_the_file() {
        let file = "[listeners.agents]\nbind = [\"[::]:8443\"]\n[limits]\nmax_client_hello = \"1025B\"\n\
                    [backends.\"fleet.internal\"]\nendpoints = [\"fleet.internal:8220\"]\n\
                    idle_timeout = \"90m 30s\"\npeer_timeout = \"2m\"\nkeepalive.probes = 9\n\
                    max_unsent = \"2MiB\"\n[routes.fleet]\n\
                    no_server_name = true\nbackend = \"fleet.internal\"\n";
        let shown = |text: &str| {
            let settings = config::parse(text, "routes.toml").unwrap().settings;
            limits(&settings, &settings.backends[0])
        };
        let limits = shown(file);
        let written = |limit: &&Limit| !limit.is_default;
        let written: Vec<_> = limits.iter().filter(written).map(|it| it.key).collect();
        let keys = [
            "max_client_hello",
            "idle_timeout",
            "peer_timeout",
            "keepalive.probes",
            "max_unsent",
        ];
        assert_eq!(written, keys);
        let mut copied = file.to_owned();
        for key in written {
            let lines = copied.lines().filter(|line| !line.starts_with(key));
            copied = lines.collect::<Vec<_>>().join("\n");
        }
        for limit in &limits {
            let header = format!("[{}]\n", limit.table);
            let line = format!("{header}{} = {} # default\n", limit.key, limit.in_file());
            assert!(copied.contains(&header), "{header}");
            copied = copied.replace(&header, &line);
        }
        let again = shown(&copied);
        assert_eq!(format!("{again:?}"), format!("{limits:?}"));
    }
}
