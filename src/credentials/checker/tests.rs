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

fn login(number: usize) -> Login {
    Login {
        user: (*b"agent").into(),
        password: number.to_string().into_bytes().into(),
    }
}

/// Asks for a check of a login that this number makes different from others.
fn ask(
    (checker, gate): &(Arc<Checker>, Arc<Gate>),
    of: u8,
    number: usize,
) -> Option<oneshot::Receiver<bool>> {
    let login = login(number);
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
fn the_thread_has_the_lowest_priority() {
    let shared = Shared::default();
    shared.queue().is_closed = true;
    let run = move || {
        shared.run();
        rustix::process::getpriority_process(None)
    };
    let priority = thread::spawn(run).join().unwrap();
    assert_eq!(priority, Ok(LOWEST_PRIORITY));
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

/// Nobody makes checks here: only an answer that is remembered comes.
#[tokio::test]
async fn an_answer_that_a_gate_remembers_needs_no_check() {
    let (checker, gate) = idle();
    let answer = async |gate: &Arc<Gate>| {
        tokio::select! {
            biased;
            answer = gate.check(client(1), login(1)) => Some(answer),
            () = std::future::ready(()) => None,
        }
    };
    // The gate has no users, so a check says no.
    assert!(!gate.judge(&login(1), checker.digest(&login(1))));
    let wrong = Some(Err(crate::wire::Unauthorized::Wrong));
    assert_eq!(answer(&gate).await, wrong);
    assert_eq!(count(&checker), 0);
    // Another gate has not heard of it.
    let other = Arc::new(Gate::new(Arc::default(), Arc::clone(&checker)));
    assert_eq!(answer(&other).await, None);
    assert_eq!(count(&checker), 1);
}

#[test]
fn digests_mean_nothing_outside_their_process() {
    let [one, other] = [(); 2].map(|()| Checker::start().unwrap());
    assert!(one.digest(&login(1)) != other.digest(&login(1)));
    assert!(one.digest_of_user(b"agent") != other.digest_of_user(b"agent"));
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
    assert!(ask(&parts, 1, 1000).is_none());
    drop(waiting);
}

#[test]
fn in_a_full_queue_the_client_with_the_most_gives_way_to_one_with_fewer() {
    let parts = idle();
    let all = (1..=4).flat_map(|of| (0..MOST_WAITING_PER_CLIENT).map(move |it| (of, it)));
    let all = all.map(|(of, it)| ask(&parts, of, usize::from(of) * 1000 + it).unwrap());
    let mut waiting: Vec<_> = all.collect();
    let mut late = ask(&parts, 5, 5000).unwrap();
    assert_eq!(count(&parts.0), MOST_WAITING);
    let mut is_dropped = |position: usize| {
        let waiting: &mut oneshot::Receiver<bool> = waiting.get_mut(position).unwrap();
        waiting.try_recv() == Err(TryRecvError::Closed)
    };
    let dropped: Vec<usize> = (0..MOST_WAITING).filter(|it| is_dropped(*it)).collect();
    // It is a newest one.
    assert_eq!(dropped.len(), 1);
    assert_eq!((dropped[0] + 1) % MOST_WAITING_PER_CLIENT, 0);
    let checked: Vec<String> = (0..5).map(|_| check(&parts.0)).collect();
    assert_eq!(checked, ["1000", "2000", "3000", "4000", "5000"]);
    assert_eq!(late.try_recv(), Ok(true));
}

#[test]
fn clients_with_as_many_checks_do_not_drive_each_other_out() {
    let parts = idle();
    let one_each: Vec<_> = (0..=255)
        .map(|of| ask(&parts, of, of.into()).unwrap())
        .collect();
    assert_eq!(count(&parts.0), MOST_WAITING);
    assert!(ask(&parts, 0, 1000).is_none());
    let other = IpAddr::from([10, 0, 1, 0]);
    let login = login(1001);
    let digest = parts.0.digest(&login);
    assert!(parts.0.ask(other, &parts.1, login, digest).is_none());
    drop(one_each);
}

#[test]
fn a_login_that_others_await_goes_on_where_its_turn_comes_sooner() {
    let parts = idle();
    let before: Vec<_> = (0..4).map(|it| ask(&parts, 1, it).unwrap()).collect();
    let [mut first, mut second] = [1, 2].map(|of| ask(&parts, of, 100).unwrap());
    assert_eq!(count(&parts.0), 5);
    assert_eq!([check(&parts.0), check(&parts.0)], ["0", "100"]);
    assert_eq!([first.try_recv(), second.try_recv()], [Ok(true), Ok(true)]);
    // A check whose turn is near stays in its place.
    let third = ask(&parts, 3, 1);
    let last = ask(&parts, 4, 200);
    assert_eq!([check(&parts.0), check(&parts.0)], ["1", "200"]);
    drop((before, third, last));
}

#[test]
fn connections_that_come_and_go_with_the_same_login_do_not_pile_up() {
    let parts = idle();
    let here = ask(&parts, 1, 1).unwrap();
    for _ in 0..1000 {
        drop(ask(&parts, 2, 1).unwrap());
    }
    let most = {
        let queue = parts.0.shared.queue();
        let checks = queue.waiting.values().flatten();
        checks.map(|check| check.askers.len()).max()
    };
    assert!(most < Some(10), "{most:?}");
    drop(here);
}

#[test]
fn a_check_that_nobody_awaits_takes_no_turn() {
    let parts = idle();
    let gone = [1, 2, 3].map(|number| ask(&parts, 1, number));
    let one = ask(&parts, 1, 4);
    let other = [5, 6].map(|number| ask(&parts, 2, number));
    drop(gone);
    assert_eq!([(); 3].map(|()| check(&parts.0)), ["4", "5", "6"]);
    drop((one, other));
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
