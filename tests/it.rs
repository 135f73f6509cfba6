//! Tests of the whole program over real sockets: bad inputs, transfers, faults, invariants, workers,
//! reloads.
//!
//! One binary, so that it is linked only once. Each module says which rows it covers.

#[cfg(test)]
mod it {
    mod addresses;
    mod asked;
    mod availability;
    mod bad_inputs;
    mod causes;
    mod certificates;
    mod clock;
    #[path = "../support/corpus.rs"]
    mod corpus;
    mod credentials;
    mod delivery;
    mod doctor;
    #[path = "../support/emulator.rs"]
    mod emulator;
    mod explain;
    #[path = "../support/far.rs"]
    mod far;
    mod faults;
    mod fixture;
    #[path = "../support/front_inputs.rs"]
    mod front_inputs;
    mod fronts;
    mod handshakes;
    mod health;
    mod held;
    #[expect(
        dead_code,
        reason = "shared with the tests of the parser, which use the rest"
    )]
    #[path = "../support/hello.rs"]
    mod hello;
    mod http_connect;
    mod in_process;
    mod invariants;
    mod leaving;
    mod metrics;
    mod middleboxes;
    mod names;
    #[path = "../support/namespace.rs"]
    mod namespace;
    mod open_lines;
    #[path = "../support/ordinary_user.rs"]
    mod ordinary_user;
    mod others;
    mod peers;
    mod ports;
    mod process;
    mod proxy_protocol;
    mod random;
    mod reload;
    #[expect(dead_code, reason = "shared with other tests, which use the rest")]
    #[path = "../support/required.rs"]
    mod required;
    mod resolver;
    mod roles;
    mod self_tests;
    mod socks5;
    mod start;
    mod status;
    mod storms;
    mod takeover;
    mod transfers;
    mod via;
    mod watch;
    mod workers;
}
