//! What lies between the bytes of a connection and what its torrent says and hears: nothing, or obfuscation.
//!
//! ```text
//!  dialled ──► opening ──► initiating ──┐
//!                                       ├──► obfuscated
//!  accepted ─► undecided ► responding ──┘
//!                  └──────────────────────► plain
//! ```

use super::conns::Conn;
use super::{Reason, Segment, Session, WriteBatch};
use crate::id::{ConnId, InfoHash, TorrentId};
use crate::machine::Timestamp;
use crate::mse::{Agreed, Initiator, Method, Methods, Rc4, Responder};
use crate::store::payload::Payload;
use crate::wire::HANDSHAKE_START;
use alloc::boxed::Box;
use alloc::vec::Vec;
use bytes::{Bytes, BytesMut};

/// Whether connections are obfuscated (MSE/PE).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encryption {
    /// Of those that others open.
    pub incoming: Policy,
    /// Of those that we open.
    pub outgoing: Policy,
    /// How what follows the handshake may be sent. Where both ends allow both, it is sent plain.
    pub methods: Methods,
}

impl Default for Encryption {
    /// Preferred both ways, by any method.
    fn default() -> Self {
        Self { incoming: Policy::Prefer, outgoing: Policy::Prefer, methods: Methods::ALL }
    }
}

/// Whether to obfuscate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Never.
    Off,
    /// Where the other end does. A peer with which that fails is dialled once more without.
    #[default]
    Prefer,
    /// Always: there is no connection without.
    Require,
}

/// One connection's part of it.
#[derive(Debug)]
pub(super) struct Link {
    stage: Stage,
    /// Words of the handshake to be written.
    words: Vec<u8>,
    /// What the torrent says along with the handshake, until it is among the words.
    first: Bytes,
    /// What it says along with these words.
    said: Bytes,
}

#[derive(Debug)]
enum Stage {
    /// What was accepted has not shown which it is.
    Undecided,
    /// Dialled: the torrent's first words will ride along with the handshake.
    Opening,
    Initiating(Box<Initiator>),
    Responding(Box<Responder>),
    Plain,
    Obfuscated {
        torrent: InfoHash,
        method: Method,
        ciphers: Option<Box<Ciphers>>,
    },
}

#[derive(Debug)]
struct Ciphers {
    decipher: Rc4,
    encipher: Rc4,
}

impl Link {
    pub(super) const ACCEPTED: Self = Self::new(Stage::Undecided);
    pub(super) const PLAIN: Self = Self::new(Stage::Plain);
    pub(super) const OBFUSCATED: Self = Self::new(Stage::Opening);

    const fn new(stage: Stage) -> Self {
        Self { stage, words: Vec::new(), first: Bytes::new(), said: Bytes::new() }
    }

    /// Whether the torrent's words go through.
    pub(super) const fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Plain | Stage::Obfuscated { .. })
    }

    /// Whether an obfuscated connection that we opened has not come about.
    pub(super) const fn is_dialling(&self) -> bool {
        matches!(self.stage, Stage::Opening | Stage::Initiating(_))
    }

    /// Whether a stranger keeps us computing keys.
    pub(super) const fn is_responding(&self) -> bool {
        matches!(self.stage, Stage::Responding(_))
    }

    /// The torrent that the handshake was about, and the method that it came to.
    pub(super) const fn agreed(&self) -> Option<(InfoHash, Method)> {
        match &self.stage {
            Stage::Obfuscated { torrent, method, .. } => Some((*torrent, *method)),
            _ => None,
        }
    }

    /// Appends words of the handshake that wait; how many bytes they are.
    pub(super) fn write(&mut self, batch: &mut WriteBatch) -> usize {
        let words = core::mem::take(&mut self.words);
        let len = words.len();
        if len > 0 {
            batch.push_bytes(words.into());
            batch.overhear_bytes(core::mem::take(&mut self.said));
        }
        len
    }

    /// Enciphers what was written behind the first `from` segments.
    pub(super) fn encipher(&mut self, batch: &mut WriteBatch, from: usize) {
        batch.overhear(from);
        let Stage::Obfuscated { ciphers: Some(ciphers), .. } = &mut self.stage else { return };
        let cipher = &mut ciphers.encipher;
        for segment in batch.segments.range_mut(from..) {
            match segment {
                Segment::Inline(bytes) => apply(cipher, bytes),
                Segment::Payload(payload) => apply_to_payload(cipher, payload),
            }
        }
    }

    /// Deciphers what was just read.
    pub(super) fn decipher_bytes(&mut self, bytes: &mut [u8]) {
        if let Some(cipher) = self.decipher() {
            cipher.apply(bytes);
        }
    }

    fn decipher(&mut self) -> Option<&mut Rc4> {
        match &mut self.stage {
            Stage::Obfuscated { ciphers: Some(ciphers), .. } => Some(&mut ciphers.decipher),
            _ => None,
        }
    }

    /// Goes on with what was agreed: what is left of the input is heard by the torrent.
    fn open(&mut self, agreed: Agreed, input: &mut BytesMut) {
        let Agreed { torrent, method, decipher, encipher, first } = agreed;
        let ciphers = decipher.zip(encipher).map(|(mut decipher, encipher)| {
            decipher.apply(input);
            Box::new(Ciphers { decipher, encipher })
        });
        let rest = core::mem::replace(input, first);
        input.unsplit(rest);
        self.stage = Stage::Obfuscated { torrent, method, ciphers };
    }
}

impl Session {
    /// Deciphers, in place, what was read from a connection: all of it, in the order of the stream, right after it was
    /// read and before anything is made of it. Changes nothing where nothing is enciphered.
    pub fn decipher<'a>(&mut self, conn: ConnId, parts: impl IntoIterator<Item = &'a mut [u8]>) {
        if let Some(cipher) = self.conns.get_mut(&conn).and_then(|entry| entry.link.decipher()) {
            parts.into_iter().for_each(|part| cipher.apply(part));
        }
    }

    /// The same for a part of a block, which may have no content.
    pub fn decipher_payload(&mut self, conn: ConnId, payload: &mut Payload) {
        if let Some(cipher) = self.conns.get_mut(&conn).and_then(|entry| entry.link.decipher()) {
            apply_to_payload(cipher, payload);
        }
    }

    /// The method that an obfuscated connection came to; nothing if it is not obfuscated, or not yet.
    pub fn obfuscation(&self, conn: ConnId) -> Option<Method> {
        self.conns.get(&conn)?.link.agreed().map(|(_, method)| method)
    }

    /// How a torrent's next connection begins.
    pub(super) fn dialled_link(&self, plain: bool) -> Link {
        match self.config.encryption.outgoing {
            Policy::Off => Link::PLAIN,
            Policy::Prefer if plain => Link::PLAIN,
            Policy::Prefer | Policy::Require => Link::OBFUSCATED,
        }
    }

    /// Takes in the bytes of a connection until it shows how what follows is sent; whether it has.
    pub(super) fn agree(&mut self, now: Timestamp, conn: ConnId, input: &mut BytesMut) -> bool {
        loop {
            let Some(entry) = self.conns.get_mut(&conn) else { return false };
            let link = &mut entry.link;
            let agreed = match &mut link.stage {
                Stage::Plain | Stage::Obfuscated { .. } => return true,
                // A responder says nothing before it has our key, and a key does not look like that.
                Stage::Opening if input.is_empty() => return false,
                Stage::Opening => {
                    self.give_up(now, conn, Reason::NotObfuscated);
                    return false;
                }
                Stage::Initiating(_) if input.starts_with(HANDSHAKE_START) => {
                    self.give_up(now, conn, Reason::NotObfuscated);
                    return false;
                }
                Stage::Undecided => {
                    if input.len() < HANDSHAKE_START.len() && HANDSHAKE_START.starts_with(input) {
                        return false;
                    }
                    let policy = self.config.encryption.incoming;
                    let refused = match (policy, input.starts_with(HANDSHAKE_START)) {
                        (Policy::Require, true) => Some(Reason::NotObfuscated),
                        (Policy::Off, false) => Some(Reason::ObfuscationOff),
                        (Policy::Off | Policy::Prefer, true) => {
                            link.stage = Stage::Plain;
                            continue;
                        }
                        (Policy::Prefer | Policy::Require, false) => {
                            let busy = self.responding >= self.config.max_half_open;
                            busy.then_some(Reason::ObfuscationBusy)
                        }
                    };
                    if let Some(reason) = refused {
                        self.give_up(now, conn, reason);
                        return false;
                    }
                    self.responding += 1;
                    let rng = self.rng.fork_nth("obfuscation", conn.0);
                    let responder = Responder::new(self.config.encryption.methods, rng);
                    link.stage = Stage::Responding(Box::new(responder));
                    continue;
                }
                Stage::Initiating(initiator) => {
                    let agreed = initiator.handle_bytes(input, &mut link.words);
                    if !link.words.is_empty() {
                        link.said = core::mem::take(&mut link.first);
                    }
                    agreed
                }
                Stage::Responding(responder) => {
                    let marks = &self.marks;
                    responder.handle_bytes(input, &mut link.words, |mark| marks.get(&mark).copied())
                }
            };
            match agreed {
                Ok(None) => {
                    if !link.words.is_empty() {
                        self.want_write(conn);
                    }
                    return false;
                }
                Ok(Some(agreed)) => {
                    tracing::debug!(%conn, method = %agreed.method, "obfuscated");
                    self.responding -= usize::from(link.is_responding());
                    link.open(agreed, input);
                    let torrent = entry.torrent();
                    // What the torrent had to say meanwhile waits behind the words of the handshake.
                    self.want_write(conn);
                    if let Some(torrent) = torrent {
                        self.note_obfuscated(now, torrent, conn);
                    }
                    return true;
                }
                Err(error) => {
                    self.give_up(now, conn, Reason::Obfuscation(error));
                    return false;
                }
            }
        }
    }

    /// The torrent's first words are there: they ride along with the handshake.
    pub(super) fn initiate(&mut self, now: Timestamp, conn: ConnId) {
        let Some(entry) = self.conns.get(&conn) else { return };
        let (Stage::Opening, Some(torrent)) = (&entry.link.stage, entry.torrent()) else { return };
        let mut first = WriteBatch::default();
        self.with_torrent(now, torrent, |torrent, out| torrent.poll_stream(now, conn, 0, &mut first, out));
        let Some(slot) = self.torrents.get(&torrent).filter(|_| !first.is_empty()) else { return };
        let Some(entry) = self.conns.get_mut(&conn) else { return };
        let mut words = BytesMut::new();
        for segment in &first.segments {
            if let Segment::Inline(bytes) = segment {
                words.extend_from_slice(bytes);
            }
        }
        let words = words.freeze();
        let (methods, rng) = (self.config.encryption.methods, self.rng.fork_nth("obfuscation", conn.0));
        let link = &mut entry.link;
        link.first = words.clone();
        let initiator = Initiator::new(slot.torrent.info_hash(), methods, words, rng, &mut link.words);
        link.stage = Stage::Initiating(Box::new(initiator));
    }

    pub(super) fn note_obfuscated(&mut self, now: Timestamp, torrent: TorrentId, conn: ConnId) {
        self.with_torrent(now, torrent, |torrent, out| torrent.note_obfuscated(now, conn, out));
    }

    /// A connection is over. If obfuscating it failed and is not required, its peer is dialled again without.
    pub(super) fn fall_back(&mut self, now: Timestamp, entry: &Conn) {
        let wanted = self.config.encryption.outgoing == Policy::Prefer;
        if let Some((torrent, remote)) = entry.failed_to_obfuscate().filter(|_| wanted) {
            self.with_torrent(now, torrent, |torrent, _| torrent.dial_plain(remote));
        }
    }

    fn give_up(&mut self, now: Timestamp, conn: ConnId, reason: Reason) {
        match self.conns.get(&conn).and_then(Conn::torrent) {
            None => self.turn_away(conn, reason),
            Some(torrent) => {
                self.with_torrent(now, torrent, |torrent, out| torrent.hang_up(now, conn, reason, out));
            }
        }
    }
}

fn apply(cipher: &mut Rc4, bytes: &mut Bytes) {
    let taken = core::mem::take(bytes);
    let mut own = taken.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
    cipher.apply(&mut own);
    *bytes = own.freeze();
}

fn apply_to_payload(cipher: &mut Rc4, payload: &mut Payload) {
    match payload {
        Payload::Content(bytes) => apply(cipher, bytes),
        Payload::Length(len) => cipher.skip(*len as usize),
    }
}
