//! The result of an upgrade when a request to stop comes in the same moment as the successor.

use super::*;
use crate::control::tests::{control, local};

/// Begins an upgrade whose successor is process 7. Returns where its result arrives, and the other end of the answer.
fn begin(control: &mut Control) -> (oneshot::Receiver<Verdict>, oneshot::Sender<()>) {
    let (verdict, decided) = oneshot::channel();
    let (answering, answered) = oneshot::channel();
    control.upgrade = Some(Upgrade {
        verdict: Some(verdict),
        answered,
    });
    control.heir.expect(Some(7));
    (decided, answering)
}

#[test]
fn a_request_to_stop_ends_the_successor_unless_it_accepts_already() {
    local(async {
        for accepts in [false, true] {
            let (mut control, requests, _directory) = control(false);
            let (decided, answering) = begin(&mut control);
            if accepts {
                // The news that it has taken over is behind the request to stop.
                control.heir.succeeds(7);
            }
            requests.send(crate::control::Request::Stop).unwrap();
            drop(answering);
            control.run().await.unwrap();
            let is_accepted = matches!(decided.await.unwrap(), Verdict::Accepts);
            assert_eq!(is_accepted, accepts);
        }
    });
}

#[test]
fn a_request_for_an_upgrade_is_answered_once_nobody_waits_for_it() {
    local(async {
        let (mut control, _requests, _directory) = control(false);
        assert!(control.has_answered_upgrade());
        let (_decided, answering) = begin(&mut control);
        assert!(!control.has_answered_upgrade());
        drop(answering);
        assert!(control.has_answered_upgrade());
        // Nothing waits for it then.
        control.answer_upgrade().await;
    });
}
