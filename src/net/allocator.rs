//! The settings of the allocator.

/// What jemalloc reads when it starts: its `malloc_conf`, which travels with the code wherever and however
/// it is built. Measured at 2,500 to 9,000 connections: with a cache per thread, the freed places of
/// thousands of connections stay spread over its slabs, and two to three times as much memory is kept
/// after they have closed. A thin pointer to a text that ends with a zero byte, as jemalloc declares it.
#[expect(
    unsafe_code,
    reason = "jemalloc takes its settings from a symbol; the safe ways come after its start, or are lost with the directory of the build"
)]
// SAFETY: nothing else has this name, but for jemalloc's own weak definition of the same type.
#[unsafe(export_name = "_rjem_malloc_conf")]
#[used]
pub static ALLOCATOR_SETTINGS: &[u8; 73] =
    b"tcache:false,background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:0\0";
