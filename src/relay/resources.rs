//! The resources that the connections of a worker share: buffers, pipes, a coarse clock.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use super::Hellos;
use crate::net::PipePool;

/// Resources that the connections of a worker use one after the other.
#[derive(Debug)]
pub struct Resources {
    /// For one read of a pump, or a peeked hello. It is never borrowed across an await.
    pub buffer: RefCell<Box<[u8]>>,
    /// For the joined message of a hello that came in several records.
    pub scratch: RefCell<Box<[u8]>>,
    /// The hellos that wait for their backends, shared with the other workers.
    pub hellos: Arc<Hellos>,
    /// Pipes for bulk flows.
    pub pipes: Rc<PipePool>,
    /// Seconds in which the worker has run, as of its last tick.
    clock: Cell<u32>,
    /// Turns of all relays so far.
    turns: Cell<u32>,
    /// The process may end with its last connection.
    draining: Cell<bool>,
}

impl Resources {
    /// Bytes of one read.
    const READ: usize = 64 << 10;
    /// A peek may ask for one record header more than the largest hello.
    const RECORD_HEADER: usize = 5;

    /// Allocates the buffers, for hellos up to `max_client_hello`; pipes are made when needed.
    pub fn new(max_client_hello: usize, hellos: Arc<Hellos>) -> Self {
        let largest = Self::READ.max(max_client_hello + Self::RECORD_HEADER);
        Self {
            buffer: RefCell::new(vec![0; largest].into()),
            scratch: RefCell::new(vec![0; max_client_hello].into()),
            hellos,
            pipes: Rc::default(),
            clock: Cell::new(0),
            turns: Cell::new(0),
            draining: Cell::new(false),
        }
    }

    /// Makes room for hellos of this size, if there is too little.
    pub fn grow(&self, max_client_hello: usize) {
        if self.scratch.borrow().len() < max_client_hello {
            let largest = Self::READ.max(max_client_hello + Self::RECORD_HEADER);
            self.buffer.replace(vec![0; largest].into());
            self.scratch.replace(vec![0; max_client_hello].into());
        }
    }

    /// The worker's coarse clock, in seconds. Reading it takes no system call.
    pub const fn now(&self) -> u32 {
        self.clock.get()
    }

    /// Sets whether the process may end with its last connection.
    pub fn set_draining(&self, draining: bool) {
        self.draining.set(draining);
    }

    /// Whether the process drains.
    pub const fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// Counts a turn of a relay, and returns how many turns others had since its last one. `last` is
    /// the number of that turn, and becomes the number of this one.
    pub(super) fn take_turn(&self, last: &mut u32) -> u32 {
        let turn = self.turns.get().wrapping_add(1);
        self.turns.set(turn);
        let others = turn.wrapping_sub(*last).saturating_sub(1);
        *last = turn;
        others
    }

    /// Sets the clock; called once a second.
    pub fn tick(&self, now: u32) {
        self.clock.set(now);
        self.pipes.retry();
    }
}
