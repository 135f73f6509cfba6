//! The queue, without its thread: each test makes the checks itself.

use tokio::sync::oneshot::error::TryRecvError;

use super::*;

fn idle() -> (Arc<Checker>, Arc<Gate>) {
    let checker = Arc::new(Checker {
        key: [7; 16],
        shared: Arc::default(),
    });
    let gate = Arc::new(Gate::new(Arc::default(), Arc::clone(&checker)));
    (checker, gate)
}

fn client(number: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, number])
}

/// Asks for a check of a login that this number makes different from others.
fn ask(
    (checker, gate): &(Arc<Checker>, Arc<Gate>),
    of: u8,
    number: usize,
) -> Option<oneshot::Receiver<bool>> {
    let login = Login {
        user: (*b"agent").into(),
        password: number.to_string().into_bytes().into(),
    };
    let digest = checker.digest(&login);
    checker.ask(client(of), gate, login, digest)
}

/// The password of the next check, which is answered at once.
fn check(checker: &Checker) -> String {
    let (_, login, _) = checker.shared.next().unwrap();
    checker.shared.answer(Some(true));
    String::from_utf8(login.password.to_vec()).unwrap()
}

fn count(checker: &Checker) -> usize {
    let queue = checker.shared.queue();
    assert_eq!(queue.turns.len(), queue.waiting.len());
    queue.count()
}

#[test]
fn clients_take_turns() {
    let parts = idle();
    let one = [1, 2, 3].map(|number| ask(&parts, 1, number));
    let other = [4, 5].map(|number| ask(&parts, 2, number));
    let checked: Vec<String> = (0..5).map(|_| check(&parts.0)).collect();
    assert_eq!(checked, ["1", "4", "2", "5", "3"]);
    for answer in one.into_iter().chain(other) {
        assert_eq!(answer.unwrap().try_recv(), Ok(true));
    }
    assert_eq!(count(&parts.0), 0);
}

#[test]
fn connections_with_the_same_login_share_a_check_that_waits_or_runs() {
    let parts = idle();
    let mut waiting: Vec<_> = (1..4).map(|of| ask(&parts, of, 1).unwrap()).collect();
    assert_eq!(count(&parts.0), 1);
    let _running = parts.0.shared.next().unwrap();
    waiting.push(ask(&parts, 4, 1).unwrap());
    assert_eq!(count(&parts.0), 0);
    parts.0.shared.answer(Some(false));
    for mut answer in waiting {
        assert_eq!(answer.try_recv(), Ok(false));
    }
}

#[test]
fn the_same_login_at_another_gate_is_another_check() {
    let parts = idle();
    let other = Arc::new(Gate::new(Arc::default(), Arc::clone(&parts.0)));
    let one = ask(&parts, 1, 1);
    let two = ask(&(Arc::clone(&parts.0), other), 1, 1);
    assert_eq!(count(&parts.0), 2);
    assert!(one.is_some() && two.is_some());
}

#[test]
fn a_client_has_its_share_of_a_queue_that_is_bounded_in_all() {
    let parts = idle();
    let mut waiting: Vec<_> = (0..MOST_WAITING_PER_CLIENT)
        .map(|number| ask(&parts, 1, number).unwrap())
        .collect();
    assert!(ask(&parts, 1, 1000).is_none());
    let more = (2..=4).flat_map(|of| (0..MOST_WAITING_PER_CLIENT).map(move |it| (of, it)));
    waiting.extend(more.map(|(of, it)| ask(&parts, of, usize::from(of) * 1000 + it).unwrap()));
    assert_eq!(count(&parts.0), MOST_WAITING);
    assert!(ask(&parts, 5, 5000).is_none());
    check(&parts.0);
    assert!(ask(&parts, 5, 5000).is_some());
}

#[test]
fn clients_that_have_gone_leave_nothing_behind() {
    let parts = idle();
    let gone: Vec<_> = (0..MOST_WAITING_PER_CLIENT)
        .map(|number| ask(&parts, 1, number).unwrap())
        .collect();
    drop(gone);
    // Their checks take nobody's place, and nobody makes them.
    let here = ask(&parts, 1, 1000).unwrap();
    assert_eq!(count(&parts.0), 1);
    let gone = ask(&parts, 1, 1001);
    drop(gone);
    let last = ask(&parts, 1, 1002).unwrap();
    assert_eq!([check(&parts.0), check(&parts.0)], ["1000", "1002"]);
    assert_eq!(count(&parts.0), 0);
    assert_eq!(Arc::strong_count(&parts.1), 1);
    drop((here, last));
}

#[test]
fn a_check_that_fails_answers_nobody() {
    let parts = idle();
    let mut answer = ask(&parts, 1, 1).unwrap();
    let _running = parts.0.shared.next().unwrap();
    assert_eq!(answer.try_recv(), Err(TryRecvError::Empty));
    parts.0.shared.answer(None);
    assert_eq!(answer.try_recv(), Err(TryRecvError::Closed));
}

#[test]
fn the_thread_ends_with_the_last_gate_also_if_a_check_that_nobody_awaits_holds_it() {
    let checker = Arc::new(Checker::start().unwrap());
    let shared = Arc::downgrade(&checker.shared);
    let gate = Arc::new(Gate::new(Arc::default(), Arc::clone(&checker)));
    let parts = (checker, gate);
    for number in 0..20 {
        drop(ask(&parts, 1, number));
    }
    drop(parts);
    while shared.upgrade().is_some() {
        thread::yield_now();
    }
}
