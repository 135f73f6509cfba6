//! Endpoints that drain beside others.

use super::*;
use crate::backend::{EndpointState, Role};

#[test]
fn a_dial_is_told_as_draining_only_if_the_other_endpoints_have_addresses() {
    let (_closed, refused) = closed_port();
    let (_other, wanted) = closed_port();
    let stats = || Registry::new().endpoint("backend", "endpoint");
    let drains = Endpoint::new(Target::Address(wanted), stats(), Instant::now());
    let target = Target::Name {
        host: "es.test".into(),
        port: 443,
    };
    let takes = Endpoint::new(target, stats(), Instant::now());
    let role = |state| Role {
        state,
        ..Role::default()
    };
    let roles = [EndpointState::Drain, EndpointState::Ready].map(role);
    let pool = pool(&[&drains, &takes]).with_roles(&roles);
    let asked = wanted.to_string();
    takes.set_unresolved(Unresolved::failed("no such host".into()));
    assert_eq!(dial(&pool).0, Err(Unreached::Unresolved));
    takes.set_addresses(&[refused]);
    let (dialled, attempts) = dial_for(&pool, Some(&asked));
    assert_eq!((dialled, attempts.len()), (Err(Unreached::Draining), 0));
}
