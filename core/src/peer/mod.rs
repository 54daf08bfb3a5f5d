//! One connection to a peer, from handshake to close.
//!
//! ```text
//! connecting ──Connected──► greeting ──their handshake──► open ──► closed
//!                  (an accepted connection starts here)
//! ```
//!
//! A peer knows neither other peers nor pieces nor the disk: it says what arrived and takes what its torrent decides.

mod claims;
mod extensions;
mod intake;
mod requests;
#[cfg(test)]
mod tests;
mod uploads;

use crate::bitfield::Bitfield;
use crate::id::ConnId;
use crate::lengths::{Block, FileMap, Lengths, PieceIndex};
use crate::machine::{Deadline, Machine, Outbox, Timestamp};
use crate::session::{Reason, WriteBatch};
use crate::store::payload::Payload;
use crate::wire::{
    self, Decoder, ExtendedHandshake, ExtensionIds, Handshake, HolepunchMessage, Message, MetadataMessage,
    PIECE_HEAD_LEN, PexMessage, RawBlock,
};
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::{Bytes, BytesMut};
use claims::Claims;
use core::net::SocketAddr;
use core::time::Duration;
use requests::Requests;
use uploads::Uploads;

/// The state of one connection.
#[derive(Debug)]
pub struct Peer {
    conn: ConnId,
    remote: SocketAddr,
    outgoing: bool,
    setup: Setup,
    decoder: Decoder,
    stage: Stage,
    theirs: Option<Handshake>,
    extended: ExtendedHandshake,
    /// The extensions that we told them we take messages of.
    offered: ExtensionIds,
    /// Pieces of the metadata to be written: what goes before each, and its bytes.
    metadata: VecDeque<(BytesMut, Bytes)>,
    /// What they said of pieces while the torrent's were not known.
    claims: Claims,
    they_choke: bool,
    we_choke: bool,
    they_want: bool,
    we_want: bool,
    requests: Requests,
    uploads: Uploads,
    /// Messages to be written.
    control: BytesMut,
    /// The block whose head was read.
    arriving: Option<Arriving>,
    /// Whether they told us of their node.
    told_dht_port: bool,
    /// Pieces that we may ask for while choked.
    allowed_to_us: Vec<PieceIndex>,
    /// Pieces that they may ask for while choked.
    allowed_to_them: Vec<PieceIndex>,
    /// Pieces that they would like to be asked for, the latest last.
    suggested: VecDeque<PieceIndex>,
    /// How much of the torrent's list of completed pieces they have been told.
    told: usize,
    opened: Timestamp,
    last_received: Timestamp,
    last_sent: Timestamp,
    nuisance: Nuisance,
    down_bytes: u64,
    up_bytes: u64,
    wasted_bytes: u64,
}

/// What a peer must know of its torrent and session.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The handshake that we send.
    pub ours: Handshake,
    /// The torrent's pieces, if they are known; else [`Event::Pieces`] says so later.
    pub map: Option<Arc<FileMap>>,
    /// The port at which peers reach us; zero if none does.
    pub listen_port: u16,
    /// The most requests to keep out (limit L2).
    pub max_requests: u32,
    /// What we call ourselves (BEP 10, `v`).
    pub client: String,
}

/// What can happen to a [`Peer`], besides bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Ask for these blocks.
    Assigned(Vec<Block>),
    /// This block came from elsewhere.
    Cancel(Block),
    /// The connection is open.
    Connected,
    /// Say what we have: the answer to [`Action::Greeted`].
    Hello(Hello),
    /// Say this about a connection to another peer, if they take such messages.
    Holepunch(HolepunchMessage),
    /// Whether we want something that they have.
    Interest(bool),
    /// A completed piece is missing again (BEP 54). Nothing of it is served from now on.
    Lost {
        /// Which.
        piece: PieceIndex,
        /// Where in the torrent's list of completed pieces it was; those behind it have moved up.
        place: usize,
    },
    /// Say this about the metadata, if they know what that is.
    Metadata(MetadataMessage),
    /// Tell them of other peers, if they take such messages.
    Pex(PexMessage),
    /// Say anew which extensions we know: since the last time something has changed.
    Offer(Offer),
    /// The torrent's pieces are known. What they said of them before is looked at.
    Pieces(Arc<FileMap>),
    /// A read ended; nothing if it failed.
    Read {
        /// As given.
        token: u64,
        /// The bytes.
        payload: Option<Payload>,
    },
    /// A request of theirs can't be served: the answer to [`Action::Requested`].
    Refuse(Block),
    /// A request of theirs can be served: the answer to [`Action::Requested`].
    Serve(Block),
    /// Whether we serve them.
    SetChoke(bool),
    /// Say whether we want nothing more (BEP 21).
    UploadOnly(bool),
}

/// What we say of ourselves when the handshakes are exchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The pieces that may be announced.
    pub have: Bitfield,
    /// How many completed pieces of the torrent's list are in it.
    pub told: usize,
    /// Pieces that they may ask for while choked.
    pub allowed: Vec<PieceIndex>,
    /// Whether we want nothing more (BEP 21).
    pub upload_only: bool,
    /// What else we can do.
    pub offer: Offer,
}

/// What we say of the extension protocol (BEP 10).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// The extensions of which we take messages.
    pub ids: ExtensionIds,
    /// The length of the metadata, if we have it (BEP 9).
    pub metadata_len: Option<u32>,
}

/// What a [`Peer`] says or asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A block arrived that was asked for.
    Arrived {
        /// Which.
        block: Block,
        /// Its bytes.
        payload: Payload,
    },
    /// What they have, in full; replaces what was known.
    Bitfield(Bitfield),
    /// The port of their node of the DHT (BEP 5); said once.
    DhtPort(u16),
    /// They have a piece no more (BEP 54).
    DontHave(PieceIndex),
    /// Close the connection: this peer is closed.
    Disconnect(Reason),
    /// They said something of their extensions: see [`Peer::extended`].
    Extended,
    /// A request of ours came to nothing.
    Freed(Block),
    /// The handshakes are exchanged: say [`Event::Hello`].
    Greeted(Handshake),
    /// They have one more piece.
    Have(PieceIndex),
    /// They say something about a connection to another peer.
    Holepunch(HolepunchMessage),
    /// Whether they want something that we have changed.
    Interested(bool),
    /// The port at which they take connections.
    ListenPort(u16),
    /// They say something about the metadata.
    Metadata(MetadataMessage),
    /// They tell of other peers.
    Pex(PexMessage),
    /// Read this for them.
    Read {
        /// Comes back with the answer.
        token: u64,
        /// The piece.
        piece: PieceIndex,
        /// Where in the piece.
        begin: u32,
        /// How much.
        len: u32,
    },
    /// They ask for this: answer with [`Event::Serve`] or [`Event::Refuse`].
    Requested(Block),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Connecting,
    Greeting,
    Open,
    Closed,
}

#[derive(Debug)]
enum Arriving {
    Unasked(u32),
    Wanted(Block),
}

/// Counts of what is legal but tiresome.
#[derive(Debug, Default)]
struct Nuisance {
    bogus_rejects: u32,
    choked_requests: u32,
    lost: u64,
    messages: u64,
    refused: u32,
    refused_since: Timestamp,
    unasked_blocks: u32,
}

impl Peer {
    /// A peer that we dial: nothing is said before [`Event::Connected`].
    pub fn outgoing(now: Timestamp, conn: ConnId, remote: SocketAddr, setup: Setup) -> Self {
        Self::new(now, conn, remote, setup, true)
    }

    /// A peer that connected to us, and whose handshake names our torrent.
    pub fn incoming(now: Timestamp, conn: ConnId, remote: SocketAddr, setup: Setup) -> Self {
        Self::new(now, conn, remote, setup, false)
    }

    fn new(now: Timestamp, conn: ConnId, remote: SocketAddr, setup: Setup, outgoing: bool) -> Self {
        let mut decoder = Decoder::new();
        decoder.set_piece_count(setup.map.as_ref().map(|map| map.lengths().piece_count()));
        Self {
            conn,
            remote,
            outgoing,
            requests: Requests::new(now, setup.max_requests),
            setup,
            decoder,
            stage: if outgoing { Stage::Connecting } else { Stage::Greeting },
            theirs: None,
            extended: ExtendedHandshake::default(),
            offered: ExtensionIds::NONE,
            metadata: VecDeque::new(),
            claims: Claims::default(),
            they_choke: true,
            we_choke: true,
            they_want: false,
            we_want: false,
            uploads: Uploads::default(),
            control: BytesMut::new(),
            arriving: None,
            told_dht_port: false,
            allowed_to_us: Vec::new(),
            allowed_to_them: Vec::new(),
            suggested: VecDeque::new(),
            told: 0,
            opened: now,
            last_received: now,
            last_sent: now,
            nuisance: Nuisance::default(),
            down_bytes: 0,
            up_bytes: 0,
            wasted_bytes: 0,
        }
    }

    /// The connection's name.
    pub fn conn(&self) -> ConnId {
        self.conn
    }

    /// The other end.
    pub fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// Whether we dialled.
    pub fn is_outgoing(&self) -> bool {
        self.outgoing
    }

    /// Whether the handshakes are exchanged.
    pub fn is_open(&self) -> bool {
        self.stage == Stage::Open
    }

    /// Whether nothing has come for so long that the peer may have lost this connection. Time makes it so, and what comes
    /// ends it.
    pub fn is_silent(&self, now: Timestamp) -> bool {
        self.last_received + SILENCE <= now
    }

    /// Whether the connection is still being opened.
    pub fn is_connecting(&self) -> bool {
        self.stage == Stage::Connecting
    }

    /// Their handshake, once it was read.
    pub fn handshake(&self) -> Option<&Handshake> {
        self.theirs.as_ref()
    }

    /// Their extended handshakes, joined.
    pub fn extended(&self) -> &ExtendedHandshake {
        &self.extended
    }

    /// Whether both sides speak the fast extension (BEP 6).
    pub fn is_fast(&self) -> bool {
        self.setup.ours.reserved.fast() && self.theirs.is_some_and(|theirs| theirs.reserved.fast())
    }

    /// Whether both sides have a node of the DHT (BEP 5).
    pub fn is_dht(&self) -> bool {
        self.setup.ours.reserved.dht() && self.theirs.is_some_and(|theirs| theirs.reserved.dht())
    }

    /// Whether they refuse to serve us.
    pub fn they_choke(&self) -> bool {
        self.they_choke
    }

    /// Whether we refuse to serve them.
    pub fn we_choke(&self) -> bool {
        self.we_choke
    }

    /// Whether they want something that we have.
    pub fn they_want(&self) -> bool {
        self.they_want
    }

    /// Whether we told them that we want something.
    pub fn we_want(&self) -> bool {
        self.we_want
    }

    /// Whether they owed us a block for too long, and have not sent one since.
    pub fn is_snubbed(&self) -> bool {
        self.requests.is_snubbed()
    }

    /// When the connection was decided on.
    pub fn opened(&self) -> Timestamp {
        self.opened
    }

    /// Pieces that we may ask for while choked.
    pub fn allowed_to_us(&self) -> &[PieceIndex] {
        &self.allowed_to_us
    }

    /// Pieces that they would like to be asked for (BEP 6).
    pub fn suggested(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        self.suggested.iter().copied()
    }

    /// Whether they say that they want nothing more (BEP 21).
    pub fn is_upload_only(&self) -> bool {
        self.extended.upload_only == Some(true)
    }

    /// How many more blocks to ask for now.
    pub fn room(&self) -> usize {
        let may = self.stage == Stage::Open && self.we_want;
        if may && (!self.they_choke || !self.allowed_to_us.is_empty()) { self.requests.room() } else { 0 }
    }

    /// Requests that have no answer yet.
    pub fn outstanding(&self) -> usize {
        self.requests.outstanding()
    }

    /// The blocks that were asked for and have not begun to arrive, in the order in which they were asked for.
    pub fn owed(&self) -> impl Iterator<Item = Block> + '_ {
        self.requests.owed()
    }

    /// The block that is arriving, if it was ever asked for.
    pub fn arriving(&self) -> Option<Block> {
        match self.arriving {
            Some(Arriving::Wanted(block)) => Some(block),
            Some(Arriving::Unasked(_)) | None => None,
        }
    }

    /// Requests of theirs that have no answer yet.
    pub fn queued_uploads(&self) -> usize {
        self.uploads.len()
    }

    /// Whether they owe us a block.
    pub fn owes(&self) -> bool {
        self.requests.owes() || self.arriving.is_some()
    }

    /// The bytes that they owe us, roughly.
    pub fn owed_bytes(&self) -> u64 {
        self.requests.owed_bytes()
    }

    /// The rate at which blocks arrive.
    pub fn rate_bytes_per_s(&self) -> u64 {
        self.requests.rate_bytes_per_s()
    }

    /// The bytes of blocks that arrived, asked for or not.
    pub fn down_bytes(&self) -> u64 {
        self.down_bytes
    }

    /// The bytes of blocks that were written to them.
    pub fn up_bytes(&self) -> u64 {
        self.up_bytes
    }

    /// The bytes of blocks that were of no use.
    pub fn wasted_bytes(&self) -> u64 {
        self.wasted_bytes
    }

    /// The lengths of the blocks that will arrive next, after the one that is arriving, if they answer in order.
    pub fn read_plan(&self, plan: &mut Vec<u32>) {
        self.requests.plan(plan);
    }

    /// Whether [`poll_stream`](Self::poll_stream) would write something, given the torrent's list of completed pieces.
    pub fn wants_write(&self, completed: &[PieceIndex]) -> bool {
        !self.control.is_empty()
            || self.stage == Stage::Open
                && (self.told < completed.len()
                    || self.requests.has_to_send()
                    || self.next_upload_len().is_some())
    }

    /// Appends what is to be written now: messages, haves, requests, then metadata and blocks as far as `payload_budget` goes.
    /// Requests and blocks are encoded here and no earlier, so that a choke or a cancel can still withdraw them.
    pub fn poll_stream(
        &mut self,
        now: Timestamp,
        payload_budget: usize,
        completed: &[PieceIndex],
        batch: &mut WriteBatch,
        out: &mut Outbox<Action>,
    ) {
        let before = batch.len();
        batch.open.unsplit(self.control.split());
        if self.stage == Stage::Open {
            for piece in completed.iter().skip(self.told).take(MAX_HAVES) {
                wire::encode(&Message::Have(piece.get()), &mut batch.open);
                self.told += 1;
            }
            while let Some(block) = self.requests.send(now) {
                wire::encode(&Message::Request(raw(block)), &mut batch.open);
            }
            let mut left = payload_budget;
            self.write_metadata(&mut left, batch);
            while let Some((block, payload)) = self.uploads.take_ready(left.saturating_sub(PIECE_HEAD_LEN)) {
                left -= block.len() as usize + PIECE_HEAD_LEN;
                self.up_bytes += u64::from(block.len());
                wire::encode_piece_head(block.piece().get(), block.begin(), block.len(), &mut batch.open);
                batch.push_payload(payload);
            }
            self.read_next(out);
        }
        batch.seal();
        if batch.len() > before {
            self.last_sent = now;
        }
    }

    /// The length of the next block or piece of the metadata to be written, with its head.
    pub fn next_upload_len(&self) -> Option<usize> {
        self.next_metadata_len().or(self.uploads.peek_ready().map(|len| len as usize + PIECE_HEAD_LEN))
    }

    fn say(&mut self, message: &Message) {
        wire::encode(message, &mut self.control);
    }

    fn close(&mut self, reason: Reason, out: &mut Outbox<Action>) {
        self.stage = Stage::Closed;
        out.push_back(Action::Disconnect(reason));
    }

    fn lengths(&self) -> Option<&Lengths> {
        self.setup.map.as_deref().map(FileMap::lengths)
    }

    fn on_hello(&mut self, Hello { have, told, allowed, upload_only, offer }: Hello) {
        // BEP 6: one of these three comes first, where both speak the extension.
        if self.is_fast() && have.ones() == 0 {
            self.say(&Message::HaveNone);
        } else if self.is_fast() && have.is_all() {
            self.say(&Message::HaveAll);
        } else if have.ones() > 0 {
            self.say(&Message::Bitfield(Bytes::copy_from_slice(have.as_bytes())));
        }
        self.told = told;
        self.say_extended(ExtendedHandshake {
            client: Some(self.setup.client.clone()),
            port: Some(self.setup.listen_port).filter(|port| *port != 0),
            request_queue: Some(MAX_QUEUED as u32),
            upload_only: upload_only.then_some(true),
            your_ip: Some(self.remote.ip()),
            ..offer.handshake()
        });
        self.offered = offer.ids;
        if self.is_fast() {
            for piece in &allowed {
                self.say(&Message::AllowedFast(piece.get()));
            }
            self.allowed_to_them = allowed;
        }
        if self.is_dht() && self.setup.listen_port != 0 {
            self.say(&Message::Port(self.setup.listen_port));
        }
    }

    fn on_choke(&mut self, choke: bool) {
        if self.stage != Stage::Open || self.we_choke == choke {
            return;
        }
        self.we_choke = choke;
        self.nuisance.choked_requests = 0;
        if !choke {
            return self.say(&Message::Unchoke);
        }
        self.say(&Message::Choke);
        let fast = self.is_fast();
        let allowed = &self.allowed_to_them;
        let dropped = self.uploads.retain(|block| fast && allowed.contains(&block.piece()));
        if fast {
            // BEP 6: choke first, then a reject for each request that it ends.
            dropped.into_iter().for_each(|block| self.say(&Message::Reject(raw(block))));
        }
    }

    fn on_pieces(&mut self, map: Arc<FileMap>, out: &mut Outbox<Action>) {
        self.decoder.set_piece_count(Some(map.lengths().piece_count()));
        match core::mem::take(&mut self.claims).check(map.lengths()) {
            Ok((has, allowed)) => {
                self.allowed_to_us.extend(allowed);
                out.extend(has.map(Action::Bitfield));
            }
            Err(offence) => self.close(offence.into(), out),
        }
        self.setup.map = Some(map);
    }
}

impl Machine for Peer {
    type Event = Event;
    type Action = Action;

    fn handle_event(&mut self, now: Timestamp, event: Event, out: &mut Outbox<Action>) {
        if self.stage == Stage::Closed {
            return;
        }
        match event {
            Event::Assigned(blocks) => self.requests.assign(&blocks),
            Event::Cancel(block) => {
                if self.requests.cancel(block) == Some(true) {
                    self.say(&Message::Cancel(raw(block)));
                }
            }
            Event::Connected if self.stage == Stage::Connecting => {
                self.stage = Stage::Greeting;
                self.opened = now;
                self.last_received = now;
                wire::encode_handshake(&self.setup.ours, &mut self.control);
            }
            Event::Connected => {}
            Event::Hello(hello) => self.on_hello(hello),
            Event::Holepunch(message) => self.on_holepunch(message),
            Event::Interest(want) => {
                if self.stage == Stage::Open && self.we_want != want {
                    self.we_want = want;
                    self.say(if want { &Message::Interested } else { &Message::NotInterested });
                }
            }
            Event::Lost { piece, place } => self.on_lost(piece, place),
            Event::Metadata(message) => self.on_metadata(message),
            Event::Offer(offer) => {
                self.say_extended(offer.handshake());
                self.offered = offer.ids;
            }
            Event::Pex(message) => self.on_pex(&message),
            Event::Pieces(map) => self.on_pieces(map, out),
            Event::Read { token, payload } => {
                let failed = self.uploads.read(token, payload.as_ref());
                failed.into_iter().for_each(|block| self.refuse(raw(block)));
                self.read_next(out);
            }
            Event::Refuse(block) => self.refuse(raw(block)),
            // A choke may have been decided on since the request was read.
            Event::Serve(block) if self.we_choke && !self.allowed_to_them.contains(&block.piece()) => {
                self.refuse(raw(block));
            }
            Event::Serve(block) => {
                self.uploads.push(block);
                self.read_next(out);
            }
            Event::SetChoke(choke) => self.on_choke(choke),
            Event::UploadOnly(upload_only) => self.say_upload_only(upload_only),
        }
    }

    fn handle_timeout(&mut self, now: Timestamp, out: &mut Outbox<Action>) {
        match self.stage {
            Stage::Closed => return,
            Stage::Connecting if self.opened + CONNECT_TIMEOUT <= now => {
                return self.close(Reason::ConnectTimeout, out);
            }
            Stage::Greeting if self.opened + HANDSHAKE_TIMEOUT <= now => {
                return self.close(Reason::HandshakeTimeout, out);
            }
            Stage::Open if self.last_received + IDLE_TIMEOUT <= now => return self.close(Reason::Idle, out),
            _ => {}
        }
        if self.stage == Stage::Open && self.last_sent + KEEP_ALIVE <= now {
            self.say(&Message::KeepAlive);
            self.last_sent = now;
        }
        out.extend(self.requests.time_out(now).into_iter().map(Action::Freed));
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let due = match self.stage {
            Stage::Closed => return None,
            Stage::Connecting => Deadline { at: self.opened + CONNECT_TIMEOUT, why: "connect timeout" },
            Stage::Greeting => Deadline { at: self.opened + HANDSHAKE_TIMEOUT, why: "handshake timeout" },
            Stage::Open => {
                let idle = Deadline { at: self.last_received + IDLE_TIMEOUT, why: "idle timeout" };
                let keep_alive = Deadline { at: self.last_sent + KEEP_ALIVE, why: "keep-alive" };
                Deadline::earlier(Some(idle), Some(keep_alive))?
            }
        };
        let request = self.requests.timeout().map(|at| Deadline { at, why: "request timeout" });
        Deadline::earlier(Some(due), request)
    }
}

fn raw(block: Block) -> RawBlock {
    RawBlock { piece: block.piece().get(), begin: block.begin(), len: block.len() }
}

/// How long a connection may take to open (limit L8).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// How long an open connection may be without a handshake, however slowly bytes drip in (limit L8).
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long nothing may be heard. Clients send a keep-alive every two minutes at the latest (BEP 3).
const IDLE_TIMEOUT: Duration = Duration::from_secs(150);

/// Silence after which the same peer is believed to have no use for a connection when it comes by another one.
const SILENCE: Duration = Duration::from_secs(15);

/// How long we say nothing before a keep-alive.
const KEEP_ALIVE: Duration = Duration::from_secs(90);

/// Haves in one pull.
const MAX_HAVES: usize = 1024;

/// Requests that a peer may have with us (limit L3).
const MAX_QUEUED: usize = 500;
