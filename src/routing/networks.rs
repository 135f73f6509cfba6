//! Networks arranged for look-up: one probe into a hash table for each length of a prefix, however many
//! networks there are.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::ops::Deref;

use ipnet::IpNet;

/// Values by network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkMap<T> {
    values: HashMap<IpNet, T>,
    /// The lengths of the prefixes of IPv4 and of IPv6 networks, the longest first.
    lengths: [Vec<u8>; 2],
}

impl<T> Default for NetworkMap<T> {
    fn default() -> Self {
        Self {
            values: HashMap::new(),
            lengths: Default::default(),
        }
    }
}

impl<T: Default> NetworkMap<T> {
    /// The value of a network; a new one has the default.
    pub fn entry(&mut self, network: IpNet) -> &mut T {
        let network = network.trunc();
        let [v4, v6] = &mut self.lengths;
        let lengths = if network.addr().is_ipv4() { v4 } else { v6 };
        let length = network.prefix_len();
        if let Err(position) = lengths.binary_search_by(|known| length.cmp(known)) {
            lengths.insert(position, length);
        }
        self.values.entry(network).or_default()
    }
}

impl<T> NetworkMap<T> {
    /// The networks that a canonical address is in, the longest prefix first: its length and the value.
    pub fn around(&self, address: IpAddr) -> impl Iterator<Item = (u8, &T)> {
        let [v4, v6] = &self.lengths;
        let lengths = if address.is_ipv4() { v4 } else { v6 };
        lengths.iter().filter_map(move |&length| {
            let network = IpNet::new(address, length).ok()?;
            Some((length, self.values.get(&network.trunc())?))
        })
    }
}

/// Networks of routes.toml, in their order.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct NetworkSet {
    listed: Vec<IpNet>,
    index: NetworkMap<()>,
}

impl NetworkSet {
    /// Whether a canonical address is in one of them.
    pub fn has(&self, address: IpAddr) -> bool {
        self.index.around(address).next().is_some()
    }
}

impl FromIterator<IpNet> for NetworkSet {
    fn from_iter<I: IntoIterator<Item = IpNet>>(networks: I) -> Self {
        let listed: Vec<IpNet> = networks.into_iter().collect();
        let mut index = NetworkMap::default();
        for network in &listed {
            index.entry(*network);
        }
        Self { listed, index }
    }
}

impl fmt::Debug for NetworkSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.listed.fmt(f)
    }
}

impl Deref for NetworkSet {
    type Target = [IpNet];

    fn deref(&self) -> &[IpNet] {
        &self.listed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn network() -> impl Strategy<Value = IpNet> {
        let v4 = (any::<u32>(), 0..=32_u8);
        let v4 = v4.prop_map(|(bits, length)| {
            // Use few bits, so that networks overlap.
            IpNet::new(IpAddr::V4((bits & 0xf000_000f).into()), length).unwrap()
        });
        let v6 = (any::<u128>(), 0..=128_u8);
        let v6 = v6.prop_map(|(bits, length)| {
            IpNet::new(IpAddr::V6((bits & (3 << 126 | 3)).into()), length).unwrap()
        });
        prop_oneof![v4, v6]
    }

    proptest! {
        #[test]
        fn the_networks_around_an_address_are_those_that_contain_it_longest_first(
            networks in prop::collection::vec(network(), 0..20), client in network()
        ) {
            let client = client.addr();
            let mut map: NetworkMap<Vec<usize>> = NetworkMap::default();
            for (position, network) in networks.iter().enumerate() {
                map.entry(*network).push(position);
            }
            let mut wanted: Vec<(u8, usize)> = (networks.iter().enumerate())
                .filter(|(_, network)| network.contains(&client))
                .map(|(position, network)| (network.prefix_len(), position))
                .collect();
            wanted.sort_by(|one, other| other.0.cmp(&one.0).then(one.1.cmp(&other.1)));
            let around = map.around(client);
            let around = around.flat_map(|(length, all)| all.iter().map(move |one| (length, *one)));
            prop_assert_eq!(around.collect::<Vec<_>>(), wanted.clone());
            let set: NetworkSet = networks.iter().copied().collect();
            prop_assert_eq!(set.has(client), !wanted.is_empty());
            prop_assert_eq!(&*set, &*networks);
        }
    }
}
