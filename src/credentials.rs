//! Checks the user and password of a proxy's client. A check takes up to a quarter of a second of CPU, so a thread of
//! its own makes it, and answers are remembered for a minute.

mod checker;
mod remembered;
#[cfg(test)]
mod tests;
mod users;

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

pub use checker::Checker;
use checker::Digest;
use remembered::Remembered;
pub use users::{LineFault, Users};

use crate::wire::{Login, Unauthorized};

/// The users that a listener lets in, and the answers that it has given them. A change of the file makes a new gate,
/// which remembers nothing.
pub struct Gate {
    users: Arc<Users>,
    remembered: Mutex<Remembered>,
    checker: Arc<Checker>,
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.users.fmt(f)
    }
}

impl Gate {
    /// A gate for these users.
    pub fn new(users: Arc<Users>, checker: Arc<Checker>) -> Self {
        Self {
            users,
            remembered: Mutex::default(),
            checker,
        }
    }

    /// Whether this gate lets in exactly these users.
    pub fn is_for(&self, users: &Users) -> bool {
        *self.users == *users
    }

    /// Checks what a client has sent. Only this client waits for the answer; `client` is its key among the clients.
    /// Dropping the future gives up the check, unless it has begun.
    pub async fn check(self: &Arc<Self>, client: IpAddr, login: Login) -> Result<(), Unauthorized> {
        let digest = self.checker.digest(&login);
        let known = self.remembered().find(digest, Instant::now());
        let answer = match known {
            Some(is_right) => Some(is_right),
            None => match self.checker.ask(client, self, login, digest) {
                Some(answer) => answer.await.ok(),
                None => None,
            },
        };
        match answer {
            Some(true) => Ok(()),
            Some(false) => Err(Unauthorized::Wrong),
            None => Err(Unauthorized::Unchecked),
        }
    }

    /// Makes the check itself, and remembers its answer.
    fn judge(&self, login: &Login, digest: Digest) -> bool {
        let is_right = self.users.has(login, self.of_user(login));
        self.remembered().add(digest, is_right, Instant::now());
        is_right
    }

    /// Chooses the hash that is checked for an unknown user.
    fn of_user(&self, login: &Login) -> Digest {
        self.checker.digest_of_user(&login.user)
    }

    fn remembered(&self) -> MutexGuard<'_, Remembered> {
        self.remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
