//! The whole client as one machine: what a driver sees.
//!
//! Facts go in, each with the time at which it holds; decisions come out. The driver's rule, which the production driver
//! and both simulators obey: *one input; drain the actions; pull the bytes; read the deadline; wait.*
//!
//! Payload and control bytes cross apart: [`Session::handle_bytes`] reads messages, and when it comes to the block of a
//! `piece` it says how long that is; the driver reads it wherever it likes and hands it over by
//! [`Session::handle_payload`].

mod action;
mod config;
mod conns;
mod cutter;
mod dht;
mod event;
mod jobs;
mod link;
mod local;
mod reachable;
mod reason;
mod seen;
mod utp;

pub use crate::torrent::status::{Status, Waiting};
pub use crate::torrent::{NewContent, NewTorrent};
pub use crate::utp::Transmit;
pub use action::{Action, Intake, Notice, Segment, WriteBatch};
pub use config::{Config, Transports};
pub use dht::{DhtConfig, Found};
pub use event::{Event, HttpAnswer, HttpError, NetError};
pub use link::{Encryption, Policy};
pub use reason::Reason;
pub use utp::Transport;

use self::utp::Ways;
use crate::dht::Dht;
use crate::id::{ConnId, InfoHash, JobId, PeerId, TorrentId};
use crate::ip_filter::IpFilter;
use crate::lsd::{self, Lsd};
use crate::machine::{Deadline, Machine as _, Outbox, Timestamp};
use crate::mse::torrent_mark;
use crate::portmap::{self, PortMapper};
use crate::rng::Rng;
use crate::torrent::known_peers::Source;
use crate::torrent::rate::RateLimiter;
use crate::torrent::{self, Common, Content, Torrent};
use crate::tracker::{UdpAction, UdpEvent, UdpTrackers};
use crate::utp::{StreamId, Utp, is_utp};
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::BytesMut;
use conns::Conn;
use core::net::SocketAddr;
use core::time::Duration;
use dht::Network;
use jobs::{Ask, Job};
use reachable::Surroundings;
use seen::Seen;

/// How long a stop may take.
pub const STOP_LIMIT: Duration = Duration::from_secs(5);

/// A client: its torrents, its connections, and what they have in common.
#[derive(Debug)]
pub struct Session {
    config: Config,
    common: Arc<Common>,
    rng: Rng,
    torrents: BTreeMap<TorrentId, Slot>,
    by_hash: BTreeMap<InfoHash, TorrentId>,
    /// The torrents by the names that they have in obfuscated handshakes.
    marks: BTreeMap<[u8; 20], InfoHash>,
    conns: BTreeMap<ConnId, Conn>,
    half_open: usize,
    /// Accepted connections that have begun to obfuscate and not come to an end.
    responding: usize,
    jobs: BTreeMap<JobId, Job>,
    asks: BTreeMap<u64, Ask>,
    next_conn: u64,
    next_job: u64,
    next_torrent: u64,
    next_ask: u64,
    actions: Outbox<Action>,
    udp: UdpTrackers,
    /// Nothing if peers are not looked for in the local network.
    lsd: Option<Lsd>,
    /// Nothing without a DHT.
    network: Option<Network>,
    /// Nothing without uTP.
    utp: Option<Utp>,
    /// The streams that carry connections, or are to.
    streams: BTreeMap<StreamId, ConnId>,
    datagrams: VecDeque<(SocketAddr, Vec<u8>)>,
    /// Where peers are let in; zero if they aren't.
    listen_port: u16,
    filter: Arc<IpFilter>,
    seen: Seen,
    /// Nothing if the router is left alone.
    mapper: Option<PortMapper>,
    surroundings: Surroundings,
    down: RateLimiter,
    up: RateLimiter,
    /// Connections that may read no more until there is memory, or the limit lets them.
    starving: VecDeque<ConnId>,
    /// Connections with blocks to write until the limit lets them.
    throttled: BTreeSet<ConnId>,
    /// Torrents that would dial if there were places.
    crowded: BTreeSet<TorrentId>,
    due: BTreeSet<(Timestamp, Due)>,
    stop_by: Option<Timestamp>,
    stopped: bool,
    now: Timestamp,
    pending: Pending,
}

/// What children said, and what follows from it, within one call.
#[derive(Debug, Default)]
struct Pending {
    torrent: Outbox<torrent::Action>,
    torrents: Outbox<(TorrentId, torrent::Action)>,
    /// Torrents whose state may have changed.
    touched: BTreeSet<TorrentId>,
    settling: bool,
    lsd: Outbox<lsd::Action>,
    udp: Outbox<UdpAction>,
    dht: Outbox<crate::dht::Action>,
    mapper: Outbox<portmap::Action>,
    utp: Outbox<crate::utp::Action>,
    draining_utp: bool,
    /// Connections that have something to say to their streams.
    pulls: VecDeque<ConnId>,
}

#[derive(Debug)]
struct Slot {
    torrent: Torrent,
    due: Option<Timestamp>,
    remove: bool,
    /// Whether it is called out in the local network.
    called: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Announce,
    Carrier(ConnId),
    Greeting(ConnId),
    Patience(u64),
    Recovery,
    Torrent(TorrentId),
}

impl Session {
    /// A session without torrents. Equal seeds and equal inputs give equal actions.
    pub fn new(config: Config, seed: [u8; 32], start: Timestamp) -> Self {
        let rng = Rng::new(seed);
        let filter = Arc::clone(&config.ip_filter);
        let common = Common {
            peer_id: config.peer_id(&mut rng.fork("peer id")),
            client: config.client.clone(),
            max_peers: config.max_peers,
            max_requests: config.max_requests,
            peers_per_piece: config.peers_per_piece,
            upload_slots: config.upload_slots,
            pex: config.pex,
            utp: config.transports.utp,
            store_budget: config.store_budget,
            dht: config.dht.is_some(),
        };
        Self {
            common: Arc::new(common),
            torrents: BTreeMap::new(),
            by_hash: BTreeMap::new(),
            marks: BTreeMap::new(),
            conns: BTreeMap::new(),
            half_open: 0,
            responding: 0,
            jobs: BTreeMap::new(),
            asks: BTreeMap::new(),
            next_conn: 0,
            next_job: 0,
            next_torrent: 0,
            next_ask: 0,
            actions: Outbox::new(),
            udp: UdpTrackers::new(rng.fork("udp trackers")),
            lsd: config.lsd.then(|| Lsd::new(rng.fork("lsd"))),
            network: config.dht.as_ref().map(|dht| Network::new(start, dht, &filter, &rng.fork("dht"))),
            utp: config.transports.utp.then(|| Utp::new(self::utp::for_session(&config), rng.fork("utp"))),
            streams: BTreeMap::new(),
            datagrams: VecDeque::new(),
            listen_port: 0,
            filter,
            seen: Seen::default(),
            mapper: (config.port_map != portmap::Mode::Off).then(|| {
                PortMapper::new(config.port_map, config.transports.protocols(), rng.fork("port mapper"))
            }),
            surroundings: Surroundings::default(),
            down: RateLimiter::new(start, config.down_bytes_per_s),
            up: RateLimiter::new(start, config.up_bytes_per_s),
            starving: VecDeque::new(),
            throttled: BTreeSet::new(),
            crowded: BTreeSet::new(),
            due: BTreeSet::new(),
            stop_by: None,
            stopped: false,
            now: start,
            pending: Pending::default(),
            config,
            rng,
        }
    }

    /// What carries connections.
    pub fn transports(&self) -> Transports {
        self.config.transports
    }

    /// Adds a torrent and starts it: an input like any other. A torrent that is there already is not added twice.
    pub fn add_torrent(&mut self, now: Timestamp, mut new: NewTorrent) -> TorrentId {
        self.set_now(now);
        let info_hash = new.hashes.swarm();
        if let Some(id) = self.by_hash.get(&info_hash) {
            return *id;
        }
        let id = TorrentId(self.next_torrent);
        self.next_torrent += 1;
        let rng = self.rng.fork_nth("torrent", id.0);
        let names = core::mem::take(&mut new.peer_names);
        let nodes = core::mem::take(&mut new.nodes);
        let mut torrent = Torrent::new(id, now, new, Arc::clone(&self.common), &rng);
        torrent.set_listen_port(now, self.announced_port());
        torrent.init_ip_filter(&self.filter);
        torrent.set_place(now, self.seen.place(self.listen_port));
        torrent.set_network_is_down(self.surroundings.is_down());
        self.torrents.insert(id, Slot { torrent, due: None, remove: false, called: false });
        self.by_hash.insert(info_hash, id);
        self.marks.insert(torrent_mark(info_hash), info_hash);
        self.with_torrent(now, id, |torrent, out| torrent.start(now, out));
        for (host, port) in names {
            let job = self.mint_job(Job::ResolvePeer { torrent: id, port });
            self.actions.push_back(Action::Resolve { job, host });
        }
        if self.torrents.get(&id).is_some_and(|slot| !slot.torrent.is_private()) {
            self.learn_named_nodes(now, nodes);
        }
        id
    }

    /// Says what a torrent holds of which only the hash was known, and what the user wants of that: an input like any
    /// other. The check of its files begins. What does not have that hash, or comes a second time, changes nothing.
    pub fn set_content(&mut self, now: Timestamp, torrent: TorrentId, content: NewContent) {
        self.set_now(now);
        self.with_torrent(now, torrent, |torrent, out| torrent.set_content(now, content, out));
    }

    /// Takes in a fact.
    pub fn handle_event(&mut self, now: Timestamp, event: Event) {
        self.set_now(now);
        match event {
            Event::AddPeers { torrent, peers } => {
                self.with_torrent(now, torrent, |torrent, _| torrent.add_peers(now, peers, Source::Manual));
            }
            Event::CancelLookup { lookup } => self.cancel_lookup(now, lookup),
            Event::Closed { conn, error } => self.on_lost(now, conn, error),
            Event::ConnectFailed { conn, error } => self.on_tcp_failed(now, conn, error),
            Event::Connected { conn } => self.on_tcp_open(now, conn),
            Event::Datagram { from, data } if self.is_from_router(from) => {
                self.tell_mapper(now, portmap::Event::Datagram { from, data });
            }
            // Messages of the DHT are dictionaries; no tracker's answer begins like one (BEP 5, 15).
            Event::Datagram { from, data } if self.network.is_some() && data.first() == Some(&b'd') => {
                self.tell_dht(now, crate::dht::Event::Datagram { from, data });
            }
            Event::Datagram { from, data } if self.utp.is_some() && is_utp(&data) => {
                self.on_utp_datagram(now, from, data);
            }
            Event::Datagram { from, data } => self.tell_udp(now, UdpEvent::Datagram { from, data }),
            Event::DiskDone { job, result } => {
                if let Some(Job::Disk { torrent, work }) = self.jobs.remove(&job) {
                    self.with_torrent(now, torrent, |torrent, out| {
                        torrent.handle_disk(now, work, result, out);
                    });
                    self.feed(now);
                }
            }
            Event::HttpDone { job, result } => self.on_http(now, job, result),
            Event::LearnNodes { nodes } => self.tell_dht(now, crate::dht::Event::Learn(nodes)),
            Event::Listening { port } => {
                self.listen_port = port;
                self.ask_router(now);
                self.announce_port(now);
                self.tell_lsd(now, lsd::Event::Listening { port });
                self.tell_place();
            }
            Event::Multicast { from, data } => self.tell_lsd(now, lsd::Event::Datagram { from, data }),
            Event::NetworkChanged { addresses, router } => self.on_network_changed(now, addresses, router),
            Event::RemoveTorrent { torrent } => {
                if let Some(slot) = self.torrents.get_mut(&torrent) {
                    slot.remove = true;
                    self.with_torrent(now, torrent, |torrent, out| torrent.stop(now, out));
                }
            }
            Event::Resolved { job, result } => self.on_resolved(now, job, result),
            Event::RestoreNodes { saved } => self.tell_dht(now, crate::dht::Event::Restore(saved)),
            Event::SetIpFilter { filter } => self.set_ip_filter(now, filter),
            Event::SetLimits { down_bytes_per_s, up_bytes_per_s } => {
                self.down.set_rate(now, down_bytes_per_s);
                self.up.set_rate(now, up_bytes_per_s);
                self.feed(now);
                self.unthrottle(now);
            }
            Event::Stop => self.on_stop(now),
            Event::UpnpDone { job, result } => self.on_upnp(now, job, result),
        }
    }

    /// Does what is due. A call that is early, or made twice, changes nothing.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.set_now(now);
        self.recover_from_sleep(now);
        while let Some(&(at, due)) = self.due.first()
            && at <= now
        {
            self.due.pop_first();
            match due {
                Due::Announce => self.announce_again(now),
                Due::Carrier(conn) => self.on_carrier_due(now, conn),
                Due::Greeting(conn) => self.on_greeting_timeout(conn),
                Due::Patience(ask) => self.on_patience(now, ask),
                Due::Recovery => self.recover(now),
                Due::Torrent(id) => {
                    if let Some(slot) = self.torrents.get_mut(&id) {
                        slot.due = None;
                        self.with_torrent(now, id, |torrent, out| torrent.handle_timeout(now, out));
                    }
                }
            }
        }
        self.udp.handle_timeout(now, &mut self.pending.udp);
        self.drain_udp(now);
        if let Some(lsd) = &mut self.lsd {
            lsd.handle_timeout(now, &mut self.pending.lsd);
        }
        self.drain_lsd(now);
        if let Some(network) = &mut self.network {
            network.dht.handle_timeout(now, &mut self.pending.dht);
            self.drain_dht(now);
        }
        if let Some(mapper) = &mut self.mapper {
            mapper.handle_timeout(now, &mut self.pending.mapper);
        }
        self.drain_mapper(now);
        self.on_utp_timeout(now);
        if self.limits_due().is_some_and(|due| due.at <= now) {
            self.feed(now);
            self.unthrottle(now);
        }
        if self.stop_by.is_some_and(|at| at <= now) {
            self.say_stopped();
        }
    }

    /// The next action. They are to be drained after every input.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Puts the next datagrams into `buffer`, which it empties first: as many as may leave for one remote with one call,
    /// `max_segments` at most. `None` when nothing waits.
    pub fn poll_transmit(
        &mut self,
        now: Timestamp,
        buffer: &mut BytesMut,
        max_segments: usize,
    ) -> Option<Transmit> {
        self.set_now(now);
        buffer.clear();
        if let Some((to, data)) = self.datagrams.pop_front() {
            buffer.extend_from_slice(&data);
            return Some(Transmit { to, segment_len: data.len() });
        }
        self.utp.as_mut()?.poll_transmit(now, buffer, max_segments)
    }

    /// The next deadline. Every input changes it.
    pub fn poll_timeout(&self) -> Option<Deadline> {
        let mut next = self.due.first().map(|(at, due)| Deadline {
            at: *at,
            why: match due {
                Due::Announce => "announce anew",
                Due::Carrier(_) => "connection",
                Due::Greeting(_) => "handshake timeout",
                Due::Patience(_) => "tracker timeout",
                Due::Recovery => "another network",
                Due::Torrent(_) => "torrent",
            },
        });
        next = Deadline::earlier(next, self.udp.poll_timeout());
        next = Deadline::earlier(next, self.lsd.as_ref().and_then(Lsd::poll_timeout));
        next = Deadline::earlier(next, self.dht().and_then(Dht::poll_timeout));
        next = Deadline::earlier(next, self.mapper.as_ref().and_then(PortMapper::poll_timeout));
        next = Deadline::earlier(next, self.utp.as_ref().and_then(Utp::poll_timeout));
        next = Deadline::earlier(next, self.stop_by.map(|at| Deadline { at, why: "stop limit" }));
        Deadline::earlier(next, self.limits_due())
    }

    /// The identity that peers see.
    pub fn peer_id(&self) -> PeerId {
        self.common.peer_id
    }

    /// The torrents, in the order in which they came.
    pub fn torrents(&self) -> impl Iterator<Item = (TorrentId, &Torrent)> {
        self.torrents.iter().map(|(id, slot)| (*id, &slot.torrent))
    }

    /// A torrent's state.
    pub fn torrent(&self, id: TorrentId) -> Option<&Torrent> {
        self.torrents.get(&id).map(|slot| &slot.torrent)
    }

    /// The pieces and files of a torrent, once they are known.
    pub fn content(&self, id: TorrentId) -> Option<&Content> {
        self.torrent(id)?.content()
    }

    /// A summary of a torrent for people, and what it waits for.
    pub fn status(&self, id: TorrentId) -> Option<Status> {
        let mut status = self.torrents.get(&id)?.torrent.status(self.now);
        if let Some(Waiting::Dht { nodes }) = &mut status.waiting {
            *nodes = self.asked_nodes(id);
        }
        Some(status)
    }

    /// How many connections there are, and how many of them are being opened.
    pub fn connections(&self) -> (usize, usize) {
        (self.conns.len(), self.half_open)
    }

    /// Time never goes backwards in here.
    fn set_now(&mut self, now: Timestamp) {
        assert!(now >= self.now, "a driver's clock does not go backwards");
        self.notice_sleep(now);
        self.now = now;
    }

    /// Lets a torrent handle something, and does what it asks for.
    fn with_torrent<R>(
        &mut self,
        now: Timestamp,
        id: TorrentId,
        handle: impl FnOnce(&mut Torrent, &mut Outbox<torrent::Action>) -> R,
    ) -> Option<R> {
        let result = handle(&mut self.torrents.get_mut(&id)?.torrent, &mut self.pending.torrent);
        self.pending.torrents.extend(self.pending.torrent.drain(..).map(|action| (id, action)));
        self.pending.touched.insert(id);
        // What a torrent asks for can have an answer at once, which brings us back here.
        if !self.pending.settling {
            self.settle_all(now);
        }
        Some(result)
    }

    fn settle_all(&mut self, now: Timestamp) {
        self.pending.settling = true;
        self.settle(now);
        self.pending.settling = false;
    }

    fn settle(&mut self, now: Timestamp) {
        loop {
            if let Some((id, action)) = self.pending.torrents.pop_front() {
                self.on_torrent_action(now, id, action);
            } else if let Some(id) = self.pending.touched.pop_first() {
                self.dial(now, id);
                self.call_or_not(now, id);
                self.file_due(id);
            } else if let Some(conn) = self.pending.pulls.pop_front() {
                self.pull(now, conn);
            } else {
                break;
            }
        }
    }

    fn on_torrent_action(&mut self, now: Timestamp, id: TorrentId, action: torrent::Action) {
        match action {
            torrent::Action::Discovery(action) => self.on_discovery(now, id, action),
            torrent::Action::Disconnect { conn, reason } => {
                let entry = self.end(conn, reason);
                let failed = matches!(
                    reason,
                    Reason::HandshakeTimeout | Reason::NotObfuscated | Reason::Obfuscation(_)
                );
                if let Some(entry) = entry {
                    if failed {
                        self.fall_back(now, &entry);
                    }
                    self.dial_crowded(now);
                }
            }
            torrent::Action::Disk { work, op } => {
                let job = self.mint_job(Job::Disk { torrent: id, work });
                self.actions.push_back(Action::Disk { job, torrent: id, op });
            }
            torrent::Action::Node(node) => self.tell_dht(now, crate::dht::Event::Learn(alloc::vec![node])),
            torrent::Action::Notice(notice) => self.actions.push_back(Action::Notice(notice)),
            torrent::Action::Punch { remote } => self.punch(now, id, remote),
            torrent::Action::Seen { by, ip } => self.on_seen(by, ip),
            torrent::Action::Stopped => self.on_torrent_stopped(id),
            torrent::Action::Tracker(action) => self.on_announcer(now, id, action),
            torrent::Action::WantWrite { conn } => self.want_write(conn),
        }
    }

    /// Dials for a torrent as long as there are places and addresses.
    fn dial(&mut self, now: Timestamp, id: TorrentId) {
        while let Some(slot) = self.torrents.get_mut(&id).filter(|_| self.config.transports.any()) {
            if self.conns.len() >= self.config.max_connections || self.half_open >= self.config.max_half_open
            {
                self.crowded.insert(id);
                return;
            }
            let Some(remote) = slot.torrent.next_to_dial(now) else { return };
            let hint = slot.torrent.utp_hint(remote);
            self.open(now, id, remote, Ways::Any(hint));
        }
    }

    /// Opens a connection to a peer that its torrent has noted as being dialled.
    fn open(&mut self, now: Timestamp, id: TorrentId, remote: SocketAddr, ways: Ways) {
        let Some(slot) = self.torrents.get_mut(&id) else { return };
        let conn = ConnId(self.next_conn);
        self.next_conn += 1;
        self.half_open += 1;
        let plain = slot.torrent.dials_plain(remote);
        slot.torrent.dial(now, conn, remote);
        if ways == Ways::Punch {
            slot.torrent.note_punched(conn);
        }
        self.conns.insert(conn, Conn::dialled(id, remote, self.dialled_link(plain)));
        self.open_carrier(now, conn, ways);
    }

    /// Sees to it that the set of deadlines has an entry for the torrent that is not late.
    fn file_due(&mut self, id: TorrentId) {
        let Some(slot) = self.torrents.get_mut(&id) else { return };
        let dial = if self.crowded.contains(&id) { None } else { slot.torrent.dial_due() };
        let next = slot.torrent.poll_timeout().map(|due| due.at).into_iter().chain(dial).min();
        let Some(next) = next else { return };
        if let Some(filed) = slot.due {
            if filed <= next {
                return;
            }
            self.due.remove(&(filed, Due::Torrent(id)));
        }
        slot.due = Some(next);
        self.due.insert((next, Due::Torrent(id)));
    }

    fn on_stop(&mut self, now: Timestamp) {
        if self.stop_by.is_some() || self.stopped {
            return;
        }
        self.stop_by = Some(now + STOP_LIMIT);
        for conn in self
            .conns
            .iter()
            .filter(|(_, conn)| conn.torrent().is_none())
            .map(|(conn, _)| *conn)
            .collect::<Vec<_>>()
        {
            self.end(conn, Reason::Stopping);
        }
        for id in self.torrents.keys().copied().collect::<Vec<_>>() {
            self.with_torrent(now, id, |torrent, out| torrent.stop(now, out));
        }
        self.tell_mapper(now, portmap::Event::Stop);
        self.stopped_if_all_are();
    }

    fn on_torrent_stopped(&mut self, id: TorrentId) {
        if self.torrents.get(&id).is_some_and(|slot| slot.remove) {
            let slot = self.torrents.remove(&id).expect("it was found just now");
            let torrent = slot.torrent.info_hash();
            self.by_hash.remove(&torrent);
            self.marks.remove(&torrent_mark(torrent));
            self.tell_lsd(self.now, lsd::Event::Unshared { torrent });
            self.crowded.remove(&id);
            if let Some(at) = slot.due {
                self.due.remove(&(at, Due::Torrent(id)));
            }
        }
        self.stopped_if_all_are();
    }

    fn stopped_if_all_are(&mut self) {
        let all = self.torrents.values().all(|slot| slot.torrent.phase() == torrent::Phase::Stopped);
        let mapper = self.mapper.as_ref().is_none_or(PortMapper::is_off);
        if self.stop_by.is_some() && all && mapper {
            self.say_stopped();
        }
    }

    fn say_stopped(&mut self) {
        if !self.stopped {
            self.stopped = true;
            self.stop_by = None;
            self.actions.push_back(Action::Notice(Notice::Stopped));
        }
    }

    fn queue_datagram(&mut self, to: SocketAddr, data: Vec<u8>) {
        if self.datagrams.is_empty() {
            self.actions.push_back(Action::WantSend);
        }
        self.datagrams.push_back((to, data));
    }

    fn mint_job(&mut self, what: Job) -> JobId {
        let job = JobId(self.next_job);
        self.next_job += 1;
        self.jobs.insert(job, what);
        job
    }
}
