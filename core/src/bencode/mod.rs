//! Bencode: a tolerant reader for what the world sends. What is written, and what must be canonical, goes through `bendy`.
