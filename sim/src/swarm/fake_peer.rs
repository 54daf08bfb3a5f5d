//! Peers that do by hand what a client never would.

use super::content::Content;
use super::links::{Access, Socket};
use super::observe::Spoken;
use super::trace::{Topic, Way};
use super::world::{ContentId, HostId, Role, What, World};
use bytes::{BufMut as _, Bytes, BytesMut};
use core::time::Duration;
use fast_peer_core::id::{ConnId, PeerId};
use fast_peer_core::rng::Rng;
use fast_peer_core::session::Segment;
use fast_peer_core::wire::{
    Decoder, Frame, Handshake, Message, RawBlock, Reserved, encode, encode_handshake, encode_piece_head,
};
use std::collections::BTreeMap;
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
    /// It says nothing at all.
    Mute,
    /// It takes requests and never answers.
    Staller,
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
        let mut bytes = BytesMut::new();
        let handshake = Handshake {
            reserved: Reserved::NONE.with_fast(),
            info_hash: fake.content.metainfo().swarm_hash(),
            peer_id: fake.peer_id,
        };
        encode_handshake(&handshake, &mut bytes);
        encode(&Message::HaveAll, &mut bytes);
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
                self.line(host, Way::Out, Topic::Message, &frame);
                self.stream(socket.stream).direction_mut(socket.side).frames.push_back((end, frame));
            }
        });
        self.stream(socket.stream).direction_mut(socket.side).watch = watch;
        self.send(socket, segment);
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
        if *behaviour == Behaviour::Mute {
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
            let frame = talk.decoder.decode(&mut talk.buffer).expect("a client keeps to the protocol");
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
                Some(Frame::Message(_)) => {}
            }
        }
    }

    fn on_tick(&mut self) -> Vec<(Socket, Bytes)> {
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
            Self::Flooder { every } => Some(every),
            _ => None,
        }
    }

    /// Whether it answers interest with an unchoke.
    fn unchokes(self, chokes: bool) -> bool {
        match self {
            Self::Choker { flip } => flip.is_some() && !chokes,
            Self::FalseHaver | Self::Liar { .. } | Self::Staller => true,
            Self::Flooder { .. } | Self::Mute => false,
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
            Self::Choker { .. } | Self::Flooder { .. } | Self::Mute | Self::Staller => {}
        }
    }
}
