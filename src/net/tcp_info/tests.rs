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

/// The least time for which something is unanswered, in milliseconds.
fn at_least(info: &libc::tcp_info) -> Option<u128> {
    let unanswered = unanswered(info, false)?;
    assert_eq!(unanswered.silent, silence(info));
    Some(unanswered.at_least.as_millis())
}

#[test]
fn packets_in_flight_are_unanswered_since_they_were_sent_and_not_since_the_peer_fell_silent() {
    let mut info = silent_for(90);
    info.tcpi_snd_wnd = 1000;
    info.tcpi_last_data_sent = 500;
    assert_eq!(at_least(&info), None, "everything is acknowledged");
    info.tcpi_unacked = 1;
    assert_eq!(at_least(&info), Some(500), "it was quiet for long before");
    // Sent again after 204, 408, 816 and 1,632 ms.
    info.tcpi_rto = 204_000 << 4;
    info.tcpi_backoff = 4;
    assert_eq!(at_least(&info), Some(15 * 204 + 500));
    // Never longer than the peer is silent.
    info.tcpi_last_ack_recv = 2000;
    assert_eq!(at_least(&info), Some(2000));
    info.tcpi_last_data_recv = 400;
    assert_eq!(at_least(&info), None, "it sends, so it is alive");
}

#[test]
fn a_fin_in_flight_is_unanswered_since_nobody_knows_when() {
    let mut info = silent_for(90);
    info.tcpi_snd_wnd = 1000;
    info.tcpi_last_data_sent = 120_000;
    assert_eq!(unanswered(&info, true), None, "it is acknowledged");
    info.tcpi_unacked = 1;
    let [at_least, silent] = [0, 90].map(Duration::from_secs);
    assert_eq!(
        unanswered(&info, true),
        Some(Unanswered { at_least, silent })
    );
}

#[test]
fn packets_that_are_sent_again_to_a_closed_window_are_probes_of_it() {
    let mut info = silent_for(120);
    info.tcpi_unacked = 1;
    info.tcpi_rto = 120_000_000;
    info.tcpi_backoff = 12;
    info.tcpi_last_data_sent = 120_050;
    assert_eq!(at_least(&info), None, "it has answered the last one");
    info.tcpi_last_data_sent = 40;
    assert_eq!(at_least(&info), Some(40), "the next one is on its way");
}

#[test]
fn a_closed_window_is_unanswered_from_the_first_probe_without_an_answer_on() {
    let mut info = silent_for(119);
    info.tcpi_notsent_bytes = 1000;
    info.tcpi_backoff = 10;
    assert_eq!(at_least(&info), None, "the next probe is not due yet");
    // The wait before it was the longest.
    let mut info = silent_for(150);
    info.tcpi_notsent_bytes = 1000;
    info.tcpi_backoff = 11;
    info.tcpi_probes = 1;
    assert_eq!(at_least(&info), Some(30_000));
    // Seven probes without an answer, of which the first came at once: at least since the last of them.
    let mut info = silent_for(60);
    info.tcpi_notsent_bytes = 1000;
    info.tcpi_backoff = 7;
    info.tcpi_probes = 7;
    assert_eq!(at_least(&info), Some(60_000 - 204 * 128));
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
