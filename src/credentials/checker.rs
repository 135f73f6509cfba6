//! The thread that checks passwords, and the queue before it.
//!
//! It is one thread, so that strangers who guess passwords cost one CPU at most, and not one of the runtime's blocking
//! pool, because those also resolve names and read routes.toml. Clients take turns: a client with many passwords to
//! check waits for itself.

use std::collections::{HashMap, VecDeque};
use std::hash::Hasher;
use std::io;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::rand::{GetRandomFlags, getrandom};
use siphasher::sip128::{Hasher128, SipHasher24};
use tokio::sync::oneshot;

use super::Gate;
use crate::wire::Login;

/// The most checks that wait, in all.
const MOST_WAITING: usize = 256;
/// The most checks of one client that wait.
const MOST_WAITING_PER_CLIENT: usize = 64;

/// The keyed digest of a user and a password.
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

    fn is_awaited(&self) -> bool {
        self.askers.iter().any(|asker| !asker.is_closed())
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
        if let Some(same) = queue.find(gate, digest) {
            same.askers.push(asker);
            return Some(answer);
        }
        queue.is_free_for(client).then(|| {
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

    fn find(&mut self, gate: &Arc<Gate>, digest: Digest) -> Option<&mut Check> {
        let waiting = self.waiting.values_mut().flatten();
        let mut all = waiting.chain(&mut self.running);
        all.find(|check| check.is_for(gate, digest))
    }

    /// Whether a client may add a check. Checks whose clients have gone do not count.
    fn is_free_for(&mut self, client: IpAddr) -> bool {
        let full = |queue: &Self| {
            let own = queue.waiting.get(&client).map_or(0, VecDeque::len);
            own >= MOST_WAITING_PER_CLIENT || queue.count() >= MOST_WAITING
        };
        if full(self) {
            self.waiting.retain(|_, checks| {
                checks.retain(Check::is_awaited);
                !checks.is_empty()
            });
            self.turns
                .retain(|client| self.waiting.contains_key(client));
        }
        !full(self)
    }

    fn add(&mut self, client: IpAddr, check: Check) {
        let checks = self.waiting.entry(client).or_default();
        if checks.is_empty() {
            self.turns.push_back(client);
        }
        checks.push_back(check);
    }

    /// Takes the check whose turn it is. Its client has its next turn after all others.
    fn take(&mut self) -> Option<Check> {
        let client = self.turns.pop_front()?;
        let checks = self.waiting.get_mut(&client)?;
        let check = checks.pop_front();
        if checks.is_empty() {
            self.waiting.remove(&client);
        } else {
            self.turns.push_back(client);
        }
        check
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes one check after the other, until the checker is dropped.
    fn run(&self) {
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
                Some(check) if check.is_awaited() => {
                    let gate = Arc::clone(&check.gate);
                    let next = (gate, Arc::clone(&check.login), check.digest);
                    queue.running = Some(check);
                    return Some(next);
                }
                // Its clients have gone. The lock must be free, because the last gate drops the checker.
                Some(check) => {
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
