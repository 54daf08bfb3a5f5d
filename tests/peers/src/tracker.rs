//! Trackers that aren't ours.

mod opentracker;
mod plain;

pub use self::opentracker::OpenTracker;
pub use self::plain::PlainTracker;

use anyhow::Result;

/// A tracker that one torrent may use.
pub trait Tracker {
    /// How many seeds have announced themselves.
    fn seeds(&mut self) -> Result<usize>;

    /// What it logged, for the report of a failure.
    fn tail(&self) -> String;
}

/// The port of all trackers.
const PORT: u16 = 6969;
