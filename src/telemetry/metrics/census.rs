//! Calculates how many series a configuration makes.

use std::sync::LazyLock;

use super::{EndpointFigures, Registry};

/// The number of things of each kind in routes.toml.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Listeners.
    pub listeners: usize,
    /// Pairs of a listener and a backend that a route joins.
    pub pairs: usize,
    /// Routes.
    pub routes: usize,
    /// Backends.
    pub backends: usize,
    /// Endpoints of all backends.
    pub endpoints: usize,
    /// Endpoints that are names, which have a few more series.
    pub names: usize,
    /// Endpoints that are checked, which have a few more too.
    pub checked: usize,
}

/// The number of series that one thing of each kind has.
static EACH: LazyLock<Census> = LazyLock::new(|| {
    let registry = Registry::new();
    drop(registry.endings("a", None));
    drop(registry.endings("a", Some("b")));
    drop(registry.route("r"));
    drop(registry.backend("b"));
    drop(registry.endpoint("b", "e"));
    registry.endpoint("b", "n").resolution();
    let figures = || EndpointFigures {
        is_healthy: Some(true),
        certificate_not_after: Some(0),
        ..EndpointFigures::default()
    };
    registry.endpoint("b", "h").show(0, move || Some(figures()));
    registry.publish();
    let page = registry.exporter.render();
    let mut each = Census::default();
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let has = |label: &str| line.contains(label);
        if has("listener=\"") && has("backend=\"b\"") {
            each.pairs += 1;
        } else if has("listener=\"") {
            each.listeners += 1;
        } else if has("route=\"") {
            each.routes += 1;
        } else if has("endpoint=\"e\"") {
            each.endpoints += 1;
        } else if has("endpoint=\"n\"") {
            each.names += 1;
        } else if has("endpoint=\"h\"") {
            each.checked += 1;
        } else if has("backend=\"") {
            each.backends += 1;
        }
    }
    each.names -= each.endpoints;
    each.checked -= each.endpoints;
    each
});

impl Census {
    /// The series of all these things.
    pub fn series(&self) -> usize {
        let each = *EACH;
        [
            (self.listeners, each.listeners),
            (self.pairs, each.pairs),
            (self.routes, each.routes),
            (self.backends, each.backends),
            (self.endpoints, each.endpoints),
            (self.names, each.names),
            (self.checked, each.checked),
        ]
        .into_iter()
        .fold(0, |sum, (count, each)| {
            sum.saturating_add(count.saturating_mul(each))
        })
    }
}
