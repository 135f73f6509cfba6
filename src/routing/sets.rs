//! Sets of routes by their positions, 64 of them in one step.

/// Routes, as bits in blocks of 64; blocks without a route are left out.
#[derive(Debug, Default)]
pub(super) struct Set(Vec<(usize, u64)>);

impl Set {
    /// Adds a route whose position is not lower than any in the set.
    pub(super) fn add(&mut self, route: usize) {
        let (block, bit) = (route / 64, 1 << (route % 64));
        match self.0.last_mut() {
            Some((last, bits)) if *last == block => *bits |= bit,
            _ => self.0.push((block, bit)),
        }
    }

    /// The blocks that have routes, in rising order.
    pub(super) fn blocks(&self) -> &[(usize, u64)] {
        &self.0
    }

    /// Its routes, in rising order.
    pub(super) fn routes(&self) -> impl Iterator<Item = usize> {
        let blocks = self.0.iter();
        blocks.flat_map(|&(block, bits)| routes(block, bits))
    }

    /// Whether it has more than one route.
    pub(super) fn has_several(&self) -> bool {
        self.routes().nth(1).is_some()
    }

    /// Whether it has this route.
    pub(super) fn has(&self, route: usize) -> bool {
        self.bits(route / 64) & (1 << (route % 64)) != 0
    }

    /// The routes in both sets whose bits `keep` leaves, by block. It takes as many steps as the smaller set has
    /// blocks.
    pub(super) fn common<'s>(
        &'s self,
        other: &'s Self,
        keep: impl Fn(usize, u64) -> u64,
    ) -> impl Iterator<Item = usize> {
        let (few, many) = if self.0.len() <= other.0.len() {
            (self, other)
        } else {
            (other, self)
        };
        few.0.iter().flat_map(move |&(block, bits)| {
            let both = bits & many.bits(block);
            routes(block, if both == 0 { 0 } else { keep(block, both) })
        })
    }

    /// The routes of a block.
    pub(super) fn bits(&self, block: usize) -> u64 {
        let position = self.0.binary_search_by_key(&block, |(block, _)| *block);
        let found = position.ok().and_then(|position| self.0.get(position));
        found.map_or(0, |(_, bits)| *bits)
    }
}

fn routes(block: usize, mut bits: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let first = (bits != 0).then(|| block * 64 + bits.trailing_zeros() as usize);
        bits &= bits.wrapping_sub(1);
        first
    })
}
