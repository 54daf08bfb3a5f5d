//! One torrent: where peers, pieces, store and trackers meet.

pub mod rate;
pub mod smart_ban;
