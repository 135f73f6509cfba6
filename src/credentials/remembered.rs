//! The answers of the last minute, so that a client with many connections costs one check. They are kept as keyed
//! digests, which nobody can compare with anything outside this process.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::checker::Digest;

/// The time for which an answer is remembered.
const REMEMBERED: Duration = Duration::from_mins(1);
/// The most right answers: more than the most users of a file.
const MOST_RIGHT: usize = 1 << 14;
/// The most wrong answers. They have a table of their own, so that guesses drive no right answer out.
const MOST_WRONG: usize = 1 << 12;

/// The right and the wrong answers.
#[derive(Default)]
pub(super) struct Remembered {
    right: Answers,
    wrong: Answers,
}

/// The digests of one kind of answer, and when each was added.
#[derive(Default)]
struct Answers {
    added: HashMap<Digest, Instant>,
    /// The oldest first.
    order: VecDeque<Digest>,
}

impl Remembered {
    /// Whether the answer was right, if it is remembered.
    pub(super) fn find(&self, digest: Digest, now: Instant) -> Option<bool> {
        if self.right.has(digest, now) {
            Some(true)
        } else {
            self.wrong.has(digest, now).then_some(false)
        }
    }

    pub(super) fn add(&mut self, digest: Digest, is_right: bool, now: Instant) {
        if is_right {
            self.right.add(digest, now, MOST_RIGHT);
        } else {
            self.wrong.add(digest, now, MOST_WRONG);
        }
    }
}

impl Answers {
    fn has(&self, digest: Digest, now: Instant) -> bool {
        let added = self.added.get(&digest);
        added.is_some_and(|added| now.saturating_duration_since(*added) < REMEMBERED)
    }

    /// Adds an answer, and forgets the oldest ones that are too old or too many.
    fn add(&mut self, digest: Digest, now: Instant, most: usize) {
        while let Some(oldest) = self.order.front().copied() {
            if self.order.len() < most && self.has(oldest, now) {
                break;
            }
            self.order.pop_front();
            self.added.remove(&oldest);
        }
        if self.added.insert(digest, now).is_none() {
            self.order.push_back(digest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_remembered_for_a_minute() {
        let mut remembered = Remembered::default();
        let start = Instant::now();
        let [right, wrong] = [1, 2].map(Digest::of_number);
        remembered.add(right, true, start);
        remembered.add(wrong, false, start);
        let late = start + Duration::from_secs(59);
        assert_eq!(remembered.find(right, late), Some(true));
        assert_eq!(remembered.find(wrong, late), Some(false));
        assert_eq!(remembered.find(Digest::of_number(3), start), None);
        let over = start + Duration::from_mins(1);
        assert_eq!(remembered.find(right, over), None);
        assert_eq!(remembered.find(wrong, over), None);
    }

    #[test]
    fn guesses_are_bounded_and_drive_no_right_answer_out() {
        let mut remembered = Remembered::default();
        let now = Instant::now();
        let right = Digest::of_number(0);
        remembered.add(right, true, now);
        let guesses = (1_u64..).take(2 * MOST_WRONG);
        for guess in guesses.clone() {
            remembered.add(Digest::of_number(guess), false, now);
        }
        assert_eq!(remembered.find(right, now), Some(true));
        let found = guesses.filter(|it| remembered.find(Digest::of_number(*it), now).is_some());
        assert_eq!(found.count(), MOST_WRONG);
        assert_eq!(remembered.wrong.added.len(), remembered.wrong.order.len());
    }

    #[test]
    fn old_answers_leave_the_table_when_another_comes() {
        let mut remembered = Remembered::default();
        let start = Instant::now();
        for number in 0..100 {
            remembered.add(Digest::of_number(number), true, start);
        }
        let later = start + REMEMBERED;
        remembered.add(Digest::of_number(100), true, later);
        assert_eq!(remembered.right.added.len(), 1);
        assert_eq!(remembered.right.order.len(), 1);
    }
}
