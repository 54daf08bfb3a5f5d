//! One torrent: where peers, pieces, store and trackers meet.
//!
//! Every call ends in `Torrent::settle`: what a child machine says is translated there for its siblings, until all of
//! them are silent; only what concerns the world goes up to the session.

mod choking;
mod data;
mod members;
pub mod status;

use crate::bitfield::Bitfield;
use crate::id::{ConnId, InfoHash, PeerId, TorrentId};
use crate::lengths::{FileIndex, FileMap, PieceIndex};
use crate::machine::{Deadline, Machine, Outbox, Timestamp};
use crate::metainfo::Metainfo;
use crate::peer::{self, Peer};
use crate::pieces::{Order, Picker, Priority};
use crate::rng::Rng;
use crate::session::{Notice, Reason};
use crate::store::expected::Expected;
use crate::store::op::{DiskError, DiskOp, DiskOutput};
use crate::store::{self, Store};
use crate::tracker::{self, Announcer, AnnouncerAction, AnnouncerEvent};
use crate::wire::{Handshake, Reserved};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use choker::Choker;
use core::net::SocketAddr;
use core::time::Duration;
use known_peers::{KnownPeers, Source};
use members::Member;
use rate::RateLimiter;
use smart_ban::SmartBan;

pub mod address;
pub mod bans;
pub mod choker;
pub mod known_peers;
pub mod rate;
pub mod smart_ban;

/// A torrent to add to a session, and what the user wants of it.
#[derive(Clone, Debug)]
pub struct NewTorrent {
    /// What the torrent file says.
    pub metainfo: Arc<Metainfo>,
    /// How much each file is wanted, pads included; fewer entries mean [`Priority::Normal`] for the rest.
    pub priorities: Vec<Priority>,
    /// Only these pieces, whatever files they belong to: then no file is completed. Nothing means all that the files
    /// want.
    pub pieces: Option<Vec<PieceIndex>>,
    /// Which piece is begun first.
    pub order: Order,
    /// Whether the first and last piece of each wanted file come before the rest.
    pub first_last: bool,
    /// Peers that the user names.
    pub peers: Vec<SocketAddr>,
    /// The trackers to ask, in tiers: the torrent's, and those that the user adds.
    pub trackers: Vec<Vec<String>>,
    /// Bytes a second that may be read from its peers; nothing means no limit.
    pub down_bytes_per_s: Option<u64>,
    /// Bytes a second that may be written to its peers; nothing means no limit.
    pub up_bytes_per_s: Option<u64>,
    /// Whether to do no more than check what is there: no peers, no trackers.
    pub check_only: bool,
}

impl NewTorrent {
    /// Everything that `metainfo` names, from its trackers, rarest pieces first.
    pub fn new(metainfo: Arc<Metainfo>) -> Self {
        Self {
            trackers: metainfo.trackers().to_vec(),
            metainfo,
            priorities: Vec::new(),
            pieces: None,
            order: Order::Rarest,
            first_last: false,
            peers: Vec::new(),
            down_bytes_per_s: None,
            up_bytes_per_s: None,
            check_only: false,
        }
    }
}

/// What the session fixes for all its torrents.
#[derive(Clone, Debug)]
pub(crate) struct Common {
    pub(crate) peer_id: PeerId,
    pub(crate) client: String,
    pub(crate) max_peers: usize,
    pub(crate) max_requests: u32,
    pub(crate) peers_per_piece: usize,
    pub(crate) upload_slots: usize,
    pub(crate) store_budget: u64,
}

/// The machine of one torrent.
#[derive(Debug)]
pub struct Torrent {
    id: TorrentId,
    common: Arc<Common>,
    metainfo: Arc<Metainfo>,
    map: Arc<FileMap>,
    phase: Phase,
    check_only: bool,
    listen_port: u16,
    picker: Picker,
    store: Store,
    choker: Choker,
    known: KnownPeers,
    smart_ban: SmartBan<SocketAddr>,
    announcer: Announcer,
    members: BTreeMap<ConnId, Member>,
    /// When each member is due at the latest; an entry may be early, never late.
    due: BTreeSet<(Timestamp, ConnId)>,
    /// How many members owe us blocks.
    downloading: usize,
    /// Members that could take requests when there was nothing to ask them for.
    idle: BTreeSet<ConnId>,
    /// Pieces that are stored: these may be announced and served.
    stored: Bitfield,
    /// The stored pieces in the order in which they came; each peer has a cursor into it.
    completed: Vec<PieceIndex>,
    /// When peers that nothing else is written to are told of completed pieces.
    haves_due: Option<Timestamp>,
    reads: BTreeMap<u64, (ConnId, u64)>,
    next_read: u64,
    totals: Totals,
    trouble: Option<DiskError>,
    /// Whether the disk is at rest for good.
    flushed: bool,
    /// Whether requests wait for blocks to be written.
    short_of_memory: bool,
    down: RateLimiter,
    up: RateLimiter,
    senders: BTreeMap<ConnId, SocketAddr>,
    pending: Pending,
}

/// What children said, and what follows from it, within one call.
#[derive(Debug, Default)]
struct Pending {
    announcer: Outbox<AnnouncerAction>,
    peer: Outbox<peer::Action>,
    peers: Outbox<(ConnId, peer::Action)>,
    store: Outbox<store::Action>,
    /// Members whose state may have changed.
    touched: BTreeSet<ConnId>,
    /// Whether there may be work for idle members.
    work: bool,
}

/// What has gone over all connections, closed ones included.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    down_bytes: u64,
    up_bytes: u64,
    wasted_bytes: u64,
}

/// ```text
/// new ──start──► checking ──► running ──► stopping ──► stopped
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    New,
    Checking,
    Running,
    Stopping,
    Stopped,
}

/// What a torrent asks of its session.
#[derive(Debug)]
pub(crate) enum Action {
    Disconnect { conn: ConnId, reason: Reason },
    Disk { job: u32, op: DiskOp },
    Notice(Notice),
    Stopped,
    Tracker(AnnouncerAction),
    WantWrite { conn: ConnId },
}

impl Torrent {
    pub(crate) fn new(
        id: TorrentId,
        now: Timestamp,
        new: NewTorrent,
        common: Arc<Common>,
        rng: &Rng,
    ) -> Self {
        let map = Arc::new(new.metainfo.file_map().clone());
        let lengths = map.lengths();
        let expected = if new.metainfo.info_hash().is_some() {
            let hashes: Vec<u8> =
                lengths.pieces().filter_map(|p| new.metainfo.piece_hash(p)).flatten().collect();
            Expected::Sha1(hashes.into())
        } else {
            Expected::Merkle(lengths.pieces().filter_map(|p| new.metainfo.piece_root(p)).collect())
        };
        let files = (0..map.file_count()).map(FileIndex);
        let priority =
            |file: FileIndex| new.priorities.get(file.as_usize()).copied().unwrap_or(Priority::Normal);
        let whole_files = new.pieces.is_none();
        let wanted = files.clone().map(|file| whole_files && priority(file) != Priority::Skip).collect();
        let mut picker = Picker::new(lengths.clone(), new.order, rng.fork("picker"));
        picker.set_peers_per_piece(common.peers_per_piece);
        match new.pieces {
            None => piece_priorities(&map, priority, new.first_last)
                .into_iter()
                .for_each(|(piece, priority)| picker.set_priority(piece, priority)),
            Some(pieces) => {
                let others = lengths.pieces().filter(|piece| !pieces.contains(piece));
                others.for_each(|piece| picker.set_priority(piece, Priority::Skip));
            }
        }
        let known = KnownPeers::new(known_peers::Limits::default(), rng.fork("known peers"));
        let store = Store::new(Arc::clone(&map), expected, wanted, common.store_budget);
        let mut torrent = Self {
            id,
            phase: Phase::New,
            check_only: new.check_only,
            listen_port: 0,
            picker,
            store,
            choker: Choker::new(
                common.upload_slots,
                TURN_PIECES * u64::from(lengths.piece_len_max()),
                rng.fork("choker"),
            ),
            known,
            smart_ban: SmartBan::new(),
            announcer: Announcer::new(
                tracker::parse_tiers(new.trackers.iter().map(|tier| tier.iter().map(String::as_str))),
                new.metainfo.is_private(),
                rng.fork("announcer"),
            ),
            members: BTreeMap::new(),
            due: BTreeSet::new(),
            downloading: 0,
            idle: BTreeSet::new(),
            stored: Bitfield::none(lengths.piece_count()),
            completed: Vec::new(),
            haves_due: None,
            reads: BTreeMap::new(),
            next_read: 0,
            totals: Totals::default(),
            trouble: None,
            flushed: false,
            short_of_memory: false,
            down: RateLimiter::new(now, new.down_bytes_per_s),
            up: RateLimiter::new(now, new.up_bytes_per_s),
            senders: BTreeMap::new(),
            pending: Pending::default(),
            metainfo: new.metainfo,
            map,
            common,
        };
        torrent.add_peers(now, new.peers, Source::Manual);
        torrent
    }

    /// The hash by which the swarm knows the torrent.
    pub fn info_hash(&self) -> InfoHash {
        self.metainfo.swarm_hash()
    }

    /// Which blocks are missing, asked for and here.
    pub fn picker(&self) -> &Picker {
        &self.picker
    }

    /// What is being hashed and written.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The pieces that may be announced and served.
    pub fn stored(&self) -> &Bitfield {
        &self.stored
    }

    /// How many bytes of `file` are stored from its start on without a gap.
    pub fn stored_prefix(&self, file: FileIndex) -> u64 {
        let Some((first, last)) = self.map.pieces_of(file) else { return 0 };
        let lengths = self.map.lengths();
        let pieces = (first.get()..=last.get()).filter_map(|index| lengths.piece(index));
        let spans = pieces.take_while(|piece| self.stored.has(*piece)).flat_map(|piece| {
            self.map.spans(piece, 0, lengths.piece_len(piece)).filter(|span| span.file == file)
        });
        spans.map(|span| u64::from(span.len)).sum()
    }

    /// The addresses that it knows.
    pub fn known_peers(&self) -> &KnownPeers {
        &self.known
    }

    /// Its connections and what each peer has.
    pub fn peers(&self) -> impl Iterator<Item = (&Peer, &Bitfield)> {
        self.members.values().map(|member| (&member.peer, &member.has))
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    pub(crate) fn start(&mut self, now: Timestamp, out: &mut Outbox<Action>) {
        self.phase = Phase::Checking;
        self.store.handle_event(now, store::Event::Check, &mut self.pending.store);
        self.settle(now, out);
    }

    pub(crate) fn set_listen_port(&mut self, port: u16) {
        self.listen_port = port;
    }

    /// The torrent's own limits on what is read and written.
    pub(crate) fn limits(&mut self) -> (&mut RateLimiter, &mut RateLimiter) {
        (&mut self.down, &mut self.up)
    }

    /// When the torrent's own limit next lets something be read.
    pub(crate) fn down_due(&self) -> Option<Deadline> {
        self.down.poll_timeout()
    }

    /// When the torrent's own limit next lets something be written.
    pub(crate) fn up_due(&self) -> Option<Deadline> {
        self.up.poll_timeout()
    }

    pub(crate) fn add_peers(
        &mut self,
        now: Timestamp,
        peers: impl IntoIterator<Item = SocketAddr>,
        source: Source,
    ) {
        for peer in peers {
            if let Err(refusal) = self.known.learn(now, peer, source, None) {
                tracing::debug!(%peer, %refusal, "address not taken in");
            }
        }
    }

    /// Ends requests, brings the disk to rest, tells the trackers; [`Action::Stopped`] follows.
    pub(crate) fn stop(&mut self, now: Timestamp, out: &mut Outbox<Action>) {
        if self.phase >= Phase::Stopping {
            return;
        }
        self.phase = Phase::Stopping;
        for conn in self.members.keys().copied().collect::<Vec<_>>() {
            self.disconnect(now, conn, Reason::Stopping, out);
        }
        self.announcer.handle_event(now, AnnouncerEvent::Stop, &mut self.pending.announcer);
        self.store.handle_event(now, store::Event::Flush, &mut self.pending.store);
        self.settle(now, out);
    }

    pub(crate) fn handle_disk(
        &mut self,
        now: Timestamp,
        job: u32,
        result: Result<DiskOutput, DiskError>,
        out: &mut Outbox<Action>,
    ) {
        self.store.handle_event(now, store::Event::Done { job, result }, &mut self.pending.store);
        self.settle(now, out);
    }

    pub(crate) fn handle_tracker(&mut self, now: Timestamp, event: AnnouncerEvent, out: &mut Outbox<Action>) {
        self.announcer.handle_event(now, event, &mut self.pending.announcer);
        self.end_if_stopped(out);
        self.settle(now, out);
    }

    pub(crate) fn handle_timeout(&mut self, now: Timestamp, out: &mut Outbox<Action>) {
        while let Some(&(at, conn)) = self.due.first()
            && at <= now
        {
            self.due.pop_first();
            let Some(member) = self.members.get_mut(&conn) else { continue };
            member.due = None;
            member.peer.handle_timeout(now, &mut self.pending.peer);
            self.collect(conn);
        }
        self.store.handle_timeout(now, &mut self.pending.store);
        self.announcer.handle_timeout(now, &mut self.pending.announcer);
        if self.phase == Phase::Running {
            self.rechoke_if_due(now);
            if self.haves_due.is_some_and(|at| at <= now) {
                self.haves_due = None;
                for member in self.members.values_mut() {
                    if !member.wants_write && member.peer.wants_write(&self.completed) {
                        member.wants_write = true;
                        out.push_back(Action::WantWrite { conn: member.peer.conn() });
                    }
                }
            }
        }
        self.settle(now, out);
    }

    pub(crate) fn poll_timeout(&self) -> Option<Deadline> {
        let mut next = self.due.first().map(|(at, _)| Deadline { at: *at, why: "peer" });
        next = Deadline::earlier(next, self.store.poll_timeout());
        if self.phase == Phase::Running {
            next = Deadline::earlier(next, self.announcer.poll_timeout());
            next = Deadline::earlier(next, self.choker.poll_timeout());
            next = Deadline::earlier(next, self.haves_due.map(|at| Deadline { at, why: "haves" }));
        }
        next
    }

    /// The torrent has stopped when the disk is at rest and every tracker has heard of it.
    fn end_if_stopped(&mut self, out: &mut Outbox<Action>) {
        if self.phase == Phase::Stopping && self.flushed && self.announcer.is_stopped() {
            self.phase = Phase::Stopped;
            out.push_back(Action::Stopped);
        }
    }

    /// Translates what the children said until there is nothing left to say.
    fn settle(&mut self, now: Timestamp, out: &mut Outbox<Action>) {
        loop {
            if let Some((conn, action)) = self.pending.peers.pop_front() {
                self.on_peer_action(now, conn, action, out);
            } else if let Some(action) = self.pending.store.pop_front() {
                self.on_store_action(now, action, out);
            } else if let Some(action) = self.pending.announcer.pop_front() {
                out.push_back(Action::Tracker(action));
            } else if core::mem::take(&mut self.pending.work) {
                self.pending.touched.append(&mut self.idle);
            } else if let Some(conn) = self.pending.touched.pop_first() {
                self.after_touch(now, conn, out);
            } else {
                break;
            }
        }
    }
}

/// What each piece is worth: as much as the dearest file that it holds a part of.
fn piece_priorities(
    map: &FileMap,
    priority: impl Fn(FileIndex) -> Priority,
    first_last: bool,
) -> Vec<(PieceIndex, Priority)> {
    let mut worth = vec![Priority::Skip; map.lengths().piece_count() as usize];
    for file in (0..map.file_count()).map(FileIndex).filter(|file| !map.is_pad(*file)) {
        let Some((first, last)) = map.pieces_of(file) else { continue };
        let of_file = priority(file);
        for piece in &mut worth[first.as_usize()..=last.as_usize()] {
            *piece = of_file.max(*piece);
        }
        if first_last && of_file != Priority::Skip {
            worth[first.as_usize()] = Priority::High;
            worth[last.as_usize()] = Priority::High;
        }
    }
    map.lengths().pieces().zip(worth).filter(|(_, priority)| *priority != Priority::Normal).collect()
}

fn handshake(common: &Common, info_hash: InfoHash) -> Handshake {
    let reserved = Reserved::NONE.with_extended().with_fast();
    Handshake { reserved, info_hash, peer_id: common.peer_id }
}

/// How long a completed piece may wait to be told of: until then it rides on what is written anyway.
const HAVE_DELAY: Duration = Duration::from_millis(100);

/// The pieces that a taker may have from a seeder before it makes room for others.
const TURN_PIECES: u64 = 20;
