//! The peer wire: bytes to messages and back, with a limit on everything (BEP 3, 6, 10).
