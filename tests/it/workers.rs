//! How connections spread over the workers.
//!
//! The kernel shows which worker serves a connection: each worker has its own epoll with its connections.

mod shares;

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::thread;

use shares::Shares;

use super::fixture::{Portway, config};
use super::peers::{Backend, reset};
use super::process::raise_descriptors;

/// Most connections of the busiest worker, as a multiple of the mean.
const MOST: f64 = 1.1;

const WORKERS: usize = 2;

/// Portway with two workers, and clients that stay.
struct Fleet {
    portway: Portway,
    backend: Backend,
    clients: Vec<TcpStream>,
    came: usize,
}

impl Fleet {
    fn start(backend: Backend) -> Self {
        let toml = config(&[backend.address()], "", "");
        Self {
            portway: Portway::start(&format!("workers = {WORKERS}\n{toml}")),
            backend,
            clients: Vec::new(),
            came: 0,
        }
    }

    /// Adds `count` clients, several at a time; all are relayed when this returns.
    fn join(&mut self, count: usize) -> Shares {
        const AT_A_TIME: usize = 4;
        let portway = &self.portway;
        let share = |thread| count / AT_A_TIME + usize::from(thread < count % AT_A_TIME);
        let clients = thread::scope(|scope| {
            let connect = |thread| (0..share(thread)).map(|_| portway.client()).collect();
            let threads = (0..AT_A_TIME).map(|thread| scope.spawn(move || connect(thread)));
            let threads: Vec<thread::ScopedJoinHandle<'_, Vec<TcpStream>>> = threads.collect();
            let joined = threads.into_iter().map(|thread| thread.join().unwrap());
            joined.flatten().collect::<Vec<_>>()
        });
        self.clients.extend(clients);
        self.came += count;
        self.backend.wait_accepted(self.came);
        self.shares()
    }

    /// Removes the clients for which `leaves` is true, by position and address; portway has closed
    /// them when this returns.
    fn leave(&mut self, mut leaves: impl FnMut(usize, SocketAddr) -> bool) -> Shares {
        let clients = std::mem::take(&mut self.clients);
        for (index, client) in clients.into_iter().enumerate() {
            if leaves(index, client.local_addr().unwrap()) {
                reset(client);
            } else {
                self.clients.push(client);
            }
        }
        self.shares()
    }

    /// Waits until portway serves exactly the present clients.
    fn shares(&self) -> Shares {
        let clients = self.clients.iter();
        let clients = clients.map(|client| client.local_addr().unwrap()).collect();
        let shares = Shares::wait(&self.portway, &clients);
        assert_eq!(shares.counts().len(), WORKERS);
        shares
    }
}

fn assert_even(what: &str, shares: &Shares) {
    println!(
        "{what}: {:?}, the busiest {:.3} of the mean",
        shares.counts(),
        shares.imbalance()
    );
    assert!(shares.imbalance() <= MOST, "{what}: {:?}", shares.counts());
}

/// A connection stays on its worker, so those that leave may empty a worker; the next ones fill it up.
fn stay_even(count: usize) {
    let mut fleet = Fleet::start(Backend::holding());
    assert_even("all have come", &fleet.join(count));

    // It is chance whose worker loses a connection.
    let left = fleet.leave(|index, _| index % 2 == 1);
    println!("every second one has left: {:?}", left.counts());
    assert_even("as many have come", &fleet.join(count / 2));

    // The worst case: all connections of one worker leave.
    let busiest = fleet.shares().busiest().clone();
    let left = fleet.leave(|_, client| busiest.contains(&client));
    println!("those of one worker have left: {:?}", left.counts());
    assert!(left.counts().contains(&0), "{:?}", left.counts());
    assert_even("as many have come again", &fleet.join(busiest.len()));
}

#[test]
fn a_hundred_connections_spread_evenly_and_again_after_many_have_left() {
    raise_descriptors();
    stay_even(100);
}

/// It uses fewer connections if the limit of descriptors demands it.
#[test]
fn two_thousand_connections_spread_evenly_and_again_after_many_have_left() {
    const WANTED: usize = 2000;
    // Both ends of each leg are in this process, and the backend keeps its ends of those that left. The
    // rest is for other tests of this process.
    const EACH: usize = 8;
    let limit = usize::try_from(raise_descriptors()).unwrap_or(usize::MAX);
    let count = WANTED.min(limit / EACH);
    if count < WANTED {
        println!("{count} connections: the limit is {limit} descriptors");
    }
    stay_even(count);
}

/// Each flow moves more bytes than it needs to qualify for a pipe.
fn bulk_flows_use_every_worker(count: usize) {
    const SIZE: usize = 24 << 20;
    let mut fleet = Fleet::start(Backend::flooding());
    let shares = fleet.join(count);
    thread::scope(|scope| {
        for mut client in &fleet.clients {
            scope.spawn(move || {
                let mut buffer = vec![0; 64 << 10];
                let mut received = 0;
                while received < SIZE {
                    let count = client.read(&mut buffer).unwrap();
                    assert!(count > 0, "the end at {received}");
                    received += count;
                }
            });
        }
    });
    println!("{count} flows: {:?}", shares.counts());
    assert_eq!(shares.counts(), [count / WORKERS; WORKERS]);
    assert_eq!(fleet.shares().counts(), shares.counts(), "a flow moved");
}

#[test]
fn two_bulk_flows_have_a_worker_each() {
    bulk_flows_use_every_worker(2);
}

#[test]
fn eight_bulk_flows_share_the_workers_evenly() {
    bulk_flows_use_every_worker(8);
}
