//! The `portway` program.

fn main() {}
