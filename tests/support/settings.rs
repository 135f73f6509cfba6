//! The settings of a routes.toml as a text, for comparisons.

use portway::config::Settings;

/// All settings, without the arrangement of the routes for look-up.
pub(crate) fn shown(settings: &Settings) -> String {
    let Settings {
        workers,
        admin,
        status_pages,
        limits,
        hello,
        drain,
        log,
        listeners,
        backends,
        routes,
    } = settings;
    let program = (workers, admin, status_pages, limits, hello, drain, log);
    format!("{:#?}", (program, listeners, backends, routes.routes()))
}
