//! The distributed hash table (BEP 5, 32, 33, 42, 43, 44, 46, 51).

pub mod contact;
pub mod limits;
pub mod message;
pub mod node_id;
pub mod queries;
pub mod table;
