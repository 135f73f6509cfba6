//! The thread that checks passwords, and the queue before it.
//!
//! It is one thread, so that strangers who guess passwords cost one CPU at most, and not one of the runtime's blocking
//! pool, because those also resolve names and read routes.toml. Clients take turns: a client with many passwords to
//! check waits for itself, and loses its newest ones if the queue is full and another client has fewer.

use std::collections::{HashMap, VecDeque};
use std::hash::Hasher;
use std::io;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::process::setpriority_process;
use rustix::rand::{GetRandomFlags, getrandom};
use siphasher::sip128::{Hasher128, SipHasher24};
use tokio::sync::oneshot;

use super::Gate;
use crate::wire::Login;

/// The most checks that wait, in all.
const MOST_WAITING: usize = 256;
/// The most checks of one client that wait.
const MOST_WAITING_PER_CLIENT: usize = 64;

/// The nice value of the thread.
const LOWEST_PRIORITY: i32 = 19;

/// The keyed digest of a user and a password, or of a user.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Digest(u128);

impl Digest {
    /// Chooses one of so many.
    pub(super) fn choose(self, count: usize) -> usize {
        let Self(digest) = self;
        let chosen = u128::try_from(count)
            .ok()
            .and_then(|count| digest.checked_rem(count));
        chosen
            .and_then(|it| usize::try_from(it).ok())
            .unwrap_or_default()
    }

    #[cfg(test)]
    pub(super) fn of_number(number: u64) -> Self {
        Self(number.into())
    }
}

/// The checks of the process. The thread ends when this is dropped.
pub struct Checker {
    /// Random in each process.
    key: [u8; 16],
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    /// The clients that wait, in the order of their turns.
    turns: VecDeque<IpAddr>,
    /// The checks of each of them, in their order.
    waiting: HashMap<IpAddr, VecDeque<Check>>,
    running: Option<Check>,
    is_closed: bool,
}

type Asker = oneshot::Sender<bool>;

struct Check {
    gate: Arc<Gate>,
    login: Arc<Login>,
    digest: Digest,
    /// All connections that wait for this answer.
    askers: Vec<Asker>,
}

impl Check {
    fn is_for(&self, gate: &Arc<Gate>, digest: Digest) -> bool {
        self.digest == digest && Arc::ptr_eq(&self.gate, gate)
    }

    /// Adds a connection. Those that have gone leave when there is no room, so there are never many of them.
    fn join(&mut self, asker: Asker) {
        if self.askers.len() == self.askers.capacity() {
            self.askers.retain(|asker| !asker.is_closed());
        }
        self.askers.push(asker);
    }

    /// Forgets the latest connections that have gone, so it looks at each of them once.
    fn is_awaited(&mut self) -> bool {
        while self.askers.pop_if(|asker| asker.is_closed()).is_some() {}
        !self.askers.is_empty()
    }
}

impl Checker {
    /// Starts the thread.
    pub fn start() -> io::Result<Self> {
        let mut key = [0; 16];
        getrandom(&mut key, GetRandomFlags::empty())?;
        let shared = Arc::new(Shared::default());
        let its = Arc::clone(&shared);
        thread::Builder::new()
            .name("portway-login".into())
            .spawn(move || its.run())?;
        Ok(Self { key, shared })
    }

    pub(super) fn digest(&self, login: &Login) -> Digest {
        let mut hasher = SipHasher24::new_with_key(&self.key);
        hasher.write_usize(login.user.len());
        hasher.write(&login.user);
        hasher.write(&login.password);
        Digest(hasher.finish128().as_u128())
    }

    /// The digest of a user alone.
    pub(super) fn digest_of_user(&self, user: &[u8]) -> Digest {
        let mut hasher = SipHasher24::new_with_key(&self.key);
        hasher.write(user);
        Digest(hasher.finish128().as_u128())
    }

    /// Asks for a check. `None` if too many wait. The answer fails only if the check itself does.
    pub(super) fn ask(
        &self,
        client: IpAddr,
        gate: &Arc<Gate>,
        login: Login,
        digest: Digest,
    ) -> Option<oneshot::Receiver<bool>> {
        let (asker, answer) = oneshot::channel();
        let mut queue = self.shared.queue();
        if let Some(same) = queue.find(client, gate, digest) {
            same.join(asker);
            return Some(answer);
        }
        queue.makes_room_for(client).then(|| {
            queue.add(
                client,
                Check {
                    gate: Arc::clone(gate),
                    login: Arc::new(login),
                    digest,
                    askers: vec![asker],
                },
            );
            self.shared.changed.notify_one();
            answer
        })
    }
}

impl Drop for Checker {
    fn drop(&mut self) {
        self.shared.queue().is_closed = true;
        self.shared.changed.notify_one();
    }
}

impl Queue {
    fn count(&self) -> usize {
        self.waiting.values().map(VecDeque::len).sum()
    }

    fn count_of(&self, client: IpAddr) -> usize {
        self.waiting.get(&client).map_or(0, VecDeque::len)
    }

    /// The same check for a client that also asks for it. If it waits behind more checks of another client than this
    /// client has, it goes on in the queue of this one, where its turn comes at least as soon.
    fn find(&mut self, client: IpAddr, gate: &Arc<Gate>, digest: Digest) -> Option<&mut Check> {
        let is_it = |check: &Check| check.is_for(gate, digest);
        if self.running.as_ref().is_some_and(is_it) {
            return self.running.as_mut();
        }
        let mut places = self.waiting.iter().filter_map(|(of, checks)| {
            let before = checks.iter().position(is_it)?;
            Some((*of, before))
        });
        let (of, before) = places.next()?;
        if before > self.count_of(client) {
            let checks = self.waiting.get_mut(&of)?;
            let check = checks.remove(before)?;
            self.add(client, check);
            return self.waiting.get_mut(&client)?.back_mut();
        }
        self.waiting.get_mut(&of)?.get_mut(before)
    }

    /// Whether a client may add a check. In a queue that is full, checks whose clients have gone make room, and then the
    /// newest check of the client that has the most, if it still has more than this one.
    fn makes_room_for(&mut self, client: IpAddr) -> bool {
        let is_full = |queue: &Self| queue.count() >= MOST_WAITING;
        let has_many = |queue: &Self| queue.count_of(client) >= MOST_WAITING_PER_CLIENT;
        if is_full(self) || has_many(self) {
            self.forget_the_gone();
        }
        if has_many(self) {
            return false;
        }
        !is_full(self) || self.takes_from_another(client)
    }

    fn forget_the_gone(&mut self) {
        self.waiting.retain(|_, checks| {
            checks.retain_mut(Check::is_awaited);
            !checks.is_empty()
        });
        self.turns
            .retain(|client| self.waiting.contains_key(client));
    }

    /// Drops a check of the client that has the most. The connections that wait for it see that there is no answer.
    fn takes_from_another(&mut self, client: IpAddr) -> bool {
        let most = self.turns.iter().copied();
        let most = most.max_by_key(|other| self.count_of(*other));
        let other = most.filter(|other| self.count_of(*other) > self.count_of(client) + 1);
        let checks = other.and_then(|other| self.waiting.get_mut(&other));
        checks.and_then(VecDeque::pop_back).is_some()
    }

    fn add(&mut self, client: IpAddr, check: Check) {
        let checks = self.waiting.entry(client).or_default();
        if checks.is_empty() {
            self.turns.push_back(client);
        }
        checks.push_back(check);
    }

    /// Takes the check whose turn it is, and whether anybody awaits it. Then its client has its next turn after all
    /// others; a check that nobody awaits takes no turn.
    fn take(&mut self) -> Option<(Check, bool)> {
        let client = self.turns.pop_front()?;
        let checks = self.waiting.get_mut(&client)?;
        let mut check = checks.pop_front()?;
        let is_awaited = check.is_awaited();
        if checks.is_empty() {
            self.waiting.remove(&client);
        } else if is_awaited {
            self.turns.push_back(client);
        } else {
            self.turns.push_front(client);
        }
        Some((check, is_awaited))
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes one check after the other, until the checker is dropped.
    fn run(&self) {
        // The data threads come first. Only a sandbox refuses that, and then the thread works as they do.
        _ = setpriority_process(None, LOWEST_PRIORITY);
        while let Some((gate, login, digest)) = self.next() {
            let judge = || gate.judge(&login, digest);
            // A panic is in the program log, and ends this check alone.
            self.answer(catch_unwind(AssertUnwindSafe(judge)).ok());
        }
    }

    /// Waits for the next check; `None` when there will be none.
    fn next(&self) -> Option<(Arc<Gate>, Arc<Login>, Digest)> {
        loop {
            let mut queue = self.queue();
            if queue.is_closed {
                return None;
            }
            match queue.take() {
                Some((check, true)) => {
                    let gate = Arc::clone(&check.gate);
                    let next = (gate, Arc::clone(&check.login), check.digest);
                    queue.running = Some(check);
                    return Some(next);
                }
                // Its clients have gone. The lock must be free, because the last gate drops the checker.
                Some((check, false)) => {
                    drop(queue);
                    drop(check);
                }
                None => drop(self.changed.wait(queue)),
            }
        }
    }

    /// Ends the check that runs. Without an answer the clients that wait for it see that there is none.
    fn answer(&self, answer: Option<bool>) {
        let done = self.queue().running.take();
        for asker in done.into_iter().flat_map(|check| check.askers) {
            // The client may have gone.
            answer.map(|answer| asker.send(answer));
        }
    }
}

#[cfg(test)]
mod tests;
