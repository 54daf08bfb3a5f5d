//! The driver of one session in a world: one input; drain the actions; pull the bytes; read the deadline; wait.

mod speech;
mod topics;

use super::checkers::{Account, BookEntry, Checkers, Observation};
use super::content::Content;
use super::disk::Disk;
use super::links::{Gather, Phase, Socket};
use super::trace::{Topic, Way};
use super::world::{HostId, Role, What, World};
use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;
use fast_peer_core::bitfield::Bitfield;
use fast_peer_core::id::{ConnId, JobId, TorrentId};
use fast_peer_core::lengths::{Block, FileSpan, PieceIndex};
use fast_peer_core::machine::Timestamp;
use fast_peer_core::pieces::Picker;
use fast_peer_core::session::{Action, Event, Intake, NewContent, Notice, Session};
use fast_peer_core::store::op::DiskOp;
use fast_peer_core::store::payload::Payload;
use fast_peer_core::torrent::holepunch::GiveUp;
use fast_peer_core::utp::is_utp;
use fast_peer_core::wire::RawBlock;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use topics::{topic_of, topic_of_action, way_of};

/// A session and what its driver keeps for it.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) session: Session,
    pub(super) disk: Disk,
    pub(super) checkers: Checkers,
    pub(super) torrents: BTreeMap<TorrentId, Shared>,
    /// Whether it takes connections.
    pub(super) listens: bool,
    /// Sockets that have room and a session that wants to fill it.
    pub(super) pulls: VecDeque<Socket>,
    pub(super) stats: Stats,
    /// How long its user thinks about what to take of a torrent that turned up.
    pub(super) thinks_for: Duration,
    conns: BTreeMap<ConnId, Conn>,
    want_send: bool,
    /// When it will be woken next.
    armed: Option<Timestamp>,
}

/// A connection of a client.
#[derive(Clone, Copy, Debug)]
struct Conn {
    socket: Socket,
    /// What it is about, once the client has said so.
    torrent: Option<TorrentId>,
}

/// A torrent as one client has it.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) content: Arc<Content>,
    /// What it wants.
    pub(super) wanted: Bitfield,
    /// Pieces whose true bytes were seen on the disk, and have not been touched since.
    confirmed: Bitfield,
    /// Pieces that the check of the files found; nothing before it is over.
    found: Option<Bitfield>,
    /// What came and what was sent.
    account: Account,
    /// Bytes of pieces that came, and that the disk lost.
    lost: u64,
}

/// What a client did.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Messages about other peers that it sent.
    pub exchanges: u32,
    /// Calls into the local network.
    pub calls: u32,
    /// When it learned what the torrents are of which it had the hash alone.
    pub metadata: BTreeMap<TorrentId, Timestamp>,
    /// When it completed each torrent.
    pub completed: BTreeMap<TorrentId, Timestamp>,
    /// Bytes of blocks that it was handed.
    pub received: u64,
    /// Bytes of blocks that it handed out.
    pub served: u64,
    /// Pieces that failed their hash.
    pub failed: u32,
    /// Whom it banned.
    pub banned: Vec<SocketAddr>,
    /// Troubles with its disk.
    pub disk_troubles: u32,
    /// Pieces that its disk lost.
    pub lost: u32,
    /// Whether it has stopped, and when.
    pub stopped: Option<Timestamp>,
    /// Announces that were answered, and that failed.
    pub announces: (u32, u32),
    /// Lookups of its torrents in the DHT that are over.
    pub lookups: u32,
    /// Whom it did not reach through a relay, and why.
    pub unpunched: Vec<(SocketAddr, GiveUp)>,
}

impl Client {
    pub(super) fn new(session: Session, disk: Disk, checkers: Checkers) -> Self {
        Self {
            session,
            disk,
            checkers,
            torrents: BTreeMap::new(),
            listens: false,
            pulls: VecDeque::new(),
            stats: Stats::default(),
            thinks_for: Duration::ZERO,
            conns: BTreeMap::new(),
            want_send: false,
            armed: None,
        }
    }

    /// It will be woken at `at` and not before.
    pub(super) fn arm(&mut self, at: Timestamp) {
        self.armed = Some(at);
    }

    /// What it wants of a torrent, and how much of that is on its disk.
    pub(super) fn progress(&self, torrent: TorrentId) -> (u32, u32) {
        let shared = &self.torrents[&torrent];
        let wanted = shared.wanted_pieces();
        let there = wanted.filter(|piece| shared.content.is_on(&self.disk, torrent, *piece)).count();
        (there as u32, shared.wanted.ones())
    }
}

impl Shared {
    pub(super) fn new(content: Arc<Content>, wanted: Bitfield) -> Self {
        let confirmed = Bitfield::none(content.lengths().piece_count());
        Self { content, wanted, confirmed, found: None, account: Account::default(), lost: 0 }
    }

    fn wanted_pieces(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        self.content.lengths().pieces().filter(|piece| self.wanted.has(*piece))
    }

    /// Whether the disk holds the true bytes of `piece`.
    fn confirm(&mut self, disk: &Disk, torrent: TorrentId, piece: PieceIndex) -> bool {
        let good = self.confirmed.has(piece) || self.content.is_on(disk, torrent, piece);
        if good {
            self.confirmed.insert(piece);
        }
        good
    }

    /// The bytes of the blocks that came since the check, and are kept.
    fn useful(&self, picker: &Picker) -> u64 {
        let lengths = self.content.lengths();
        let Some(found) = &self.found else { return 0 };
        let whole = lengths.pieces().filter(|piece| picker.have().has(*piece) && !found.has(*piece));
        let parts = picker.open_pieces().flat_map(|(piece, _)| {
            picker.contributors(piece).filter_map(move |(number, _)| lengths.block(piece, number))
        });
        self.lost
            + whole.map(|piece| u64::from(lengths.piece_len(piece))).sum::<u64>()
            + parts.map(|block| u64::from(block.len())).sum::<u64>()
    }

    /// The client has seen that the disk lost a piece.
    fn lose(&mut self, piece: PieceIndex) {
        self.confirmed.remove(piece);
        if let Some(found) = &mut self.found
            && !found.remove(piece)
        {
            self.lost += u64::from(self.content.lengths().piece_len(piece));
        }
    }

    /// Bytes of a file changed.
    fn touch(&mut self, span: FileSpan) {
        for (piece, ..) in self.content.places(span) {
            self.confirmed.remove(piece);
        }
    }
}

impl World {
    /// Tells a client something.
    pub(super) fn tell(&mut self, host: HostId, event: Event) {
        match &event {
            Event::Listening { .. } => self.client_mut(host).listens = true,
            Event::SetIpFilter { filter } => self.observe(host, &Observation::SetIpFilter { filter }),
            Event::SetLimits { up_bytes_per_s, .. } => {
                self.observe(host, &Observation::SetUpLimit { bytes_per_s: *up_bytes_per_s });
            }
            Event::Datagram { from, data } if self.client(host).session.utp().is_some() && is_utp(data) => {
                self.observe(host, &Observation::UtpCame { from: *from, data });
            }
            Event::Stop => self.observe(host, &Observation::Stopping),
            _ => {}
        }
        self.input(host, topic_of(&event), &event);
        let now = self.now;
        self.client_mut(host).session.handle_event(now, event);
        self.settle(host);
    }

    /// Somebody connects to a client.
    pub(super) fn accept(&mut self, socket: Socket, host: HostId, remote: SocketAddr) {
        let now = self.now;
        self.input(host, Topic::Stream, &format_args!("incoming {remote}"));
        let client = self.client_mut(host);
        match client.session.handle_incoming(now, remote) {
            Some(conn) => {
                client.conns.insert(conn, Conn { socket, torrent: None });
                self.stream(socket.stream).end_mut(socket.side).conn = conn;
                let honest = self.is_honest(remote);
                self.line(host, Way::Out, Topic::Stream, format_args!("{conn} accept {remote}"));
                self.observe(host, &Observation::Accepted { conn, remote, honest });
            }
            None => {
                self.line(host, Way::Out, Topic::Stream, format_args!("refuse {remote}"));
                self.close(socket);
            }
        }
        self.settle(host);
    }

    /// A connection that a client asked for is open.
    pub(super) fn connected(&mut self, host: HostId, conn: ConnId) {
        self.observe(host, &Observation::Connected { conn });
        self.tell(host, Event::Connected { conn });
    }

    /// A connection of a client is no more, as `event` says.
    pub(super) fn gone(&mut self, host: HostId, conn: ConnId, event: Event) {
        self.client_mut(host).conns.remove(&conn);
        self.observe(host, &Observation::Gone { conn });
        self.tell(host, event);
    }

    pub(super) fn on_timer(&mut self, host: HostId) {
        let now = self.now;
        let Role::Client(client) = &mut self.host_mut(host).role else { return };
        if client.armed != Some(now) {
            return;
        }
        client.armed = None;
        let due = client.session.poll_timeout().filter(|deadline| deadline.at <= now);
        if let Some(due) = due {
            self.input(host, Topic::Timer, &format_args!("time for {}", due.why));
            self.client_mut(host).session.handle_timeout(now);
            self.observe(host, &Observation::TimedOut);
        }
        self.settle(host);
    }

    pub(super) fn on_disk(&mut self, host: HostId, job: JobId, torrent: TorrentId, op: DiskOp) {
        let spans = match &op {
            DiskOp::Write { spans, .. } => spans.clone(),
            _ => Vec::new(),
        };
        let Role::Client(client) = &mut self.hosts[host.0 as usize].role else { return };
        let result = client.disk.finish(torrent, op, &mut self.zeros);
        if result.is_ok() {
            for span in spans.iter().filter(|span| !span.pad) {
                self.wrote(host, torrent, *span);
            }
        }
        self.tell(host, Event::DiskDone { job, result });
    }

    fn wrote(&mut self, host: HostId, torrent: TorrentId, span: FileSpan) {
        let shared =
            self.client_mut(host).torrents.get_mut(&torrent).expect("a write is to a torrent's file");
        shared.touch(span);
        let content = shared.content.clone();
        for (piece, begin, len) in content.places(span) {
            self.observe(host, &Observation::Written { torrent, piece: piece.get(), begin, len });
        }
    }

    /// Turns the bytes of a file into junk behind the back of a client.
    pub(super) fn damage_span(&mut self, host: HostId, torrent: TorrentId, span: FileSpan) {
        let client = self.client_mut(host);
        client.disk.damage(torrent, span);
        if let Some(shared) = client.torrents.get_mut(&torrent) {
            shared.touch(span);
        }
    }

    /// Hands a client what has come for it on one connection, as far as it may read.
    pub(super) fn read(&mut self, host: HostId, socket: Socket) {
        while self.stream(socket.stream).end(socket.side).phase == Phase::Open && self.read_once(host, socket)
        {
        }
    }

    /// One input of a connection's bytes. `false` if there is nothing to hand over now.
    fn read_once(&mut self, host: HostId, socket: Socket) -> bool {
        let now = self.now;
        let odd = self.cut_one_in > 0 && self.chance.chance(1, self.cut_one_in);
        let cut = if odd { 1 + self.chance.below(MAX_CUT) } else { u64::MAX };
        let stream = &mut self.streams[socket.stream.0 as usize];
        let conn = stream.end(socket.side).conn;
        let (reader, direction) = stream.reading(socket.side);
        if let Some(block) = &mut reader.block {
            while block.missing() > 0 {
                let part = if reader.control.is_empty() {
                    let max = reader.credit.min(block.missing().into()).min(cut);
                    let Some(mut part) = direction.read_block(max) else { return false };
                    reader.credit -= u64::from(part.len());
                    if let Role::Client(client) = &mut self.hosts[host.0 as usize].role {
                        client.session.decipher_payload(conn, &mut part);
                    }
                    part
                } else {
                    let len = reader.control.len().min(block.missing() as usize);
                    Payload::Content(reader.control.split_to(len).freeze())
                };
                block.push(part);
            }
            let payload = reader.block.take().expect("it was just filled").finish();
            reader.again = !reader.control.is_empty();
            self.input(host, Topic::Bytes, &format_args!("{conn} block {payload}"));
            let client = self.client_mut(host);
            client.stats.received += u64::from(payload.len());
            if let Some(account) = client.account_of(conn) {
                account.received += u64::from(payload.len());
            }
            client.session.handle_payload(now, conn, payload);
            self.used(host, conn, socket);
            self.settle(host);
            return true;
        }
        let beyond = if odd { cut } else { 0 };
        let fresh = direction.read_control(reader.credit.min(cut), beyond, &mut reader.control);
        reader.credit -= fresh;
        if fresh == 0 && !core::mem::take(&mut reader.again) {
            return false;
        }
        let mut control = core::mem::take(&mut reader.control);
        let before = control.len();
        let session = &mut self.client_mut(host).session;
        session.decipher(conn, [&mut control[before - fresh as usize..]]);
        let obfuscated = session.obfuscation(conn).is_some();
        let intake = session.handle_bytes(now, conn, &mut control);
        let method = session.obfuscation(conn).filter(|_| !obfuscated);
        let used = before - control.len();
        if let Some(method) = method {
            self.line(host, Way::In, Topic::Message, format_args!("{conn} obfuscated, {method}"));
        }
        self.input(host, Topic::Bytes, &format_args!("{conn} bytes {used} of {before}: {intake:?}"));
        let (reader, _) = self.stream(socket.stream).reading(socket.side);
        reader.control = control;
        match intake {
            Intake::Again => reader.again = true,
            Intake::Payload(len) => reader.block = Some(Gather::new(len)),
            Intake::Closed | Intake::NeedMore => {}
        }
        self.used(host, conn, socket);
        self.settle(host);
        if intake == Intake::Again {
            self.plan_read(socket);
            return false;
        }
        intake != Intake::Closed
    }

    /// Notes the frames that a client has used up.
    fn used(&mut self, host: HostId, conn: ConnId, socket: Socket) {
        loop {
            let (reader, direction) = self.stream(socket.stream).reading(socket.side);
            let used = direction.read - reader.control.len() as u64;
            let Some((end, _)) = direction.frames.front() else { return };
            if *end > used {
                return;
            }
            let (_, frame) = direction.frames.pop_front().expect("it was just seen");
            self.observe(host, &Observation::Seen { conn, frame: &frame });
        }
    }

    fn plan_read(&mut self, socket: Socket) {
        let now = self.now;
        let (reader, _) = self.stream(socket.stream).reading(socket.side);
        if !core::mem::replace(&mut reader.planned, true) {
            self.queue.push(now, What::Read(socket));
        }
    }

    /// Carries out everything that a client decided on its last input.
    pub(super) fn settle(&mut self, host: HostId) {
        let now = self.now;
        let mut outputs = 0_u32;
        loop {
            if let Some(action) = self.client_mut(host).session.poll_action() {
                outputs += 1;
                self.act(host, action);
            } else if self.client(host).want_send {
                outputs += u32::from(self.pull_datagram(host));
            } else if let Some(socket) = self.client_mut(host).pulls.pop_front() {
                outputs += self.pull(host, socket);
            } else {
                break;
            }
            if self.violation().is_some() || outputs > RUNAWAY {
                break;
            }
        }
        let session = &mut self.client_mut(host).session;
        let more = session.poll_action().is_some();
        let deadline = session.poll_timeout();
        self.observe(host, &Observation::Settled { outputs, more, deadline });
        let client = self.client_mut(host);
        if let Some(deadline) = deadline
            && client.armed.is_none_or(|armed| deadline.at < armed)
        {
            let at = deadline.at.max(now);
            client.armed = Some(at);
            self.queue.push(at, What::Timer(host));
        }
    }

    fn act(&mut self, host: HostId, action: Action) {
        self.line(host, way_of(&action), topic_of_action(&action), &action);
        match action {
            Action::Connect { conn, remote } => {
                let honest = self.is_honest(remote);
                self.observe(host, &Observation::Dialled { conn, remote, honest });
                let socket = self.dial(host, conn, remote);
                self.client_mut(host).conns.insert(conn, Conn { socket, torrent: None });
            }
            Action::Disconnect { conn, reason } => {
                self.observe(host, &Observation::Dropped { conn, reason });
                self.observe(host, &Observation::Gone { conn });
                if let Some(Conn { socket, .. }) = self.client_mut(host).conns.remove(&conn) {
                    self.close(socket);
                }
            }
            Action::Disk { job, torrent, op } => {
                let on_files = !matches!(op, DiskOp::Metadata(_));
                self.observe(host, &Observation::DiskOp { torrent, on_files });
                let (now, life) = (self.now, self.host(host).life);
                let at = self.client_mut(host).disk.start(now, &op);
                self.queue.push(at, What::Disk { host, life, job, torrent, op: Box::new(op) });
            }
            Action::Http { job, url } => self.ask_web(host, job, url),
            Action::Multicast { group, data } => {
                self.client_mut(host).stats.calls += 1;
                self.observe(host, &Observation::Datagram { to: None, data: &data });
                self.multicast(host, group, &data);
            }
            Action::Notice(notice) => self.on_notice(host, &notice),
            Action::ReadCredit { conn, bytes } => {
                if let Some(&Conn { socket, .. }) = self.client(host).conns.get(&conn) {
                    let (reader, direction) = self.stream(socket.stream).reading(socket.side);
                    reader.credit = bytes.into();
                    if bytes > 0 && direction.readable() > 0 {
                        self.plan_read(socket);
                    }
                }
            }
            Action::Resolve { job, host: name } => self.look_up(host, job, &name),
            Action::Upnp { job, .. } => self.no_router(host, job),
            Action::WantSend => self.client_mut(host).want_send = true,
            Action::WantWrite { conn } => {
                let client = self.client_mut(host);
                if let Some(Conn { socket, .. }) = client.conns.get(&conn) {
                    client.pulls.push_back(*socket);
                }
            }
        }
    }

    fn on_notice(&mut self, host: HostId, notice: &Notice) {
        let now = self.now;
        let stats = &mut self.client_mut(host).stats;
        let mut honest = true;
        match notice {
            Notice::Banned { remote, .. } => {
                stats.banned.push(*remote);
                honest = self.is_honest(*remote);
            }
            Notice::Completed { torrent } => {
                stats.completed.insert(*torrent, now);
                self.check_wanted(host, *torrent);
            }
            Notice::DiskTrouble { .. } => stats.disk_troubles += 1,
            Notice::HashFailed { .. } => stats.failed += 1,
            Notice::Metadata { torrent, content } => {
                stats.metadata.insert(*torrent, now);
                // The user takes what the link selects.
                let (life, torrent, content) = (self.host(host).life, *torrent, content.clone());
                let at = now + self.client(host).thinks_for;
                self.queue.push(at, What::Choose { host, life, torrent, content });
            }
            Notice::Stopped => stats.stopped = Some(now),
            Notice::TrackerAnswered { .. } => stats.announces.0 += 1,
            Notice::TrackerFailed { .. } => stats.announces.1 += 1,
            Notice::Checked { torrent, .. } => {
                let Client { session, torrents, .. } = self.client_mut(host);
                let content = session.torrent(*torrent).and_then(|torrent| torrent.content());
                if let (Some(shared), Some(content)) = (torrents.get_mut(torrent), content) {
                    shared.found = Some(content.picker().have().clone());
                }
            }
            Notice::DhtAsked { .. } => stats.lookups += 1,
            Notice::PieceLost { torrent, piece } => {
                stats.lost += 1;
                if let Some(shared) = self.client_mut(host).torrents.get_mut(torrent) {
                    shared.lose(*piece);
                }
            }
            Notice::HolepunchFailed { remote, why, .. } => stats.unpunched.push((*remote, *why)),
            Notice::Lookup { .. }
            | Notice::MetadataUseless { .. }
            | Notice::Peers { .. }
            | Notice::PortLost { .. }
            | Notice::PortMapped(_)
            | Notice::PortNotMapped { .. }
            | Notice::Seeding { .. } => {}
        }
        self.observe(host, &Observation::Notice { notice, honest });
    }

    /// The user of a client says what is wanted of a torrent that turned up.
    pub(super) fn choose(&mut self, host: HostId, torrent: TorrentId, content: NewContent) {
        let now = self.now;
        self.input(host, Topic::Command, &format_args!("{torrent} content"));
        self.client_mut(host).session.set_content(now, torrent, content);
        self.settle(host);
    }

    /// A client says that it has all it wants: looks whether it does.
    fn check_wanted(&mut self, host: HostId, torrent: TorrentId) {
        let Client { torrents, disk, .. } = self.client_mut(host);
        let Some(shared) = torrents.get_mut(&torrent) else { return };
        let wanted: Vec<_> = shared.wanted_pieces().collect();
        let found: Vec<_> =
            wanted.into_iter().map(|piece| (piece.get(), shared.confirm(disk, torrent, piece))).collect();
        for (piece, good) in found {
            self.observe(host, &Observation::Verified { torrent, piece, good });
        }
    }

    /// Holds the books of a client against what the world knows.
    pub(super) fn audit(&mut self, host: HostId) {
        let Role::Client(client) = &mut self.host_mut(host).role else { return };
        let Client { session, torrents, disk, .. } = &mut **client;
        let mut found = Vec::new();
        let (mut books, mut accounts) = (Vec::new(), Vec::new());
        for (id, torrent) in session.torrents() {
            let Some(known) = torrent.content() else { continue };
            known.picker().check_invariants();
            known.picker().check_availability(torrent.peers().map(|(_, has)| has));
            let peers = torrent.peers().map(|(peer, has)| BookEntry {
                conn: peer.conn(),
                has: has.clone(),
                we_choke: peer.we_choke(),
                outstanding: peer.outstanding(),
                owed: peer.owed().map(raw).collect(),
                arriving: peer.arriving().map(raw),
                unwritten: peer.wants_write(&[]),
            });
            books.push((id, peers.collect::<Vec<_>>()));
            let Some(shared) = torrents.get_mut(&id) else { continue };
            // What streams of uTP carry is seen as datagrams alone.
            if let Some(status) = session.status(id).filter(|_| session.utp().is_none()) {
                let counted = Account {
                    received: status.down_bytes,
                    sent: status.up_bytes,
                    useful: status.down_bytes - status.wasted_bytes,
                };
                accounts.push((counted, Account { useful: shared.useful(known.picker()), ..shared.account }));
            }
            let stored = shared.content.lengths().pieces().filter(|piece| known.stored().has(*piece));
            for piece in stored {
                let good = shared.confirm(disk, id, piece);
                found.push(Observation::Verified { torrent: id, piece: piece.get(), good });
            }
        }
        for observation in found {
            self.observe(host, &observation);
        }
        for (counted, seen) in accounts {
            self.observe(host, &Observation::Accounts { counted, seen });
        }
        for (torrent, peers) in books {
            self.observe(host, &Observation::Books { torrent, peers: &peers });
        }
    }

    /// Notes that a client is about to be told something.
    pub(super) fn input(&mut self, host: HostId, topic: Topic, what: &dyn fmt::Display) {
        self.observe(host, &Observation::Input);
        self.line(host, Way::In, topic, what);
    }
}

impl Client {
    fn account_of(&mut self, conn: ConnId) -> Option<&mut Account> {
        let torrent = self.conns.get(&conn)?.torrent?;
        Some(&mut self.torrents.get_mut(&torrent)?.account)
    }

    fn content_of(&self, conn: ConnId) -> Option<&Arc<Content>> {
        let torrent = self.conns.get(&conn)?.torrent?;
        Some(&self.torrents.get(&torrent)?.content)
    }
}

fn raw(block: Block) -> RawBlock {
    RawBlock { piece: block.piece().get(), begin: block.begin(), len: block.len() }
}

/// The longest odd read.
const MAX_CUT: u64 = 200;

/// No client has so much to say at once; one that goes on for ever is cut short.
const RUNAWAY: u32 = 20_000;
