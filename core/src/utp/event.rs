//! What happens to the streams of a port, and what they want.

use bytes::Bytes;
use core::fmt;
use core::net::SocketAddr;

/// The name of a stream; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamId(pub u64);

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "utp-{}", self.0)
    }
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// See [`super::Utp::close`].
    Close(StreamId),
    /// See [`super::Utp::connect`].
    Connect(SocketAddr),
    /// See [`super::Utp::set_credit`].
    Credit {
        /// Of which stream.
        stream: StreamId,
        /// How many bytes.
        bytes: u32,
    },
    /// See [`super::Utp::handle_datagram`].
    Datagram {
        /// By whom.
        from: SocketAddr,
        /// What.
        data: Bytes,
    },
    /// See [`super::Utp::reset`].
    Reset(StreamId),
    /// See [`super::Utp::write`].
    Write {
        /// To which stream.
        stream: StreamId,
        /// What.
        data: Bytes,
    },
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A stream ended without our doing. Nothing more is said of it.
    Closed {
        /// Which.
        stream: StreamId,
        /// How.
        end: End,
    },
    /// The remote answered to what was opened.
    Connected {
        /// Which.
        stream: StreamId,
    },
    /// A remote, whose address is proven, opened a stream.
    Incoming {
        /// Its name.
        stream: StreamId,
        /// Who.
        from: SocketAddr,
    },
    /// The next bytes of a stream.
    Received {
        /// Which.
        stream: StreamId,
        /// A slice of the datagram in which they came, unless others came before their turn.
        data: Bytes,
    },
    /// Packets wait: pull them with [`super::Utp::poll_transmit`].
    WantSend,
    /// A stream that had no room has some again.
    Writable {
        /// Which.
        stream: StreamId,
        /// The bytes that may be written.
        room: usize,
    },
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// The remote has sent all that it had to.
    Finished,
    /// The remote knows no such stream, or wants no more of it.
    Reset,
    /// The remote didn't answer.
    TimedOut,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Finished => "the peer closed the connection",
            Self::Reset => "the peer reset the connection",
            Self::TimedOut => "the peer stopped answering",
        })
    }
}
