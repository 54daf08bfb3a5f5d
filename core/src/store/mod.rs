//! What is hashed, written, read and synced, and when.
