//! A discrete-event world: sessions, links, disks and trackers under one clock.
//!
//! [`World`] drives the same `Session` as the production driver does, and by the same rule: one input; drain the
//! actions; pull the bytes; read the deadline; wait. There is no concurrency and no chance but that of the seed, so a
//! run can be had again, to the byte, in any build. After every step the checkers look at what every client said and
//! did.

mod builder;
mod checkers;
mod client;
mod content;
mod disk;
mod fake_peer;
mod links;
mod moves;
mod nat;
mod observe;
mod pair;
mod queue;
mod runs;
mod scenario;
mod scenarios;
mod services;
mod streams;
mod trace;
mod world;

pub use builder::{Has, Setup};
pub use checkers::Violation;
pub use client::Stats;
pub use content::{Content, Plan, Version};
pub use disk::DiskModel;
pub use fake_peer::{Behaviour, MetadataLie};
pub use links::{Access, Sockets};
pub use nat::NatKind;
pub use pair::Pair;
pub use scenario::{Failure, Outcome, Scenario, fluid_limit};
pub use scenarios::all;
pub use services::{Announced, TrackerMood};
pub use trace::{Keep, Topic, Trace, TraceHash, Way};
pub use world::{ContentId, HostId, Reach, World};
