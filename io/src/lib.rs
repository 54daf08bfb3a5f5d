//! The tokio driver of `fast-peer-core`.

pub mod disk;
pub mod driver;
pub mod http;
pub mod ip_filter;
pub mod net;
mod pool;
mod scatter;
#[cfg(test)]
mod scratch;
pub mod state;
