//! The distributed hash table (BEP 5, 32, 33, 42, 43, 44, 46, 51).

pub mod bloom;
pub mod item;
pub mod item_store;
pub mod message;
pub mod node_id;
pub mod peer_store;
mod shares;
pub mod token;
