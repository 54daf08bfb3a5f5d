//! The fast-peer command.

fn main() {}
