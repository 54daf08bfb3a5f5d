//! One torrent: where peers, pieces, store and trackers meet.

pub mod address;
pub mod bans;
pub mod choker;
pub mod known_peers;
pub mod rate;
pub mod smart_ban;
