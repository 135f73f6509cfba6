//! Numbers that a seed repeats, and content that the offset in a stream repeats.

use std::sync::LazyLock;

/// `SplitMix64`: small, and the same everywhere.
#[derive(Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// Creates a generator, with its own series for each pair.
    pub(crate) fn new(seed: u64, series: u64) -> Self {
        let mut random = Self(seed);
        let key = random.next();
        Self(key ^ series.wrapping_mul(0xd134_2543_de82_ef95))
    }

    /// 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// 0 to `end - 1`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// True with this probability.
    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// 0 to `most`; each order of magnitude is equally likely.
    pub(crate) fn magnitude(&mut self, most: u64) -> u64 {
        let bits = self.below(u64::from(most.ilog2()) + 2);
        self.below((1 << bits).min(most) + 1)
    }
}

/// The seed in `PORTWAY_SEED`, or one from the clock. It is printed, so that a failure can be repeated.
pub(crate) fn seed() -> u64 {
    let seed = std::env::var("PORTWAY_SEED").map_or_else(
        |_| {
            let now = std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .unwrap();
            u64::from(now.subsec_nanos()) ^ now.as_secs()
        },
        |text| text.parse().expect("PORTWAY_SEED is a number"),
    );
    eprintln!("PORTWAY_SEED={seed}");
    seed
}

/// A count from an environment variable, for longer runs of the same tests.
pub(crate) fn count(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

/// An endless stream of bytes that need not be stored: a received byte is compared with the byte of
/// its offset. The stream repeats with a prime period, so that no fault hides by chance. It begins as the answer of a
/// TLS server does, so that portway takes a backend that sends it for one.
#[derive(Clone, Copy)]
pub(crate) struct Content {
    phase: u64,
}

const PERIOD: u64 = 1_048_573;
/// A stream can begin at each multiple of this in the block.
const STRIDE: u64 = 512;
/// The beginning of an answer that may be one of TLS: the header of a record of a handshake, and a type.
pub(crate) const ANSWER: [u8; 6] = [22, 3, 3, 0, 33, 2];
/// The largest slice of [`Content::at`].
pub(crate) const SLICE: u64 = 128 << 10;

static BLOCK: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut random = Random(0x706f_7274_7761_7921);
    let words = (PERIOD + SLICE).div_ceil(8);
    let mut block: Vec<u8> = (0..words)
        .flat_map(|_| random.next().to_le_bytes())
        .collect();
    let (period, slice) = (
        usize::try_from(PERIOD).unwrap(),
        usize::try_from(SLICE).unwrap(),
    );
    let stride = usize::try_from(STRIDE).unwrap();
    for place in block[..period].chunks_exact_mut(stride) {
        place[..ANSWER.len()].copy_from_slice(&ANSWER);
    }
    block.copy_within(..slice, period);
    block
});

impl Content {
    /// The stream of this key; each key has another one.
    pub(crate) fn new(key: u64) -> Self {
        Self {
            phase: Random(key).next() % (PERIOD / STRIDE) * STRIDE,
        }
    }

    /// `length` bytes (at most [`SLICE`]) from `offset` on.
    pub(crate) fn at(self, offset: u64, length: u64) -> &'static [u8] {
        let from = usize::try_from((self.phase + offset) % PERIOD).unwrap();
        &BLOCK[from..][..usize::try_from(length.min(SLICE)).unwrap()]
    }
}

#[test]
fn content_is_the_same_however_it_is_cut() {
    let content = Content::new(7);
    let far = PERIOD - 10;
    let whole = content.at(far, 100).to_vec();
    let parts = [content.at(far, 33), content.at(far + 33, 67)].concat();
    assert_eq!(whole, parts);
    assert_ne!(content.at(0, 64), content.at(1, 64));
    assert_ne!(content.at(0, 64), Content::new(8).at(0, 64));
}

#[test]
fn magnitudes_reach_from_nothing_to_the_most() {
    let mut random = Random::new(1, 1);
    let drawn: Vec<u64> = (0..2000).map(|_| random.magnitude(8 << 20)).collect();
    assert!(drawn.contains(&0) && drawn.iter().any(|size| *size > 4 << 20));
    assert!(drawn.iter().all(|size| *size <= 8 << 20));
    assert!(drawn.iter().filter(|size| **size < 1024).count() > 500);
}
