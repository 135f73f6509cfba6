//! Dials of one address that wait for their turn.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::*;
use crate::outcome::DialFailure;

fn address() -> Arc<Address> {
    Arc::new(Address::new(A.parse().unwrap(), Instant::now()))
}

fn taken(address: &Arc<Address>, most: u32) -> Slot {
    address.take_slot(most).unwrap()
}

fn waiting(address: &Arc<Address>, most: u32) -> Waiting {
    address.take_slot(most).unwrap_err()
}

/// The answer to one that waits, if it has come.
fn answer(waiting: &mut Waiting) -> Option<Result<Slot, DialFailure>> {
    let mut cx = Context::from_waker(Waker::noop());
    match pin!(waiting.slot()).poll(&mut cx) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    }
}

#[test]
fn those_who_wait_get_slots_in_the_order_in_which_they_came() {
    let address = address();
    let (one, other) = (taken(&address, 2), taken(&address, 2));
    let [mut first, mut second] = [(); 2].map(|()| waiting(&address, 2));
    assert!(answer(&mut first).is_none());
    drop(one);
    assert!(answer(&mut second).is_none());
    let slot = answer(&mut first).unwrap().unwrap();
    // A newcomer does not pass those who wait.
    drop(other);
    let mut newcomer = waiting(&address, 2);
    assert!(answer(&mut newcomer).is_none());
    assert!(answer(&mut second).unwrap().is_ok());
    drop(slot);
    assert!(answer(&mut newcomer).unwrap().is_ok());
}

#[test]
fn a_slot_that_nobody_waits_for_any_more_goes_to_the_next() {
    let address = address();
    let slot = taken(&address, 1);
    let [gone, told, mut next] = [(); 3].map(|()| waiting(&address, 1));
    drop(gone);
    // The second one gets the slot, and leaves before it knows.
    drop(slot);
    assert!(answer(&mut next).is_none());
    drop(told);
    drop(answer(&mut next).unwrap().unwrap());
    assert!(address.take_slot(1).is_ok(), "all slots are free again");
}

#[test]
fn a_failure_answers_all_who_wait_and_leaves_the_slots_as_they_are() {
    let address = address();
    let slot = taken(&address, 1);
    let mut all = [(); 3].map(|()| waiting(&address, 1));
    address.fail_waiting(DialFailure::Refused);
    for waiting in &mut all {
        let failure = answer(waiting).unwrap().map(drop);
        assert_eq!(failure, Err(DialFailure::Refused));
    }
    drop(all);
    let mut next = waiting(&address, 1);
    assert!(answer(&mut next).is_none());
    drop(slot);
    assert!(answer(&mut next).unwrap().is_ok());
}

#[test]
fn a_reload_that_raises_the_limit_lets_those_in_who_wait() {
    let address = address();
    let slot = taken(&address, 1);
    let mut first = waiting(&address, 1);
    let mut second = waiting(&address, 3);
    let held = [&mut first, &mut second].map(|it| answer(it).unwrap().unwrap());
    // A lower limit holds for those who come later.
    let mut third = waiting(&address, 1);
    drop(held);
    assert!(answer(&mut third).is_none());
    drop(slot);
    assert!(answer(&mut third).unwrap().is_ok());
}

#[test]
fn clients_that_gave_up_leave_no_memory_in_the_queue() {
    let address = address();
    let _slot = taken(&address, 1);
    for _ in 0..10_000 {
        drop(waiting(&address, 1));
    }
    assert!(address.slots.capacity() < 100);
}

#[test]
fn threads_never_take_more_slots_than_there_are() {
    let address = address();
    let taken = std::sync::atomic::AtomicU32::new(0);
    let order = std::sync::atomic::Ordering::SeqCst;
    thread::scope(|scope| {
        for number in 0..4 {
            let (address, taken) = (&address, &taken);
            scope.spawn(move || {
                for round in 0..2_000 {
                    match address.take_slot(2) {
                        Ok(slot) => {
                            assert!(taken.fetch_add(1, order) < 2);
                            thread::yield_now();
                            taken.fetch_sub(1, order);
                            drop(slot);
                        }
                        // Some look, and some leave at once.
                        Err(mut waiting) if (number + round) % 2 == 0 => {
                            if let Some(Ok(slot)) = answer(&mut waiting) {
                                assert!(taken.fetch_add(1, order) < 2);
                                taken.fetch_sub(1, order);
                                drop(slot);
                            }
                        }
                        Err(waiting) => {
                            thread::yield_now();
                            drop(waiting);
                        }
                    }
                }
            });
        }
    });
    let free = [address.take_slot(2), address.take_slot(2)];
    assert!(free.iter().all(Result::is_ok), "no slot was lost");
}
