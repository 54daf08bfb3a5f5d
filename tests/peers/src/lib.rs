//! Adapters for clients that others wrote.
