//! Magnet links (BEP 9, 53).
