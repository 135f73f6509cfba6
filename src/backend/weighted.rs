//! Choice by weight. A place is a number, and the lowest one comes first.

/// 2^64 divided by the golden ratio: multiples of it spread evenly over all words.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The place by a random or hashed word: each comes first as often as its weight says. With equal weights, the highest
/// word comes first.
pub(super) fn by_word(word: u64, weight: f64) -> u64 {
    // From above 0 to 1.
    let part = 1.0 - part(!word);
    // As numbers, positive floats have the same order.
    (part.recip().ln() / weight).to_bits()
}

/// The place by load.
pub(super) fn by_connections(connections: u32, weight: f64) -> u64 {
    (f64::from(connections) / weight).to_bits()
}

/// The position of the one whose turn it is. Over any number of turns, each has nearly its part of them.
pub(super) fn in_turn(turn: usize, weights: impl Iterator<Item = f64> + Clone) -> usize {
    let mut at = part((turn as u64).wrapping_mul(GOLDEN)) * weights.clone().sum::<f64>();
    let mut last = 0;
    for (position, weight) in weights.enumerate() {
        last = position;
        if at < weight {
            break;
        }
        at -= weight;
    }
    last
}

/// A word as a part of all words, from 0 to below 1.
#[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
fn part(word: u64) -> f64 {
    (word >> 11) as f64 / (1_u64 << 53) as f64
}
