//! What a peer can do wrong on the wire.

/// A breach of the protocol by a peer: the reason for which its connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Offence {
    /// The payload of `bitfield` has another length than the torrent's number of pieces asks for (BEP 3).
    #[error("the bitfield has the wrong length")]
    BadBitfield,
    /// The payload of an extended handshake is not a dictionary (BEP 10).
    #[error("the extended handshake is not a bencoded dictionary")]
    BadExtendedHandshake,
    /// The payload of `hashes` is not a whole number of hashes (BEP 52).
    #[error("the hashes message is not a whole number of hashes")]
    BadHashes,
    /// A message about the info dictionary can't be read, or its data have a length that no piece has (BEP 9).
    #[error("a metadata message is malformed")]
    BadMetadata,
    /// A message about other peers can't be read, or is longer than it may be (BEP 11).
    #[error("a peer exchange message is malformed")]
    BadPex,
    /// A block came that was never requested (BEP 6).
    #[error("a block came that was never requested")]
    BlockNotRequested,
    /// Requests kept coming long after a choke.
    #[error("requests kept coming while choked")]
    ChokedRequests,
    /// A message of the extension protocol came, which the handshake had not agreed on (BEP 10).
    #[error("an extended message came without the extension protocol")]
    ExtendedNotAgreed,
    /// A message of the fast extension came, which the handshakes had not agreed on (BEP 6).
    #[error("a fast extension message came without the fast extension")]
    FastNotAgreed,
    /// A frame is longer than its kind may be.
    #[error("a message is too long")]
    FrameTooLong,
    /// A frame is shorter than its kind must be.
    #[error("a message is too short")]
    FrameTooShort,
    /// The connection does not start with the name of the protocol (BEP 3).
    #[error("the handshake is not BitTorrent's")]
    HandshakeProtocol,
    /// Hashes came that were never requested (BEP 52).
    #[error("hashes came that were never requested")]
    HashesNotRequested,
    /// A message named a piece that the torrent does not have.
    #[error("a message names a piece that does not exist")]
    HaveOutOfRange,
    /// A request or cancel is empty, longer than a block, or not within its piece (BEP 3).
    #[error("a request does not lie within its piece")]
    InvalidRequest,
    /// More messages that change nothing came than patience lasts.
    #[error("too many messages came that change nothing")]
    MessageFlood,
    /// Pieces of the info dictionary came that were never requested (BEP 9).
    #[error("metadata came that was never requested")]
    MetadataNotRequested,
    /// The handshake names our own peer id: we connected to ourselves.
    #[error("the peer is this client itself")]
    OwnPeerId,
    /// Messages about other peers came far more often than once a minute (BEP 11).
    #[error("too many peer exchange messages came")]
    PexFlood,
    /// Too many rejects named blocks that were never requested (BEP 6).
    #[error("too many rejects came for blocks that were never requested")]
    RejectNotRequested,
    /// Far more requests came than we said we would queue.
    #[error("too many requests came")]
    RequestFlood,
    /// The handshake names a torrent that is not here, or another than was asked for.
    #[error("the handshake names a torrent that is not shared here")]
    UnknownInfoHash,
}
