//! The web: asking trackers, and being one in simulations and demonstrations.

mod body;
mod client;
mod dial;
mod policy;
mod server;
mod target;
mod tls;

pub use client::{Client, Fetch};
pub use policy::Author;
pub use server::{serve_http, serve_udp};
pub use tls::Tls;

/// How long the body of a tracker's answer may be, decompressed.
pub const MAX_BODY: usize = 1 << 20;
