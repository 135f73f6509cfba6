//! Rendezvous hashing ("highest random weight", Thaler and Ravishankar 1998): every relay gives
//! every pair of client and endpoint a weight, and the endpoint with the highest one is the
//! client's. All relays agree without talking to each other, and an endpoint that comes or goes
//! moves only its own clients.

use std::net::IpAddr;

/// The weight of an endpoint for a client.
///
/// FNV-1a with 64 bits over the 16 bytes of the client's address (IPv4 as `::ffff:a.b.c.d`) and the
/// bytes of `host:port` as in routes.toml, followed by the finaliser of `MurmurHash3` (fmix64), since
/// FNV-1a alone leaves the high bits of short inputs alike. It is part of the interface: relays of
/// different versions serve the same fleet, so it must never change.
pub(super) fn weight(client: IpAddr, endpoint: &str) -> u64 {
    let client = match client {
        IpAddr::V4(client) => client.to_ipv6_mapped(),
        IpAddr::V6(client) => client,
    };
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in client.octets().into_iter().chain(endpoint.bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}
