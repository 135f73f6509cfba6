//! A bounded number of places for connections. One client cannot keep them all from others.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// The places for connections. If all are taken, the next connection gets the place of another one: the
/// oldest of the address that has most places.
pub(super) struct Places {
    max: usize,
    taken: Mutex<Taken>,
}

/// How long [`Places::make_room`] at least leaves a connection its place: on a busy machine, a client that
/// has just connected may have to wait for its turn. This limits new connections to `max` in that time.
const GRACE: Duration = Duration::from_millis(20);

#[derive(Default)]
struct Taken {
    /// The holders of places, the oldest first.
    holders: Vec<Holder>,
    /// How many numbers have been given to holders.
    numbers: u64,
}

struct Holder {
    number: u64,
    client: IpAddr,
    since: Instant,
    lost: CancellationToken,
}

impl Places {
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            max,
            taken: Mutex::default(),
        })
    }

    pub(super) fn is_full(&self) -> bool {
        self.lock().holders.len() >= self.max
    }

    /// Takes a place for a connection of this client, from another connection if all are taken.
    pub(super) fn take_place(self: &Arc<Self>, client: IpAddr) -> Place {
        self.take_for(client, CancellationToken::new())
    }

    fn take_for(self: &Arc<Self>, client: IpAddr, lost: CancellationToken) -> Place {
        if self.is_full() {
            self.cut(Some(client));
        }
        let mut taken = self.lock();
        taken.numbers += 1;
        let number = taken.numbers;
        taken.holders.push(Holder {
            number,
            client,
            since: Instant::now(),
            lost: lost.clone(),
        });
        Place {
            places: Arc::clone(self),
            number,
            client,
            lost,
        }
    }

    /// Waits until there is a place for one more connection of this client; returns whether another one has lost
    /// its place. It waits for [`GRACE`] and for portway's own work, never for a client.
    pub(super) async fn make_room(&self, client: IpAddr) -> bool {
        let mut is_cut = false;
        while self.is_full() {
            // Let all connections run first, so that a request which has arrived is read.
            yield_now().await;
            is_cut |= self.is_full() && self.cut_later(Some(client)).await;
        }
        is_cut
    }

    /// Does the same as [`Self::cut`], after the connection has had [`GRACE`].
    pub(super) async fn cut_later(&self, next: Option<IpAddr>) -> bool {
        let loser = self
            .lock()
            .loser(next)
            .map(|(_, loser)| (loser.number, loser.since));
        let Some((number, since)) = loser else {
            return false;
        };
        sleep_until(since + GRACE).await;
        let still = self.lock().loser(next).map(|(_, loser)| loser.number);
        still == Some(number) && self.cut(next)
    }

    /// Takes a place away from a connection, for one of the client `next`; `false` if no place is taken.
    pub(super) fn cut(&self, next: Option<IpAddr>) -> bool {
        let mut taken = self.lock();
        let Some((position, _)) = taken.loser(next) else {
            return false;
        };
        taken.holders.remove(position).lost.cancel();
        true
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    /// The holder that loses its place to a connection of the client `next`.
    fn loser(&self, next: Option<IpAddr>) -> Option<(usize, &Holder)> {
        let of = |client| {
            let others = self.holders.iter().filter(|one| one.client == client);
            others.count() + usize::from(next == Some(client))
        };
        let losers = self.holders.iter().enumerate().rev();
        // If several have the maximum, `max_by_key` gives the last one: from the back, that is the oldest.
        losers.max_by_key(|(_, holder)| of(holder.client))
    }
}

/// The place of one connection; dropping it frees the place.
pub(super) struct Place {
    places: Arc<Places>,
    number: u64,
    client: IpAddr,
    lost: CancellationToken,
}

impl Place {
    /// The token that is cancelled when the connection loses its place.
    pub(super) fn lost(&self) -> CancellationToken {
        self.lost.clone()
    }

    /// The client at the other end.
    pub(super) const fn client(&self) -> IpAddr {
        self.client
    }

    /// Gives the place back and takes one among `others`.
    pub(super) fn change(&mut self, others: &Arc<Places>) {
        *self = others.take_for(self.client, self.lost.clone());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.holders.retain(|holder| holder.number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes places for clients, given by the last number of their addresses; returns in which order places are
    /// lost, and how many are taken at the end.
    fn lost(max: usize, clients: &[u8]) -> (Vec<usize>, usize) {
        let places = Places::new(max);
        let (mut held, mut order) = (Vec::new(), Vec::new());
        for client in clients {
            held.push(places.take_place([192, 0, 2, *client].into()));
            let losers = held.iter().enumerate();
            let losers = losers.filter(|(_, place)| place.lost.is_cancelled());
            let losers: Vec<_> = losers.map(|(position, _)| position).collect();
            let new = |position: &usize| !order.contains(position);
            order.extend(losers.into_iter().filter(new).collect::<Vec<_>>());
        }
        let taken = places.lock().holders.len();
        drop(held);
        assert_eq!(places.lock().holders.len(), 0);
        (order, taken)
    }

    #[test]
    fn the_oldest_loses_its_place() {
        assert_eq!(lost(3, &[1, 1, 1]), (vec![], 3));
        assert_eq!(lost(3, &[1, 1, 1, 1, 1]), (vec![0, 1], 3));
        assert_eq!(lost(3, &[1, 2, 3, 4, 5]), (vec![0, 1], 3));
    }

    #[test]
    fn the_address_that_has_most_loses_a_place_first() {
        assert_eq!(lost(3, &[1, 2, 2, 3, 2, 2]), (vec![1, 2, 4], 3));
    }
}
