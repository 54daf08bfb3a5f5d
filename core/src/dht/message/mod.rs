//! The datagrams of the DHT (KRPC: BEP 5, 32, 33, 42, 43, 44, 51).
//!
//! A [`Message`] borrows from the datagram in which it came: reading one allocates nothing, and what shall outlive the
//! datagram has to be copied. The same type is written; then it borrows from whoever has something to say.

mod compact;
mod error;
mod query;
mod reply;
#[cfg(test)]
mod tests;

pub use compact::{Contact, Family, MAX_NODES_READ, MAX_VALUES_READ, Nodes, Values};
pub(super) use compact::{compact, read_addr};
pub use error::{ErrorCode, ErrorReply};
pub use query::{Announce, Method, Put, Query, Signed, Want};
pub use reply::{BLOOM_LEN, Blooms, ItemPart, Reply, Samples};

use crate::bencode::{Limits, Raw, Writer};
use crate::id::hex;
use alloc::vec::Vec;
use core::fmt;
use core::net::SocketAddr;
use reply::Cut;

/// One datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Pairs a query with its answer.
    pub transaction: Transaction,
    /// What it is about.
    pub body: Body<'a>,
    /// Whether the sender of this query answers none itself (BEP 43).
    pub read_only: bool,
    /// Which program the sender runs, as it says: usually two letters and two bytes of version.
    pub version: Option<&'a [u8]>,
    /// The address of whom this is sent to, as the sender sees it (BEP 42). Port 0 if it says none.
    pub ip: Option<SocketAddr>,
}

/// What a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// A query that failed.
    Error(ErrorReply<'a>),
    /// A question.
    Query(Query<'a>),
    /// An answer.
    Reply(Reply<'a>),
}

/// What pairs a query with its answer: bytes that the asker chose.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Transaction {
    len: u8,
    /// Zeros behind `len`.
    bytes: [u8; MAX_TRANSACTION_LEN],
}

/// Why a datagram is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Nothing of it can be understood.
    #[error("no message of the DHT")]
    Garbage,
    /// A query without what it has to have. The asker may be told so, with error 203.
    #[error("a query {1}")]
    Query(Transaction, &'static str),
    /// An answer that doesn't say who answers.
    #[error("an answer without its sender's id")]
    Reply(Transaction),
}

impl<'a> Message<'a> {
    /// A message from us.
    pub const fn new(transaction: Transaction, body: Body<'a>) -> Self {
        Self { transaction, body, read_only: false, version: Some(VERSION), ip: None }
    }

    /// Reads a datagram. Takes what can be understood of what others write, and no more of it than the limits in this
    /// module say.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, Malformed> {
        let root = Raw::parse(datagram, Limits::WIRE).map_err(|_| Malformed::Garbage)?;
        let mut found = Found::default();
        for (key, value) in root.pairs().ok_or(Malformed::Garbage)? {
            match key {
                b"a" => first(&mut found.arguments, Some(value)),
                b"e" => first(&mut found.error, Some(value)),
                b"ip" => first(&mut found.ip, value.as_bytes().and_then(compact::read_addr_or_ip)),
                b"q" => first(&mut found.method, value.as_bytes()),
                b"r" => first(&mut found.reply, Some(value)),
                b"ro" => first(&mut found.read_only, value.as_int()),
                b"t" => first(&mut found.transaction, value.as_bytes()),
                b"v" => first(&mut found.version, value.as_bytes()),
                b"y" => first(&mut found.kind, value.as_bytes()),
                _ => {}
            }
        }
        let transaction = found.transaction.and_then(Transaction::new).ok_or(Malformed::Garbage)?;
        let body = match found.kind {
            Some(b"e") => Body::Error(ErrorReply::read(found.error)),
            Some(b"q") => {
                let query = Query::read(found.method, found.arguments);
                Body::Query(query.map_err(|why| Malformed::Query(transaction, why))?)
            }
            Some(b"r") => {
                Body::Reply(found.reply.and_then(Reply::read).ok_or(Malformed::Reply(transaction))?)
            }
            _ => return Err(Malformed::Garbage),
        };
        Ok(Self {
            transaction,
            body,
            read_only: found.read_only.is_some_and(|flag| flag != 0),
            version: found.version.filter(|version| version.len() <= MAX_VERSION_LEN),
            ip: found.ip,
        })
    }

    /// The datagram: at most [`MAX_LEN`] bytes, or [`MAX_ITEM_MESSAGE_LEN`] with an item's value. What doesn't fit is
    /// left out of a reply, see [`encode_within`](Self::encode_within).
    pub fn encode(&self) -> Vec<u8> {
        self.encode_within(usize::MAX)
    }

    /// The datagram, in at most `budget` bytes if it is an answer: what doesn't fit is left out of it, an item's value and
    /// bloom filters as a whole, then of values, then of nodes as many as have to be; of an error its words. What is
    /// never left out has, with a token of ours, less than three times the bytes of any query that it could answer.
    pub fn encode_within(&self, budget: usize) -> Vec<u8> {
        let whole = self.write(&Cut::WHOLE);
        match &self.body {
            Body::Error(error) if whole.len() > budget => {
                let body = Body::Error(ErrorReply { text: b"", ..*error });
                Message { body, ..*self }.write(&Cut::WHOLE)
            }
            Body::Reply(reply) if whole.len() > reply.max_len().min(budget) => {
                let bare = self.write(&Cut::BARE).len();
                self.write(&reply.cut_to(budget, bare))
            }
            Body::Error(_) | Body::Query(_) | Body::Reply(_) => whole,
        }
    }

    fn write(&self, cut: &Cut) -> Vec<u8> {
        let mut to = Writer::with_capacity(USUAL_LEN);
        to.dict();
        match &self.body {
            Body::Error(error) => {
                to.bytes(b"e");
                error.write(&mut to);
            }
            Body::Query(query) => {
                to.bytes(b"a");
                query.write_arguments(&mut to);
            }
            Body::Reply(_) => {}
        }
        if let Some(ip) = self.ip {
            to.bytes(b"ip");
            compact::write_addr(ip, &mut to);
        }
        let kind: &[u8] = match &self.body {
            Body::Error(_) => b"e",
            Body::Query(query) => {
                to.bytes(b"q");
                to.bytes(query.method.name());
                b"q"
            }
            Body::Reply(reply) => {
                to.bytes(b"r");
                reply.write(cut, &mut to);
                b"r"
            }
        };
        if self.read_only {
            to.bytes(b"ro");
            to.int(1);
        }
        to.bytes(b"t");
        to.bytes(self.transaction.as_bytes());
        if let Some(version) = self.version {
            to.bytes(b"v");
            to.bytes(version);
        }
        to.bytes(b"y");
        to.bytes(kind);
        to.end();
        to.finish()
    }
}

/// One line, as traces show it.
impl fmt::Display for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.body {
            Body::Error(error) => write!(f, "error t={} {error}", self.transaction),
            Body::Query(query) => write!(f, "query t={} {query}", self.transaction),
            Body::Reply(reply) => write!(f, "reply t={} {reply}", self.transaction),
        }?;
        if self.read_only { f.write_str(" read-only") } else { Ok(()) }
    }
}

impl Transaction {
    /// The transaction with these bytes; none has more than [`MAX_TRANSACTION_LEN`].
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let mut transaction = Self { len: bytes.len().try_into().ok()?, bytes: [0; MAX_TRANSACTION_LEN] };
        transaction.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(transaction)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// The two bytes that are usual (BEP 5).
impl From<u16> for Transaction {
    fn from(number: u16) -> Self {
        Self::new(&number.to_be_bytes()).expect("two bytes fit")
    }
}

impl fmt::Display for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(self.as_bytes(), f)
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Transaction({self})")
    }
}

/// The parts of a message as they are found, in whatever order.
#[derive(Default)]
struct Found<'a> {
    arguments: Option<Raw<'a>>,
    error: Option<Raw<'a>>,
    ip: Option<SocketAddr>,
    kind: Option<&'a [u8]>,
    method: Option<&'a [u8]>,
    read_only: Option<i64>,
    reply: Option<Raw<'a>>,
    transaction: Option<&'a [u8]>,
    version: Option<&'a [u8]>,
}

/// Of keys that are there twice the first counts.
fn first<T>(slot: &mut Option<T>, value: Option<T>) {
    if slot.is_none() {
        *slot = value;
    }
}

/// No transaction is longer (BEP 5 has two bytes, and nobody was seen to use more than eight).
pub const MAX_TRANSACTION_LEN: usize = 16;

/// No datagram of ours is longer (BEP 32), unless it carries an item's value.
pub const MAX_LEN: usize = 1024;

/// No datagram of ours is longer. BEP 44's values of 1,000 bytes alone fill what BEP 32 allows; with key, signature and
/// nodes this still passes links of 1,500 bytes whole, with room for a tunnel's heads.
pub const MAX_ITEM_MESSAGE_LEN: usize = 1400;

/// Tokens of others are longer nowhere. We have to hand them back, in messages that are bounded.
pub const MAX_TOKEN_LEN: usize = 128;

/// What we call our program.
pub const VERSION: &[u8] = b"FP\x01\x00";

/// What names a program is four bytes long (BEP 5); more than this are ignored.
const MAX_VERSION_LEN: usize = 16;

/// Most messages have less.
const USUAL_LEN: usize = 320;
