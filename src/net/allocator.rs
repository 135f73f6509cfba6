//! The settings of the allocator.

/// jemalloc's `malloc_conf`, which it reads when it starts. As a symbol it is part of the code, wherever and
/// however portway is built. Measured at 2,500 to 9,000 connections: with a cache per thread, freed memory of
/// thousands of connections stays scattered over the slabs, and jemalloc keeps two to three times as much after
/// they have closed. The type is a thin pointer to a text that ends with a zero byte, as jemalloc declares it.
#[expect(
    unsafe_code,
    reason = "jemalloc takes its settings from a symbol; the safe ways act after its start, or depend on the build directory"
)]
// SAFETY: nothing else has this name except jemalloc's own weak definition of the same type.
#[unsafe(export_name = "_rjem_malloc_conf")]
#[used]
pub static ALLOCATOR_SETTINGS: &[u8; 73] =
    b"tcache:false,background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:0\0";
