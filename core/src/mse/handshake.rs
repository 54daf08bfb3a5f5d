//! Both ends of an obfuscated connection, until they agree.

use super::keys::{KEY_LEN, Private, Secret};
use super::rc4::Rc4;
use super::{Method, Methods, torrent_mark};
use crate::id::InfoHash;
use crate::rng::Rng;
use alloc::vec;
use alloc::vec::Vec;
use bytes::{Buf as _, Bytes, BytesMut};

/// What comes of a handshake.
#[derive(Debug)]
pub struct Agreed {
    /// The torrent that the connection is about.
    pub torrent: InfoHash,
    /// How everything is sent that comes behind the handshake.
    pub method: Method,
    /// For what the other end sends behind it, unless that is plain.
    pub decipher: Option<Rc4>,
    /// For what we send behind it, unless that is plain.
    pub encipher: Option<Rc4>,
    /// What the initiator said along with the handshake, deciphered. Always empty for the initiator itself.
    pub first: BytesMut,
}

/// Why a connection can't be obfuscated. It has to be closed: what is left of it is noise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Error {
    /// The other end's key gives the secret away.
    #[error("a public key that nobody draws by chance")]
    BadKey,
    /// What should be zeros isn't: the other end has another secret or torrent.
    #[error("the other end derived other keys")]
    BadProof,
    /// The other end chose no method that was offered, or offers none that we allow.
    #[error("there is no method that both ends allow")]
    NoMethod,
    /// Padding that ends nowhere, or says that it is longer than it may be.
    #[error("more than {MAX_PAD} bytes of padding")]
    Padding,
    /// Nobody here shares the torrent that is meant.
    #[error("not about a torrent of ours")]
    UnknownTorrent,
    /// More first words than are borne.
    #[error("more than {MAX_FIRST} bytes along with the handshake")]
    TooMuch,
}

/// The end that opened the connection.
#[derive(Debug)]
pub struct Initiator {
    private: Private,
    torrent: InfoHash,
    offered: Methods,
    first: Bytes,
    rng: Rng,
    stage: Initiating,
}

#[derive(Debug)]
enum Initiating {
    /// The responder's key.
    Key,
    /// The end of its padding, which looks like this.
    Mark { mark: [u8; MARK_LEN], ciphers: [Rc4; 2] },
    /// The method that it chose, and how much padding follows.
    Choice([Rc4; 2]),
    /// So much padding.
    Padding { left: usize, method: Method, ciphers: [Rc4; 2] },
    /// Nothing: it is over.
    Over,
}

impl Initiator {
    /// Begins a connection about `torrent`, and writes the first bytes to send into `out`. `first` is what the responder
    /// is told as soon as it can understand it; it is sent by RC4 whatever becomes of the rest.
    pub fn new(torrent: InfoHash, offered: Methods, first: Bytes, mut rng: Rng, out: &mut Vec<u8>) -> Self {
        let private = Private::new(&mut rng);
        Self::begin(private, torrent, offered, first, rng, out)
    }

    /// The same, with a private key that is known: for conversations that were recorded.
    pub fn with_key(
        key: [u8; 20],
        torrent: InfoHash,
        offered: Methods,
        first: Bytes,
        rng: Rng,
        out: &mut Vec<u8>,
    ) -> Self {
        Self::begin(Private::from_bytes(key), torrent, offered, first, rng, out)
    }

    fn begin(
        private: Private,
        torrent: InfoHash,
        offered: Methods,
        first: Bytes,
        mut rng: Rng,
        out: &mut Vec<u8>,
    ) -> Self {
        out.extend(private.public());
        pad(&mut rng, MAX_PAD, out);
        Self { private, torrent, offered, first, rng, stage: Initiating::Key }
    }

    /// Takes from `input` what belongs to the handshake, and writes what is to be sent into `out`. Nothing is agreed as
    /// long as more has to come; what was not taken stays for the next call. It is not called again after it agreed or
    /// failed.
    pub fn handle_bytes(&mut self, input: &mut BytesMut, out: &mut Vec<u8>) -> Result<Option<Agreed>, Error> {
        loop {
            match core::mem::replace(&mut self.stage, Initiating::Over) {
                Initiating::Key => {
                    let Some(theirs) = take::<KEY_LEN>(input) else {
                        self.stage = Initiating::Key;
                        return Ok(None);
                    };
                    // An echo would have us talk to ourselves.
                    let good = Some(theirs).filter(|theirs| *theirs != self.private.public());
                    let secret = good.and_then(|theirs| self.private.secret(&theirs)).ok_or(Error::BadKey)?;
                    self.stage = self.answer(&secret, out);
                }
                Initiating::Mark { mark, ciphers } => match find(&mark, MAX_PAD, input)? {
                    true => self.stage = Initiating::Choice(ciphers),
                    false => {
                        self.stage = Initiating::Mark { mark, ciphers };
                        return Ok(None);
                    }
                },
                Initiating::Choice(mut ciphers) => {
                    let Some(mut choice) = take::<6>(input) else {
                        self.stage = Initiating::Choice(ciphers);
                        return Ok(None);
                    };
                    ciphers[1].apply(&mut choice);
                    let (mut choice, offered) = (&choice[..], self.offered);
                    let method = Methods(choice.get_u32()).sole().filter(|method| offered.has(*method));
                    let (method, left) = (method.ok_or(Error::NoMethod)?, checked_pad(choice.get_u16())?);
                    self.stage = Initiating::Padding { left, method, ciphers };
                }
                Initiating::Padding { left, method, mut ciphers } => {
                    let taken = left.min(input.len());
                    input.advance(taken);
                    ciphers[1].skip(taken);
                    if taken < left {
                        self.stage = Initiating::Padding { left: left - taken, method, ciphers };
                        return Ok(None);
                    }
                    let [encipher, decipher] = ciphers;
                    return Ok(Some(agreed(self.torrent, method, decipher, encipher, BytesMut::new())));
                }
                Initiating::Over => return Ok(None),
            }
        }
    }

    /// Tells the torrent, the methods and the first words.
    fn answer(&mut self, secret: &Secret, out: &mut Vec<u8>) -> Initiating {
        let mut ours = secret.initiators(self.torrent);
        let mut theirs = secret.responders(self.torrent);
        out.extend(secret.mark());
        out.extend(secret.mask(torrent_mark(self.torrent)));
        let mut words = vec![0; MARK_LEN];
        words.extend(self.offered.0.to_be_bytes());
        push_pad(&mut self.rng, &mut words);
        // What a handshake takes fits by far.
        let first = core::mem::take(&mut self.first);
        words.extend((first.len() as u16).to_be_bytes());
        words.extend(first);
        ours.apply(&mut words);
        out.extend(words);
        // The responder's words begin with zeros too: they look like its key stream.
        let mut mark = [0; MARK_LEN];
        theirs.apply(&mut mark);
        Initiating::Mark { mark, ciphers: [ours, theirs] }
    }
}

/// The end that let the other one in.
#[derive(Debug)]
pub struct Responder {
    private: Private,
    allowed: Methods,
    rng: Rng,
    stage: Responding,
}

#[derive(Debug)]
enum Responding {
    /// The initiator's key.
    Key,
    /// The end of its padding.
    Mark(Secret),
    /// The torrent.
    Torrent(Secret),
    /// The methods, and how much padding follows.
    Offer { torrent: InfoHash, ciphers: [Rc4; 2] },
    /// That padding, and the length of the first words.
    Padding { left: usize, torrent: InfoHash, method: Method, ciphers: [Rc4; 2] },
    /// The first words.
    First { left: usize, torrent: InfoHash, method: Method, ciphers: [Rc4; 2] },
    /// Nothing: it is over.
    Over,
}

impl Responder {
    /// Waits for an initiator. RC4 is chosen only if it does not offer to send plain, or that is not allowed.
    pub fn new(allowed: Methods, mut rng: Rng) -> Self {
        Self { private: Private::new(&mut rng), allowed, rng, stage: Responding::Key }
    }

    /// The same, with a private key that is known: for conversations that were recorded.
    pub fn with_key(key: [u8; 20], allowed: Methods, rng: Rng) -> Self {
        Self { private: Private::from_bytes(key), allowed, rng, stage: Responding::Key }
    }

    /// The same as for the [`Initiator`]; `torrent_of` knows the torrents of ours by their [marks](torrent_mark).
    ///
    /// Before the initiator has shown that it hears us, no more is written than came.
    pub fn handle_bytes(
        &mut self,
        input: &mut BytesMut,
        out: &mut Vec<u8>,
        torrent_of: impl Fn([u8; 20]) -> Option<InfoHash>,
    ) -> Result<Option<Agreed>, Error> {
        loop {
            match core::mem::replace(&mut self.stage, Responding::Over) {
                Responding::Key => {
                    let Some(theirs) = take::<KEY_LEN>(input) else {
                        self.stage = Responding::Key;
                        return Ok(None);
                    };
                    let secret = self.private.secret(&theirs).ok_or(Error::BadKey)?;
                    out.extend(self.private.public());
                    pad(&mut self.rng, MAX_PAD.min(input.len()), out);
                    self.stage = Responding::Mark(secret);
                }
                Responding::Mark(secret) => match find(&secret.mark(), MAX_PAD, input)? {
                    true => self.stage = Responding::Torrent(secret),
                    false => {
                        self.stage = Responding::Mark(secret);
                        return Ok(None);
                    }
                },
                Responding::Torrent(secret) => {
                    let Some(masked) = take(input) else {
                        self.stage = Responding::Torrent(secret);
                        return Ok(None);
                    };
                    let torrent = torrent_of(secret.mask(masked)).ok_or(Error::UnknownTorrent)?;
                    let ciphers = [secret.responders(torrent), secret.initiators(torrent)];
                    self.stage = Responding::Offer { torrent, ciphers };
                }
                Responding::Offer { torrent, mut ciphers } => {
                    let Some(mut offer) = take::<14>(input) else {
                        self.stage = Responding::Offer { torrent, ciphers };
                        return Ok(None);
                    };
                    ciphers[1].apply(&mut offer);
                    let mut offer = &offer[..];
                    if offer.get_u64() != 0 {
                        return Err(Error::BadProof);
                    }
                    let method = self.choose(Methods(offer.get_u32()))?;
                    let left = checked_pad(offer.get_u16())?;
                    self.stage = Responding::Padding { left, torrent, method, ciphers };
                }
                Responding::Padding { left, torrent, method, mut ciphers } => {
                    let taken = left.min(input.len());
                    input.advance(taken);
                    ciphers[1].skip(taken);
                    let left = left - taken;
                    let len = if left == 0 { take::<2>(input) } else { None };
                    let Some(mut len) = len else {
                        self.stage = Responding::Padding { left, torrent, method, ciphers };
                        return Ok(None);
                    };
                    ciphers[1].apply(&mut len);
                    let left = usize::from(u16::from_be_bytes(len));
                    if left > MAX_FIRST {
                        return Err(Error::TooMuch);
                    }
                    self.stage = Responding::First { left, torrent, method, ciphers };
                }
                Responding::First { left, torrent, method, mut ciphers } => {
                    if input.len() < left {
                        self.stage = Responding::First { left, torrent, method, ciphers };
                        return Ok(None);
                    }
                    let mut first = input.split_to(left);
                    ciphers[1].apply(&mut first);
                    let mut words = vec![0; MARK_LEN];
                    words.extend(Methods::only(method).0.to_be_bytes());
                    push_pad(&mut self.rng, &mut words);
                    ciphers[0].apply(&mut words);
                    out.extend(words);
                    let [encipher, decipher] = ciphers;
                    return Ok(Some(agreed(torrent, method, decipher, encipher, first)));
                }
                Responding::Over => return Ok(None),
            }
        }
    }

    fn choose(&self, offered: Methods) -> Result<Method, Error> {
        let both = offered & self.allowed;
        [Method::Plain, Method::Rc4].into_iter().find(|method| both.has(*method)).ok_or(Error::NoMethod)
    }
}

fn agreed(torrent: InfoHash, method: Method, decipher: Rc4, encipher: Rc4, first: BytesMut) -> Agreed {
    let keep = method == Method::Rc4;
    Agreed { torrent, method, decipher: keep.then_some(decipher), encipher: keep.then_some(encipher), first }
}

/// The next bytes, if all of them are there.
fn take<const N: usize>(input: &mut BytesMut) -> Option<[u8; N]> {
    let taken = *input.first_chunk()?;
    input.advance(N);
    Some(taken)
}

/// Whether the mark was found, which is then taken with everything before it. That is at most `max` bytes.
fn find(mark: &[u8], max: usize, input: &mut BytesMut) -> Result<bool, Error> {
    let window = &input[..input.len().min(max + mark.len())];
    match window.windows(mark.len()).position(|part| part == mark) {
        Some(at) => {
            input.advance(at + mark.len());
            Ok(true)
        }
        None if input.len() >= max + mark.len() => Err(Error::Padding),
        None => Ok(false),
    }
}

/// Padding of any length up to `max`.
fn pad(rng: &mut Rng, max: usize, out: &mut Vec<u8>) {
    let (start, len) = (out.len(), rng.below(max as u64 + 1) as usize);
    out.resize(start + len, 0);
    rng.fill(&mut out[start..]);
}

/// The length of a padding, and the padding, which will be enciphered.
fn push_pad(rng: &mut Rng, words: &mut Vec<u8>) {
    let len = rng.below(MAX_PAD as u64 + 1) as u16;
    words.extend(len.to_be_bytes());
    words.resize(words.len() + usize::from(len), 0);
}

fn checked_pad(len: u16) -> Result<usize, Error> {
    Some(usize::from(len)).filter(|len| *len <= MAX_PAD).ok_or(Error::Padding)
}

/// The longest padding.
const MAX_PAD: usize = 512;

/// Zeros that prove that both ends have the same keys.
const MARK_LEN: usize = 8;

/// What an initiator says before it has heard what was chosen: BitTorrent's handshake, and perhaps a few messages.
const MAX_FIRST: usize = 2048;

/// The most that an initiator says until it is agreed: both of its paddings, and its first words.
pub const MAX_INITIATION: usize = KEY_LEN + MAX_PAD + 2 * 20 + 14 + MAX_PAD + 2 + MAX_FIRST;
