//! Counts with strace what portway asks of the kernel: system calls, wake-ups, and its reaction when a
//! call fails or a thread is held.
//!
//! The tests use counts, not times, because counts are the same on a busy machine. Without strace they
//! say so and pass, unless `PORTWAY_STRACE=required` is set.

#[cfg(test)]
mod counts {
    mod accepts;
    mod budget;
    #[expect(dead_code, reason = "shared with tests/it.rs, which uses the rest")]
    #[path = "../it/fixture.rs"]
    mod fixture;
    #[expect(dead_code, reason = "shared with tests/it.rs, which uses the rest")]
    #[path = "../support/front_inputs.rs"]
    mod front_inputs;
    mod fronts;
    #[expect(
        dead_code,
        reason = "shared with the tests of the parser, which use the rest"
    )]
    #[path = "../support/hello.rs"]
    mod hello;
    mod late;
    mod looks;
    #[expect(dead_code, reason = "shared with tests/it.rs, which uses the rest")]
    #[path = "../it/metrics.rs"]
    mod metrics;
    mod names;
    #[expect(dead_code, reason = "shared with tests/it.rs, which uses the rest")]
    #[path = "../support/namespace.rs"]
    mod namespace;
    mod options;
    #[path = "../support/ordinary_user.rs"]
    mod ordinary_user;
    #[expect(dead_code, reason = "shared with tests/it.rs, which uses the rest")]
    #[path = "../it/peers.rs"]
    mod peers;
    mod pipes;
    #[expect(dead_code, reason = "shared with tests/it.rs, which uses the rest")]
    #[path = "../it/process.rs"]
    mod process;
    #[expect(dead_code, reason = "shared with tests/it.rs, which uses the rest")]
    #[path = "../it/random.rs"]
    mod random;
    #[path = "../support/required.rs"]
    mod required;
    mod segments;
    mod splices;
    mod strace;
    mod transfer;

    /// An answer of 1,024 bytes that begins as a record of TLS does.
    fn answer() -> [u8; 1024] {
        let mut bytes = [0x17; 1024];
        bytes[..peers::ANSWER.len()].copy_from_slice(&peers::ANSWER);
        bytes
    }
}
