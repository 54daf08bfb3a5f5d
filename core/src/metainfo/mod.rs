//! Torrent files: what they say, checked; and making them.
