//! Peers that do by hand what a client never would.

use super::content::Content;
use super::links::{Access, Socket};
use super::observe::{Shown, Spoken};
use super::trace::{Topic, Way};
use super::world::{ContentId, HostId, Role, What, World};
use bytes::{BufMut as _, Bytes, BytesMut};
use core::time::Duration;
use fast_peer_core::id::{ConnId, PeerId};
use fast_peer_core::rng::Rng;
use fast_peer_core::session::Segment;
use fast_peer_core::wire::{
    Decoder, ExtendedHandshake, Extension, ExtensionIds, Frame, Handshake, MAX_METADATA_LEN, Message,
    MetadataMessage, Offence, RawBlock, Reserved, encode, encode_handshake, encode_piece_head,
    metadata_piece_len,
};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// What a fake peer does. All of them say that they have everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// It never unchokes; or unchokes and chokes in turn, and never serves what was asked before.
    Choker {
        /// How long each turn lasts.
        flip: Option<Duration>,
    },
    /// It rejects every request.
    FalseHaver,
    /// It keeps saying things that change nothing, this often, and asks for blocks though it is choked.
    Flooder {
        /// The time between two messages.
        every: Duration,
    },
    /// It serves wrong bytes once in so many blocks.
    Liar {
        /// 1 for always.
        one_in: u64,
    },
    /// It gives out metadata that is not the torrent's.
    Metadata(MetadataLie),
    /// It says nothing at all.
    Mute,
    /// It begins to obfuscate its connection, and never gets to the end of the padding.
    Noise,
    /// It takes requests and never answers.
    Staller,
}

/// What is wrong with the metadata of a fake peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataLie {
    /// It says that there are 16 MiB, and sends pieces of that, each so long after it was asked for.
    Bomb {
        /// The time before each answer.
        every: Duration,
    },
    /// The length is right and the bytes are not.
    Junk,
    /// It has the right length and never answers.
    Mute,
    /// It says another length than the right one.
    OtherLen,
    /// It refuses every piece.
    Reject,
}

/// A fake peer: its connections, and what it does on them.
#[derive(Debug)]
pub(super) struct FakePeer {
    content: Arc<Content>,
    behaviour: Behaviour,
    peer_id: PeerId,
    rng: Rng,
    talks: BTreeMap<Socket, Talk>,
    chokes: bool,
}

/// One connection of a fake peer.
#[derive(Debug, Default)]
struct Talk {
    decoder: Decoder,
    buffer: BytesMut,
    /// The rest of a block that comes in.
    skip: usize,
    interested: bool,
    deaf: bool,
    /// Under which id the client takes metadata.
    metadata_id: Option<u8>,
    /// Pieces of metadata that it was asked for.
    asked: VecDeque<u32>,
}

impl World {
    /// Adds a fake peer of a torrent.
    pub fn add_fake(
        &mut self,
        name: &str,
        access: Access,
        content: ContentId,
        behaviour: Behaviour,
    ) -> HostId {
        let mut rng = self.rng.fork("fake").fork(name);
        let mut peer_id = *b"-XX0000-............";
        rng.fill(&mut peer_id[8..]);
        let fake = FakePeer {
            content: self.content(content).clone(),
            behaviour,
            peer_id: PeerId(peer_id),
            rng,
            talks: BTreeMap::new(),
            chokes: true,
        };
        let host = self.add_host(name, access, Role::Fake(Box::new(fake)));
        if let Some(every) = behaviour.wakes() {
            self.queue.push(self.now + every, What::Tick(host));
        }
        host
    }

    /// Lets a fake peer connect to another host.
    pub fn dial_from_fake(&mut self, host: HostId, to: HostId) {
        let remote = self.addr(to);
        self.dial(host, ConnId(u64::MAX), remote);
    }

    /// How many connections of a fake peer are open.
    pub fn fake_connections(&self, host: HostId) -> usize {
        match &self.host(host).role {
            Role::Fake(fake) => fake.talks.len(),
            _ => panic!("only a fake peer fakes"),
        }
    }

    pub(super) fn fake_opened(&mut self, socket: Socket, host: HostId) {
        let fake = self.fake(host);
        fake.talks.insert(socket, Talk::default());
        if fake.behaviour == Behaviour::Mute {
            return;
        }
        if fake.behaviour == Behaviour::Noise {
            let key = Bytes::from_static(&[0x55; 96]);
            return self.send_noise(socket, key);
        }
        let mut bytes = BytesMut::new();
        let offer = fake.metadata_offer();
        let reserved = Reserved::NONE.with_fast();
        let handshake = Handshake {
            reserved: if offer.is_some() { reserved.with_extended() } else { reserved },
            info_hash: fake.content.metainfo().swarm_hash(),
            peer_id: fake.peer_id,
        };
        encode_handshake(&handshake, &mut bytes);
        encode(&Message::HaveAll, &mut bytes);
        if let Some(offer) = offer {
            encode(&Message::Extended { id: 0, payload: offer.encode().into() }, &mut bytes);
        }
        self.fake_says(host, socket, bytes.freeze());
    }

    pub(super) fn fake_closed(&mut self, socket: Socket, host: HostId) {
        self.fake(host).talks.remove(&socket);
    }

    pub(super) fn fake_reads(&mut self, host: HostId, socket: Socket) {
        let segments = self.stream(socket.stream).reading(socket.side).1.read_all();
        let mut answer = BytesMut::new();
        for segment in segments {
            self.fake(host).hear(socket, &segment, &mut answer);
        }
        let direction = self.stream(socket.stream).reading(socket.side).1;
        direction.frames.clear();
        if !answer.is_empty() {
            self.fake_says(host, socket, answer.freeze());
        }
    }

    pub(super) fn on_tick(&mut self, host: HostId) {
        let Role::Fake(fake) = &mut self.host_mut(host).role else { return };
        let Some(every) = fake.behaviour.wakes() else { return };
        let said: Vec<(Socket, Bytes)> = fake.on_tick();
        for (socket, bytes) in said {
            self.fake_says(host, socket, bytes);
        }
        self.queue.push(self.now + every, What::Tick(host));
    }

    fn fake_says(&mut self, host: HostId, socket: Socket, bytes: Bytes) {
        let segment = Segment::Inline(bytes);
        let mut watch = core::mem::take(&mut self.stream(socket.stream).direction_mut(socket.side).watch);
        watch.feed(&segment, |spoken| {
            if let Spoken::Frame { frame, end } = spoken {
                self.line(host, Way::Out, Topic::Message, Shown(&frame));
                self.stream(socket.stream).direction_mut(socket.side).frames.push_back((end, frame));
            }
        });
        self.stream(socket.stream).direction_mut(socket.side).watch = watch;
        self.send(socket, segment);
        self.flush(socket);
    }

    fn send_noise(&mut self, socket: Socket, bytes: Bytes) {
        self.send(socket, Segment::Inline(bytes));
        self.flush(socket);
    }

    fn fake(&mut self, host: HostId) -> &mut FakePeer {
        match &mut self.host_mut(host).role {
            Role::Fake(fake) => fake,
            _ => panic!("only a fake peer fakes"),
        }
    }
}

impl FakePeer {
    /// Takes in what came on a connection, and writes what it says to that.
    fn hear(&mut self, socket: Socket, segment: &Segment, answer: &mut BytesMut) {
        let Self { behaviour, content, talks, rng, chokes, .. } = self;
        let Some(talk) = talks.get_mut(&socket) else { return };
        if matches!(behaviour, Behaviour::Mute | Behaviour::Noise) || talk.deaf {
            return;
        }
        match segment {
            Segment::Inline(bytes) => talk.buffer.put_slice(bytes),
            Segment::Payload(payload) => {
                talk.skip -= payload.len() as usize;
                return;
            }
        }
        loop {
            let skipped = talk.skip.min(talk.buffer.len());
            talk.skip -= skipped;
            let _ = talk.buffer.split_to(skipped);
            if talk.skip > 0 {
                return;
            }
            let frame = match talk.decoder.decode(&mut talk.buffer) {
                Ok(frame) => frame,
                Err(offence) => {
                    assert_eq!(offence, Offence::HandshakeProtocol, "a client keeps to the protocol");
                    // It obfuscates, which no fake peer understands; what it says from here on is noise.
                    talk.deaf = true;
                    return;
                }
            };
            match frame {
                None => return,
                Some(Frame::Handshake(_)) => {}
                Some(Frame::PieceHead { len, .. }) => talk.skip = len as usize,
                Some(Frame::Message(Message::Interested)) => {
                    talk.interested = true;
                    if behaviour.unchokes(*chokes) {
                        encode(&Message::Unchoke, answer);
                    }
                }
                Some(Frame::Message(Message::Request(block))) => {
                    behaviour.answer(content, rng, block, answer);
                }
                Some(Frame::Message(Message::Extended { id, payload })) => {
                    if let Behaviour::Metadata(lie) = behaviour {
                        lie.hear(talk, content, id, &payload, answer);
                    }
                }
                Some(Frame::Message(_)) => {}
            }
        }
    }

    /// What it says of the metadata, if anything.
    fn metadata_offer(&self) -> Option<ExtendedHandshake> {
        let Behaviour::Metadata(lie) = self.behaviour else { return None };
        let mut ids = ExtensionIds::NONE;
        ids.set(Extension::UtMetadata, METADATA_ID);
        let len = lie.len(&self.content);
        Some(ExtendedHandshake { ids, metadata_size: Some(len), ..ExtendedHandshake::default() })
    }

    fn on_tick(&mut self) -> Vec<(Socket, Bytes)> {
        if let Behaviour::Metadata(lie) = self.behaviour {
            let Self { talks, content, .. } = self;
            let answers = talks.iter_mut().filter_map(|(socket, talk)| {
                let (id, piece) = (talk.metadata_id?, talk.asked.pop_front()?);
                let mut bytes = BytesMut::new();
                lie.say(content, id, piece, &mut bytes);
                Some((*socket, bytes.freeze()))
            });
            return answers.collect();
        }
        self.chokes = !self.chokes;
        let message = match self.behaviour {
            Behaviour::Choker { .. } if self.chokes => Message::Choke,
            Behaviour::Choker { .. } => Message::Unchoke,
            _ => {
                let piece = self.rng.below(self.content.lengths().piece_count().into()) as u32;
                match self.rng.below(3) {
                    0 => Message::Have(piece),
                    1 => Message::Interested,
                    _ => Message::Request(RawBlock { piece, begin: 0, len: 1 }),
                }
            }
        };
        let mut bytes = BytesMut::new();
        encode(&message, &mut bytes);
        let bytes = bytes.freeze();
        let told = |talk: &&Talk| talk.interested || matches!(self.behaviour, Behaviour::Flooder { .. });
        self.talks.iter().filter(|(_, talk)| told(talk)).map(|(socket, _)| (*socket, bytes.clone())).collect()
    }
}

impl Behaviour {
    /// How often it does something of its own accord.
    fn wakes(self) -> Option<Duration> {
        match self {
            Self::Choker { flip } => flip,
            Self::Flooder { every } | Self::Metadata(MetadataLie::Bomb { every }) => Some(every),
            _ => None,
        }
    }

    /// Whether it answers interest with an unchoke.
    fn unchokes(self, chokes: bool) -> bool {
        match self {
            Self::Choker { flip } => flip.is_some() && !chokes,
            Self::FalseHaver | Self::Liar { .. } | Self::Staller => true,
            Self::Flooder { .. } | Self::Metadata(_) | Self::Mute | Self::Noise => false,
        }
    }

    fn answer(self, content: &Content, rng: &mut Rng, block: RawBlock, out: &mut BytesMut) {
        let RawBlock { piece, begin, len } = block;
        match self {
            Self::FalseHaver => encode(&Message::Reject(block), out),
            Self::Liar { one_in } => {
                let index = content.lengths().piece(piece).expect("a client asks for pieces that exist");
                encode_piece_head(piece, begin, len, out);
                let at = out.len();
                out.put_slice(&content.bytes(index, begin, len));
                if rng.chance(1, one_in) {
                    let wrong = at + rng.below(len.into()) as usize;
                    out[wrong] ^= 1;
                }
            }
            Self::Choker { .. }
            | Self::Flooder { .. }
            | Self::Metadata(_)
            | Self::Mute
            | Self::Noise
            | Self::Staller => {}
        }
    }
}

impl MetadataLie {
    fn len(self, content: &Content) -> u32 {
        let len = content.metainfo().info().len() as u32;
        match self {
            Self::Bomb { .. } => MAX_METADATA_LEN,
            Self::Junk | Self::Mute | Self::Reject => len,
            Self::OtherLen => len / 2 + 1,
        }
    }

    /// Takes in an extended message of a client.
    fn hear(self, talk: &mut Talk, content: &Content, id: u8, payload: &Bytes, answer: &mut BytesMut) {
        if id == 0 {
            let ids = ExtendedHandshake::parse(payload).map(|theirs| theirs.ids).unwrap_or_default();
            talk.metadata_id = ids.id(Extension::UtMetadata);
            return;
        }
        let (METADATA_ID, Some(to)) = (id, talk.metadata_id) else { return };
        if let Ok(Some(MetadataMessage::Request { piece })) = MetadataMessage::parse(payload) {
            match self {
                Self::Bomb { .. } => talk.asked.push_back(piece),
                Self::Junk | Self::OtherLen | Self::Reject => self.say(content, to, piece, answer),
                Self::Mute => {}
            }
        }
    }

    fn say(self, content: &Content, id: u8, piece: u32, out: &mut BytesMut) {
        let total_len = self.len(content);
        let message = match (self, metadata_piece_len(total_len, piece)) {
            (Self::Bomb { .. } | Self::Junk | Self::OtherLen, Some(len)) => MetadataMessage::Data {
                piece,
                total_len: Some(total_len),
                data: vec![b'?'; len as usize].into(),
            },
            _ => MetadataMessage::Reject { piece },
        };
        encode(&Message::Extended { id, payload: message.encode().into() }, out);
    }
}

/// Under which id fake peers take metadata messages.
const METADATA_ID: u8 = 3;
