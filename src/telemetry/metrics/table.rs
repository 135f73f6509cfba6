//! Every metric that the page can have. A test compares `docs/metrics.md` with this table.

/// The kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Seconds, with the upper bounds of the buckets.
    Histogram(&'static [f64]),
}

impl Kind {
    /// The word of the TYPE line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

/// One metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Metric {
    /// The whole name, with its unit and suffix.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// The names of its labels. Their values come from routes.toml and closed lists, never from a client.
    pub labels: &'static [&'static str],
    /// The HELP line.
    pub help: &'static str,
}

const HELLO_SECONDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];
const DIAL_SECONDS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

macro_rules! metrics {
    ($($const:ident = $name:literal, $kind:expr, [$($label:literal),*], $help:literal;)*) => {
        $(pub(super) const $const: Metric =
            Metric { name: $name, kind: $kind, labels: &[$($label),*], help: $help };)*
        /// Every metric, in the order of the documentation.
        pub const TABLE: &[Metric] = &[$($const),*];
    };
}

metrics! {
    ACCEPTED = "portway_connections_accepted_total", Kind::Counter, ["listener"],
        "Connections accepted.";
    ACTIVE = "portway_connections_active", Kind::Gauge, ["listener"],
        "Connections open now: accepted minus closed, exact at every scrape.";
    CLOSED = "portway_connections_closed_total", Kind::Counter, ["listener", "backend", "outcome"],
        "Connections ended, by outcome; backend is \"-\" if none was chosen.";
    FORGOTTEN = "portway_connections_forgotten_total", Kind::Counter, ["listener"],
        "Ended connections that portway_connections_closed_total no longer shows, because their backend was removed.";
    PREDECESSOR_CONNECTIONS = "portway_predecessor_connections", Kind::Gauge, [],
        "Connections open in the process whose listeners this process took over; 0 if there is none, absent while that process does not answer.";
    DRAIN_CROSSED = "portway_drain_crossed_total", Kind::Counter, [],
        "Connections whose client sent a request while portway closed them between two requests; it was not passed on.";
    ACCEPT_ERRORS = "portway_accept_errors_total", Kind::Counter, ["reason"],
        "Failed attempts to accept a connection; without descriptors or memory portway retries ten times per second.";
    ROUTED = "portway_route_connections_total", Kind::Counter, ["route"],
        "Connections that took the route.";
    BYTES = "portway_bytes_total", Kind::Counter, ["backend", "direction"],
        "Bytes relayed, counted as they pass.";
    ANSWERS = "portway_backend_answers_total", Kind::Counter, ["backend", "answer"],
        "Connections by the first thing that the backend said: server_hello, alert, not_tls or none.";
    HANDSHAKES = "portway_handshakes_total", Kind::Counter, ["backend", "result"],
        "TLS handshakes by their end, as far as their records show: completed, failed, abandoned, not_tls or unseen.";
    STALLED = "portway_stalled", Kind::Gauge, ["backend", "direction"],
        "Connections whose receiver has accepted no byte for 2 s while bytes wait for it.";
    HELLO = "portway_client_hello_seconds", Kind::Histogram(HELLO_SECONDS), [],
        "Time from accept to a complete client hello.";
    DIAL = "portway_dial_seconds", Kind::Histogram(DIAL_SECONDS), ["backend"],
        "Time from the choice of the backend to a connected endpoint, failed attempts included.";
    DIAL_FAILURES = "portway_dial_failures_total", Kind::Counter,
        ["backend", "endpoint", "reason"],
        "Failed attempts to connect to an endpoint.";
    ENDPOINT_CONNECTIONS = "portway_endpoint_connections", Kind::Gauge, ["backend", "endpoint"],
        "Connections to the endpoint that are open now.";
    ENDPOINT_ADDRESSES = "portway_endpoint_addresses", Kind::Gauge,
        ["backend", "endpoint", "state"],
        "Addresses of the endpoint, by state.";
    ENDPOINT_WEIGHT = "portway_endpoint_weight", Kind::Gauge, ["backend", "endpoint"],
        "Weight of an endpoint that is written as a table, 1 if the table has none; 0 while the endpoint drains.";
    ENDPOINT_BACKUP = "portway_endpoint_backup", Kind::Gauge, ["backend", "endpoint"],
        "1 if an endpoint that is written as a table is a backup.";
    ENDPOINT_HEALTH = "portway_endpoint_health", Kind::Gauge, ["backend", "endpoint"],
        "1 if an address of the endpoint is healthy, 0 if none is; only for a backend with health.";
    HEALTH_CHECKS = "portway_health_checks_total", Kind::Counter,
        ["backend", "endpoint", "result"],
        "Checks of the addresses of the endpoint.";
    CERTIFICATE_NOT_AFTER = "portway_backend_certificate_not_after_timestamp_seconds", Kind::Gauge,
        ["backend", "endpoint"],
        "Time when the first of the certificates that the endpoint shows to a tls check expires, in seconds since 1970; absent for a server that speaks TLS 1.3 only, which encrypts them.";
    RESOLVED_AT = "portway_endpoint_resolved_timestamp_seconds", Kind::Gauge,
        ["backend", "endpoint"],
        "Time of the last look-up that returned an address of the endpoint that can be dialled, in seconds since 1970; 0 before the first one.";
    RESOLVE_FAILURES = "portway_resolve_failures_total", Kind::Counter,
        ["backend", "endpoint", "reason"],
        "Look-ups that returned no address of the endpoint that can be dialled.";
    DIALS_OUTRUN = "portway_dials_outrun_total", Kind::Counter, ["backend", "endpoint"],
        "Dials of an address that portway gave up, because one of the other family connected first; only for an endpoint that is reached by a name, and not of an address that has connected in the last 10 s or is tried again after a failure.";
    LIMIT = "portway_limit", Kind::Gauge, ["limit"],
        "The limit in force; +Inf if there is no limit.";
    LIMIT_REJECTIONS = "portway_limit_rejections_total", Kind::Counter, ["limit"],
        "Connections rejected because of the limit.";
    WORKER_LATENESS = "portway_worker_lateness_seconds", Kind::Gauge, ["worker"],
        "Seconds by which the worker's one-second tick is overdue; /livez fails if the last tick was 10 s ago.";
    PIPES = "portway_pipes", Kind::Gauge, ["state"],
        "Pipes for splicing, as of the workers' last ticks; lent pipes hold bytes.";
    PIPE_FALLBACKS = "portway_pipe_fallbacks_total", Kind::Counter, [],
        "Reads of bulk flows that were copied because no pipe was available.";
    RELOADS = "portway_reloads_total", Kind::Counter, ["result"],
        "Reloads of routes.toml.";
    RELOAD_SUCCESSFUL = "portway_config_last_reload_successful", Kind::Gauge, [],
        "1 if the last reload succeeded or there was none; 0 if it failed and the previous configuration stays in force.";
    RELOAD_TIME = "portway_config_last_reload_success_timestamp_seconds", Kind::Gauge, [],
        "Time when the configuration in force was loaded, in seconds since 1970.";
    GENERATION = "portway_config_generation", Kind::Gauge, [],
        "Number of the configuration in force, counted from 1 at the start; the log field config has the same number.";
    CONFIG_HASH = "portway_config_hash", Kind::Gauge, [],
        "CRC-32 of the file in force; instances whose values differ run different files.";
    WATCH = "portway_config_watch", Kind::Gauge, ["mode"],
        "1 for the mode in which portway notices changes of the file.";
    CONTROL_SOCKET = "portway_control_socket_available", Kind::Gauge, [],
        "1 if this process has its control socket; 0 while another process has the name, and after a successor took it over.";
    LINES_DROPPED = "portway_log_lines_dropped_total", Kind::Counter, [],
        "Log lines dropped because the reader of the log was slow or gone.";
    LINES_SUPPRESSED = "portway_log_lines_suppressed_total", Kind::Counter, [],
        "Connection log lines left out because their outcome occurred more than 10 times per second, or because more connections were open than log.interval has time for.";
    BUILD = "portway_build_info", Kind::Gauge, ["version"],
        "Always 1; the label version has the version.";
    CPU = "process_cpu_seconds_total", Kind::Counter, [],
        "User and system CPU time, in whole seconds.";
    OPEN_FDS = "process_open_fds", Kind::Gauge, [],
        "Open file descriptors.";
    MAX_FDS = "process_max_fds", Kind::Gauge, [],
        "Limit of open file descriptors.";
    VIRTUAL_MEMORY = "process_virtual_memory_bytes", Kind::Gauge, [],
        "Virtual memory.";
    MAX_VIRTUAL_MEMORY = "process_virtual_memory_max_bytes", Kind::Gauge, [],
        "Limit of virtual memory.";
    RESIDENT_MEMORY = "process_resident_memory_bytes", Kind::Gauge, [],
        "Resident memory.";
    START_TIME = "process_start_time_seconds", Kind::Gauge, [],
        "Start time of the process, in seconds since 1970.";
    THREADS = "process_threads", Kind::Gauge, [],
        "Number of threads in the process.";
}
