//! The end of a process whose predecessor has the sockets too. The clock advances only while everything waits.

use rustix::process::getppid;
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{pause, sleep};

use super::*;
use crate::control::Requests;
use crate::control::service::Service;
use crate::control::tests::{control, local};

/// A process that was told to stop, with the test as its predecessor.
struct Stopping {
    /// The predecessor's end of the link.
    link: UnixStream,
    requests: Requests,
    service: std::rc::Rc<Service>,
    control: JoinHandle<std::io::Result<Stopped>>,
    begun: Instant,
    _directory: TempDir,
}

impl Stopping {
    /// `is_child` if the predecessor, which is alive, has started the process as a part of a unit.
    fn start(is_child: bool) -> Self {
        pause();
        let (mut control, requests, directory) = control(false);
        let (own, link) = UnixStream::pair().unwrap();
        control.predecessor = Predecessor::Linked(Link::new(own));
        let parent = getppid().filter(|_| is_child);
        control.parent = parent.map(|pid| pid.as_raw_nonzero().get());
        requests.send(Request::Stop).unwrap();
        Self {
            link,
            requests,
            service: std::rc::Rc::clone(&control.service),
            control: spawn_local(async move { control.run().await }),
            begun: Instant::now(),
            _directory: directory,
        }
    }

    /// The next bytes that the predecessor hears.
    async fn word(&self) -> String {
        self.link.readable().await.unwrap();
        self.heard()
    }

    /// The bytes that it has heard.
    fn heard(&self) -> String {
        let mut bytes = [0; 64];
        let count = self.link.try_read(&mut bytes).unwrap_or_default();
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    }
}

#[test]
fn a_process_of_a_unit_asks_its_predecessor_back_once_that_one_has_its_signal_to_stop_too() {
    for (is_child, least) in [(false, Duration::ZERO), (true, LOOK)] {
        local(async {
            let stopping = Stopping::start(is_child);
            assert_eq!(stopping.word().await, "return\n");
            let waited = stopping.begun.elapsed();
            assert!(waited >= least && waited < least + LOOK, "{waited:?}");
            stopping.link.try_write(b"b").unwrap();
            assert_eq!(stopping.control.await.unwrap().unwrap(), Stopped::Drained);
        });
    }
}

#[test]
fn a_successor_that_comes_before_the_predecessor_is_asked_back_goes_on_or_gives_up_first() {
    for accepts in [true, false] {
        local(async {
            let stopping = Stopping::start(true);
            let (answer, takeover) = oneshot::channel();
            stopping.requests.send(Request::Sockets(answer)).unwrap();
            let takeover = takeover.await.unwrap();
            assert!(stopping.begun.elapsed() < LOOK);
            sleep(TAKEOVER_TIME / 2).await;
            assert_eq!(stopping.heard(), "");
            if accepts {
                stopping.requests.send(Request::TakenOver(None)).unwrap();
                assert_eq!(stopping.word().await, "farewell\n");
            }
            drop(takeover);
            if !accepts {
                assert_eq!(stopping.word().await, "return\n");
                stopping.link.try_write(b"b").unwrap();
            }
            assert_eq!(stopping.control.await.unwrap().unwrap(), Stopped::Drained);
        });
    }
}

/// It goes on once it can, whether it has answered or not.
#[test]
fn a_process_leaves_the_unit_to_a_predecessor_that_does_not_answer_and_does_not_wait_for_it() {
    local(async {
        let stopping = Stopping::start(true);
        assert!(stopping.service.is_main());
        assert_eq!(stopping.word().await, "return\n");
        assert_eq!(stopping.control.await.unwrap().unwrap(), Stopped::Drained);
        assert!(!stopping.service.is_main());
        let took = stopping.begun.elapsed();
        assert!(took < Duration::from_secs(4), "{took:?}");
    });
}
