//! The `portway` program.

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

/// The allocator. The system's own keeps the memory of closed connections; this one gives it back.
/// Its settings are [`portway::net::ALLOCATOR_SETTINGS`].
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    portway::cli::main()
}
