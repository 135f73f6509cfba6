//! The changes of a reload to the bound addresses.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;

use super::AddressId;

/// The difference between the bound addresses of two configurations.
#[derive(Debug, PartialEq, Eq)]
pub struct Difference {
    /// For each wanted address, the bound one that stays, or `None` if it must be bound.
    pub kept: Vec<Option<AddressId>>,
    /// Bound addresses that are no longer wanted.
    pub closed: Vec<AddressId>,
}

impl Difference {
    /// Compares the bound addresses, as written in their configuration, with the wanted ones. Port 0
    /// may occur several times, each for its own port.
    pub fn new(bound: &[(AddressId, SocketAddr)], wanted: &[SocketAddr]) -> Self {
        let mut left: HashMap<&SocketAddr, VecDeque<AddressId>> = HashMap::new();
        for (id, address) in bound {
            left.entry(address).or_default().push_back(*id);
        }
        let keep = |wanted| left.get_mut(wanted).and_then(VecDeque::pop_front);
        let kept: Vec<Option<AddressId>> = wanted.iter().map(keep).collect();
        let stays: HashSet<AddressId> = kept.iter().copied().flatten().collect();
        let ids = bound.iter().map(|(id, _)| *id);
        Self {
            kept,
            closed: ids.filter(|id| !stays.contains(id)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn difference(bound: &[&str], wanted: &[&str]) -> (Vec<Option<u64>>, Vec<u64>) {
        let address = |text: &&str| text.parse().unwrap();
        let bound = bound.iter().map(address).zip(0..);
        let bound: Vec<_> = bound.map(|(text, id)| (AddressId(id), text)).collect();
        let wanted: Vec<SocketAddr> = wanted.iter().map(address).collect();
        let Difference { kept, closed } = Difference::new(&bound, &wanted);
        let kept = kept.iter().map(|kept| kept.map(|AddressId(id)| id));
        (
            kept.collect(),
            closed.iter().map(|AddressId(id)| *id).collect(),
        )
    }

    #[test]
    fn addresses_that_both_have_stay_whatever_their_order() {
        let (kept, closed) = difference(
            &["[::]:443", "10.0.0.1:8443"],
            &["10.0.0.1:8443", "[::]:443"],
        );
        assert_eq!((kept, closed), (vec![Some(1), Some(0)], vec![]));
    }

    #[test]
    fn an_address_of_only_one_of_them_is_bound_or_closed() {
        let (kept, closed) = difference(&["[::]:443", "[::]:444"], &["[::]:445", "[::]:443"]);
        assert_eq!((kept, closed), (vec![None, Some(0)], vec![1]));
        assert_eq!(difference(&[], &["[::]:1"]), (vec![None], vec![]));
    }

    #[test]
    fn each_port_0_is_an_address_of_its_own() {
        let zero = "127.0.0.1:0";
        assert_eq!(difference(&[zero, zero], &[zero]), (vec![Some(0)], vec![1]));
        let (kept, closed) = difference(&[zero], &[zero, zero]);
        assert_eq!((kept, closed), (vec![Some(0), None], vec![]));
    }
}
