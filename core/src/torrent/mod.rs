//! One torrent: where peers, pieces, store and trackers meet.
//!
//! What needs to know the torrent's pieces is in [`Content`], which is there from the start or comes later, when peers
//! have told the metadata. The connections are the same before and after.
//!
//! Every call ends in `Torrent::settle`: what a child machine says is translated there for its siblings, until all of
//! them are silent; only what concerns the world goes up to the session.

mod choking;
mod content;
mod data;
mod exchange;
mod joining;
mod members;
mod new;
mod punching;
mod sources;
pub mod status;

pub use content::Content;
pub use new::{NewContent, NewTorrent};

use crate::bitfield::Bitfield;
use crate::id::{ConnId, InfoHash, InfoHashes, PeerId, TorrentId};
use crate::ip_filter::IpFilter;
use crate::machine::{Deadline, Machine, Outbox, Timestamp};
use crate::metadata::{self, Metadata};
use crate::metainfo::Metainfo;
use crate::peer::{self, Peer};
use crate::pex::{self, Pex};
use crate::rng::Rng;
use crate::session::{Notice, Reason};
use crate::store;
use crate::store::op::{DiskError, DiskOp, DiskOutput};
use crate::tracker::{self, Announcer, AnnouncerAction, AnnouncerEvent};
use crate::wire::{Handshake, PexFlags, Reserved};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use discovery::Discovery;
use holepunch::Holepunch;
use known_peers::{KnownPeers, Source};
use members::Member;
use priority::Place;
use rate::RateLimiter;

pub mod bans;
pub mod choker;
pub mod discovery;
pub mod holepunch;
pub mod known_peers;
pub mod priority;
pub mod rate;
pub mod smart_ban;

/// What the session fixes for all its torrents.
#[derive(Clone, Debug)]
pub(crate) struct Common {
    pub(crate) peer_id: PeerId,
    pub(crate) client: String,
    pub(crate) max_peers: usize,
    pub(crate) max_requests: u32,
    pub(crate) peers_per_piece: usize,
    pub(crate) upload_slots: usize,
    pub(crate) pex: bool,
    /// Whether there is uTP.
    pub(crate) utp: bool,
    pub(crate) store_budget: u64,
    /// Whether there is a DHT.
    pub(crate) dht: bool,
}

/// The machine of one torrent.
#[derive(Debug)]
pub struct Torrent {
    id: TorrentId,
    common: Arc<Common>,
    rng: Rng,
    hashes: InfoHashes,
    phase: Phase,
    /// Whether peers and trackers are talked to: where the metadata is there at the start, not before the files are
    /// checked.
    online: bool,
    check_only: bool,
    seed_only: bool,
    listen_port: u16,
    /// Whether this host has no network.
    network_is_down: bool,
    metadata: Metadata,
    discover: bool,
    /// Nothing if peers are not to tell each other of peers.
    pex: Option<Pex>,
    /// Nothing if peers are not to bring about connections to others.
    punch: Option<Holepunch>,
    /// The files that the magnet link selects.
    select_only: Vec<(u32, u32)>,
    content: Option<Content>,
    known: KnownPeers,
    announcer: Announcer,
    discovery: Discovery,
    /// What the discovery was told last.
    told: Option<sources::Told>,
    members: BTreeMap<ConnId, Member>,
    /// When each member is due at the latest; an entry may be early, never late.
    due: BTreeSet<(Timestamp, ConnId)>,
    /// How many members owe us blocks.
    downloading: usize,
    /// Members that could take requests when there was nothing to ask them for.
    idle: BTreeSet<ConnId>,
    totals: Totals,
    /// Whether peers were told last that we want nothing more.
    told_upload_only: bool,
    down: RateLimiter,
    up: RateLimiter,
    senders: BTreeMap<ConnId, SocketAddr>,
    pending: Pending,
}

/// What children said, and what follows from it, within one call.
#[derive(Debug, Default)]
struct Pending {
    announcer: Outbox<AnnouncerAction>,
    discovery: Outbox<discovery::Action>,
    metadata: Outbox<metadata::Action>,
    pex: Outbox<pex::Action>,
    punch: Outbox<holepunch::Action>,
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
///               ┌───────────── the metadata is there ─────────────┐
/// new ──start───┴──► fetching ──content──────────────────────────┴─► checking ──► running ──► stopping ──► stopped
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    New,
    Fetching,
    Checking,
    Running,
    Stopping,
    Stopped,
}

/// What a torrent asks of its session.
#[derive(Debug)]
pub(crate) enum Action {
    Discovery(discovery::Action),
    Disconnect {
        conn: ConnId,
        reason: Reason,
    },
    Disk {
        work: Work,
        op: DiskOp,
    },
    Node(SocketAddr),
    Notice(Notice),
    /// Open a connection by uTP at once, as its other end does.
    Punch {
        remote: SocketAddr,
    },
    /// A peer says at which address it sees us.
    Seen {
        by: SocketAddr,
        ip: IpAddr,
    },
    Stopped,
    Tracker(AnnouncerAction),
    WantWrite {
        conn: ConnId,
    },
}

/// Whose job a disk operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    Metadata(u32),
    Store(u32),
}

impl Torrent {
    pub(crate) fn new(
        id: TorrentId,
        now: Timestamp,
        new: NewTorrent,
        common: Arc<Common>,
        rng: &Rng,
    ) -> Self {
        let metadata = match &new.content {
            Some(content) => Metadata::known(Arc::clone(&content.metainfo)),
            None => Metadata::wanted(new.hashes),
        };
        let private = new.content.as_ref().is_some_and(|content| content.metainfo.is_private());
        let pex = common.pex && new.discover && !private;
        let mut torrent = Self {
            id,
            hashes: new.hashes,
            phase: Phase::New,
            online: false,
            check_only: new.check_only,
            seed_only: new.seed_only,
            listen_port: 0,
            network_is_down: false,
            metadata,
            discover: new.discover,
            pex: pex.then(Pex::new),
            punch: (pex && common.utp).then(Holepunch::new),
            select_only: new.select_only,
            content: new.content.map(|content| Content::new(content, &common, rng)),
            known: KnownPeers::new(known_peers::Limits::default(), rng.fork("known peers")),
            announcer: Announcer::new(
                tracker::parse_tiers(new.trackers.iter().map(|tier| tier.iter().map(String::as_str))),
                private,
                rng.fork("announcer"),
            ),
            discovery: if private || !common.dht || !new.discover {
                Discovery::forbidden(rng.fork("discovery"))
            } else {
                Discovery::new(rng.fork("discovery"))
            },
            told: None,
            members: BTreeMap::new(),
            due: BTreeSet::new(),
            downloading: 0,
            idle: BTreeSet::new(),
            totals: Totals::default(),
            told_upload_only: false,
            down: RateLimiter::new(now, new.down_bytes_per_s),
            up: RateLimiter::new(now, new.up_bytes_per_s),
            senders: BTreeMap::new(),
            pending: Pending::default(),
            rng: rng.clone(),
            common,
        };
        torrent.add_peers(now, new.peers, Source::Manual);
        if !private {
            torrent.add_peers(now, new.met, Source::Resume);
        }
        torrent
    }

    /// The hash by which the swarm knows the torrent.
    pub fn info_hash(&self) -> InfoHash {
        self.hashes.swarm()
    }

    /// How far the metadata is.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// What the torrent is, once that is proved.
    pub fn metainfo(&self) -> Option<&Arc<Metainfo>> {
        self.metadata.metainfo()
    }

    /// Its pieces and files, once the metadata is known and the driver has said where they go.
    pub fn content(&self) -> Option<&Content> {
        self.content.as_ref()
    }

    /// The addresses that it knows.
    pub fn known_peers(&self) -> &KnownPeers {
        &self.known
    }

    /// Its connections and what each peer has: nothing before the metadata is known.
    pub fn peers(&self) -> impl Iterator<Item = (&Peer, &Bitfield)> {
        self.members.values().map(|member| (&member.peer, &member.has))
    }

    /// Where connections worked: peers for the next run to begin with. None of a private torrent, whose peers have to
    /// come from its trackers each time (BEP 27).
    pub fn met(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.known.proven().filter(|_| !self.is_private())
    }

    /// Whether peers may only come from the trackers (BEP 27), as far as that is known.
    pub fn is_private(&self) -> bool {
        self.metainfo().is_some_and(|metainfo| metainfo.is_private())
    }

    /// Whether peers are wanted from wherever they are.
    pub(crate) fn is_discoverable(&self) -> bool {
        self.online && self.discover && !self.is_private()
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    pub(crate) fn start(&mut self, now: Timestamp, out: &mut Outbox<Action>) {
        if self.content.is_some() {
            self.check_files(now);
        } else {
            self.phase = Phase::Fetching;
            self.go_online(now);
        }
        self.settle(now, out);
    }

    /// Says what the torrent holds, and what is wanted of that. It comes once, and is the torrent that the hashes name.
    pub(crate) fn set_content(&mut self, now: Timestamp, content: NewContent, out: &mut Outbox<Action>) {
        if self.phase != Phase::Fetching || !self.hashes.are_among(content.metainfo.hashes()) {
            return;
        }
        let metainfo = Arc::clone(&content.metainfo);
        self.content = Some(Content::new(content, &self.common, &self.rng));
        self.metadata.handle_event(now, metadata::Event::Known(metainfo), &mut self.pending.metadata);
        self.introduce_members(now);
        self.check_files(now);
        self.settle(now, out);
    }

    fn check_files(&mut self, now: Timestamp) {
        let Some(content) = &mut self.content else { return };
        self.phase = Phase::Checking;
        content.store.handle_event(now, store::Event::Check, &mut self.pending.store);
    }

    fn go_online(&mut self, now: Timestamp) {
        if !self.online && !self.check_only {
            self.online = true;
            self.announcer.handle_event(now, AnnouncerEvent::Start, &mut self.pending.announcer);
        }
    }

    /// Before the start.
    pub(crate) fn init_ip_filter(&mut self, filter: &Arc<IpFilter>) {
        self.known.set_filter(filter);
    }

    /// Ends the connections to addresses that are blocked from now on.
    pub(crate) fn set_ip_filter(&mut self, now: Timestamp, filter: &Arc<IpFilter>, out: &mut Outbox<Action>) {
        self.known.set_filter(filter);
        let blocked = self.members.values().filter(|member| filter.blocks(member.peer.remote().ip()));
        for conn in blocked.map(|member| member.peer.conn()).collect::<Vec<_>>() {
            self.disconnect(now, conn, Reason::Filtered, out);
        }
        self.settle(now, out);
    }

    /// Peers see us here.
    pub(crate) fn set_place(&mut self, now: Timestamp, place: Place) {
        self.known.set_place(place);
        self.tell_own(now);
    }

    /// Peers reach us at this port.
    pub(crate) fn set_listen_port(&mut self, now: Timestamp, port: u16) {
        self.listen_port = port;
        self.tell_own(now);
    }

    /// Tells trackers anew where we are.
    pub(crate) fn announce_again(&mut self, now: Timestamp, out: &mut Outbox<Action>) {
        if self.online {
            let announcer = &mut self.pending.announcer;
            self.announcer.handle_event(now, AnnouncerEvent::NetworkChanged, announcer);
            self.settle(now, out);
        }
    }

    pub(crate) fn set_network_is_down(&mut self, is_down: bool) {
        self.network_is_down = is_down;
    }

    /// The network is another one: whoever could not be reached perhaps can, and nodes that knew us know an old address.
    pub(crate) fn handle_network_changed(&mut self, now: Timestamp, out: &mut Outbox<Action>) {
        if self.online {
            self.known.retry_soon(now);
            let discovery = &mut self.pending.discovery;
            self.discovery.handle_event(now, discovery::Event::NetworkChanged, discovery);
            self.settle(now, out);
        }
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
        self.learn(now, peers, source, None);
    }

    /// `source` named these peers; `teller` is the node among those, if it was one.
    pub(crate) fn on_peers_found(
        &mut self,
        now: Timestamp,
        peers: Vec<SocketAddr>,
        source: Source,
        teller: Option<IpAddr>,
        out: &mut Outbox<Action>,
    ) {
        let peers = peers.into_iter().map(|peer| (peer, PexFlags::default())).collect();
        self.on_peers_told(now, peers, source, teller, out);
    }

    /// The same, with what `teller`, which can be a peer, says of them.
    fn on_peers_told(
        &mut self,
        now: Timestamp,
        peers: Vec<(SocketAddr, PexFlags)>,
        source: Source,
        teller: Option<IpAddr>,
        out: &mut Outbox<Action>,
    ) {
        if peers.is_empty() || self.is_private() && source != Source::Tracker {
            return;
        }
        self.learn(now, peers.iter().map(|(peer, _)| *peer), source, teller);
        out.push_back(Action::Notice(Notice::Peers { torrent: self.id, source, peers }));
    }

    fn learn(
        &mut self,
        now: Timestamp,
        peers: impl IntoIterator<Item = SocketAddr>,
        source: Source,
        teller: Option<IpAddr>,
    ) {
        for peer in peers {
            if let Err(refusal) = self.known.learn(now, peer, source, teller) {
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
        self.online = false;
        self.punch = None;
        for conn in self.members.keys().copied().collect::<Vec<_>>() {
            self.disconnect(now, conn, Reason::Stopping, out);
        }
        self.announcer.handle_event(now, AnnouncerEvent::Stop, &mut self.pending.announcer);
        self.discovery.handle_event(now, discovery::Event::Stop, &mut self.pending.discovery);
        if let Some(content) = &mut self.content {
            content.store.handle_event(now, store::Event::Flush, &mut self.pending.store);
        }
        self.settle(now, out);
        self.end_if_stopped(out);
    }

    pub(crate) fn handle_disk(
        &mut self,
        now: Timestamp,
        work: Work,
        result: Result<DiskOutput, DiskError>,
        out: &mut Outbox<Action>,
    ) {
        match (work, &mut self.content) {
            (Work::Metadata(job), _) => self.on_metadata_read(now, job, result),
            (Work::Store(job), Some(content)) => {
                content.store.handle_event(now, store::Event::Done { job, result }, &mut self.pending.store);
            }
            (Work::Store(_), None) => {}
        }
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
        if let Some(content) = &mut self.content {
            content.store.handle_timeout(now, &mut self.pending.store);
        }
        self.announcer.handle_timeout(now, &mut self.pending.announcer);
        self.metadata.handle_timeout(now, &mut self.pending.metadata);
        if let Some(pex) = &mut self.pex {
            pex.handle_timeout(now, &mut self.pending.pex);
        }
        if let Some(punch) = &mut self.punch {
            punch.handle_timeout(now, &mut self.pending.punch);
        }
        self.discovery.handle_timeout(now, &mut self.pending.discovery);
        self.rechoke_if_due(now);
        self.tell_haves_if_due(now, out);
        self.settle(now, out);
    }

    pub(crate) fn poll_timeout(&self) -> Option<Deadline> {
        let mut next = self.due.first().map(|(at, _)| Deadline { at: *at, why: "peer" });
        if self.online {
            next = Deadline::earlier(next, self.announcer.poll_timeout());
            next = Deadline::earlier(next, self.metadata.poll_timeout());
            next = Deadline::earlier(next, self.pex.as_ref().and_then(Pex::poll_timeout));
            next = Deadline::earlier(next, self.punch.as_ref().and_then(Holepunch::poll_timeout));
            next = Deadline::earlier(next, self.discovery.poll_timeout());
        }
        if let Some(content) = &self.content {
            next = Deadline::earlier(next, content.store.poll_timeout());
            if self.phase == Phase::Running {
                next = Deadline::earlier(next, content.choker.poll_timeout());
                next = Deadline::earlier(next, content.haves_due.map(|at| Deadline { at, why: "haves" }));
            }
        }
        next
    }

    /// The torrent has stopped when the disk is at rest and every tracker has heard of it.
    fn end_if_stopped(&mut self, out: &mut Outbox<Action>) {
        let at_rest = self.content.as_ref().is_none_or(|content| content.flushed);
        if self.phase == Phase::Stopping && at_rest && self.announcer.is_stopped() {
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
            } else if let Some(action) = self.pending.metadata.pop_front() {
                self.on_metadata_action(now, action, out);
            } else if let Some(action) = self.pending.pex.pop_front() {
                self.on_pex_action(now, action, out);
            } else if let Some(action) = self.pending.punch.pop_front() {
                self.on_punch_action(now, action, out);
            } else if let Some(action) = self.pending.announcer.pop_front() {
                out.push_back(Action::Tracker(action));
            } else if let Some(action) = self.pending.discovery.pop_front() {
                out.push_back(Action::Discovery(action));
            } else if core::mem::take(&mut self.pending.work) {
                self.pending.touched.append(&mut self.idle);
            } else if let Some(conn) = self.pending.touched.pop_first() {
                self.after_touch(now, conn, out);
            } else if !self.tell_discovery(now) {
                break;
            }
        }
    }
}

fn handshake(common: &Common, info_hash: InfoHash, dht: bool) -> Handshake {
    let reserved = Reserved::NONE.with_extended().with_fast();
    let reserved = if dht { reserved.with_dht() } else { reserved };
    Handshake { reserved, info_hash, peer_id: common.peer_id }
}

/// How long a completed piece may wait to be told of: until then it rides on what is written anyway.
const HAVE_DELAY: Duration = Duration::from_millis(100);
