//! A request to stop that comes while the process begins to accept again.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::rc::Rc;
use std::time::Duration;

use tokio::task::{spawn_local, yield_now};
use tokio::time::{advance, pause};

use super::*;
use crate::control::Request;
use crate::control::tests::{control, local};

/// Another process may have begun to accept at the same addresses.
#[test]
fn a_process_that_stops_while_it_comes_back_is_the_main_one_only_with_the_control_socket() {
    for is_another_there in [false, true] {
        local(async {
            pause();
            let (mut control, requests, directory) = control(false);
            let name = format!("portway:{}/routes.toml", directory.path().display());
            let name = SocketAddr::from_abstract_name(name).unwrap();
            let _another = is_another_there.then(|| UnixListener::bind_addr(&name).unwrap());
            let service = Rc::clone(&control.service);
            service.leave();
            control.come_back(None);
            // The drain lasts until the test ends it.
            control.in_force.drain.delay = Duration::from_hours(1);
            requests.send(Request::Stop).unwrap();
            let control = spawn_local(async move { control.run().await });
            if is_another_there {
                // It looks for the name for two seconds, and drains without a delay when it sees the other one.
                for _ in 0..300 {
                    advance(Duration::from_millis(10)).await;
                    assert!(!service.is_main());
                }
                assert_eq!(control.await.unwrap().unwrap(), Stopped::Drained);
                assert!(!service.is_main());
            } else {
                while !service.is_main() {
                    yield_now().await;
                }
                requests.send(Request::Stop).unwrap();
                assert_eq!(control.await.unwrap().unwrap(), Stopped::AtOnce);
            }
        });
    }
}
