//! The tokio driver of `fast-peer-core`.
