//! Streams of uTP, and others, that share the narrowest link of a path.
//!
//! Discrete events over the core alone: a queue with a rate and a limit, a delay each way, and losses by accident. Beside
//! streams of uTP, models of TCP send through the same queue, so that one sees who gives way to whom.

mod pair;
mod tcp;
mod world;

pub use pair::Lie;
pub use tcp::Control;
pub use world::{Flow, Outcome, Path, Plan, run};
