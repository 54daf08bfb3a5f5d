//! A whole swarm in one thread: hosts, what is between them, and the next thing to happen.

use super::checkers::{Observation, Violation};
use super::client::{Client, Shared};
use super::content::{Content, Plan};
use super::disk::{Disk, ZeroDigests};
use super::fake_peer::FakePeer;
use super::links::{Access, Datagram, Socket, Sockets, Stream, StreamId};
use super::nat::Nat;
use super::observe::Spoken;
use super::queue::Queue;
use super::services::Tracker;
use super::trace::{Keep, Topic, Trace, TraceHash, Way};
use bytes::BytesMut;
use core::fmt::Display;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::time::Duration;
use fast_peer_core::id::{JobId, TorrentId};
use fast_peer_core::machine::Timestamp;
use fast_peer_core::rng::Rng;
use fast_peer_core::session::{Event, NetError, NewContent, WriteBatch};
use fast_peer_core::store::op::DiskOp;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// A host of a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostId(pub(crate) u32);

/// A torrent of a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContentId(pub(crate) u32);

/// Whether others reach a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Its cable is cut: nothing comes in or goes out, and nobody is told.
    Dark,
    /// Its interface is down: as with a cut cable, but it knows.
    Down,
    /// It answers.
    Normal,
    /// It refuses every new connection.
    Refusing,
}

/// Hosts, streams, time and the order of things: the same seed gives the same run.
#[derive(Debug)]
pub struct World {
    seed: u64,
    pub(super) now: Timestamp,
    pub(super) queue: Queue<What>,
    pub(super) hosts: Vec<Host>,
    pub(super) streams: Vec<Stream>,
    pub(super) sockets: Sockets,
    pub(super) zeros: ZeroDigests,
    pub(super) trace: Trace,
    pub(super) rng: Rng,
    /// Draws for links, and for where bytes are cut.
    pub(super) chance: Rng,
    /// Control bytes are cut at a random place once in so many reads; never if zero.
    pub(super) cut_one_in: u64,
    pub(super) names: BTreeMap<String, HostId>,
    pub(super) batch: WriteBatch,
    pub(super) datagram: BytesMut,
    pub(super) said: Vec<Spoken>,
    contents: Vec<Arc<Content>>,
    pub(super) lans: u32,
    pub(super) by_ip: BTreeMap<IpAddr, HostId>,
    violation: Option<Box<Violation>>,
    steps: u64,
}

/// Something that will happen.
#[derive(Debug)]
pub(super) enum What {
    /// A chunk, or the end of a stream, comes off the path to the receiver's downlink. The socket is the sender's.
    Arrive {
        from: Socket,
        len: u64,
    },
    /// The user of a client says what is wanted of a torrent that turned up.
    Choose {
        host: HostId,
        life: u32,
        torrent: TorrentId,
        content: Box<NewContent>,
    },
    /// A connection does not come about.
    ConnectFailed {
        socket: Socket,
        error: NetError,
    },
    Datagram(Box<Datagram>),
    /// A chunk is through the receiver's downlink.
    Deliver {
        from: Socket,
        len: u64,
    },
    Disk {
        host: HostId,
        life: u32,
        job: JobId,
        torrent: TorrentId,
        op: Box<DiskOp>,
    },
    /// A session is told something.
    Event {
        host: HostId,
        life: u32,
        event: Box<Event>,
    },
    /// The sender learns that bytes were read.
    Freed {
        from: Socket,
        len: u64,
    },
    /// A web request reaches its server.
    Http {
        host: HostId,
        life: u32,
        job: JobId,
        url: Box<str>,
    },
    /// An application looks at its socket again.
    Read(Socket),
    /// The other side's host broke the stream.
    Reset(Socket),
    Syn(StreamId),
    SynAck(StreamId),
    /// A fake peer wanted to be woken.
    Tick(HostId),
    Timer(HostId),
    /// A host that slept goes on.
    Wake(HostId),
    UplinkFree(HostId),
}

/// A computer with one access link and one thing that runs on it.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) addr: SocketAddr,
    pub(super) access: Access,
    pub(super) reach: Reach,
    pub(super) role: Role,
    /// How often it was started; what was meant for an earlier life is dropped.
    pub(super) life: u32,
    /// The streams that have something to send, in turn.
    pub(super) turns: VecDeque<Socket>,
    pub(super) uplink_busy: bool,
    pub(super) downlink_free_at: Timestamp,
    /// The local network that it is in.
    pub(super) lan: Option<u32>,
    /// The next port that it dials from.
    pub(super) next_port: u16,
    /// Whether somebody on its way breaks connections that don't begin as those of BitTorrent do.
    pub(super) meddled: bool,
    /// The router between it and everybody else, if there is one.
    pub(super) nat: Option<Nat>,
    /// Until when it sleeps, if it does.
    pub(super) sleeps_until: Option<Timestamp>,
    /// What is left of a client whose power was cut.
    pub(super) asleep: Option<(Disk, BTreeMap<TorrentId, Shared>)>,
}

#[derive(Debug)]
pub(super) enum Role {
    Client(Box<Client>),
    Fake(Box<FakePeer>),
    /// Nothing runs.
    Off,
    Tracker(Box<Tracker>),
}

impl World {
    /// An empty world.
    pub fn new(seed: u64, keep: Keep) -> Self {
        let rng = Rng::from_number(seed).fork("world");
        Self {
            seed,
            now: Timestamp::ZERO,
            queue: Queue::new(),
            hosts: Vec::new(),
            streams: Vec::new(),
            sockets: Sockets::default(),
            zeros: ZeroDigests::default(),
            trace: Trace::new(keep),
            chance: rng.fork("chance"),
            rng,
            cut_one_in: 0,
            names: BTreeMap::new(),
            batch: WriteBatch::overheard(),
            datagram: BytesMut::new(),
            said: Vec::new(),
            contents: Vec::new(),
            lans: 0,
            by_ip: BTreeMap::new(),
            violation: None,
            steps: 0,
        }
    }

    /// Sets how large the buffers of streams opened from now on are.
    pub fn set_sockets(&mut self, sockets: Sockets) {
        self.sockets = sockets;
    }

    /// From now on, control bytes are cut at a random place once in so many reads, and blocks read in odd parts; never
    /// if zero.
    pub fn set_cuts(&mut self, one_in: u64) {
        self.cut_one_in = one_in;
    }

    /// Makes a torrent up.
    pub fn add_content(&mut self, plan: &Plan) -> ContentId {
        let mut rng = self.rng.fork_nth("content", self.contents.len() as u64);
        self.contents.push(Arc::new(Content::make(plan, &mut rng, &mut self.zeros)));
        ContentId(self.contents.len() as u32 - 1)
    }

    /// A torrent of this world.
    pub fn content(&self, content: ContentId) -> &Arc<Content> {
        &self.contents[content.0 as usize]
    }

    /// Where a host is reached.
    pub fn addr(&self, host: HostId) -> SocketAddr {
        self.hosts[host.0 as usize].addr
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// What the run was drawn from.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// What a host is called.
    pub fn name(&self, host: HostId) -> &str {
        &self.host(host).name
    }

    /// How many things have happened.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// How many observations were checked.
    pub fn checks(&self) -> u64 {
        let clients = self.hosts.iter().filter_map(|host| match &host.role {
            Role::Client(client) => Some(client.checkers.checks()),
            _ => None,
        });
        clients.sum()
    }

    /// What stands for the run so far.
    pub fn hash(&self) -> TraceHash {
        self.trace.hash()
    }

    /// The lines of the run that were kept.
    pub fn trace(&self) -> &str {
        self.trace.kept()
    }

    /// The rule that was broken, if one was. Nothing happens after that.
    pub fn violation(&self) -> Option<&Violation> {
        self.violation.as_deref()
    }

    /// Changes a host's link.
    pub fn set_access(&mut self, host: HostId, access: Access) {
        self.host_mut(host).access = access;
    }

    /// Puts somebody on a host's way who breaks connections that don't begin as those of BitTorrent do, or removes him.
    pub fn set_meddled(&mut self, host: HostId, meddled: bool) {
        self.host_mut(host).meddled = meddled;
    }

    /// Changes whether a host is reached.
    pub fn set_reach(&mut self, host: HostId, reach: Reach) {
        self.host_mut(host).reach = reach;
    }

    /// Lets everything happen until `until`.
    pub fn run_until(&mut self, until: Timestamp) {
        while self.queue.next_at().is_some_and(|at| at <= until) && self.step() {}
        self.now = self.now.max(until);
    }

    /// Lets things happen for so long.
    pub fn run_for(&mut self, time: Duration) {
        self.run_until(self.now + time);
    }

    /// Lets things happen until `done` holds; returns whether it did by `limit`.
    pub fn run_to(&mut self, limit: Timestamp, mut done: impl FnMut(&Self) -> bool) -> bool {
        while !done(self) {
            let (steps, now) = (self.steps, self.now);
            // Conditions can take long to look at, and few change so fast.
            while self.steps < steps + LOOK_STEPS && self.now < now + LOOK_TIME {
                if self.queue.next_at().is_none_or(|at| at > limit) || !self.step() {
                    return self.violation.is_none() && done(self);
                }
            }
        }
        true
    }

    /// Lets the next thing happen. `false` if there is none, or a rule was broken.
    pub fn step(&mut self) -> bool {
        if self.violation.is_some() {
            return false;
        }
        let Some((at, what)) = self.queue.pop() else { return false };
        assert!(at >= self.now, "nothing is planned for the past");
        self.now = at;
        self.steps += 1;
        if let Some(later) = self.put_off(&what) {
            self.queue.push(later, what);
            return true;
        }
        match what {
            What::Arrive { from, len } => self.on_arrive(from, len),
            What::Choose { host, life, torrent, content } if self.lives(host, life) => {
                self.choose(host, torrent, *content);
            }
            What::ConnectFailed { socket, error } => self.on_connect_failed(socket, error),
            What::Datagram(datagram) => self.on_datagram(*datagram),
            What::Deliver { from, len } => self.on_deliver(from, len),
            What::Disk { host, life, job, torrent, op } if self.lives(host, life) => {
                self.on_disk(host, job, torrent, *op);
            }
            What::Event { host, life, event } if self.lives(host, life) => self.tell(host, *event),
            What::Freed { from, len } => self.on_freed(from, len),
            What::Http { host, life, job, url } if self.lives(host, life) => self.on_http(host, job, &url),
            What::Choose { .. } | What::Disk { .. } | What::Event { .. } | What::Http { .. } => {}
            What::Read(socket) => self.on_read(socket),
            What::Reset(socket) => self.on_reset(socket),
            What::Syn(stream) => self.on_syn(stream),
            What::SynAck(stream) => self.on_syn_ack(stream),
            What::Tick(host) => self.on_tick(host),
            What::Timer(host) => self.on_timer(host),
            What::UplinkFree(host) => self.on_uplink_free(host),
            What::Wake(host) => self.on_wake(host),
        }
        if self.steps.is_multiple_of(AUDIT_EVERY) {
            // One host at a time: all of them in turn.
            let host = self.steps / AUDIT_EVERY % self.hosts.len() as u64;
            self.audit(HostId(host as u32));
        }
        self.violation.is_none()
    }

    /// Looks into the books of every client.
    pub fn audit_all(&mut self) {
        (0..self.hosts.len() as u32).for_each(|host| self.audit(HostId(host)));
    }

    pub(super) fn add_host(&mut self, name: &str, access: Access, role: Role) -> HostId {
        let id = self.hosts.len() as u32;
        // Public addresses far apart: rules about neighbours apply to those who are neighbours, and here nobody is.
        let ip = Ipv4Addr::new(11, (id >> 8) as u8, id as u8, 1);
        self.add_host_at(name, SocketAddr::from((ip, PORT)), access, role)
    }

    pub(super) fn add_host_at(&mut self, name: &str, addr: SocketAddr, access: Access, role: Role) -> HostId {
        let id = HostId(self.hosts.len() as u32);
        let twin = self.by_ip.insert(addr.ip(), id);
        assert!(twin.is_none(), "each host has an address of its own");
        self.hosts.push(Host {
            name: name.to_owned(),
            addr,
            access,
            reach: Reach::Normal,
            role,
            life: 0,
            turns: VecDeque::new(),
            uplink_busy: false,
            downlink_free_at: Timestamp::ZERO,
            lan: None,
            next_port: FIRST_PORT,
            meddled: false,
            nat: None,
            sleeps_until: None,
            asleep: None,
        });
        id
    }

    pub(super) fn host(&self, host: HostId) -> &Host {
        &self.hosts[host.0 as usize]
    }

    pub(super) fn host_mut(&mut self, host: HostId) -> &mut Host {
        &mut self.hosts[host.0 as usize]
    }

    pub(super) fn client(&self, host: HostId) -> &Client {
        match &self.host(host).role {
            Role::Client(client) => client,
            other => panic!("{} is no client: {other:?}", self.host(host).name),
        }
    }

    pub(super) fn client_mut(&mut self, host: HostId) -> &mut Client {
        match &mut self.hosts[host.0 as usize].role {
            Role::Client(client) => client,
            _ => panic!("only a client is driven"),
        }
    }

    pub(super) fn stream(&mut self, stream: StreamId) -> &mut Stream {
        &mut self.streams[stream.0 as usize]
    }

    pub(super) fn host_at(&self, ip: IpAddr) -> Option<HostId> {
        self.by_ip.get(&ip).copied()
    }

    /// Whether what runs at `addr` keeps to the protocol. Where nothing runs, nothing does wrong.
    pub(super) fn is_honest(&self, addr: SocketAddr) -> bool {
        self.host_at(addr.ip()).is_none_or(|host| !matches!(self.host(host).role, Role::Fake(_)))
    }

    pub(super) fn line(&mut self, host: HostId, way: Way, topic: Topic, what: impl Display) {
        self.trace.line(self.now, &self.hosts[host.0 as usize].name, way, topic, what);
    }

    /// Notes something about a client, and breaks off if it may not be.
    pub(super) fn observe(&mut self, host: HostId, observation: &Observation<'_>) {
        let host = &mut self.hosts[host.0 as usize];
        if let Role::Client(client) = &mut host.role
            && let Err(violation) = client.checkers.observe(self.now, &host.name, observation)
        {
            self.violation.get_or_insert(violation);
        }
    }

    fn lives(&self, host: HostId, life: u32) -> bool {
        self.host(host).life == life
    }
}

/// Where every host listens.
const PORT: u16 = 6881;

const FIRST_PORT: u16 = 20_000;

/// How many things happen between two looks into a client's books.
const AUDIT_EVERY: u64 = 1_000;

/// How many things happen at most between two looks at a condition, and how much time passes.
const LOOK_STEPS: u64 = 64;
const LOOK_TIME: Duration = Duration::from_millis(10);
