//! The name that the client asks for: waits for its look-up, if it is not known.

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Instant;

use super::{Request, Unreached};
use crate::backend::{Asked, Found, Name, State, Target, Way};
use crate::net::until;

/// Finds the name that the client wishes for. The look-up and all attempts together have the time of the dial. If there is
/// an earlier answer, half of that time is left to dial it.
pub(super) async fn find(
    request: &Request<'_>,
    names: &Asked,
    began: Instant,
) -> Result<Arc<Name>, Unreached> {
    let Some(wish) = (request.wish)() else {
        return Err(Unreached::Unresolved);
    };
    let written = request.pool.endpoints().first();
    let port = written.and_then(|written| written.target().port());
    match names.find(port, &wish, began) {
        Ok(Found::Now(name)) => Ok(name),
        Ok(Found::Soon(name, mut answer)) => {
            let has_earlier = !name.endpoint().addresses().is_empty();
            let parts = if has_earlier { 2 } else { 1 };
            let deadline = began + request.timeouts.dial_timeout / parts;
            let answered = pin!(answer.wait_for(State::is_settled));
            // Without any answer the dial finds no address, and says so.
            drop(until(deadline, answered).await);
            Ok(name)
        }
        Err(denied) => Err(Unreached::RateLimited(denied)),
    }
}

/// The name that the client wishes for, where the proxy in `via` resolves it.
pub(super) fn behind_proxy(request: &Request<'_>) -> Option<Rc<Target>> {
    let endpoint = request.pool.endpoints().first()?;
    let written = endpoint.target();
    if !written.is_asked() || !matches!(endpoint.way(), Way::ByName(_)) {
        return None;
    }
    let wish = (request.wish)()?;
    Some(Rc::new(Target::Name {
        host: wish.name.as_str().into(),
        port: written.port().unwrap_or(wish.port),
    }))
}

/// Notes how the dial of a name ended.
pub(super) fn note(names: &Asked, name: &Arc<Name>, is_reached: bool) {
    if is_reached {
        names.reached(name);
    }
    // Nobody else waits for these failures, so one of a trial that has outlived its dial is kept until now. The state of the
    // addresses would not do: one may have failed hours ago, and not have been tried again.
    let stale = pin!(name.endpoint().stale());
    let mut context = Context::from_waker(Waker::noop());
    if stale.poll(&mut context).is_ready() {
        names.failed(name, Instant::now());
    }
}
