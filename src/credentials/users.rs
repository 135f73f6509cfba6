//! The file of users: lines of `user:hash`, as `htpasswd -B` writes them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;

use base64::Engine;
use bcrypt::BASE_64;

use super::checker::Digest;
use crate::wire::Login;

/// The most users of a file.
const MOST_USERS: usize = 10_000;
/// The most bytes of a user: SOCKS5 has no room for more.
const LONGEST_USER: usize = 255;
/// The most faults of a file that are kept.
const MOST_FAULTS: usize = 50;

/// The costs that portway accepts. bcrypt has no lower one, and a check of cost 12 takes a quarter of a second.
const LEAST_COST: u32 = 4;
const MOST_COST: u32 = 12;

/// The most bytes of a password that bcrypt looks at, with the zero byte behind it.
const MOST_PASSWORD: usize = 72;

const WRITE: &str = "write each line as `htpasswd -nB USER` prints it: user:hash";

/// The users of a file, with the hashes of their passwords. `Debug` shows only their number. The default has nobody.
#[derive(Default, PartialEq, Eq)]
pub struct Users {
    positions: HashMap<Box<[u8]>, usize>,
    hashes: Vec<Hash>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Hash {
    cost: u32,
    salt: [u8; 16],
    digest: [u8; 23],
}

/// A line that cannot be read. It never has any of the line's content.
#[derive(Debug, PartialEq, Eq)]
pub struct LineFault {
    /// From 1; `None` for the file as a whole.
    pub line: Option<usize>,
    /// Completes a sentence whose subject is the line.
    pub message: String,
    /// Says what to write.
    pub help: &'static str,
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} users", self.hashes.len())
    }
}

impl Users {
    /// Reads a file. Blank lines and lines that begin with # do not count.
    pub fn parse(text: &str) -> Result<Self, Vec<LineFault>> {
        let mut users = Self::default();
        let mut lines: HashMap<usize, usize> = HashMap::new();
        let mut faults = Vec::new();
        // Some editors of Windows write a byte order mark, which would become a part of the first user.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (number, line) in (1..).zip(text.lines()) {
            let content = line.trim();
            if content.is_empty() || content.starts_with('#') {
                continue;
            }
            let fault = |(message, help)| LineFault {
                line: Some(number),
                message,
                help,
            };
            match user_and_hash(line) {
                Err(wrong) => faults.push(fault(wrong)),
                Ok((user, hash)) => {
                    let position = users.hashes.len();
                    match users.positions.entry(user.as_bytes().into()) {
                        Entry::Occupied(first) => {
                            let first = lines.get(first.get()).copied().unwrap_or_default();
                            let message = format!("has the same user as line {first}");
                            faults.push(fault((message, "leave one of them out")));
                        }
                        Entry::Vacant(entry) => {
                            entry.insert(position);
                            lines.insert(position, number);
                            users.hashes.push(hash);
                        }
                    }
                }
            }
            if users.hashes.len() > MOST_USERS {
                faults.push(of_file(
                    format!("has more than {MOST_USERS} users"),
                    "leave some out, or divide them among several listeners",
                ));
            }
            if faults.len() == MOST_FAULTS || users.hashes.len() > MOST_USERS {
                return Err(faults);
            }
        }
        if faults.is_empty() && users.hashes.is_empty() {
            faults.push(of_file("has no users".to_owned(), WRITE));
        }
        if faults.is_empty() {
            Ok(users)
        } else {
            Err(faults)
        }
    }

    /// Whether this is one of the users with its password. It takes up to a quarter of a second, and as long for an
    /// unknown user.
    pub(super) fn has(&self, login: &Login, of_user: Digest) -> bool {
        self.has_by(Hash::is_of, login, of_user)
    }

    /// The same with another check of a hash, which tests count.
    fn has_by(
        &self,
        is_of: impl FnOnce(&Hash, &[u8]) -> bool,
        login: &Login,
        of_user: Digest,
    ) -> bool {
        let hash = self.hash_for(&login.user, of_user);
        hash.is_some_and(|hash| is_of(hash, &login.password))
            && self.positions.contains_key(&login.user)
    }

    /// The hash to check: for an unknown user that of some user, always the same one for the same `of_user`, the digest
    /// of the user alone. The costs may differ, so with another one for each password the time would tell.
    fn hash_for(&self, user: &[u8], of_user: Digest) -> Option<&Hash> {
        let known = self.positions.get(user).copied();
        let position = known.unwrap_or_else(|| of_user.choose(self.hashes.len()));
        self.hashes.get(position)
    }

    /// The cost of each hash that is checked, while every password is the right one.
    #[cfg(test)]
    pub(super) fn costs_of(&self, login: &Login, of_user: Digest) -> (Vec<u32>, bool) {
        let mut costs = Vec::new();
        let is_of = |hash: &Hash, _: &[u8]| {
            costs.push(hash.cost);
            true
        };
        let is_let_in = self.has_by(is_of, login, of_user);
        (costs, is_let_in)
    }
}

impl Hash {
    fn parse(text: &str) -> Result<Self, (String, &'static str)> {
        let wrong = || ("has no bcrypt hash".to_owned(), WRITE);
        let mut versions = ["$2y$", "$2a$", "$2b$"].iter();
        let rest = versions.find_map(|version| text.strip_prefix(version));
        let (cost, rest) = rest
            .and_then(|rest| rest.split_once('$'))
            .ok_or_else(wrong)?;
        let is_number = cost.len() == 2 && cost.bytes().all(|byte| byte.is_ascii_digit());
        let cost: u32 = cost.parse().ok().filter(|_| is_number).ok_or_else(wrong)?;
        let (salt, hash) = rest.split_at_checked(22).ok_or_else(wrong)?;
        let parsed = Self {
            cost,
            salt: decode(salt).ok_or_else(wrong)?,
            digest: decode(hash).ok_or_else(wrong)?,
        };
        if (LEAST_COST..=MOST_COST).contains(&cost) {
            Ok(parsed)
        } else {
            let help = "write a hash of cost 4 to 12, such as `htpasswd -nB -C 10 USER` prints";
            Err((format!("has a bcrypt hash of cost {cost}"), help))
        }
    }

    fn is_of(&self, password: &[u8]) -> bool {
        // As every implementation does: a zero byte ends the password, and bytes behind the 72nd do not count.
        let mut key: Vec<u8> = password.iter().copied().take(MOST_PASSWORD).collect();
        if key.len() < MOST_PASSWORD {
            key.push(0);
        }
        let computed = bcrypt::bcrypt(self.cost, self.salt, &key);
        let bytes = self.digest.iter().zip(&computed);
        bytes.fold(0, |difference, (one, other)| difference | (one ^ other)) == 0
    }
}

fn user_and_hash(line: &str) -> Result<(&str, Hash), (String, &'static str)> {
    let Some((user, hash)) = line.split_once(':') else {
        return Err(("has no colon".to_owned(), WRITE));
    };
    if user.is_empty() {
        return Err(("has no user before its colon".to_owned(), WRITE));
    }
    if user.len() > LONGEST_USER {
        let message = format!("has a user of more than {LONGEST_USER} bytes");
        return Err((message, "write a shorter one"));
    }
    Ok((user, Hash::parse(hash.trim_end())?))
}

/// The bytes of a part of a hash, which must be exactly as many.
fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let size = BASE_64.decode_slice(text, &mut bytes).ok()?;
    (size == N).then_some(bytes)
}

const fn of_file(message: String, help: &'static str) -> LineFault {
    LineFault {
        line: None,
        message,
        help,
    }
}
