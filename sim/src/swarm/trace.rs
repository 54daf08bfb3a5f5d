//! One line for everything that a machine was told and everything it decided.
//!
//! Two runs are the same if their lines are, so a digest of all lines stands for the run. Which lines are also kept to
//! be read is a matter of taste.

use core::fmt::{self, Display, Write as _};
use fast_peer_core::machine::Timestamp;
use sha1::{Digest as _, Sha1};
use std::io::Write as _;

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// Bytes handed to a machine, and how much it may read.
    Bytes,
    /// What a user does.
    Command,
    /// Operations on files, and their ends.
    Disk,
    /// Web requests, look-ups and datagrams.
    Lookup,
    /// A message to a peer.
    Message,
    /// What a user is told.
    Notice,
    /// Connections that open and close.
    Stream,
    /// Time that has come.
    Timer,
}

/// Which way a line goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Told to the machine.
    In,
    /// Decided by the machine.
    Out,
    /// Done on the machine's behalf within its host.
    Within,
}

/// What happens to the lines besides the digest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// They are dropped.
    #[default]
    Nothing,
    /// Those of the topics in the list are kept in memory.
    Topics(&'static [Topic]),
    /// All are written to standard output at once.
    Print,
}

/// 128 bits of a digest over all lines of a run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceHash([u8; 16]);

/// The lines of a run.
#[derive(Debug, Default)]
pub struct Trace {
    digest: Sha1,
    /// Lines that the digest has not taken in yet.
    pending: String,
    keep: Keep,
    kept: String,
    lines: u64,
}

impl Trace {
    /// A trace without lines.
    pub fn new(keep: Keep) -> Self {
        Self { keep, ..Self::default() }
    }

    /// Adds a line.
    pub fn line(&mut self, at: Timestamp, who: &str, way: Way, topic: Topic, what: impl Display) {
        let start = self.pending.len();
        let way = match way {
            Way::In => '<',
            Way::Out => '>',
            Way::Within => '!',
        };
        writeln!(self.pending, "{at}  {who} {way} {what}").expect("a string takes everything");
        self.lines += 1;
        match self.keep {
            Keep::Nothing => {}
            Keep::Topics(topics) => {
                if topics.contains(&topic) {
                    self.kept.push_str(&self.pending[start..]);
                }
            }
            Keep::Print => {
                // A reader that went away, as `head` does, ends the listing and not the run.
                if std::io::stdout().write_all(&self.pending.as_bytes()[start..]).is_err() {
                    self.keep = Keep::Nothing;
                }
            }
        }
        if self.pending.len() >= DIGEST_AT {
            self.digest.update(self.pending.as_bytes());
            self.pending.clear();
        }
    }

    /// How many lines there were.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// What stands for all of them.
    pub fn hash(&self) -> TraceHash {
        let digest = self.digest.clone().chain_update(self.pending.as_bytes()).finalize();
        TraceHash(*digest.first_chunk().expect("20 bytes hold 16"))
    }

    /// The lines that were kept in memory.
    pub fn kept(&self) -> &str {
        &self.kept
    }
}

impl fmt::Display for TraceHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TraceHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Lines are digested in runs of about so many bytes.
const DIGEST_AT: usize = 1 << 14;

#[cfg(test)]
mod tests {
    use super::{Keep, Timestamp, Topic, Trace, Way};

    fn trace(keep: Keep, last: u64) -> Trace {
        let mut trace = Trace::new(keep);
        for n in 0..2000 {
            trace.line(Timestamp::from_micros(n), "A", Way::In, Topic::Bytes, format_args!("{n} bytes"));
        }
        trace.line(
            Timestamp::from_micros(20_500),
            "A",
            Way::Out,
            Topic::Message,
            format_args!("have {last}"),
        );
        trace
    }

    #[test]
    fn equal_lines_have_equal_hashes_whatever_is_kept() {
        assert_eq!(trace(Keep::Nothing, 1).hash(), trace(Keep::Topics(&[Topic::Bytes]), 1).hash());
        assert_ne!(trace(Keep::Nothing, 1).hash(), trace(Keep::Nothing, 2).hash());
    }

    #[test]
    fn only_the_topics_asked_for_are_kept() {
        assert_eq!(trace(Keep::Topics(&[Topic::Message]), 7).kept(), "  20.500  A > have 7\n");
    }
}
