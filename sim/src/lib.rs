//! Simulators of BitTorrent swarms.
