//! Relays between real sockets. A thread plays the other end of each pair.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::rc::Rc;
use std::thread;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use socket2::{Domain, SockRef, Socket, Type};
use tokio::runtime::{Builder, LocalOptions};

use super::*;
use crate::net::Unanswered;
use crate::outcome::{ClosedBy, Outcome};
use crate::telemetry::Registry;

/// The longest time that a test waits for something.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn limits(splicing: Splicing) -> Rules {
    let hour = Duration::from_hours(1);
    Rules {
        idle_timeout: hour,
        half_close_timeout: hour,
        stall_timeout: hour,
        peer_timeout: None,
        leg: LegOptions::DEFAULT,
        splicing,
    }
}

/// A peer, and the relay's socket that is connected to it.
pub(super) fn pair() -> (TcpStream, TcpStream) {
    pair_with(|_| {})
}

/// The same with further options, set on both sockets before they are connected.
fn pair_with(options: impl Fn(SockRef<'_>)) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    options(SockRef::from(&listener));
    let peer = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    options(SockRef::from(&peer));
    peer.connect(&listener.local_addr().unwrap().into())
        .unwrap();
    let peer = TcpStream::from(peer);
    let ours = listener.accept().unwrap().0;
    ours.set_nonblocking(true).unwrap();
    SockRef::from(&ours).set_out_of_band_inline(true).unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    (peer, ours)
}

/// Relays between two peers that `script` plays. Returns the end and the result of the script.
fn relay<T: Send + 'static>(
    splicing: Splicing,
    script: impl FnOnce(TcpStream, TcpStream) -> T + Send + 'static,
) -> (End, T) {
    let (client, client_leg) = pair();
    let (backend, backend_leg) = pair();
    let script = thread::spawn(move || script(client, backend));
    let end = block_on(async {
        let means = means(splicing);
        let relay = joined(client_leg, backend_leg, &means);
        relayed(relay).await
    });
    (end, script.join().unwrap())
}

/// Everything that a relay needs besides its two legs.
pub(super) struct Means {
    pub(super) flow: Rc<Flow>,
    resources: Rc<Resources>,
    terms: Arc<Terms>,
}

pub(super) fn means(splicing: Splicing) -> Means {
    Means {
        flow: Rc::new(Flow::new(std::time::Instant::now())),
        resources: Rc::new(Resources::new(1 << 16, Arc::default())),
        terms: terms(limits(splicing)),
    }
}

fn terms(limits: Rules) -> Arc<Terms> {
    Arc::new(Terms::new(limits, Registry::new().backend("backend")))
}

pub(super) fn joined(client: TcpStream, backend: TcpStream, means: &Means) -> Relay<'_> {
    let leg = |socket: TcpStream| Leg::register(socket.into()).unwrap();
    let terms = Arc::clone(&means.terms);
    Relay::new(
        leg(client),
        leg(backend),
        &means.flow,
        &means.resources,
        terms,
    )
}

/// The end of a relay, whose sockets are then closed.
pub(super) async fn relayed(relay: Relay<'_>) -> End {
    let relayed = tokio::time::timeout(PATIENCE, relay).await;
    relayed.expect("the relay ends").0
}

pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default());
    runtime.unwrap().block_on(future)
}

fn reset(peer: TcpStream) {
    SockRef::from(&peer)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(peer);
}

/// Reads to the end. Returns the number of bytes, and whether the end was a reset.
fn read_out(mut peer: &TcpStream) -> (usize, bool) {
    let mut count = 0;
    let mut buffer = vec![0; 1 << 16];
    loop {
        match peer.read(&mut buffer) {
            Ok(0) => return (count, false),
            Ok(read) => count += read,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return (count, true),
            Err(error) => panic!("{error}"),
        }
    }
}

pub(super) fn end(outcome: Outcome, closed_by: ClosedBy) -> End {
    End {
        parting: None,
        outcome,
        closed_by,
        detail: None,
        unacknowledged: 0,
    }
}

#[test]
fn each_direction_is_closed_for_itself_after_its_last_byte() {
    for splicing in [Splicing::Always, Splicing::Never] {
        let (ended, sizes) = relay(splicing, |mut client, mut backend| {
            client.write_all(&[1; 3000]).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let up = read_out(&backend);
            backend.write_all(&begun(5000)).unwrap();
            drop(backend);
            (up, read_out(&client))
        });
        assert_eq!(sizes, ((3000, false), (5000, false)));
        assert_eq!(ended, end(Outcome::Closed, ClosedBy::Client));
    }
}

#[test]
fn a_backend_that_closes_without_a_byte_closed_early() {
    let (ended, _) = relay(Splicing::Never, |mut client, backend| {
        client.write_all(b"hello").unwrap();
        read_exactly(&backend, 5);
        drop(backend);
        read_out(&client)
    });
    assert_eq!(ended, end(Outcome::BackendClosedEarly, ClosedBy::Backend));
}

/// The beginning of a stream of TLS, as far as its first header says.
pub(super) fn begun(length: usize) -> Vec<u8> {
    let mut bytes = vec![22, 3, 3, 0x40, 0, 2];
    bytes.resize(length, 0xaa);
    bytes
}

fn read_exactly(mut peer: &TcpStream, count: usize) {
    peer.read_exact(&mut vec![0; count]).unwrap();
}

#[test]
fn a_reset_is_passed_on_as_a_reset_behind_the_bytes_before_it() {
    for splicing in [Splicing::Always, Splicing::Never] {
        let (ended, seen) = relay(splicing, |mut client, mut backend| {
            backend.write_all(&begun(1000)).unwrap();
            read_exactly(&client, 1000);
            client.write_all(&[1; 3000]).unwrap();
            read_exactly(&backend, 3000);
            reset(client);
            read_out(&backend)
        });
        assert_eq!(seen, (0, true));
        assert_eq!(ended, end(Outcome::ClientReset, ClosedBy::Client));

        let (ended, seen) = relay(splicing, |client, mut backend| {
            backend.write_all(&begun(3000)).unwrap();
            read_exactly(&client, 3000);
            reset(backend);
            read_out(&client)
        });
        assert_eq!(seen, (0, true));
        assert_eq!(ended, end(Outcome::BackendReset, ClosedBy::Backend));
    }
}

#[test]
fn a_reset_of_a_side_that_is_not_read_is_noticed() {
    for splicing in [Splicing::Always, Splicing::Never] {
        let (ended, seen) = relay(splicing, |mut client, backend| {
            // Fills every buffer up to the backend, which reads nothing.
            client.set_nonblocking(true).unwrap();
            let mut sent = 0;
            let mut idle = 0;
            let filler = vec![1; 1 << 16];
            while idle < 20 {
                match client.write(&filler) {
                    Ok(count) => (sent, idle) = (sent + count, 0),
                    Err(_) => idle += 1,
                }
                thread::park_timeout(Duration::from_millis(5));
            }
            reset(client);
            // A read would let the relay go on, and so find the reset.
            assert!(is_broken(&backend), "nobody watches the leg");
            (sent, read_out(&backend))
        });
        let (sent, (received, was_reset)) = seen;
        assert!(was_reset && received <= sent, "{received} of {sent}");
        // The reset towards the backend has discarded what it did not read.
        assert!(ended.unacknowledged > 0);
        assert_eq!(ended.outcome, Outcome::ClientReset);
    }
}

/// Waits for the error of a peer that reads and writes nothing.
fn is_broken(peer: &TcpStream) -> bool {
    let patience = Timespec::try_from(PATIENCE).unwrap();
    poll(
        &mut [PollFd::new(peer, PollFlags::empty())],
        Some(&patience),
    )
    .unwrap()
        > 0
}

#[test]
fn a_reset_after_a_fin_is_noticed_though_the_other_side_is_silent() {
    for splicing in [Splicing::Always, Splicing::Never] {
        let (ended, seen) = relay(splicing, |mut client, backend| {
            client.write_all(b"request").unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            assert_eq!(read_out(&backend), (7, false));
            reset(client);
            is_broken(&backend)
        });
        assert!(seen, "the reset is not passed on");
        assert_eq!(ended, end(Outcome::Closed, ClosedBy::Client));
    }
}

#[test]
fn a_reset_after_a_fin_is_noticed_and_ordinary() {
    let (ended, seen) = relay(Splicing::Never, |mut client, mut backend| {
        client.write_all(b"request").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_out(&backend), (7, false));
        backend.write_all(&begun(8)).unwrap();
        read_exactly(&client, 8);
        reset(client);
        // Only the reset can end this.
        loop {
            match backend.write_all(&[0; 64]) {
                Ok(()) => thread::park_timeout(Duration::from_millis(5)),
                Err(error) => return error.kind(),
            }
        }
    });
    assert!(
        matches!(seen, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe),
        "{seen:?}"
    );
    assert_eq!(ended, end(Outcome::Closed, ClosedBy::Client));
}

#[test]
fn a_reset_behind_a_close_notify_is_ordinary() {
    let alert = |tail: &[u8]| [&[0x17, 3, 3, 0, 19][..], &[0xaa; 19], tail].concat();
    for (last, outcome) in [
        (alert(&[]), Outcome::Closed),
        (alert(&[1]), Outcome::ClientReset),
    ] {
        let (ended, seen) = relay(Splicing::Never, move |mut client, mut backend| {
            backend.write_all(&begun(8)).unwrap();
            read_exactly(&client, 8);
            client.write_all(&last).unwrap();
            read_exactly(&backend, last.len());
            reset(client);
            read_out(&backend)
        });
        assert_eq!(seen, (0, true), "not passed on as a reset");
        assert_eq!(ended, end(outcome, ClosedBy::Client));
    }
}

/// A relay whose client sends `last` and takes no byte from then on, until the kernel gives it up. `sent` bytes
/// of the backend, and perhaps its FIN, are on their way to it.
fn given_up(last: &'static [u8], sent: usize, fin: bool) -> End {
    let (mut client, client_leg) = pair_with(|socket| {
        socket.set_recv_buffer_size(4096).unwrap();
    });
    let (mut backend, backend_leg) = pair();
    let socket = SockRef::from(&client_leg);
    socket.set_send_buffer_size(1 << 20).unwrap();
    socket
        .set_tcp_user_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    let script = thread::spawn(move || {
        client.write_all(last).unwrap();
        read_exactly(&backend, last.len());
        backend.write_all(&begun(sent)).unwrap();
        if fin {
            backend.shutdown(Shutdown::Write).unwrap();
        }
        assert!(is_broken(&backend), "the end is passed on");
        client
    });
    let end = block_on(async {
        let means = means(Splicing::Never);
        let relay = joined(client_leg, backend_leg, &means);
        relayed(relay).await
    });
    script.join().unwrap();
    end
}

#[test]
fn what_was_on_its_way_to_a_peer_that_was_given_up_is_told() {
    for fin in [false, true] {
        let given_up = given_up(b"request", 100_000, fin);
        let detail = given_up.detail.unwrap();
        assert!(detail.contains("the client"), "{detail}");
        let who = (given_up.outcome, given_up.closed_by);
        assert_eq!(
            who,
            (Outcome::ClientReset, ClosedBy::Portway),
            "FIN before: {fin}"
        );
        // Its window has room for a few thousand, and there may be a FIN.
        let lost = given_up.unacknowledged;
        assert!((50_000..100_000).contains(&lost), "{lost}");
    }
}

#[test]
fn a_peer_that_is_given_up_behind_its_close_notify_has_closed_in_order() {
    let close_notify = b"\x17\x03\x03\x00\x13an alert, encrypted";
    let given_up = given_up(close_notify, 100_000, false);
    assert_eq!(given_up.detail, None);
    let who = (given_up.outcome, given_up.closed_by);
    assert_eq!(who, (Outcome::Closed, ClosedBy::Client));
}

#[test]
fn a_backend_reset_in_the_middle_of_its_answer_is_not_an_orderly_close() {
    let (ended, seen) = relay(Splicing::Never, |mut client, mut backend| {
        client.write_all(b"request").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_out(&backend), (7, false));
        backend.write_all(&begun(500)).unwrap();
        read_exactly(&client, 500);
        reset(backend);
        read_out(&client)
    });
    assert_eq!(seen, (0, true));
    assert_eq!(ended, end(Outcome::BackendReset, ClosedBy::Client));
}

#[test]
fn an_urgent_byte_passes_in_line() {
    for splicing in [Splicing::Always, Splicing::Never] {
        let (ended, seen) = relay(splicing, |mut client, backend| {
            client.write_all(&[1; 1000]).unwrap();
            SockRef::from(&client).send_out_of_band(&[2]).unwrap();
            client.write_all(&[3; 1000]).unwrap();
            drop(client);
            // The relay sends it as an ordinary byte.
            let seen = read_out(&backend);
            (&backend).write_all(&begun(1)).ok();
            seen
        });
        assert_eq!(seen, (2001, false));
        assert_eq!(ended.outcome, Outcome::Closed);
    }
}

#[test]
fn a_verdict_resets_both_sides() {
    let (client, client_leg) = pair();
    let (backend, backend_leg) = pair();
    let ended = block_on(async {
        let means = means(Splicing::Never);
        let flow = Rc::clone(&means.flow);
        let relay =
            tokio::task::spawn_local(async move { joined(client_leg, backend_leg, &means).await });
        yield_now().await;
        flow.end(Verdict::Drained);
        relay.await.unwrap().0
    });
    assert_eq!(ended, end(Outcome::Drained, ClosedBy::Portway));
    assert_eq!(
        (read_out(&client), read_out(&backend)),
        ((0, true), (0, true))
    );
}

#[test]
fn bytes_that_came_before_a_reset_are_all_handed_on() {
    // Enough for several turns of a relay, if the host allows such buffers.
    let roomy = |socket: SockRef<'_>| {
        socket.set_recv_buffer_size(4 << 20).unwrap();
        socket.set_send_buffer_size(4 << 20).unwrap();
    };
    for splicing in [Splicing::Always, Splicing::Never] {
        let (mut client, client_leg) = pair_with(roomy);
        let (mut backend, backend_leg) = pair_with(roomy);
        client.write_all(&vec![1; 64 << 10]).unwrap();
        client.set_nonblocking(true).unwrap();
        while client.write(&vec![1; 32 << 10]).is_ok() {}
        let queue = client_leg.try_clone().unwrap();
        reset(client);
        assert!(is_broken(&queue));
        let queued = rustix::io::ioctl_fionread(&queue).unwrap();
        // The first send towards the client reports the reset.
        backend.write_all(&begun(1)).unwrap();
        let means = means(splicing);
        let flow = Rc::clone(&means.flow);
        let ended = block_on(async { relayed(joined(client_leg, backend_leg, &means)).await });
        assert_eq!(ended.outcome, Outcome::ClientReset);
        assert_eq!(flow.moved(Direction::ClientToBackend), queued);
    }
}

#[test]
fn bytes_count_once_the_receiver_has_taken_them() {
    const SIZE: usize = 60_000;
    let narrow = |socket: SockRef<'_>| {
        socket.set_recv_buffer_size(1).unwrap();
        socket.set_send_buffer_size(1).unwrap();
    };
    for splicing in [Splicing::Always, Splicing::Never] {
        let (mut client, client_leg) = pair();
        let (backend, backend_leg) = pair_with(narrow);
        let queue = client_leg.try_clone().unwrap();
        client.write_all(&vec![1; SIZE]).unwrap();
        let means = means(splicing);
        let flow = Rc::clone(&means.flow);
        block_on(async {
            let mut relay = joined(client_leg, backend_leg, &means);
            while queue.peek(&mut [0]).is_ok() {
                let turn = Duration::from_millis(1);
                drop(tokio::time::timeout(turn, &mut relay).await);
            }
            // The rest is in the relay, and is lost when it is dropped.
        });
        let moved = flow.moved(Direction::ClientToBackend);
        assert!(moved < SIZE as u64, "{moved} of {SIZE}");
        let (received, was_reset) = read_out(&backend);
        assert!(was_reset && 0 < received && received as u64 <= moved);
    }
}

#[test]
fn invariant_5_an_idle_flow_has_given_its_pipe_back() {
    let (mut client, client_leg) = pair();
    let (backend, backend_leg) = pair();
    block_on(async {
        let means = means(Splicing::Always);
        let resources = Rc::clone(&means.resources);
        let free = || std::iter::repeat_with(|| resources.pipes.lend()).map_while(|it| it);
        let all = free().collect::<Vec<_>>().len();
        let _relay =
            tokio::task::spawn_local(async move { joined(client_leg, backend_leg, &means).await });
        let transfer = tokio::task::spawn_blocking(move || {
            client.write_all(&vec![1; 100_000]).unwrap();
            read_exactly(&backend, 100_000);
            (client, backend)
        });
        let _idle = transfer.await.unwrap();
        assert_eq!(free().collect::<Vec<_>>().len(), all);
    });
}

/// A flow whose relay began at second 100.
fn flow() -> Flow {
    let flow = Flow::new(std::time::Instant::now());
    let limits = Rules {
        idle_timeout: Duration::from_mins(1),
        half_close_timeout: Duration::from_secs(10),
        stall_timeout: Duration::from_millis(1_500),
        ..limits(Splicing::Never)
    };
    flow.begin(terms(limits), 100);
    flow
}

const UP: Direction = Direction::ClientToBackend;
const DOWN: Direction = Direction::BackendToClient;

/// The verdict of a review at `second` if the relay then sees `seen` at its sockets.
fn reviewed(flow: &Flow, seen: &Seen, second: u32) -> Option<Verdict> {
    flow.review(second);
    flow.is_asked().then(|| flow.judge(seen, second)).flatten()
}

/// The view of the relay while `bytes` of a direction are on their way.
fn on_their_way(direction: Direction, bytes: u64) -> Seen {
    let mut seen = Seen::default();
    seen.unacknowledged[direction] = bytes;
    seen
}

/// The view of the relay while it also holds bytes that the kernel does not take.
fn held(direction: Direction, bytes: u64) -> Seen {
    let mut seen = on_their_way(direction, bytes);
    seen.held[direction] = true;
    seen
}

/// The verdict at a second, with nothing on its way.
fn verdict(prepare: impl FnOnce(&Flow), second: u32) -> Option<Verdict> {
    let flow = flow();
    prepare(&flow);
    reviewed(&flow, &Seen::default(), second)
}

#[test]
fn a_flow_is_idle_after_its_limit_and_never_before() {
    assert_eq!(verdict(|_| {}, 160), None);
    assert_eq!(verdict(|_| {}, 161), Some(Verdict::Idle));
    assert_eq!(verdict(|flow| flow.add(UP, 1, 130), 161), None);
    assert_eq!(
        verdict(|flow| flow.add(UP, 1, 130), 191),
        Some(Verdict::Idle)
    );
}

#[test]
fn a_half_closed_flow_has_its_own_limit_from_the_close_on() {
    let silent_before = |flow: &Flow| flow.half_close(UP, 150);
    assert_eq!(verdict(silent_before, 160), None);
    assert_eq!(verdict(silent_before, 161), Some(Verdict::HalfClose));
    let moved_since = |flow: &Flow| {
        flow.half_close(UP, 110);
        flow.add(UP, 1, 115);
    };
    assert_eq!(verdict(moved_since, 125), None);
    assert_eq!(verdict(moved_since, 126), Some(Verdict::HalfClose));
}

#[test]
fn a_drained_flow_ends_once_it_has_been_quiet_for_two_seconds() {
    let drained = |flow: &Flow| {
        flow.add(UP, 1, 110);
        flow.drain();
    };
    assert_eq!(verdict(drained, 111), None);
    assert_eq!(verdict(drained, 112), Some(Verdict::Drained));
}

#[test]
fn a_client_that_ignores_the_fin_of_a_gap_is_let_go_after_five_seconds() {
    assert_eq!(verdict(|flow| flow.part(110), 114), None);
    assert_eq!(verdict(|flow| flow.part(110), 115), Some(Verdict::Drained));
}

#[test]
fn nothing_ends_a_flow_while_its_receiver_goes_on_taking_what_is_on_its_way() {
    for prepare in [
        |_: &Flow| {},
        |flow: &Flow| flow.half_close(UP, 100),
        |flow: &Flow| flow.drain(),
    ] {
        let flow = flow();
        flow.add(DOWN, 900_000, 100);
        prepare(&flow);
        let mut left = 900_000;
        // By portway's own calls alone, each limit has passed long ago.
        for second in 170..260 {
            left -= 10_000;
            let seen = on_their_way(DOWN, left);
            assert_eq!(reviewed(&flow, &seen, second), None, "{second}");
        }
        assert_eq!(left, 0);
        assert!(reviewed(&flow, &Seen::default(), 320 + 1).is_some());
    }
}

#[test]
fn the_clock_of_a_limit_runs_from_the_last_byte_that_was_taken() {
    let flow = flow();
    flow.add(DOWN, 100, 100);
    assert_eq!(reviewed(&flow, &on_their_way(DOWN, 50), 161), None);
    assert_eq!(reviewed(&flow, &Seen::default(), 162), None, "taken now");
    assert_eq!(reviewed(&flow, &Seen::default(), 222), None);
    let ended = reviewed(&flow, &Seen::default(), 223);
    assert_eq!(ended, Some(Verdict::Idle));
}

#[test]
fn bytes_on_their_way_to_a_receiver_that_takes_nothing_stall() {
    let flow = flow();
    flow.add(UP, 100, 100);
    let stuck = on_their_way(UP, 50);
    assert_eq!(reviewed(&flow, &stuck, 161), None);
    assert_eq!(reviewed(&flow, &stuck, 163), None);
    assert_eq!(reviewed(&flow, &stuck, 164), Some(Verdict::Stalled));
}

/// A flow whose relay began at second 100 and has no other limit than 30 s for the answers of its peers.
fn expecting() -> Flow {
    let flow = Flow::new(std::time::Instant::now());
    let limits = Rules {
        peer_timeout: Some(Duration::from_millis(29_500)),
        ..limits(Splicing::Never)
    };
    flow.begin(terms(limits), 100);
    flow
}

/// The view of a relay whose kernel says this about the receiver of a direction: for how many seconds something has been
/// unanswered at least, and for how many nothing has come.
fn answered(direction: Direction, unanswered: Option<[u64; 2]>, unacknowledged: u64) -> Seen {
    let mut seen = on_their_way(direction, unacknowledged);
    let missing = |seconds: [u64; 2]| {
        let [at_least, silent] = seconds.map(Duration::from_secs);
        Answer::Missing(Unanswered { at_least, silent })
    };
    seen.answer[direction] = unanswered.map_or(Answer::Complete, missing);
    seen
}

/// The seconds at which a flow asks its relay to look.
fn asks(flow: &Flow, seconds: std::ops::Range<u32>) -> Vec<u32> {
    let asks = |second: &u32| {
        flow.review(*second);
        flow.is_asked()
    };
    seconds.filter(asks).collect()
}

#[test]
fn a_peer_that_answers_nothing_is_let_go_after_peer_timeout_and_never_before() {
    for direction in [UP, DOWN] {
        let flow = expecting();
        flow.add(direction, 10, 110);
        flow.add(direction, 10, 130);
        assert_eq!(asks(&flow, 110..141), Vec::<u32>::new());
        // It was silent for long before something was sent to it.
        let seen = answered(direction, Some([31, 500]), 20);
        let ended = reviewed(&flow, &seen, 141);
        assert_eq!(ended, Some(Verdict::PeerTimeout));
    }
}

#[test]
fn a_message_that_is_lost_after_a_quiet_time_has_the_whole_peer_timeout_for_its_answer() {
    let flow = expecting();
    // An exchange, all of which is acknowledged; nobody has asked the kernel.
    flow.add(UP, 10, 100);
    flow.add(UP, 10, 130);
    assert_eq!(reviewed(&flow, &answered(UP, Some([1, 31]), 10), 131), None);
    // The kernel knows no better a little later.
    assert!((132..161).all(|second| !flow.is_answer_due(UP, second)));
    let seen = answered(UP, Some([2, 61]), 10);
    assert_eq!(reviewed(&flow, &seen, 161), Some(Verdict::PeerTimeout));
}

#[test]
fn a_peer_that_has_been_heard_since_the_last_look_has_the_whole_peer_timeout_again() {
    let flow = expecting();
    flow.add(UP, 10, 100);
    assert_eq!(reviewed(&flow, &answered(UP, Some([1, 31]), 10), 131), None);
    // It spoke at 150, and something that was sent at 155 is unanswered.
    assert_eq!(reviewed(&flow, &answered(UP, Some([6, 11]), 10), 161), None);
    assert!((162..186).all(|second| !flow.is_answer_due(UP, second)));
    let seen = answered(UP, Some([1, 36]), 10);
    assert_eq!(reviewed(&flow, &seen, 186), Some(Verdict::PeerTimeout));
}

#[test]
fn a_fin_that_is_not_acknowledged_is_unanswered_too() {
    let flow = expecting();
    flow.half_close(UP, 110);
    assert_eq!(asks(&flow, 110..141), Vec::<u32>::new());
    // The kernel does not say since when it is in flight.
    assert_eq!(reviewed(&flow, &answered(UP, Some([0, 31]), 0), 141), None);
    assert!((142..172).all(|second| !flow.is_answer_due(UP, second)));
    let ended = reviewed(&flow, &answered(UP, Some([0, 62]), 0), 172);
    assert_eq!(ended, Some(Verdict::PeerTimeout));
}

#[test]
fn nobody_asks_about_a_peer_that_has_answered_until_something_is_sent_to_it() {
    let flow = expecting();
    flow.add(UP, 10, 110);
    assert_eq!(reviewed(&flow, &answered(UP, None, 0), 141), None);
    assert_eq!(asks(&flow, 142..3000), Vec::<u32>::new());
    flow.add(UP, 10, 3000);
    assert_eq!(asks(&flow, 3000..3032), [3031]);
}

#[test]
fn invariant_11_a_peer_that_answers_is_not_let_go_whatever_it_has_not_acknowledged() {
    let flow = expecting();
    let mut left = 100_000;
    for second in 100..1000 {
        flow.add(UP, 10, second);
        left -= 1;
        flow.review(second);
        if !flow.is_asked() {
            continue;
        }
        // A packet of it came ten seconds ago, or it has answered the last probe of its closed window.
        let asked = flow.is_answer_due(UP, second);
        let unanswered = Some([10; 2]).filter(|_| second % 2 == 0);
        let mut seen = answered(UP, unanswered, left);
        if !asked {
            seen.answer[UP] = Answer::Unknown;
        }
        assert_eq!(flow.judge(&seen, second), None, "{second}");
    }
}

#[test]
fn a_flow_that_waits_at_every_review_has_its_options_set_all_the_same() {
    let flow = flow();
    flow.block(DOWN, 100);
    flow.review(101);
    assert!(flow.leg_options().is_some());
}

#[test]
fn bytes_that_have_arrived_and_are_not_read_yet_are_not_silence() {
    let flow = flow();
    let seen = Seen {
        arrived: true,
        ..Seen::default()
    };
    assert_eq!(reviewed(&flow, &seen, 161), None);
    let ended = reviewed(&flow, &Seen::default(), 162);
    assert_eq!(ended, Some(Verdict::Idle));
}

#[test]
fn invariant_11_a_flow_stalls_only_while_its_peer_takes_no_byte() {
    let blocked = || {
        let flow = flow();
        flow.add(DOWN, 1000, 100);
        flow.block(DOWN, 100);
        assert_eq!(reviewed(&flow, &held(DOWN, 900), 101), None);
        flow
    };
    let stuck = blocked();
    assert_eq!(reviewed(&stuck, &held(DOWN, 900), 103), None);
    let ended = reviewed(&stuck, &held(DOWN, 900), 104);
    assert_eq!(ended, Some(Verdict::Stalled));
    // The socket of a slow peer stays full, but not with the same bytes.
    let slow = blocked();
    for second in 102..200 {
        let left = 1000 - u64::from(second);
        assert_eq!(reviewed(&slow, &held(DOWN, left), second), None, "{second}");
    }
}

/// tokio lets a task make 128 reads and writes before others have the thread. One long turn makes as
/// many, and each time the other direction would get nothing.
#[test]
fn both_directions_move_though_the_runtime_leaves_no_budget() {
    let (mut client, client_leg) = pair();
    let (mut backend, backend_leg) = pair();
    client.write_all(b"up").unwrap();
    backend.write_all(b"down").unwrap();
    let means = means(Splicing::Never);
    block_on(async {
        let mut relay = pin!(joined(client_leg, backend_leg, &means));
        // The sockets are ready once the runtime has looked at epoll.
        yield_now().await;
        while tokio::task::coop::has_budget_remaining() {
            tokio::task::coop::consume_budget().await;
        }
        poll_fn(|cx| Poll::Ready(relay.as_mut().poll(cx).is_pending())).await
    });
    let (mut up, mut down) = ([0; 2], [0; 4]);
    backend.read_exact(&mut up).unwrap();
    client.read_exact(&mut down).unwrap();
    assert_eq!((&up, &down), (b"up", b"down"));
}

#[test]
fn the_future_of_a_relay_stays_small() {
    let size = size_of::<Relay<'_>>();
    assert!(size <= 104, "{size} bytes for each idle connection");
    let size = size_of::<Flow>();
    assert!(size <= 104, "{size} bytes for each idle connection");
}

#[test]
fn a_pipe_that_is_held_for_long_goes_to_those_who_move_and_no_byte_is_lost() {
    const SIZE: usize = 400_000;
    let narrow = |socket: SockRef<'_>| {
        socket.set_recv_buffer_size(1).unwrap();
        socket.set_send_buffer_size(1).unwrap();
    };
    let (mut client, client_leg) = pair();
    let (mut backend, backend_leg) = pair_with(narrow);
    let sent: Vec<u8> = (0..SIZE)
        .map(|at| u8::try_from(at % 251).unwrap())
        .collect();
    block_on(async {
        let means = means(Splicing::Always);
        let (flow, resources) = (Rc::clone(&means.flow), Rc::clone(&means.resources));
        let relay =
            tokio::task::spawn_local(async move { joined(client_leg, backend_leg, &means).await });
        let until = async |lent| {
            let wait = async {
                while resources.pipes.lent() != lent {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            tokio::time::timeout(PATIENCE, wait).await.unwrap();
        };
        let (copy, wait) = (sent.clone(), PATIENCE);
        let sender = tokio::task::spawn_blocking(move || {
            client.write_all(&copy).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            client
        });
        tokio::time::timeout(wait, until(1)).await.unwrap();
        resources.tick(1);
        flow.review(1);
        yield_now().await;
        assert_eq!(
            resources.pipes.lent(),
            1,
            "one second may be no time at all"
        );

        resources.tick(2);
        flow.review(2);
        tokio::time::timeout(wait, until(0)).await.unwrap();

        let received = tokio::task::spawn_blocking(move || {
            let mut received = Vec::new();
            backend.read_to_end(&mut received).unwrap();
            received
        });
        assert!(received.await.unwrap() == sent, "the bytes differ");
        drop(sender.await.unwrap());
        tokio::time::timeout(wait, relay).await.unwrap().unwrap();
    });
}

/// If splice fails, the bytes leave the pipe at once, and the flow must not count as its holder.
#[test]
fn a_flow_that_lost_its_pipe_and_cannot_splice_any_more_holds_none() {
    const PART: u64 = 200_000;
    let up = Direction::ClientToBackend;
    let narrow = |socket: SockRef<'_>| {
        socket.set_recv_buffer_size(1).unwrap();
        socket.set_send_buffer_size(1).unwrap();
    };
    let (mut client, client_leg) = pair();
    let (backend, backend_leg) = pair_with(narrow);
    let socket = backend_leg.try_clone().unwrap();
    let sent: Vec<u8> = (0..2 * PART)
        .map(|at| u8::try_from(at % 251).unwrap())
        .collect();
    block_on(async {
        let means = means(Splicing::Always);
        let (flow, resources) = (Rc::clone(&means.flow), Rc::clone(&means.resources));
        let _relay =
            tokio::task::spawn_local(async move { joined(client_leg, backend_leg, &means).await });
        // Waits until `lent` pipes are lent, and the flow counts as a holder or not. Each look moves the
        // worker's clock on by `seconds`.
        let until = async |lent: usize, holds: bool, seconds: u32| {
            let wait = async {
                while (resources.pipes.lent(), flow.is_overdue(up, u32::MAX)) != (lent, holds) {
                    let now = resources.now() + seconds;
                    resources.tick(now);
                    flow.review(now);
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            tokio::time::timeout(PATIENCE, wait).await.unwrap();
        };
        let copy = sent.clone();
        let sender = tokio::task::spawn_blocking(move || {
            client.write_all(&copy).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            client
        });
        until(1, true, 0).await;
        until(0, false, 2).await;

        // The kernel refuses to splice into such a socket, with EINVAL; a send still works.
        let flags = fcntl_getfl(&socket).unwrap() | OFlags::APPEND;
        fcntl_setfl(&socket, flags).unwrap();
        let receive = |backend: TcpStream, limit: u64| {
            tokio::task::spawn_blocking(move || {
                let mut received = Vec::new();
                (&backend).take(limit).read_to_end(&mut received).unwrap();
                (received, backend)
            })
        };
        let (mut received, backend) = receive(backend, PART).await.unwrap();
        until(0, true, 0).await;
        until(0, false, 2).await;

        let (rest, _backend) = receive(backend, u64::MAX).await.unwrap();
        received.extend(rest);
        assert!(received == sent, "the bytes differ");
        drop(sender.await.unwrap());
    });
}

#[test]
fn a_stalled_direction_shows_while_it_lasts() {
    let registry = Registry::new();
    let flow = Flow::new(std::time::Instant::now());
    let terms = Terms::new(limits(Splicing::Never), registry.backend("fleet"));
    flow.begin(Arc::new(terms), 100);
    let shown = |count: u32| {
        let series = "portway_stalled{backend=\"fleet\",direction=\"backend_to_client\"}";
        registry.render().contains(&format!("{series} {count}\n"))
    };
    let down = Direction::BackendToClient;
    flow.block(down, 100);
    flow.review(101);
    assert!(shown(0), "one second may be no time at all");
    flow.review(102);
    flow.review(103);
    assert!(shown(1));
    flow.add(down, 1000, 103);
    assert!(shown(0));
    flow.block(down, 103);
    flow.review(105);
    assert!(shown(1));
    // The kernel still has no room, but the peer has taken something.
    assert_eq!(flow.judge(&held(down, 10), 105), None);
    assert!(shown(0));
    drop(flow);
    assert!(shown(0), "the flow has ended");
}
