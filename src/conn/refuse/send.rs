//! Sends a refused client its answer, and closes in an order in which it can read that.

use std::future::poll_fn;
use std::time::Duration;

use tokio::time::timeout;

use super::plain_http::{NOT_A_PROXY, USE_HTTPS};
use super::{Answer, Refusal};
use crate::net::{Leg, set_receive_low_water_mark};
use crate::relay::Resources;

/// Bytes and time that a refused client gets to finish what it was sending. Closing with unread
/// bytes would make the kernel send RST, and the client may then lose the alert.
const DRAIN_BYTES: usize = 64 << 10;
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// Sends the alert and a FIN, reads what the client still sends, and closes.
pub(in crate::conn) async fn refuse(client: Leg, refusal: &Refusal, resources: &Resources) {
    match refusal.answer {
        Answer::Alert(alert) => client.send_now(&alert.record()),
        Answer::Reply(reply) => client.send_now(reply.text().as_bytes()),
        Answer::Socks(reply) => client.send_now(reply.bytes()),
        Answer::UseHttps => client.send_now(USE_HTTPS),
        Answer::NotAProxy => client.send_now(NOT_A_PROXY),
        Answer::Fin => {}
        Answer::Reset => return,
    }
    client.shut_down_writing();
    // It may still be the length of a hello that will never be complete.
    if set_receive_low_water_mark(&client, 1).is_ok() {
        _ = timeout(DRAIN_TIME, drain(&client, resources)).await;
    }
    client.close_in_order();
}

async fn drain(client: &Leg, resources: &Resources) {
    let mut drained = 0;
    while drained < DRAIN_BYTES {
        let received = poll_fn(|cx| {
            let mut buffer = resources.buffer.borrow_mut();
            let received = client.poll_receive(cx, &mut buffer);
            received.map_ok(<[u8]>::len)
        });
        match received.await {
            Ok(0) | Err(_) => return,
            Ok(count) => drained += count,
        }
    }
}
