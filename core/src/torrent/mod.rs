//! One torrent: where peers, pieces, store and trackers meet.

pub mod address;
pub mod choker;
pub mod rate;
pub mod smart_ban;
