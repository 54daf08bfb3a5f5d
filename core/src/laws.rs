//! What every [`Machine`] promises, checked on all of them alike.
//!
//! Two machines of one seed live through the same random life, in which times are met exactly, missed by a microsecond
//! or overslept, and much of what happens makes no sense.

mod node;

use crate::bitfield::Bitfield;
use crate::dht;
use crate::id::{ConnId, InfoHash, InfoHashes, PeerId};
use crate::lengths::{Block, FileMap, PieceIndex};
use crate::lsd::{self, Announcement, Lsd};
use crate::machine::{Machine, Outbox, Timestamp};
use crate::metadata::{self, Metadata};
use crate::metainfo::{Assembly, AssemblyError, merkle};
use crate::peer::{self, Peer};
use crate::pex::{self, Pex};
use crate::rng::Rng;
use crate::session::{Intake, WriteBatch};
use crate::store::expected::Expected;
use crate::store::op::{self, DiskError, DiskOp, DiskOutput, HashInput, HashOp, HashOutput};
use crate::store::payload::Payload;
use crate::store::{self, Store};
use crate::torrent::discovery::{self, Discovery, Need, Trackers, Us};
use crate::torrent::holepunch::{self, Holepunch};
use crate::tracker::{
    Announce, AnnounceId, AnnounceRequest, Announcer, AnnouncerAction, AnnouncerEvent, Answer, AskId,
    Question, RetryIn, TrackerError, UdpAction, UdpEvent, UdpTrackers, parse_tiers,
};
use crate::wire::{
    self, Handshake, HolepunchError, HolepunchMessage, MAX_METADATA_LEN, Message, PexFlags, PexMessage,
    RawBlock, Reserved,
};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use bytes::{Bytes, BytesMut};
use core::fmt::{self, Debug};
use core::net::SocketAddr;
use core::time::Duration;
use sha1::{Digest as _, Sha1};

#[test]
fn the_announcer_keeps_the_laws() {
    let tally = live_many::<Announcing>();
    assert!(tally.said > 500 && tally.woken > 50 && tally.closed > 10, "{tally:?}");
}

#[test]
fn the_calls_into_the_local_network_keep_the_laws() {
    let tally = live_many::<Calling>();
    assert!(tally.said > 500 && tally.woken > 50, "{tally:?}");
}

#[test]
fn the_metadata_keeps_the_laws() {
    let tally = live_many::<Fetching>();
    assert!(tally.said > 500 && tally.woken > 50, "{tally:?}");
}

#[test]
fn the_peer_exchange_keeps_the_laws() {
    let tally = live_many::<Telling>();
    assert!(tally.said > 200 && tally.woken > 200, "{tally:?}");
}

#[test]
fn the_holepunch_keeps_the_laws() {
    let tally = live_many::<Punching>();
    assert!(tally.said > 300 && tally.woken > 50, "{tally:?}");
}

#[test]
fn the_node_keeps_the_laws() {
    let tally = live_many::<node::Searching<dht::Node>>();
    assert!(tally.said > 500 && tally.woken > 50, "{tally:?}");
}

#[test]
fn the_nodes_of_both_families_keep_the_laws() {
    let tally = live_many::<node::Searching<dht::Dht>>();
    assert!(tally.said > 500 && tally.woken > 50, "{tally:?}");
}

#[test]
fn the_discovery_keeps_the_laws() {
    let tally = live_many::<Discovering>();
    assert!(tally.said > 100 && tally.woken > 50 && tally.closed > 10, "{tally:?}");
}

#[test]
fn the_peer_keeps_the_laws() {
    let tally = live_many::<Conversing>();
    assert!(tally.said > 100 && tally.woken > 20 && tally.closed > 10, "{tally:?}");
}

#[test]
fn the_store_keeps_the_laws() {
    let tally = live_many::<Storing>();
    assert!(tally.said > 500 && tally.woken > 50, "{tally:?}");
}

#[test]
fn the_udp_trackers_keep_the_laws() {
    let tally = live_many::<Asking>();
    assert!(tally.said > 500 && tally.woken > 50, "{tally:?}");
}

/// A machine, with just enough of its surroundings to know what could happen to it next.
trait Subject: Debug {
    type Input: Debug;
    type Machine: Machine<Action: Debug>;

    fn new(now: Timestamp, rng: &mut Rng) -> Self;

    fn machine(&mut self) -> &mut Self::Machine;

    /// Something that may happen, sense or nonsense; what the machine's contract forbids its parent is left out.
    fn draw(&self, rng: &mut Rng) -> Self::Input;

    fn feed(&mut self, now: Timestamp, input: &Self::Input, out: &mut Outbox<Action<Self>>);

    /// Learns what the machine said.
    fn hear(&mut self, _said: &Action<Self>) {}

    /// Whether the machine has nothing more to say.
    fn is_closed(&self) -> bool {
        false
    }
}

type Action<S> = <<S as Subject>::Machine as Machine>::Action;

/// What happened in these lives, lest laws be kept by doing nothing.
#[derive(Debug, Default)]
struct Tally {
    closed: usize,
    said: usize,
    woken: usize,
}

fn live_many<S: Subject>() -> Tally {
    let mut tally = Tally::default();
    for seed in 0..LIVES {
        live::<S>(&Rng::from_number(seed), &mut tally);
    }
    tally
}

fn live<S: Subject>(root: &Rng, tally: &mut Tally) {
    let mut rng = root.fork("world");
    let mut now = Timestamp::from_micros(rng.below(1 << 40));
    let mut twins = [(); 2].map(|()| S::new(now, &mut root.fork("machine")));
    for _ in 0..STEPS {
        now = later(now, twins[0].machine(), &mut rng);
        if rng.chance(3, 4) {
            let said = twins.each_mut().map(|twin| wake(now, twin));
            assert_eq!(said[0], said[1], "a machine is deterministic when woken");
            tally.woken += usize::from(!said[0].is_empty());
        }
        let input = twins[0].draw(&mut rng);
        let said = twins.each_mut().map(|twin| {
            let closed = twin.is_closed();
            let said = with_outbox(twin, |twin, out| twin.feed(now, &input, out));
            assert!(!closed || said.is_empty(), "it is closed, but says {said:?} to {input:?}");
            said
        });
        assert_eq!(said[0], said[1], "a machine is deterministic after {input:?}");
        let [one, other] = twins.each_ref().map(|twin| format!("{twin:?}"));
        assert_eq!(one, other, "a machine is deterministic after {input:?}");
        tally.said += said[0].len();
    }
    tally.closed += usize::from(twins[0].is_closed());
}

/// Calls `handle_timeout` at `now`, twice, and checks what is promised about it.
fn wake<S: Subject>(now: Timestamp, subject: &mut S) -> Vec<String> {
    let (before, due) = (format!("{subject:?}"), subject.machine().poll_timeout());
    assert!(!subject.is_closed() || due.is_none(), "it is closed, but waits for {due:?}");
    let said = with_outbox(subject, |subject, out| subject.machine().handle_timeout(now, out));
    let after = format!("{subject:?}");
    if due.is_none_or(|due| due.at > now) {
        assert_eq!((said.len(), &after), (0, &before), "at {now}, {due:?} is not due");
    }
    let next = subject.machine().poll_timeout();
    assert!(next.is_none_or(|next| next.at > now), "at {now}, what was due is done, but {next:?}");
    let again = with_outbox(subject, |subject, out| subject.machine().handle_timeout(now, out));
    assert_eq!((again.len(), format!("{subject:?}")), (0, after), "a second call at {now} does nothing");
    said
}

fn with_outbox<S: Subject>(
    subject: &mut S,
    call: impl FnOnce(&mut S, &mut Outbox<Action<S>>),
) -> Vec<String> {
    let mut out = Outbox::new();
    call(subject, &mut out);
    out.iter().for_each(|action| subject.hear(action));
    out.iter().map(|action| format!("{action:?}")).collect()
}

/// A time at or after `now`, often about when the machine wants to be woken.
fn later(now: Timestamp, machine: &impl Machine, rng: &mut Rng) -> Timestamp {
    let due = machine.poll_timeout().map_or(now, |due| due.at.min(now + FAR));
    let at = match rng.below(64) {
        0 | 1 => due - Duration::from_micros(1),
        2 | 3 => due,
        4 => due + Duration::from_micros(rng.below(60_000_000)),
        5..=9 => now + Duration::from_millis(rng.below(2000)),
        _ => now + Duration::from_millis(rng.below(50)),
    };
    at.max(now)
}

/// An announcer whose announces are answered, or fail, in any order.
#[derive(Debug)]
struct Announcing {
    announcer: Announcer,
    open: BTreeSet<AnnounceId>,
}

impl Subject for Announcing {
    type Input = AnnouncerEvent;
    type Machine = Announcer;

    fn new(_now: Timestamp, rng: &mut Rng) -> Self {
        let tiers = [
            &["http://a.example/announce", "udp://b.example:1", "http://c.example/announce"][..],
            &["udp://d.example:1"],
            &["http://e.example/announce", "http://f.example/announce"],
        ];
        let tiers = parse_tiers(tiers.map(|tier| tier.iter().copied()));
        let announcer = Announcer::new(tiers, rng.chance(1, 2), rng.fork("announcer"));
        Self { announcer, open: BTreeSet::new() }
    }

    fn machine(&mut self) -> &mut Announcer {
        &mut self.announcer
    }

    fn draw(&self, rng: &mut Rng) -> AnnouncerEvent {
        let nth = rng.below(self.open.len() as u64) as usize;
        let open = self.open.iter().nth(nth).copied();
        let id = open.filter(|_| rng.chance(7, 8)).unwrap_or_else(|| AnnounceId(rng.below(1000)));
        match rng.below(64) {
            0 => AnnouncerEvent::Completed,
            1 => AnnouncerEvent::Force,
            2 => AnnouncerEvent::NetworkChanged,
            3 => AnnouncerEvent::PartialSeed(rng.chance(1, 2)),
            4 if rng.chance(1, 4) => AnnouncerEvent::Stop,
            4..=8 => AnnouncerEvent::WantPeers,
            9..=20 => AnnouncerEvent::Start,
            21..=40 => AnnouncerEvent::Answered {
                id,
                answer: Answer {
                    interval: Duration::from_secs(60 + rng.below(86_340)),
                    min_interval: rng.chance(1, 2).then(|| Duration::from_secs(rng.below(86_400))),
                    tracker_id: rng.chance(1, 4).then(|| vec![b'x'; 3]),
                    ..Answer::default()
                },
            },
            _ => AnnouncerEvent::Failed {
                id,
                error: match rng.below(6) {
                    0 => refused(Some(RetryIn::Never)),
                    1 => refused(Some(RetryIn::After(Duration::from_secs(rng.next_u64())))),
                    2 => refused(None),
                    _ => TrackerError::TimedOut,
                },
            },
        }
    }

    fn feed(&mut self, now: Timestamp, input: &AnnouncerEvent, out: &mut Outbox<AnnouncerAction>) {
        if let AnnouncerEvent::Answered { id, .. } | AnnouncerEvent::Failed { id, .. } = input {
            self.open.remove(id);
        }
        self.announcer.handle_event(now, input.clone(), out);
    }

    fn hear(&mut self, said: &AnnouncerAction) {
        match said {
            AnnouncerAction::Announce { id, .. } => assert!(self.open.insert(*id), "an id is used once"),
            AnnouncerAction::Cancel { id } => assert!(self.open.remove(id), "only what flies is cancelled"),
        }
    }

    fn is_closed(&self) -> bool {
        self.announcer.is_stopped()
    }
}

fn refused(retry_in: Option<RetryIn>) -> TrackerError {
    TrackerError::Refused { reason: String::from("no"), retry_in }
}

/// Questions to UDP trackers, of which some answer, some refuse, some forget and some send garbage.
struct Asking {
    trackers: UdpTrackers,
    next_id: u64,
    sent: Vec<(SocketAddr, Vec<u8>)>,
}

impl Subject for Asking {
    type Input = UdpEvent;
    type Machine = UdpTrackers;

    fn new(_now: Timestamp, rng: &mut Rng) -> Self {
        Self { trackers: UdpTrackers::new(rng.fork("udp")), next_id: 0, sent: vec![] }
    }

    fn machine(&mut self) -> &mut UdpTrackers {
        &mut self.trackers
    }

    fn draw(&self, rng: &mut Rng) -> UdpEvent {
        match rng.below(16) {
            0..=4 => UdpEvent::Ask {
                id: AskId(self.next_id),
                to: (0..rng.below(4)).map(|_| tracker(rng)).collect(),
                question: question(rng),
                patience: Duration::from_secs([0, 5, 30, 100_000][rng.below(4) as usize]),
            },
            5 => UdpEvent::Cancel { id: AskId(rng.below(self.next_id + 2)) },
            6 => UdpEvent::Datagram { from: tracker(rng), data: garbage(rng, 40) },
            _ => self.reply(rng),
        }
    }

    fn feed(&mut self, now: Timestamp, input: &UdpEvent, out: &mut Outbox<UdpAction>) {
        self.next_id += u64::from(matches!(input, UdpEvent::Ask { .. }));
        self.trackers.handle_event(now, input.clone(), out);
    }

    fn hear(&mut self, said: &UdpAction) {
        if let UdpAction::Send { to, data } = said {
            self.sent.push((*to, data.clone()));
            self.sent.drain(..self.sent.len().saturating_sub(RECENT));
        }
    }
}

/// Only the machine is of interest, and packets are long.
impl Debug for Asking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.trackers.fmt(f)
    }
}

impl Asking {
    /// An answer to one of the last packets, or something like it (BEP 15).
    fn reply(&self, rng: &mut Rng) -> UdpEvent {
        let Some((to, packet)) = self.sent.get(rng.below(self.sent.len() as u64) as usize) else {
            return UdpEvent::Datagram { from: tracker(rng), data: garbage(rng, 40) };
        };
        let mut data = packet[8..16].to_vec();
        match rng.below(8) {
            0 => data[3] = 3,
            1 => {
                data[3] = 3;
                data.extend(b"Connection ID mismatch.");
            }
            2 => data[3] = rng.below(5) as u8,
            _ => {}
        }
        data.extend(garbage(rng, 60));
        UdpEvent::Datagram { from: *to, data: data.into() }
    }
}

fn tracker(rng: &mut Rng) -> SocketAddr {
    let known = ["203.0.113.1:1", "203.0.113.2:1", "[2001:db8::1]:1", "[::ffff:203.0.113.1]:1"];
    known[rng.below(4) as usize].parse().unwrap()
}

fn question(rng: &mut Rng) -> Question {
    if rng.chance(1, 3) {
        return Question::Scrape(vec![InfoHash([7; 20]); rng.below(4) as usize]);
    }
    let request = AnnounceRequest { event: None, key: 1, num_want: 200, tracker_id: None };
    let announce = Announce {
        info_hash: InfoHash([7; 20]),
        peer_id: PeerId([1; 20]),
        port: 6881,
        uploaded: 0,
        downloaded: 0,
        left: 1,
        encryption: false,
        request,
    };
    Question::Announce { announce, path_and_query: String::from("/announce") }
}

fn garbage(rng: &mut Rng, max: u64) -> Bytes {
    let mut bytes = vec![0; rng.below(max) as usize];
    rng.fill(&mut bytes);
    bytes.into()
}

/// A store over a disk of zeros that often fails and sometimes lies.
#[derive(Debug)]
struct Storing {
    store: Store,
    map: Arc<FileMap>,
    fresh: bool,
    checking: bool,
    good: BTreeSet<PieceIndex>,
    jobs: BTreeMap<u32, DiskOp>,
}

impl Subject for Storing {
    type Input = store::Event;
    type Machine = Store;

    fn new(_now: Timestamp, rng: &mut Rng) -> Self {
        let files = [300_000, 0, 500_000, 40_000];
        let piece_len = 20 << 14;
        let v2 = rng.chance(1, 2);
        let map = if v2 {
            FileMap::per_file(&files, piece_len)
        } else {
            FileMap::contiguous(&[(300_000, false), (27_680, true), (0, false), (512_320, false)], piece_len)
        };
        let map = Arc::new(map.unwrap());
        let lens = map.lengths().pieces().map(|piece| map.lengths().piece_len(piece));
        let expected = if v2 {
            Expected::Merkle(lens.map(root_of_zeros).collect())
        } else {
            Expected::Sha1(lens.flat_map(|len| Sha1::digest(vec![0; len as usize])).collect())
        };
        let wanted = (0..map.file_count()).map(|_| rng.chance(3, 4)).collect();
        let store = Store::new(Arc::clone(&map), expected, wanted, rng.below(600_000));
        Self { store, map, fresh: true, checking: false, good: BTreeSet::new(), jobs: BTreeMap::new() }
    }

    fn machine(&mut self) -> &mut Store {
        &mut self.store
    }

    fn draw(&self, rng: &mut Rng) -> store::Event {
        let lengths = self.map.lengths();
        let piece = lengths.piece(rng.below(lengths.piece_count().into()) as u32).unwrap();
        match rng.below(64) {
            0 => store::Event::Flush,
            1 => store::Event::Read { token: rng.next_u64(), piece, begin: 0, len: 1 << 14 },
            2 => store::Event::Done { job: rng.next_u32() | 1 << 31, result: Ok(DiskOutput::Done) },
            3..=9 if self.fresh => store::Event::Check,
            3..=45 if !self.checking && !self.good.contains(&piece) => {
                let number = rng.below(lengths.block_count(piece).into()) as u32;
                let block = lengths.block(piece, number).unwrap();
                let bytes = if rng.chance(1, 100) {
                    vec![1; block.len() as usize].into()
                } else {
                    op::zeros(block.len())
                };
                store::Event::Block { block, payload: Payload::Content(bytes) }
            }
            _ => match self.jobs.iter().nth(rng.below(self.jobs.len() as u64) as usize) {
                Some((job, op)) => store::Event::Done { job: *job, result: execute(op, rng) },
                None => store::Event::Flush,
            },
        }
    }

    fn feed(&mut self, now: Timestamp, input: &store::Event, out: &mut Outbox<store::Action>) {
        match input {
            store::Event::Done { job, .. } => {
                self.jobs.remove(job);
            }
            store::Event::Check => (self.fresh, self.checking) = (false, true),
            _ => self.fresh = false,
        }
        self.store.handle_event(now, input.clone(), out);
    }

    fn hear(&mut self, said: &store::Action) {
        match said {
            store::Action::Checked => self.checking = false,
            store::Action::Found(piece) | store::Action::Verified(piece) => {
                assert!(self.good.insert(*piece), "a piece is found good once");
            }
            store::Action::Op { job, op } => {
                assert!(self.jobs.insert(*job, op.clone()).is_none(), "a job's number is used once");
            }
            _ => {}
        }
    }
}

/// Torrents that come and go, and calls of others.
#[derive(Debug)]
struct Calling(Lsd);

impl Subject for Calling {
    type Input = lsd::Event;
    type Machine = Lsd;

    fn new(_now: Timestamp, rng: &mut Rng) -> Self {
        Self(Lsd::new(rng.fork("lsd")))
    }

    fn machine(&mut self) -> &mut Lsd {
        &mut self.0
    }

    fn draw(&self, rng: &mut Rng) -> lsd::Event {
        let torrent = InfoHash([rng.below(60) as u8; 20]);
        match rng.below(16) {
            0 => lsd::Event::Listening { port: rng.below(3) as u16 },
            1..=3 => lsd::Event::Unshared { torrent },
            4..=10 => lsd::Event::Shared { torrent },
            11 => lsd::Event::Datagram { from: tracker(rng), data: garbage(rng, 100) },
            _ => {
                let call =
                    Announcement { port: 1 + rng.below(9) as u16, torrents: vec![torrent], cookie: None };
                lsd::Event::Datagram { from: tracker(rng), data: call.encode(lsd::Group::V4).into() }
            }
        }
    }

    fn feed(&mut self, now: Timestamp, input: &lsd::Event, out: &mut Outbox<lsd::Action>) {
        self.0.handle_event(now, input.clone(), out);
    }
}

/// A torrent that has peers or lacks them, with trackers that answer or don't.
#[derive(Debug)]
struct Discovering {
    discovery: Discovery,
    asking: bool,
    over: bool,
}

impl Subject for Discovering {
    type Input = discovery::Event;
    type Machine = Discovery;

    fn new(_now: Timestamp, rng: &mut Rng) -> Self {
        Self { discovery: Discovery::new(rng.fork("discovery")), asking: false, over: false }
    }

    fn machine(&mut self) -> &mut Discovery {
        &mut self.discovery
    }

    fn draw(&self, rng: &mut Rng) -> discovery::Event {
        match rng.below(500) {
            0 => discovery::Event::Forbid,
            1 => discovery::Event::Stop,
            2..30 => {
                let trackers = [Trackers::Alive, Trackers::Dead, Trackers::None];
                discovery::Event::Trackers(trackers[rng.below(3) as usize])
            }
            30..60 => discovery::Event::Us(Us { port: rng.below(2) as u16, seed: rng.chance(1, 2) }),
            60..80 => discovery::Event::Start,
            80..200 => {
                let need = [Need::Enough, Need::Starving, Need::Trying][rng.below(3) as usize];
                discovery::Event::Peers { has_open: rng.chance(1, 2), need }
            }
            _ => discovery::Event::Ended { answered: rng.chance(3, 4) },
        }
    }

    fn feed(&mut self, now: Timestamp, input: &discovery::Event, out: &mut Outbox<discovery::Action>) {
        match input {
            discovery::Event::Ended { .. } => self.asking = false,
            discovery::Event::Forbid | discovery::Event::Stop => self.over = true,
            _ => {}
        }
        self.discovery.handle_event(now, *input, out);
    }

    fn hear(&mut self, said: &discovery::Action) {
        match said {
            discovery::Action::Ask(_) => assert!(!self.asking && !self.over, "there is one lookup at a time"),
            discovery::Action::Cancel => assert!(self.asking, "only what runs is cancelled"),
        }
        self.asking = matches!(said, discovery::Action::Ask(_));
    }

    fn is_closed(&self) -> bool {
        self.over
    }
}

/// Peers that come, go and tell of others.
#[derive(Debug)]
struct Telling(Pex);

impl Subject for Telling {
    type Input = pex::Event;
    type Machine = Pex;

    fn new(_now: Timestamp, _rng: &mut Rng) -> Self {
        Self(Pex::new())
    }

    fn machine(&mut self) -> &mut Pex {
        &mut self.0
    }

    fn draw(&self, rng: &mut Rng) -> pex::Event {
        let peer = ConnId(rng.below(150));
        let addr = SocketAddr::from(([203, 0, 113, peer.0 as u8], 1 + rng.below(2) as u16));
        match rng.below(16) {
            0..=8 => pex::Event::Contact { peer, addr, flags: PexFlags(rng.below(32) as u8) },
            9..=11 => pex::Event::Gone { peer },
            12 | 13 => {
                let message = PexMessage { added: vec![(addr, PexFlags(0))], dropped: vec![addr] };
                pex::Event::Heard { peer: ConnId(rng.below(4)), message }
            }
            _ => pex::Event::Listens { peer, remote: addr },
        }
    }

    fn feed(&mut self, now: Timestamp, input: &pex::Event, out: &mut Outbox<pex::Action>) {
        self.0.handle_event(now, input.clone(), out);
    }
}

/// Peers that want to be brought together, or that we want to be.
#[derive(Debug)]
struct Punching(Holepunch);

impl Subject for Punching {
    type Input = holepunch::Event;
    type Machine = Holepunch;

    fn new(_now: Timestamp, _rng: &mut Rng) -> Self {
        Self(Holepunch::new())
    }

    fn machine(&mut self) -> &mut Holepunch {
        &mut self.0
    }

    fn draw(&self, rng: &mut Rng) -> holepunch::Event {
        let peer = ConnId(rng.below(12));
        let mut addr = || SocketAddr::from(([45, 1, rng.below(20) as u8, 1], 1 + rng.below(2) as u16));
        let (addr, other) = (addr(), addr());
        match rng.below(16) {
            0 => holepunch::Event::Connected { addr },
            1..=4 => holepunch::Event::DialFailed { addr },
            5 => holepunch::Event::Gone { peer },
            6..=8 => {
                let message = match rng.below(3) {
                    0 => HolepunchMessage::Connect(other),
                    1 => HolepunchMessage::Error(other, HolepunchError::from_code(rng.below(6) as u32)),
                    _ => HolepunchMessage::Rendezvous(other),
                };
                holepunch::Event::Heard { peer, message }
            }
            9..=11 => holepunch::Event::Member { peer, addr, speaks: rng.below(4) > 0 },
            12 => holepunch::Event::Own { addr },
            _ => holepunch::Event::Told { peer, addr },
        }
    }

    fn feed(&mut self, now: Timestamp, input: &holepunch::Event, out: &mut Outbox<holepunch::Action>) {
        self.0.handle_event(now, input.clone(), out);
        self.0.check_invariants();
    }
}

/// Metadata that peers offer, send, refuse and lie about.
#[derive(Debug)]
struct Fetching {
    metadata: Metadata,
    info: Bytes,
    asked: Vec<(ConnId, u32)>,
    jobs: Vec<(u32, Assembly)>,
}

impl Subject for Fetching {
    type Input = metadata::Event;
    type Machine = Metadata;

    fn new(_now: Timestamp, rng: &mut Rng) -> Self {
        let ballast = rng.below(60_000) as usize;
        let info = format!(
            "d6:lengthi1e4:name1:n12:piece lengthi1e6:pieces20:hhhhhhhhhhhhhhhhhhhh1:x{ballast}:{}e",
            "x".repeat(ballast)
        );
        let hash = InfoHash(Sha1::digest(&info).into());
        let metadata = Metadata::wanted(InfoHashes::V1(hash));
        Self { metadata, info: info.into_bytes().into(), asked: vec![], jobs: vec![] }
    }

    fn machine(&mut self) -> &mut Metadata {
        &mut self.metadata
    }

    fn draw(&self, rng: &mut Rng) -> metadata::Event {
        let nth = |len: usize, rng: &mut Rng| rng.below(len as u64) as usize;
        let asked = self.asked.get(nth(self.asked.len(), rng)).copied();
        let (peer, piece) = asked.unwrap_or((ConnId(rng.below(6)), rng.below(6) as u32));
        match rng.below(64) {
            0 => metadata::Event::Rejected { peer, piece },
            1..=4 => metadata::Event::Gone { peer: ConnId(rng.below(6)) },
            5..=8 => metadata::Event::Requested { peer, piece },
            9..=20 => {
                let wrong = rng.chance(1, 3).then(|| 1 + rng.below(MAX_METADATA_LEN.into()) as u32);
                let len = wrong.unwrap_or(self.info.len() as u32);
                metadata::Event::Offer { peer: ConnId(rng.below(6)), len }
            }
            21..=30 => match self.jobs.get(nth(self.jobs.len(), rng)) {
                // One that is right ends it all, so that is rare.
                Some((job, assembly)) => {
                    let mut read = assembly.clone().read();
                    if rng.chance(3, 4) {
                        read.metainfo = Err(AssemblyError::WrongHash);
                    }
                    metadata::Event::Read { job: *job, result: rng.chance(7, 8).then_some(read) }
                }
                None => metadata::Event::Read { job: rng.next_u32(), result: None },
            },
            _ => {
                let from = (piece as usize * (1 << 14)).min(self.info.len());
                let to = (from + (1 << 14)).min(self.info.len());
                let right = rng.chance(15, 16);
                let data = if right { self.info.slice(from..to) } else { garbage(rng, 1 << 14) };
                metadata::Event::Data { peer, piece, data }
            }
        }
    }

    fn feed(&mut self, now: Timestamp, input: &metadata::Event, out: &mut Outbox<metadata::Action>) {
        if let metadata::Event::Read { job, .. } = input {
            self.jobs.retain(|(other, _)| other != job);
        }
        self.metadata.handle_event(now, input.clone(), out);
    }

    fn hear(&mut self, said: &metadata::Action) {
        match said {
            metadata::Action::Ask { peer, piece } => {
                self.asked.push((*peer, *piece));
                self.asked.drain(..self.asked.len().saturating_sub(RECENT));
            }
            metadata::Action::Read { job, assembly } => self.jobs.push((*job, assembly.clone())),
            _ => {}
        }
    }
}

fn root_of_zeros(len: u32) -> merkle::PieceRoot {
    let blocks: Vec<u32> = (0..len).step_by(1 << 14).map(|begin| (len - begin).min(1 << 14)).collect();
    let leaves: Vec<_> = blocks.iter().map(|len| op::leaf(&op::zeros(*len))).collect();
    let width = (leaves.len() as u32).next_power_of_two();
    merkle::PieceRoot { hash: merkle::root(&leaves, 0, width), len, width }
}

fn execute(op: &DiskOp, rng: &mut Rng) -> Result<DiskOutput, DiskError> {
    match rng.below(40) {
        0 | 1 => return Err(DiskError::Full),
        2 => return Err(DiskError::Io(5)),
        3 => return Ok(DiskOutput::Stat(None)),
        4 => return Ok(DiskOutput::Hash(HashOutput::Sha1([0; 20]))),
        _ => {}
    }
    Ok(match op {
        DiskOp::Hash(hash) => {
            let (HashOp::Leaves { input } | HashOp::Sha1 { input, .. }) = hash;
            let slices: Vec<Bytes> = match input {
                HashInput::Memory(data) => data.iter().filter_map(|data| data.content().cloned()).collect(),
                HashInput::Stored(spans) => {
                    let len = spans.iter().map(|span| span.len).sum::<u32>();
                    (0..len).step_by(1 << 14).map(|at| op::zeros((len - at).min(1 << 14))).collect()
                }
            };
            DiskOutput::Hash(hash.clone().compute(slices.iter().map(|slice| &slice[..])))
        }
        DiskOp::Metadata(_) => unreachable!("this is not the store's business"),
        DiskOp::Read { spans } => DiskOutput::Read(Payload::Length(spans.iter().map(|span| span.len).sum())),
        DiskOp::Stat { .. } => DiskOutput::Stat(rng.chance(3, 4).then(|| rng.below(600_000))),
        DiskOp::Finish { .. } | DiskOp::Sync { .. } | DiskOp::Write { .. } => DiskOutput::Done,
    })
}

/// A peer, its torrent and the other end, none of which makes much sense.
struct Conversing {
    peer: Peer,
    map: Arc<FileMap>,
    input: BytesMut,
    /// The length of the block that is arriving.
    payload: Option<u32>,
    reads: Vec<(u64, u32)>,
    closed: bool,
}

#[derive(Debug)]
enum PeerInput {
    Bytes(Bytes),
    Event(peer::Event),
    Pull,
}

impl Subject for Conversing {
    type Input = PeerInput;
    type Machine = Peer;

    fn new(now: Timestamp, rng: &mut Rng) -> Self {
        let map = Arc::new(FileMap::contiguous(&[(10 * 40_000, false)], 40_000).unwrap());
        let setup = peer::Setup {
            ours: greeting(rng, 1),
            map: Some(Arc::clone(&map)),
            listen_port: 6881,
            max_requests: rng.below(300) as u32,
            client: String::from("laws"),
        };
        let remote = "203.0.113.9:6881".parse().unwrap();
        let peer = if rng.chance(1, 2) {
            Peer::outgoing(now, ConnId(0), remote, setup)
        } else {
            Peer::incoming(now, ConnId(0), remote, setup)
        };
        Self { peer, map, input: BytesMut::new(), payload: None, reads: vec![], closed: false }
    }

    fn machine(&mut self) -> &mut Peer {
        &mut self.peer
    }

    fn draw(&self, rng: &mut Rng) -> PeerInput {
        // Nothing can come over a connection that is not open.
        let connecting = self.peer.is_connecting();
        match rng.below(8) {
            0..=2 if connecting => PeerInput::Event(peer::Event::Connected),
            0..=2 => PeerInput::Pull,
            3..=5 if !connecting => PeerInput::Bytes(self.bytes(rng)),
            _ => PeerInput::Event(self.event(rng)),
        }
    }

    fn feed(&mut self, now: Timestamp, input: &PeerInput, out: &mut Outbox<peer::Action>) {
        match input {
            PeerInput::Bytes(bytes) => {
                self.input.extend_from_slice(bytes);
                self.read(now, out);
            }
            PeerInput::Event(event) => self.peer.handle_event(now, event.clone(), out),
            PeerInput::Pull => {
                let completed: Vec<_> = self.map.lengths().pieces().take(3).collect();
                self.peer.poll_stream(now, 1 << 16, &completed, &mut WriteBatch::default(), out);
            }
        }
    }

    fn hear(&mut self, said: &peer::Action) {
        match said {
            peer::Action::Disconnect(_) => {
                assert!(!self.closed, "a connection is closed once");
                self.closed = true;
            }
            peer::Action::Read { token, len, .. } => self.reads.push((*token, *len)),
            _ => {}
        }
    }

    fn is_closed(&self) -> bool {
        self.closed
    }
}

/// Only the machine is of interest, and blocks are long.
impl Debug for Conversing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.peer.fmt(f)
    }
}

impl Conversing {
    fn block(&self, rng: &mut Rng) -> Block {
        let lengths = self.map.lengths();
        let piece = lengths.piece(rng.below(lengths.piece_count().into()) as u32).unwrap();
        lengths.block(piece, rng.below(lengths.block_count(piece).into()) as u32).unwrap()
    }

    fn event(&self, rng: &mut Rng) -> peer::Event {
        let block = self.block(rng);
        match rng.below(16) {
            0..=2 => peer::Event::Assigned((0..rng.below(9)).map(|_| self.block(rng)).collect()),
            3 => peer::Event::Cancel(block),
            4 | 5 => peer::Event::Connected,
            6 => peer::Event::Hello(peer::Hello {
                have: if rng.chance(1, 2) { Bitfield::all(10) } else { Bitfield::none(10) },
                told: rng.below(4) as usize,
                allowed: vec![block.piece()],
                upload_only: rng.chance(1, 2),
                offer: peer::Offer::default(),
            }),
            7 => peer::Event::Interest(rng.chance(3, 4)),
            8..=10 => {
                let asked = self.reads.get(rng.below(self.reads.len() as u64) as usize);
                let (token, len) = asked.copied().unwrap_or((rng.next_u64(), 1));
                peer::Event::Read { token, payload: rng.chance(7, 8).then_some(Payload::Length(len)) }
            }
            11 => peer::Event::Refuse(block),
            12 | 13 => peer::Event::Serve(block),
            _ => peer::Event::SetChoke(rng.chance(1, 3)),
        }
    }

    fn bytes(&self, rng: &mut Rng) -> Bytes {
        let mut bytes = BytesMut::new();
        if self.peer.handshake().is_none() {
            wire::encode_handshake(&greeting(rng, 2), &mut bytes);
            return bytes.freeze();
        }
        let block = self.block(rng);
        let part = RawBlock { piece: block.piece().get(), begin: block.begin(), len: block.len() };
        // Without the fast extension these would end almost every life early.
        let kind = rng.below(32);
        let kind = if self.peer.is_fast() || rng.chance(1, 16) { kind } else { kind.clamp(1, 27) };
        let message = match kind {
            0 => Message::AllowedFast(part.piece),
            1 => Message::Bitfield(Bytes::from_static(&[0xff, 0xc0])),
            2 => Message::Cancel(part),
            3 => Message::Choke,
            4 => Message::Extended { id: 0, payload: Bytes::from_static(b"d4:reqqi3ee") },
            5 => Message::Have(rng.below(100) as u32 % 11),
            6 => Message::Interested,
            7 => Message::NotInterested,
            31 => Message::Reject(part),
            8..=14 => Message::Request(part),
            15..=18 => Message::Unchoke,
            19..=27 => Message::KeepAlive,
            28 if rng.chance(1, 4) => return garbage(rng, 60),
            _ => {
                wire::encode_piece_head(part.piece, part.begin, part.len, &mut bytes);
                bytes.resize(bytes.len() + part.len as usize, 0);
                return bytes.freeze();
            }
        };
        wire::encode(&message, &mut bytes);
        // Some messages lack their end: the next one is read as that.
        bytes.truncate(bytes.len() - usize::from(rng.chance(1, 200)));
        bytes.freeze()
    }

    /// What a driver does with bytes.
    fn read(&mut self, now: Timestamp, out: &mut Outbox<peer::Action>) {
        loop {
            if let Some(len) = self.payload {
                if self.input.len() < len as usize {
                    return;
                }
                self.payload = None;
                let block = self.input.split_to(len as usize).freeze();
                self.peer.handle_payload(now, Payload::Content(block), out);
            }
            match self.peer.handle_bytes(now, &mut self.input, out) {
                Intake::Again => {}
                Intake::Payload(len) => self.payload = Some(len),
                Intake::Closed | Intake::NeedMore => return,
            }
        }
    }
}

fn greeting(rng: &mut Rng, who: u8) -> Handshake {
    let mut reserved = Reserved::NONE;
    if rng.chance(3, 4) {
        reserved = reserved.with_fast();
    }
    if rng.chance(3, 4) {
        reserved = reserved.with_extended();
    }
    Handshake { reserved, info_hash: InfoHash([7; 20]), peer_id: PeerId([who; 20]) }
}

/// Seeds that are tried.
const LIVES: u64 = 30;

/// Events of one life.
const STEPS: usize = 200;

/// What is due later than this is due never, as far as a life goes.
const FAR: Duration = Duration::from_secs(365 * 86_400);

/// Packets that are remembered to be answered.
const RECENT: usize = 6;
