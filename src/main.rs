//! The `portway` program.

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

/// The system's allocator keeps the memory of connections that have closed; this one gives it back.
/// Its settings are [`portway::net::ALLOCATOR_SETTINGS`].
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    portway::cli::main()
}
