//! The result of an upgrade when a request to stop comes in the same moment as the successor.

use tokio::time::{pause, sleep};

use super::*;
use crate::control::tests::{control, local};
use crate::control::{Request, Stopped};

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
            requests.send(Request::Stop).unwrap();
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

#[test]
fn a_process_that_has_drained_ends_once_it_is_known_what_follows_from_the_crash_of_its_successor() {
    for is_served in [true, false] {
        local(async {
            pause();
            let (mut control, requests, _directory) = control(false);
            control.service.leave();
            let crash = control.heir.crash();
            requests.send(Request::Stop).unwrap();
            let control = spawn_local(async move { control.run().await });
            sleep(Duration::from_mins(1)).await;
            assert!(!control.is_finished());
            if is_served {
                drop(crash);
            } else {
                requests.send(Request::Unserved(crash)).unwrap();
            }
            // The unit that would have to know of it is not there.
            assert_eq!(control.await.unwrap().unwrap(), Stopped::Drained);
        });
    }
}

#[test]
fn the_main_process_ends_without_a_look_for_another_one() {
    local(async {
        let (mut control, requests, _directory) = control(false);
        let _crash = control.heir.crash();
        requests.send(Request::Stop).unwrap();
        assert_eq!(control.run().await.unwrap(), Stopped::Drained);
    });
}
