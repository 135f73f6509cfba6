//! The plan of one random transfer, drawn from a seed and its number alone.

use std::time::Duration;

use crate::it::random::{Content, Random};

/// Both sides of a transfer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(super) client: Side,
    pub(super) backend: Side,
}

/// How one side sends, reads and ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Side {
    /// The key of its content.
    pub(super) key: u64,
    /// Bytes that it sends; the client's after its hello.
    pub(super) size: u64,
    /// The most bytes of one write.
    pub(super) chunk: u64,
    /// Milliseconds between writes, now and then.
    pub(super) pace: u64,
    /// The offset of a byte that goes out as urgent data.
    pub(super) urgent: Option<u64>,
    /// The most bytes of one read.
    pub(super) read: u64,
    /// Reads nothing for a while from this offset on.
    pub(super) stuck: Option<(u64, Duration)>,
    /// Sends its FIN only after the other side's.
    pub(super) last: bool,
    /// Sends nothing before the other side's FIN.
    pub(super) waits: bool,
    pub(super) end: Ending,
}

/// How a side ends its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// FIN after all bytes.
    Fin,
    /// RST after this many of its own bytes, without a FIN.
    Reset(u64),
    /// FIN after all its bytes, then RST once it has read this many.
    FinThenReset(u64),
}

impl Side {
    pub(super) fn content(&self) -> Content {
        Content::new(self.key)
    }

    /// Small steps, but never millions of them.
    fn resize(&mut self, size: u64) {
        self.size = size;
        self.chunk = self.chunk.max(size / 10_000);
    }

    fn draw(random: &mut Random) -> Self {
        let size = if random.percent(8) {
            0
        } else {
            random.magnitude(8 << 20)
        };
        let tiny = if size < 4096 { 8 } else { 2000 };
        let chunk = match random.below(4) {
            0 => 1 + random.below(tiny),
            1 => 1448,
            2 => 16 << 10,
            _ => 1 + random.below(100 << 10),
        };
        let stuck = random.percent(15).then(|| {
            (
                random.below(size + 200_000),
                Duration::from_millis(10 + random.below(190)),
            )
        });
        Self {
            key: random.next(),
            size,
            chunk,
            pace: if random.percent(20) {
                1 + random.below(3)
            } else {
                0
            },
            urgent: (size > 0 && random.percent(10)).then(|| random.below(size)),
            read: if random.percent(20) {
                1 + random.below(3000)
            } else {
                64 << 10
            },
            stuck,
            last: false,
            waits: false,
            end: Ending::Fin,
        }
    }
}

impl Plan {
    /// The same without urgent bytes, which a plain receiver does not see in line.
    pub(super) fn without_urgent(seed: u64, id: u64) -> Self {
        let mut plan = Self::new(seed, id);
        plan.client.urgent = None;
        plan.backend.urgent = None;
        plan
    }

    /// The backend resets in the middle of its answer of up to a megabyte.
    pub(super) fn backend_resets(seed: u64, id: u64) -> Self {
        let mut plan = Self::calm(seed, id);
        plan.backend.resize(1 << 20);
        plan.backend.end = Ending::Reset(Random::new(seed, !id).magnitude(1 << 20));
        plan
    }

    /// The client resets in the middle of its bytes.
    pub(super) fn client_resets(seed: u64, id: u64) -> Self {
        let mut plan = Self::calm(seed, id);
        plan.client.resize(1 << 20);
        plan.client.end = Ending::Reset(Random::new(seed, !id).magnitude(1 << 20));
        plan
    }

    /// FIN follows the last byte at once, while the reader is stuck somewhere before it.
    pub(super) fn slow_tail(seed: u64, id: u64) -> Self {
        let mut plan = Self::calm(seed, id);
        let mut random = Random::new(seed, !id);
        let sizes = (plan.client.size, plan.backend.size);
        for (size, reader) in [(sizes.0, &mut plan.backend), (sizes.1, &mut plan.client)] {
            let pause = Duration::from_millis(20 + random.below(130));
            reader.stuck = Some((random.below(size + 1), pause));
            reader.read = (1 + random.below(8000)).max(size / 1000);
        }
        plan
    }

    /// Both sides send little, and each ends at the same time in its own way.
    pub(super) fn both_end(seed: u64, id: u64) -> Self {
        let mut random = Random::new(seed, !id);
        let mut plan = Self::calm(seed, id);
        for side in [&mut plan.client, &mut plan.backend] {
            side.size = random.below(3);
            if random.percent(50) {
                side.end = Ending::Reset(random.below(side.size + 1));
            }
        }
        plan
    }

    /// One side ends at once; 16 MB come from the other only after that.
    pub(super) fn much_after_a_half_close(seed: u64, id: u64) -> Self {
        let mut plan = Self::calm(seed, id);
        let (first, second) = if id.is_multiple_of(2) {
            (&mut plan.client, &mut plan.backend)
        } else {
            (&mut plan.backend, &mut plan.client)
        };
        first.resize(0);
        second.resize(16_000_000);
        second.waits = true;
        plan
    }

    /// Segments of 1, 536 or 1,448 bytes each way, and readers that stop for a moment.
    pub(super) fn small_segments(seed: u64, id: u64) -> Self {
        let mut random = Random::new(seed, !id);
        let mut plan = Self::calm(seed, id);
        for side in [&mut plan.client, &mut plan.backend] {
            (side.chunk, side.size) =
                [(1, 100_000), (536, 4 << 20), (1448, 4 << 20)][usize::try_from(id % 3).unwrap()];
            side.pace = 0;
            side.read = 1 + random.below(64 << 10);
            let pause = Duration::from_millis(100 + random.below(200));
            side.stuck = Some((random.below(100_000), pause));
        }
        plan
    }

    /// Up to 128 KiB each way: a path that loses packets is slow.
    pub(crate) fn small(seed: u64, id: u64) -> Self {
        let mut plan = Self::calm(seed, id);
        for side in [&mut plan.client, &mut plan.backend] {
            side.resize(side.size.min(128 << 10));
        }
        plan
    }

    /// No resets and no urgent bytes, and neither side waits.
    fn calm(seed: u64, id: u64) -> Self {
        let mut random = Random::new(seed, id);
        let (mut client, mut backend) = (Side::draw(&mut random), Side::draw(&mut random));
        for side in [&mut client, &mut backend] {
            side.resize(side.size.min(2 << 20));
            side.urgent = None;
            side.stuck = None;
        }
        Self { client, backend }
    }

    /// The transfer of this number.
    pub(super) fn new(seed: u64, id: u64) -> Self {
        let mut random = Random::new(seed, id);
        let mut client = Side::draw(&mut random);
        let mut backend = Side::draw(&mut random);
        let sizes = [backend.size, client.size];
        for (side, size) in [&mut client, &mut backend].into_iter().zip(sizes) {
            // Small steps, but never millions of them.
            side.chunk = side.chunk.max(side.size / 10_000);
            side.read = side.read.max(size / 10_000);
        }
        let (one, other) = if random.percent(50) {
            (&mut client, &mut backend)
        } else {
            (&mut backend, &mut client)
        };
        match random.below(10) {
            0..5 => {}
            5 => one.last = true,
            6 | 7 => one.end = Ending::Reset(random.below(one.size + 1)),
            8 => one.end = Ending::FinThenReset(random.below(other.size + 1)),
            _ => {
                // The reader is stuck while the end comes: the tail must still arrive.
                other.stuck = Some((random.below(one.size + 1), Duration::from_millis(150)));
            }
        }
        Self { client, backend }
    }
}
