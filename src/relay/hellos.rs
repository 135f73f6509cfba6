//! The client hellos that wait for an answer of their backend. One that comes back while it waits shows that portway dials
//! itself: its 32 random bytes (RFC 8446 section 4.1.2) are new for each connection of a client, and they pass every NAT
//! and every relay unchanged.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Flow;

/// Equal hellos that may wait at the same time. Two are a path that leads through the same portway twice on purpose, as
/// through two of its listeners with a firewall in between, and three leave room for a client that sends its hello again on
/// a new connection. A loop has as many as there is time for.
const MOST: u8 = 3;
/// Places in one line of the cache, in which a hello can be.
const PLACES: usize = 8;
/// The table has 32,768 places in 256 KiB. With 10,000 hellos that wait, 3 in 1,000 new ones find no place.
const LINES: usize = 1 << 12;

/// The hellos that wait, by their digests. The table never grows, so clients cannot choose its size. A hello that finds no
/// place is not counted; in a loop the next round asks again.
#[derive(Debug)]
pub struct Hellos {
    /// It has a random key, so nobody can make two hellos that look equal.
    hasher: RandomState,
    lines: Box<[Line]>,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Line([AtomicU64; PLACES]);

/// The keyed digest of a hello.
#[derive(Clone, Copy, Debug)]
pub struct Digest(u64);

/// The place of a hello that waits, counted from 1, so that an `Option` takes no more space.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place(NonZero<u16>);

/// A hello has come back while it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Back {
    /// How many connections with this hello wait for their backend.
    pub waiting: u8,
    /// The tag of the endpoint that one of them has reached, if it is known.
    pub endpoint: Option<Tag>,
}

/// Sixteen bits of the keyed digest of an endpoint's name. Among a hundred endpoints a wrong one is taken for it once in 650 times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag(u16);

/// The value of a place: the upper 40 bits of the digest, the tag of the endpoint in 16, and the number of connections in 8. A
/// free place is 0.
#[derive(Clone, Copy)]
struct Waiting(u64);

impl Waiting {
    const NO_ENDPOINT: u16 = u16::MAX;

    const fn first(Digest(digest): Digest) -> Self {
        Self(digest & !0xff_ffff | (Self::NO_ENDPOINT as u64) << 8 | 1)
    }

    const fn is_of(self, Digest(digest): Digest) -> bool {
        self.count() > 0 && (self.0 ^ digest) >> 24 == 0
    }

    const fn count(self) -> u8 {
        self.0.to_le_bytes()[0]
    }

    fn endpoint(self) -> Option<Tag> {
        let [_, low, high, ..] = self.0.to_le_bytes();
        let tag = u16::from_le_bytes([low, high]);
        (tag != Self::NO_ENDPOINT).then_some(Tag(tag))
    }

    const fn reaching(self, Tag(tag): Tag) -> Self {
        Self(self.0 & !0xff_ff00 | (tag as u64) << 8)
    }
}

impl Default for Hellos {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            lines: (0..LINES).map(|_| Line::default()).collect(),
        }
    }
}

impl Hellos {
    /// The digest of the bytes of a hello.
    pub fn digest(&self, hello: &[u8]) -> Digest {
        Digest(self.hasher.hash_one(hello))
    }

    /// Lets the hello of a connection wait, until [`Hellos::answered`]. If too many equal ones wait already, it has come back.
    pub fn wait(&self, flow: &Flow, hello: Digest) -> Result<(), Back> {
        flow.place.set(self.enter(hello)?);
        Ok(())
    }

    /// The tag of an endpoint with this name.
    pub fn tag(&self, endpoint: &str) -> Tag {
        let [low, high, ..] = self.hasher.hash_one(endpoint).to_le_bytes();
        Tag(u16::from_le_bytes([low, high]).min(Waiting::NO_ENDPOINT - 1))
    }

    /// Stores which endpoint the connection has reached.
    pub fn reached(&self, flow: &Flow, endpoint: &str) {
        if let Some(place) = flow.place.get() {
            let tag = self.tag(endpoint);
            self.change(place, |one| one.reaching(tag));
        }
    }

    /// The hello of a connection waits no longer: its backend has answered, or the connection has ended.
    pub fn answered(&self, flow: &Flow) {
        if let Some(place) = flow.place.take() {
            self.leave(place);
        }
    }

    /// Counts a hello that begins to wait, and returns its place if there is one. If too many equal ones wait, it has come back.
    fn enter(&self, digest: Digest) -> Result<Option<Place>, Back> {
        let places = self.line(digest);
        loop {
            let seen = places.each_ref().map(look);
            let equal = || seen.into_iter().filter(|one| one.is_of(digest));
            // Two workers may have given the same hello a place each.
            let waiting = equal().fold(0, |sum: u8, one| sum.saturating_add(one.count()));
            if waiting >= MOST {
                let endpoint = equal().find_map(Waiting::endpoint);
                return Err(Back { waiting, endpoint });
            }
            let find = |is_it: &dyn Fn(&Waiting) -> bool| seen.iter().position(is_it);
            let known = find(&|one| one.is_of(digest));
            let Some(at) = known.or_else(|| find(&|one| one.count() == 0)) else {
                return Ok(None);
            };
            let (Some(place), Some(before)) = (places.get(at), seen.get(at)) else {
                return Ok(None);
            };
            let after = match known {
                Some(_) => Waiting(before.0 + 1),
                None => Waiting::first(digest),
            };
            if exchange(place, *before, after) {
                let at = digest.line() * PLACES + at;
                let number = u16::try_from(at + 1).ok().and_then(NonZero::new);
                return Ok(number.map(Place));
            }
        }
    }

    /// A hello waits no longer.
    fn leave(&self, place: Place) {
        self.change(place, |one| match one.count() {
            0 | 1 => Waiting(0),
            _ => Waiting(one.0 - 1),
        });
    }

    fn change(&self, Place(place): Place, change: impl Fn(Waiting) -> Waiting) {
        let place = usize::from(place.get() - 1);
        let line = self.lines.get(place / PLACES);
        if let Some(place) = line.and_then(|Line(places)| places.get(place % PLACES)) {
            loop {
                let one = look(place);
                if exchange(place, one, change(one)) {
                    return;
                }
            }
        }
    }

    fn line(&self, digest: Digest) -> &[AtomicU64; PLACES] {
        #[expect(clippy::indexing_slicing, reason = "a remainder is below LINES")]
        let Line(places) = &self.lines[digest.line()];
        places
    }
}

impl Digest {
    /// The number of its line, out of the bits that a place does not keep.
    const fn line(self) -> usize {
        let [low, high, ..] = self.0.to_le_bytes();
        u16::from_le_bytes([low, high]) as usize % LINES
    }
}

fn look(place: &AtomicU64) -> Waiting {
    // Acquire pairs with the release of `exchange`: a hello comes back only after its connection has stored the endpoint.
    Waiting(place.load(Ordering::Acquire))
}

fn exchange(place: &AtomicU64, before: Waiting, after: Waiting) -> bool {
    let (before, after) = (before.0, after.0);
    let exchanged = place.compare_exchange(before, after, Ordering::AcqRel, Ordering::Relaxed);
    exchanged.is_ok()
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};
    use std::sync::atomic::AtomicUsize;
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_hello_comes_back_while_three_equal_ones_wait() {
        let hellos = Hellos::default();
        let [one, other] = [b"one", b"two"].map(|hello| hellos.digest(hello));
        let places: Vec<_> = (0..MOST)
            .map(|_| hellos.enter(one).unwrap().unwrap())
            .collect();
        let back = |endpoint| Back {
            waiting: MOST,
            endpoint,
        };
        assert_eq!(hellos.enter(one).unwrap_err(), back(None));
        hellos.change(places[1], |hello| hello.reaching(Tag(7)));
        assert_eq!(hellos.enter(one).unwrap_err(), back(Some(Tag(7))));
        assert!(hellos.enter(other).unwrap().is_some());
        hellos.leave(places[0]);
        assert!(hellos.enter(one).unwrap().is_some());
        assert_eq!(hellos.enter(one).unwrap_err(), back(Some(Tag(7))));
    }

    #[test]
    fn each_name_of_an_endpoint_has_a_tag_that_is_none_of_those_without_an_endpoint() {
        let hellos = Hellos::default();
        let tags: Vec<_> = (0..2000)
            .map(|number| hellos.tag(&format!("es-{number}.example:9200")))
            .collect();
        assert_eq!(tags[7], hellos.tag("es-7.example:9200"));
        assert!(tags.iter().all(|Tag(tag)| *tag != Waiting::NO_ENDPOINT));
        let different: HashSet<u16> = tags.iter().map(|Tag(tag)| *tag).collect();
        assert!(different.len() > 1900, "{}", different.len());
    }

    #[test]
    fn a_full_line_counts_no_more_hellos_and_takes_them_again_when_one_has_left() {
        let hellos = Hellos::default();
        // They share a line, because only bits above its number differ.
        let digest = |number: u64| Digest(number << 24 | 5);
        let places: Vec<_> = (0..8)
            .map(|number| hellos.enter(digest(number)).unwrap().unwrap())
            .collect();
        for _ in 0..9 {
            assert!(hellos.enter(digest(8)).unwrap().is_none());
        }
        assert!(hellos.enter(digest(3)).unwrap().is_some());
        hellos.leave(places[0]);
        assert!(hellos.enter(digest(8)).unwrap().is_some());
    }

    proptest! {
        #[test]
        fn hellos_are_counted_as_in_a_plain_table(
            steps in prop::collection::vec((0_u64..6, any::<bool>()), 1..200),
        ) {
            let hellos = Hellos::default();
            let mut waiting: HashMap<u64, Vec<Place>> = HashMap::new();
            for (number, enters) in steps {
                let those = waiting.entry(number).or_default();
                if enters {
                    let entered = hellos.enter(Digest(number << 24));
                    prop_assert_eq!(entered.is_err(), those.len() == usize::from(MOST));
                    those.extend(entered.ok().flatten());
                } else if let Some(place) = those.pop() {
                    hellos.leave(place);
                }
            }
            for place in waiting.into_values().flatten() {
                hellos.leave(place);
            }
            let places = hellos.lines.iter().flat_map(|Line(places)| places);
            prop_assert!(places.into_iter().all(|place| place.load(Ordering::SeqCst) == 0));
        }
    }

    #[test]
    fn threads_leave_the_table_empty_and_hardly_pass_the_limit() {
        const THREADS: usize = 4;
        let (hellos, held, most) = (Hellos::default(), AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        let Ok(Some(place)) = hellos.enter(Digest(1 << 24)) else {
                            continue;
                        };
                        let now = held.fetch_add(1, Ordering::SeqCst) + 1;
                        most.fetch_max(now, Ordering::SeqCst);
                        thread::yield_now();
                        held.fetch_sub(1, Ordering::SeqCst);
                        hellos.leave(place);
                    }
                });
            }
        });
        // Each thread may have counted before it saw the others.
        assert!(most.into_inner() < usize::from(MOST) + THREADS);
        let places = hellos.lines.iter().flat_map(|Line(places)| places);
        assert!(
            places
                .into_iter()
                .all(|place| place.load(Ordering::SeqCst) == 0)
        );
    }
}
