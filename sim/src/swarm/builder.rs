//! Putting clients into a world, and what a user does with them.

use super::checkers::{Bounds, Checkers, Facts, Observation};
use super::client::{Client, Shared, Stats};
use super::content::Content;
use super::disk::{Disk, DiskModel};
use super::links::Access;
use super::trace::{Topic, Way};
use super::world::{ContentId, HostId, Role, World};
use core::net::SocketAddr;
use core::time::Duration;
use fast_peer_core::bitfield::Bitfield;
use fast_peer_core::id::TorrentId;
use fast_peer_core::lengths::{FileIndex, FileSpan, PieceIndex};
use fast_peer_core::magnet::Magnet;
use fast_peer_core::mse::Methods;
use fast_peer_core::pieces::Priority;
use fast_peer_core::session::{
    Config, Encryption, Event, NewContent, NewTorrent, Policy, STOP_LIMIT, Session, Transports,
};
use std::sync::Arc;

/// A client to be.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Its link.
    pub access: Access,
    /// Its disk.
    pub disk: DiskModel,
    /// Its settings.
    pub config: Config,
    /// Where it is, if that matters.
    pub addr: Option<SocketAddr>,
}

impl Setup {
    /// Everything as usual, behind this link, but that connections are not obfuscated, and carried by TCP.
    pub fn new(access: Access) -> Self {
        Self { access, disk: DiskModel::default(), config: settings(), addr: None }
    }
}

/// Nothing is obfuscated: it is a question of its own, and costs every connection a few milliseconds of computing.
pub(crate) const PLAIN: Encryption =
    Encryption { incoming: Policy::Off, outgoing: Policy::Off, methods: Methods::ALL };

/// Connections are those of this world: their bytes are seen one by one.
pub(crate) const TCP: Transports = Transports { tcp: true, utp: false };

/// The usual settings, but for [`PLAIN`] and [`TCP`].
pub(crate) fn settings() -> Config {
    Config { encryption: PLAIN, transports: TCP, ..Config::default() }
}

/// What a client has of a torrent when it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Has {
    /// Every piece.
    All,
    /// No piece.
    Nothing,
}

impl World {
    /// Adds a client. It takes connections from the start.
    pub fn add_client(&mut self, name: &str, setup: &Setup) -> HostId {
        let host = match setup.addr {
            Some(addr) => self.add_host_at(name, addr, setup.access, Role::Off),
            None => self.add_host(name, setup.access, Role::Off),
        };
        let disk = Disk::new(setup.disk, self.rng.fork("disk").fork(name));
        self.start(host, &setup.config, disk);
        host
    }

    /// Lets a client share a torrent.
    pub fn share(&mut self, host: HostId, content: ContentId, has: Has, peers: &[HostId]) -> TorrentId {
        let mut new = NewTorrent::new(self.content(content).metainfo().clone());
        new.peers = peers.iter().map(|peer| self.addr(*peer)).collect();
        self.share_as(host, content, has, new)
    }

    /// Lets a client have a torrent of which it has no more than a magnet link to these peers.
    pub fn share_magnet(&mut self, host: HostId, content: ContentId, peers: &[HostId]) -> TorrentId {
        let mut magnet = Magnet::from(&**self.content(content).metainfo());
        magnet.peers =
            peers.iter().map(|peer| (self.addr(*peer).ip().to_string(), self.addr(*peer).port())).collect();
        let new = NewTorrent::try_from(&magnet).expect("a torrent has a hash");
        self.share_as(host, content, Has::Nothing, new)
    }

    /// Lets a client share a torrent the way that `new` says.
    pub fn share_as(&mut self, host: HostId, content: ContentId, has: Has, new: NewTorrent) -> TorrentId {
        let content = self.content(content).clone();
        // Torrents of a session are numbered as they come; their files have to be there before it looks for them.
        let expected = TorrentId(self.client(host).torrents.len() as u64);
        let client = self.client_mut(host);
        client.disk.add_torrent(expected, content.metainfo().files().len(), content.is_real());
        if has == Has::All {
            for piece in content.lengths().pieces() {
                content.fill(&mut client.disk, expected, piece);
            }
        }
        self.add_torrent(host, &content, new, expected);
        self.line(host, Way::In, Topic::Command, format_args!("{expected} add"));
        self.settle(host);
        expected
    }

    /// Puts hosts into one local network: what one of them calls there, all of them hear, itself included.
    pub fn connect_locally(&mut self, hosts: &[HostId]) {
        self.lans += 1;
        let lan = self.lans;
        hosts.iter().for_each(|host| self.host_mut(*host).lan = Some(lan));
    }

    /// Lets the user of a client think so long before saying what to take of a torrent that turned up.
    pub fn think_for(&mut self, host: HostId, time: Duration) {
        self.client_mut(host).thinks_for = time;
    }

    /// Lets the user of a client do something.
    pub fn command(&mut self, host: HostId, event: Event) {
        self.tell(host, event);
    }

    /// Cuts a client's power: what runs there is gone at once, and of its files what was not made durable is at risk.
    pub fn cut_power(&mut self, host: HostId) {
        let now = self.now;
        let Role::Client(client) = core::mem::replace(&mut self.host_mut(host).role, Role::Off) else {
            panic!("only clients have power to lose");
        };
        self.reset_streams(host);
        let old = self.host_mut(host);
        old.life += 1;
        let mut disk = client.disk;
        disk.lose_power();
        disk.be_idle(now);
        self.line(host, Way::Within, Topic::Command, "power cut");
        self.hosts[host.0 as usize].asleep = Some((disk, client.torrents));
    }

    /// Starts a client again after its power was cut, with the torrents that it had.
    pub fn restart(&mut self, host: HostId, config: &Config, peers: &[HostId]) {
        let (disk, torrents) = self.host_mut(host).asleep.take().expect("its power was cut");
        self.start(host, config, disk);
        let peers: Vec<SocketAddr> = peers.iter().map(|peer| self.addr(*peer)).collect();
        for (id, shared) in torrents {
            let content = shared.content;
            let mut new = NewTorrent::new(content.metainfo().clone());
            new.peers.clone_from(&peers);
            self.add_torrent(host, &content, new, id);
        }
        self.settle(host);
    }

    /// Changes a client's disk.
    pub fn set_disk(&mut self, host: HostId, model: DiskModel) {
        self.client_mut(host).disk.model = model;
    }

    /// Turns a part of a client's file into junk.
    pub fn damage(&mut self, host: HostId, torrent: TorrentId, file: u32, offset: u64, len: u32) {
        let span = FileSpan { file: FileIndex(file), offset, len, pad: false };
        self.damage_span(host, torrent, span);
    }

    /// Makes a piece one that a client's disk can't read until it is written again.
    pub fn spoil(&mut self, host: HostId, torrent: TorrentId, piece: u32) {
        let client = self.client_mut(host);
        let content = client.torrents[&torrent].content.clone();
        let piece = content.lengths().piece(piece).expect("the torrent has it");
        for span in content.spans(piece, 0, content.lengths().piece_len(piece)).filter(|span| !span.pad) {
            client.disk.spoil(torrent, span);
        }
    }

    /// What a client did.
    pub fn stats(&self, host: HostId) -> &Stats {
        &self.client(host).stats
    }

    /// The session of a client.
    pub fn session(&self, host: HostId) -> &Session {
        &self.client(host).session
    }

    /// How many of the pieces that a client wants are on its disk, and how many it wants.
    pub fn progress(&self, host: HostId, torrent: TorrentId) -> (u32, u32) {
        self.client(host).progress(torrent)
    }

    /// Whether a client says that it has all it wants of a torrent.
    pub fn is_complete(&self, host: HostId, torrent: TorrentId) -> bool {
        self.client(host).stats.completed.contains_key(&torrent)
    }

    fn start(&mut self, host: HostId, config: &Config, disk: Disk) {
        let life = self.host(host).life;
        let mut seed = [0; 32];
        self.rng.fork_nth("session", u64::from(host.0)).fork_nth("life", life.into()).fill(&mut seed);
        let addr = self.host(host).addr;
        let bounds = bounds(config);
        let session = Session::new(config.clone(), seed, self.now);
        let client = Client::new(session, disk, Checkers::new(addr, bounds));
        self.host_mut(host).role = Role::Client(Box::new(client));
        if config.up_bytes_per_s.is_some() {
            self.observe(host, &Observation::SetUpLimit { bytes_per_s: config.up_bytes_per_s });
        }
        self.observe(host, &Observation::SetIpFilter { filter: &config.ip_filter });
        self.tell(host, Event::Listening { port: addr.port() });
    }

    fn add_torrent(&mut self, host: HostId, content: &Arc<Content>, new: NewTorrent, expected: TorrentId) {
        let now = self.now;
        let wanted = match &new.content {
            Some(chosen) => wanted(content, &chosen.priorities),
            None => {
                let mut chosen = NewContent::new(content.metainfo().clone());
                if !new.select_only.is_empty() {
                    chosen.select(&new.select_only);
                }
                wanted(content, &chosen.priorities)
            }
        };
        let facts = Facts {
            info_hash: content.metainfo().swarm_hash(),
            lengths: content.lengths().clone(),
            info: content.metainfo().info().clone(),
            private: content.metainfo().is_private(),
        };
        let knows = new.content.is_some();
        let client = self.client_mut(host);
        client.checkers.add_torrent(&Arc::new(facts), expected, wanted.clone(), knows);
        client.torrents.insert(expected, Shared::new(content.clone(), wanted));
        let id = client.session.add_torrent(now, new);
        assert_eq!(id, expected, "torrents are numbered as they come");
    }
}

/// The pieces that a user wants who gave the files these priorities.
fn wanted(content: &Content, priorities: &[Priority]) -> Bitfield {
    let mut wanted = Bitfield::none(content.lengths().piece_count());
    let files = content.metainfo().files();
    for (file, index) in files.iter().zip(0..) {
        let skipped = priorities.get(index as usize) == Some(&Priority::Skip);
        if !skipped && !file.attributes.pad {
            content.pieces_of(index..index + 1).for_each(|piece: PieceIndex| {
                wanted.insert(piece);
            });
        }
    }
    wanted
}

/// What a client with these settings keeps to.
fn bounds(config: &Config) -> Bounds {
    Bounds {
        connections: config.max_connections as u32,
        connections_per_torrent: config.max_peers as u32,
        half_open: config.max_half_open as u32,
        unchoked: config.upload_slots as u32,
        messages: MESSAGES,
        encryption: config.encryption,
        utp: config.transports.utp,
        stop_within: STOP_LIMIT,
    }
}

/// What a limited client may say at once besides its burst.
const MESSAGES: u64 = 16 * 1024;
