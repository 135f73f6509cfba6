//! The first lines of the program log: what starts, and with what.

use std::path::Path;

use crate::config::Settings;
use crate::routing::Route;
use crate::telemetry::list;

/// The most backends and routes that are logged, and the most endpoints or names of each; the rest are counted.
const SHOWN: usize = 10;
const PARTS: usize = 3;

/// Logs which version runs, with which file, and where connections may go. Listeners and limits are logged when
/// they come into force.
pub(super) fn introduce(file: &Path, settings: &Settings) {
    // The reader of the log may be in another directory.
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        file = %file.display(),
        pid = std::process::id(),
        "portway starts"
    );
    let backends = &settings.backends;
    let shown = backends.iter().map(|backend| {
        let endpoints = backend.members().map(|(endpoint, role)| {
            let role = (!role.is_plain()).then(|| format!(" ({role})"));
            format!("{endpoint}{}", role.unwrap_or_default())
        });
        let endpoints = list(endpoints, PARTS);
        let via = backend.via.as_ref();
        let via = via.map_or_else(String::new, |via| format!(" via {via}"));
        format!("{} ({endpoints}{via})", backend.name)
    });
    tracing::info!(
        count = backends.len(),
        backends = list(shown, SHOWN),
        "backends"
    );
    let routes = settings.routes.routes();
    let shown = routes.iter().map(|route| {
        let backend = backends.get(route.backend);
        let backend = backend.map_or("", |backend| &backend.name);
        format!("{} ({} -> {backend})", route.name, names(route))
    });
    tracing::info!(count = routes.len(), routes = list(shown, SHOWN), "routes");
}

fn names(route: &Route) -> String {
    let without = route.no_server_name.then(|| "no server name".to_owned());
    let names = route.server_names.iter().map(ToString::to_string);
    list(without.into_iter().chain(names), PARTS)
}
