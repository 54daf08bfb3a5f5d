//! The whole client as one machine: what a driver sees.
