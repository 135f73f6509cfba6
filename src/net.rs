//! Sockets, their options, pipes and splice: every system call that tokio does not make. This is the
//! only place where `unsafe` is allowed, where neither socket2 nor rustix has a safe way.

mod allocator;
mod deadline;
mod descriptors;
mod file;
mod leg;
mod listening;
mod pipe;
mod socket;
mod tcp_info;

pub use allocator::ALLOCATOR_SETTINGS;
pub use deadline::{TimeIsUp, any_readable, until};
pub use descriptors::{DESCRIPTORS_PER_MESSAGE, Peer, peer, receive_descriptors, send_descriptors};
pub use file::{read, read_regular};
pub use leg::{Broken, Leg, Readable};
pub use listening::{Accepted, Listening, adopt, bind, bind_group, is_busy, listen};
pub use pipe::{Pipe, PipePool};
pub use socket::{
    Keepalive, LegOptions, NotBegun, begin_connect, connect_error, has_way, local_address,
    local_ports, set_receive_low_water_mark,
};
pub use tcp_info::{Figures, GivenUp, Path, Unanswered};
