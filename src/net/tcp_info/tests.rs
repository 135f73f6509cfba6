use super::*;

/// The kernel's answer about a peer from which nothing has come for so many seconds.
fn silent_for(seconds: u32) -> libc::tcp_info {
    // SAFETY: its fields are integers, for which zero is a value.
    #[expect(unsafe_code, reason = "libc has no other constructor")]
    let mut info: libc::tcp_info = unsafe { zeroed() };
    info.tcpi_last_data_recv = seconds * 1000 + 5000;
    info.tcpi_last_ack_recv = seconds * 1000;
    info.tcpi_rto = 204_000;
    info
}

#[test]
fn packets_in_flight_are_unanswered_since_the_last_packet_of_the_peer() {
    let mut info = silent_for(90);
    assert_eq!(unanswered(&info), None, "everything is acknowledged");
    info.tcpi_unacked = 1;
    assert_eq!(unanswered(&info), Some(Duration::from_secs(90)));
    info.tcpi_last_data_recv = 1000;
    assert_eq!(
        unanswered(&info),
        Some(Duration::from_secs(1)),
        "it sends, so it is alive"
    );
}

#[test]
fn a_closed_window_is_unanswered_from_the_first_probe_without_an_answer_on() {
    let mut info = silent_for(119);
    info.tcpi_notsent_bytes = 1000;
    info.tcpi_backoff = 10;
    assert_eq!(unanswered(&info), None, "the next probe is not due yet");
    // The wait before it was the longest.
    let mut info = silent_for(150);
    info.tcpi_notsent_bytes = 1000;
    info.tcpi_backoff = 11;
    info.tcpi_probes = 1;
    assert_eq!(unanswered(&info), Some(Duration::from_secs(30)));
    // Seven probes without an answer, of which the first came at once.
    let mut info = silent_for(60);
    info.tcpi_notsent_bytes = 1000;
    info.tcpi_backoff = 7;
    info.tcpi_probes = 7;
    assert_eq!(unanswered(&info), Some(Duration::from_millis(59_796)));
}

#[test]
fn a_peer_that_was_given_up_has_been_silent_for_the_idle_time_before_the_first_probe() {
    let given_up = |kind, silent| GivenUp::Unanswered {
        kind,
        count: 3,
        silent: Duration::from_secs(silent),
        error: Errno::TIMEDOUT,
    };
    let [limit, idle] = [30, 45].map(Duration::from_secs);
    assert!(!given_up(KEEPALIVE, 74).is_after(limit, idle));
    assert!(given_up(KEEPALIVE, 75).is_after(limit, idle));
    assert!(given_up("retransmissions", 30).is_after(limit, idle));
    assert!(!given_up("window probes", 29).is_after(limit, idle));
    assert!(!GivenUp::Destroyed.is_after(Duration::ZERO, idle));
}
