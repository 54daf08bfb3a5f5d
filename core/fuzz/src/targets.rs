//! One function a target: it takes any bytes, and panics where a promise of the core is broken.

use bendy::encoding::{Encoder, Error, SingleItemEncoder};
use bytes::{Buf as _, Bytes, BytesMut};
use fast_peer_core::bencode::{Document, Limits, Raw, Value};
use fast_peer_core::dht::item::Item;
use fast_peer_core::dht::item_store::ItemStore;
use fast_peer_core::dht::message::{
    Body, Family, MAX_ITEM_MESSAGE_LEN, MAX_LEN, MAX_NODES_READ, MAX_VALUES_READ, Message, Method,
};
use fast_peer_core::dht::peer_store::{PeerLimits, PeerStore};
use fast_peer_core::dht::saved::{self, MAX_CONTACTS};
use fast_peer_core::dht::{Action, Announced, Config, Event, Node, Saved, Task};
use fast_peer_core::id::{InfoHash, LookupId};
use fast_peer_core::ip_filter::{Builder, LineError, MAX_LINE, Range};
use fast_peer_core::lsd::{self, Announcement};
use fast_peer_core::machine::{Machine as _, Outbox, Timestamp};
use fast_peer_core::magnet::{self, Magnet};
use fast_peer_core::metainfo::{self, FilePath, Metainfo};
use fast_peer_core::mse::{self, Initiator, Methods, Responder, torrent_mark};
use fast_peer_core::portmap::{self, PortMapper, Router};
use fast_peer_core::rng::Rng;
use fast_peer_core::socks5::{self, Login, Name, Negotiation, Relayed};
use fast_peer_core::tracker::{
    self, AskId, Question, TrackerServer, TrackerUrl, UdpAction, UdpEvent, UdpTrackers,
};
use fast_peer_core::utp::{self, Kind, Packet, Utp};
use fast_peer_core::wire::{
    self, Decoder, ExtendedHandshake, Frame, HolepunchMessage, MAX_CLIENT_LEN, MAX_METADATA_LEN,
    MAX_PEX_PEERS, METADATA_PIECE_LEN, MetadataMessage, Offence, PexMessage,
};
use sha1::{Digest as _, Sha1};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Takes any bytes.
pub type Target = fn(&[u8]);

/// All targets by name; the corpus of each lies in the folder of that name in `core/fuzz/corpus`.
pub const TARGETS: &[(&str, Target)] = &[
    ("bencode", bencode),
    ("dht_node", dht_node),
    ("dht_packet", dht_packet),
    ("dht_state", dht_state),
    ("dht_stores", dht_stores),
    ("ext_handshake", ext_handshake),
    ("http_tracker", http_tracker),
    ("ip_filter", ip_filter),
    ("lsd", lsd),
    ("magnet", magnet),
    ("metainfo", metainfo),
    ("mse", mse),
    ("path_sanitise", path_sanitise),
    ("portmap", portmap),
    ("socks5", socks5),
    ("udp_tracker", udp_tracker),
    ("ut_holepunch", ut_holepunch),
    ("ut_metadata", ut_metadata),
    ("ut_pex", ut_pex),
    ("utp_packet", utp_packet),
    ("utp_session", utp_session),
    ("wire_stream", wire_stream),
];

/// What is read without a quirk is what bendy writes for the same values. With and without an index the same is read.
pub fn bencode(data: &[u8]) {
    let raw = Raw::parse(data, Limits::FILE);
    let document = match Document::parse(data, Limits::FILE) {
        Ok(document) => document,
        Err(error) => return assert_eq!(raw, Err(error)),
    };
    assert!(document.end() <= data.len());
    assert_alike(raw.expect("the document was read"), document.root());
    if document.quirks().is_empty() {
        let mut encoder = Encoder::new();
        encoder.emit_with(|to| encode(document.root(), to)).expect("canonical values can be written");
        assert_eq!(encoder.get_output().expect("one value was written"), document.raw());
    }
}

/// Whatever a node hears, from strangers and in answer to its queries, it keeps its rules and bounds what it sends.
///
/// The input is a row of steps, each with four bytes of a head (what, how long after the last, and the length in two)
/// and so many bytes.
pub fn dht_node(mut data: &[u8]) {
    let mut node = Node::new(Timestamp::ZERO, Config::new(Family::V4), &Rng::from_number(1));
    let (mut now, mut out, mut asked) = (Timestamp::ZERO, Outbox::new(), None);
    node.handle_event(now, Event::Learn(vec![SocketAddr::from(([8, 8, 8, 8], 1))]), &mut out);
    let announce = Some(Announced { port: 1, implied_port: false, seed: false });
    let task = Task::GetPeers { info_hash: InfoHash([b'h'; 20]), announce, noseed: false };
    node.handle_event(now, Event::Start { lookup: LookupId(0), task }, &mut out);
    while let Some(([kind, wait, high, low], rest)) = data.split_first_chunk() {
        let (bytes, rest) = rest.split_at(usize::from(u16::from_be_bytes([*high, *low])).min(rest.len()));
        data = rest;
        now = now + Duration::from_millis(10 * u64::from(*wait));
        for action in out.drain(..) {
            let Action::Send { to, data } = action else { continue };
            let message = Message::parse(&data).expect("what is written can be read");
            if matches!(message.body, Body::Query(_)) {
                asked = Some((to, message.transaction));
            }
        }
        match (kind % 4, asked.take()) {
            (0, _) => node.handle_timeout(now, &mut out),
            (1 | 2, Some((from, transaction))) => {
                let answer = [&b"d1:r"[..], bytes, b"1:t4:", transaction.as_bytes(), b"1:y1:re"].concat();
                node.handle_event(now, Event::Datagram { from, data: answer.into() }, &mut out);
            }
            _ => {
                let from = SocketAddr::from(([9, 9, *kind, 9], 1));
                node.handle_event(now, Event::Datagram { from, data: bytes.to_vec().into() }, &mut out);
                let answers = out.iter().filter_map(|action| match action {
                    Action::Send { to, data } if *to == from => Some(data),
                    _ => None,
                });
                let is_answer = |data: &&Vec<u8>| {
                    Message::parse(data).is_ok_and(|message| !matches!(message.body, Body::Query(_)))
                };
                // Nobody has proven anything: a token of ours can't be guessed.
                assert!(answers.filter(is_answer).map(Vec::len).sum::<usize>() <= 3 * bytes.len());
            }
        }
        node.check_invariants(now);
    }
}

/// A message that is read can be written, within the limits, and is then read alike but for what was left out.
pub fn dht_packet(data: &[u8]) {
    let Ok(message) = Message::parse(data) else { return };
    assert!(!message.to_string().contains(char::is_control));
    let written = message.encode();
    let again = Message::parse(&written).expect("what is written can be read");
    assert_eq!(
        (again.transaction, again.version, again.ip),
        (message.transaction, message.version, message.ip)
    );
    let (Body::Reply(reply), Body::Reply(rest)) = (message.body, again.body) else {
        let has_value = matches!(message.body, Body::Query(query) if matches!(query.method, Method::Put(_)));
        assert!(written.len() <= MAX_LEN || has_value);
        return assert_eq!(again, message);
    };
    assert!(written.len() <= MAX_ITEM_MESSAGE_LEN);
    assert!(written.len() <= MAX_LEN || rest.item.value.is_some());
    assert_eq!((rest.id, rest.token, rest.item.seq), (reply.id, reply.token, reply.item.seq));
    for family in [Family::V4, Family::V6] {
        let nodes: Vec<_> = reply.contacts(family).collect();
        assert!(nodes.len() <= MAX_NODES_READ && nodes.iter().all(|node| node.addr.port() != 0));
        let written: Vec<_> = rest.contacts(family).collect();
        assert!(nodes.starts_with(&written));
    }
    let values: Vec<_> = reply.values.into_iter().flat_map(|values| values.iter()).collect();
    assert!(values.len() <= MAX_VALUES_READ && values.iter().all(|peer| peer.port() != 0));
    let written: Vec<_> = rest.values.into_iter().flat_map(|values| values.iter()).collect();
    assert!(values.starts_with(&written));
    let target = reply.id;
    if let Ok(item) = Item::from_reply(target, b"", &reply.item) {
        assert_eq!(item.target(), target);
    }
    for budget in [162, 250, 500, 1000] {
        let len = message.encode_within(budget).len();
        let bare = message.encode_within(0).len();
        assert!(len <= budget.max(bare));
    }
}

/// Whatever is announced and put in whatever order, the stores keep to their limits.
pub fn dht_stores(data: &[u8]) {
    let limits = PeerLimits { torrents: 4, peers_per_torrent: 4, bytes: 2000 };
    let mut peers = PeerStore::new(Family::V4, limits, Rng::from_number(1));
    let mut items = ItemStore::new(4);
    let mut now = Timestamp::ZERO;
    for step in data.as_chunks::<4>().0 {
        let [kind, wait, host, what] = *step;
        now = now + Duration::from_secs(8 * u64::from(wait));
        let from = SocketAddr::from(([8, 8, host >> 4, host & 15], 1 + u16::from(wait)));
        match kind % 4 {
            0 => peers.handle_timeout(now),
            1 => items.handle_timeout(now),
            2 => {
                peers.announce(now, InfoHash([what; 20]), from, kind > 127);
                let mut known = vec![];
                peers.pick(now, InfoHash([what; 20]), kind > 63, 4, &mut known);
                assert!(known.contains(&from) || known.len() < 4);
            }
            _ => {
                let item = Item::immutable(format!("i{what}e").as_bytes()).expect("a number is bencode");
                items.put(now, from, item.clone(), None).expect("it replaces nothing but itself");
                assert_eq!(items.get(now, item.target()), Some(&item));
            }
        }
        peers.check_invariants(now);
        items.check_invariants(now);
    }
}

/// What an extended handshake says survives being written and read again, and it stays small.
pub fn ext_handshake(data: &[u8]) {
    let Ok(handshake) = ExtendedHandshake::parse(data) else { return };
    assert!(handshake.client.as_ref().is_none_or(|client| client.len() <= MAX_CLIENT_LEN));
    assert_eq!(ExtendedHandshake::parse(&handshake.encode()), Ok(handshake));
}

/// A tracker's answer stays within the limits, its URL is read alike when it is read again, and our own tracker answers
/// anything with bencode.
pub fn http_tracker(data: &[u8]) {
    if let Ok(answer) = tracker::parse_announce(200, data) {
        assert!((60..=86_400).contains(&answer.interval.as_secs()));
        assert!(answer.peers.len() <= tracker::MAX_PEERS && answer.peers.iter().all(|peer| peer.port() != 0));
    }
    let torrents = [InfoHash([b'a'; 20]), InfoHash([b'b'; 20])];
    if let Ok(counts) = tracker::parse_scrape(200, data, &torrents) {
        assert_eq!(counts.len(), torrents.len());
    }
    let Ok(text) = str::from_utf8(data) else { return };
    if let Ok(url) = TrackerUrl::parse(text) {
        assert!(url.as_str().bytes().all(|byte| byte.is_ascii_graphic()));
        assert_eq!(TrackerUrl::parse(url.as_str()), Ok(url));
    }
    let mut server = TrackerServer::new(Duration::from_secs(60), Rng::from_number(1));
    let body = server.handle_http(Timestamp::ZERO, text, Ipv4Addr::LOCALHOST.into());
    assert!(Document::parse(&body, Limits::FILE).is_ok_and(|document| document.quirks().is_empty()));
}

/// Every line is taken in or refused. What was taken in is blocked from end to end and written out reads as the same;
/// no two of the ranges that come of it overlap or touch.
pub fn ip_filter(data: &[u8]) {
    let mut all = Builder::new();
    for line in data.split(|byte| *byte == b'\n') {
        let mut alone = Builder::new();
        let result = alone.line(line);
        assert_eq!(result == Err(LineError::TooLong), line.len() > MAX_LINE);
        assert_eq!(all.line(line), result);
        let Some(range) = alone.build().ranges().next() else { continue };
        let (first, last) = (range.first(), range.last());
        assert_eq!(Range::new(first, last), Some(range));
        let mut again = Builder::new();
        again.line(format!("{first}-{last}").as_bytes()).expect("a range is written as it is read");
        assert_eq!(again.build().ranges().next(), Some(range));
    }
    let taken = all.len();
    let filter = all.build();
    assert!(filter.len() <= taken);
    let mut before: Option<Range> = None;
    for range in filter.ranges() {
        assert!(before.is_none_or(|before| Range::new(before.last(), range.first()).is_some()
            || before.first().is_ipv4() && range.first().is_ipv6()));
        // What begins or ends among the IPv4 addresses that are written as IPv6 blocks none of those.
        for end in [range.first(), range.last()].into_iter().filter(|end| *end == end.to_canonical()) {
            assert_eq!(filter.blocks(end), !fast_peer_core::address::is_local(end), "{end}");
        }
        before = Some(range);
    }
}

/// A call into the local network survives being written and read again, and names neither too many torrents nor none.
pub fn lsd(data: &[u8]) {
    let Some(call) = Announcement::parse(data) else { return };
    assert!(call.port != 0 && (1..=lsd::MAX_TORRENTS).contains(&call.torrents.len()));
    assert!(call.cookie.as_ref().is_none_or(|cookie| cookie.len() <= lsd::MAX_COOKIE_LEN));
    for group in lsd::Group::ALL {
        let written = call.encode(group);
        assert!(written.len() <= lsd::MAX_LEN);
        assert_eq!(Announcement::parse(&written).as_ref(), Some(&call));
    }
}

/// Whatever is said in the name of a router, it is asked little, and no port is mapped but the one that was asked for.
///
/// The input is a row of datagrams, each with the length and the seconds since the last before it.
pub fn portmap(data: &[u8]) {
    let gateway = SocketAddr::from(([192, 168, 1, 1], 5351));
    let mut mapper = PortMapper::new(portmap::Mode::Auto, &portmap::Protocol::ALL, Rng::from_number(1));
    let router = Router { local: [192, 168, 1, 7].into(), gateway: Some([192, 168, 1, 1].into()) };
    let (mut now, mut out) = (Timestamp::ZERO, Outbox::new());
    mapper.handle_event(now, portmap::Event::Start { router, port: 6881 }, &mut out);
    let (mut rest, mut heard) = (data, 0);
    while let [len, secs, more @ ..] = rest {
        let (datagram, after) = more.split_at(more.len().min(usize::from(*len)));
        (now, rest, heard) = (now + Duration::from_secs(u64::from(*secs)), after, heard + 1);
        mapper.handle_timeout(now, &mut out);
        let mut data = BytesMut::from(datagram);
        // An answer of PCP counts only with the nonce of a question, which no input could guess.
        let asked = out.iter().rev().find_map(|action| match action {
            portmap::Action::Send { data, .. } if data[0] == 2 => data.get(24..36),
            _ => None,
        });
        if let (Some(nonce), Some(place)) = (asked, data.get_mut(24..36)) {
            place.copy_from_slice(nonce);
        }
        mapper.handle_event(now, portmap::Event::Datagram { from: gateway, data: data.freeze() }, &mut out);
        assert!(mapper.poll_timeout().is_none_or(|due| due.at > now));
    }
    let sent = out.iter().filter(|action| matches!(action, portmap::Action::Send { .. })).count();
    assert!(sent <= 8 + 4 * heard, "{sent} questions after {heard} answers");
    assert!(out.iter().all(|action| !matches!(action, portmap::Action::Mapped(it) if it.external == 0)));
    mapper.handle_event(now, portmap::Event::Stop, &mut out);
}

/// A talk with a proxy takes what it wants and no more, and ends once; a relayed datagram is read as it was written.
///
/// The input is what the proxy says; its first bit says whether there is a login.
pub fn socks5(data: &[u8]) {
    if let Ok(read) = Relayed::parse(data) {
        let mut written = Vec::new();
        read.encode(&mut written);
        // The first two bytes say nothing.
        assert_eq!(written[2..], data[2..]);
    }
    let Some((first, mut rest)) = data.split_first() else { return };
    let login = (first & 1 == 1).then(|| Login::new("name", "password")).flatten();
    let name = Name::new("a.example").expect("it is a name");
    let command = socks5::Command::Connect(socks5::Destination::Name(name, 1));
    let (mut talk, mut out) = (Negotiation::new(command, login), Outbox::new());
    talk.handle_event(Timestamp::ZERO, socks5::Event::Opened, &mut out);
    while !rest.is_empty() && talk.wanted() > 0 {
        let (some, others) = rest.split_at(talk.wanted().min(rest.len()));
        rest = others;
        talk.handle_event(Timestamp::ZERO, socks5::Event::Bytes(Bytes::copy_from_slice(some)), &mut out);
    }
    let last = out.iter().filter(|action| !matches!(action, socks5::Action::Send(_))).count();
    assert_eq!(last, usize::from(talk.is_over()));
    assert!(out.len() <= 4 && talk.wanted() <= 259);
}

/// A file of nodes that is read is what would be written for these nodes, whether the hash at its end was right by
/// itself or is made so here (row D-09).
pub fn dht_state(data: &[u8]) {
    let sealed = [data, &Sha1::digest(data)[..]].concat();
    for bytes in [data, &sealed] {
        let Ok(saved) = Saved::decode(bytes) else { continue };
        assert!(bytes.len() <= saved::MAX_LEN && saved.contacts.len() <= 2 * MAX_CONTACTS);
        assert_eq!(saved.encode(), bytes);
    }
}

/// A link that is read can be written, and is then read alike.
pub fn magnet(data: &[u8]) {
    let Ok(link) = str::from_utf8(data) else { return };
    let Ok(magnet) = Magnet::parse(link) else { return };
    assert!(magnet.swarm_hash().is_some());
    let written = magnet.to_string();
    if written.len() <= magnet::MAX_BYTES {
        assert_eq!(Magnet::parse(&written), Ok(magnet));
    }
}

/// A torrent that is read has harmless paths and a hash for every piece, and its `info` alone makes the same torrent.
pub fn metainfo(data: &[u8]) {
    let Ok(torrent) = Metainfo::parse(data) else { return };
    for file in torrent.files() {
        file.path.components().for_each(assert_harmless);
        file.symlink.iter().flat_map(FilePath::components).for_each(assert_harmless);
    }
    for piece in torrent.lengths().pieces() {
        assert_eq!(torrent.piece_hash(piece).is_some(), torrent.info_hash().is_some());
        if let Some(root) = torrent.piece_root(piece) {
            assert!(root.len > 0 && root.leaf_count() <= root.width);
        }
        let len = torrent.lengths().piece_len(piece);
        let spans: u64 = torrent.file_map().spans(piece, 0, len).map(|span| u64::from(span.len)).sum();
        assert_eq!(spans, u64::from(len));
    }
    let alone = Metainfo::from_info(torrent.info().clone()).expect("its info was read before");
    assert_eq!(alone.swarm_hash(), torrent.swarm_hash());
    assert_eq!(alone.files(), torrent.files());
    assert!(Magnet::from(&torrent).swarm_hash().is_some());
}

/// Both ends of an obfuscated handshake, and somebody between them who knows the secret: what is changed in the cipher is
/// changed alike in what it says.
///
/// The input is the method that the responder allows, how the stream is cut, and two rows of changes (at, in two bytes, and
/// what to turn over): a byte with their number, and those of the initiator's words; then all that is left, of the
/// responder's.
pub fn mse(data: &[u8]) {
    let [allowed, cut, count, changes @ ..] = data else { return };
    let (ours, allowed) = (InfoHash([9; 20]), Methods(u32::from(*allowed)));
    let (changes, _) = changes.as_chunks::<3>();
    let (of_initiator, of_responder) = changes.split_at(usize::from(*count).min(changes.len()));
    let rng = Rng::from_number(3);
    let (mut out, first) = (vec![], Bytes::from_static(b"first words"));
    let mut initiator = Initiator::new(ours, Methods::ALL, first.clone(), rng.fork("initiator"), &mut out);
    let mut responder = Responder::new(allowed, rng.fork("responder"));
    let (mut to_responder, mut to_initiator) = (BytesMut::new(), BytesMut::new());
    let (mut passed, mut ends) = ([0, 0], [None, None]);
    let change = |words: &mut [u8], passed: &mut usize, changes: &[[u8; 3]]| {
        for [high, low, mask] in changes {
            let at = usize::from(u16::from_be_bytes([*high, *low]));
            if let Some(byte) = at.checked_sub(*passed).and_then(|at| words.get_mut(at)) {
                *byte ^= mask;
            }
        }
        *passed += words.len();
    };
    for _ in 0..3 {
        change(&mut out, &mut passed[0], of_initiator);
        let mut answer = vec![];
        for part in out.chunks(usize::from(*cut).max(1)) {
            to_responder.extend_from_slice(part);
            if ends[0].is_none() {
                let known = |mark| (mark == torrent_mark(ours)).then_some(ours);
                match responder.handle_bytes(&mut to_responder, &mut answer, known) {
                    Ok(None) => {}
                    Ok(Some(agreed)) => ends[0] = Some(agreed),
                    Err(_) => return,
                }
            }
            assert!(
                to_responder.len() <= part.len() + 2048 + 40,
                "it holds back no more than its first words"
            );
        }
        out.clear();
        change(&mut answer, &mut passed[1], of_responder);
        for part in answer.chunks(usize::from(*cut).max(1)) {
            to_initiator.extend_from_slice(part);
            if ends[1].is_none() {
                match initiator.handle_bytes(&mut to_initiator, &mut out) {
                    Ok(None) => {}
                    Ok(Some(agreed)) => ends[1] = Some(agreed),
                    Err(_) => return,
                }
            }
        }
    }
    assert!(passed.iter().all(|sent| *sent <= 96 + 2 * 512 + 40 + 16 + first.len()), "{passed:?}");
    let untouched = changes.iter().all(|[.., mask]| *mask == 0);
    match ends {
        [Some(responded), Some(initiated)] => {
            assert!(Methods::ALL.has(initiated.method) && allowed.has(responded.method));
            assert_eq!(initiated.decipher.is_some(), initiated.method == mse::Method::Rc4);
            assert!(!untouched || initiated.method == responded.method && responded.first == first);
        }
        _ => assert!(!untouched || !allowed.has(mse::Method::Plain) && !allowed.has(mse::Method::Rc4)),
    }
}

/// A component stays one component, and cleaning it again changes nothing.
pub fn path_sanitise(data: &[u8]) {
    let clean = metainfo::sanitise_or_underscore(data);
    assert_harmless(&clean);
    assert_eq!(metainfo::sanitise_or_underscore(clean.as_bytes()), clean);
}

/// Each datagram of the input starts with its length, and with whether it names the transaction that is owed. Whatever
/// they say, the question ends once and nothing is left of it; and our own tracker does not amplify them.
pub fn udp_tracker(data: &[u8]) {
    let from = SocketAddr::from((Ipv4Addr::LOCALHOST, 6969));
    let (mut machine, mut out) = (UdpTrackers::new(Rng::from_number(1)), Outbox::new());
    let question = Question::Scrape(vec![InfoHash([1; 20]); 3]);
    let ask = UdpEvent::Ask { id: AskId(1), to: vec![from], question, patience: Duration::from_secs(100) };
    machine.handle_event(Timestamp::ZERO, ask, &mut out);
    let mut server = TrackerServer::new(Duration::from_secs(60), Rng::from_number(1));
    let (mut rest, mut owed, mut done) = (data, [0; 4], 0);
    while let [len, named, after @ ..] = rest {
        let (datagram, after) = after.split_at(usize::from(*len).min(after.len()));
        rest = after;
        let reply = server.handle_udp(Timestamp::ZERO, datagram, from);
        assert!(reply.is_none_or(|reply| reply.len() <= datagram.len().max(30)));
        for action in out.drain(..) {
            match action {
                UdpAction::Send { data, .. } => {
                    owed = *data[12..].first_chunk().expect("a request has 16 bytes");
                }
                UdpAction::Done { .. } => done += 1,
                UdpAction::Answered { .. } => {}
            }
        }
        let mut datagram = datagram.to_vec();
        if *named != 0
            && let Some(transaction) = datagram.get_mut(4..8)
        {
            transaction.copy_from_slice(&owed);
        }
        machine.handle_event(Timestamp::ZERO, UdpEvent::Datagram { from, data: datagram.into() }, &mut out);
    }
    while let Some(due) = machine.poll_timeout() {
        machine.handle_timeout(due.at, &mut out);
        assert!(machine.poll_timeout().is_none_or(|next| next.at > due.at));
    }
    done += out.iter().filter(|action| matches!(action, UdpAction::Done { .. })).count();
    assert!(done == 1 && !machine.knows(from));
}

/// What is read is written as it is read, at the length that BEP 55 has.
pub fn ut_holepunch(data: &[u8]) {
    let Some(message) = HolepunchMessage::parse(data) else { return };
    let written = message.encode();
    assert!(matches!(written.len(), 12 | 24));
    assert_eq!(HolepunchMessage::parse(&written).map(|again| again.encode()), Some(written));
}

/// What a metadata message says survives being written and read again, and no piece is longer than it may be.
pub fn ut_metadata(data: &[u8]) {
    let payload = Bytes::copy_from_slice(data);
    let Ok(Some(message)) = MetadataMessage::parse(&payload) else { return };
    if let MetadataMessage::Data { data, total_len, .. } = &message {
        assert!(data.len() <= METADATA_PIECE_LEN as usize && payload.ends_with(data));
        assert!(total_len.is_none_or(|len| (1..=MAX_METADATA_LEN).contains(&len)));
    }
    assert_eq!(MetadataMessage::parse(&message.encode().into()), Ok(Some(message)));
}

/// What a message about other peers says survives being written and read again, and its lists are bounded.
pub fn ut_pex(data: &[u8]) {
    let Ok(message) = PexMessage::parse(data) else { return };
    assert!(message.added.len() <= 2 * MAX_PEX_PEERS && message.dropped.len() <= 2 * MAX_PEX_PEERS);
    let ports = message.added.iter().map(|(addr, _)| addr).chain(&message.dropped).map(SocketAddr::port);
    assert!(ports.into_iter().all(|port| port != 0));
    assert_eq!(PexMessage::parse(&message.encode()), Ok(message));
}

/// A packet that is read is told apart from the port's other protocols, and survives being written and read again.
pub fn utp_packet(data: &[u8]) {
    let Some(packet) = Packet::parse(data) else { return };
    assert!(utp::is_utp(data) && data.ends_with(packet.payload) && packet.sack.len() <= utp::MAX_SACK_LEN);
    let mut bytes = BytesMut::new();
    if packet.sack.is_empty() {
        packet.header.encode(&mut bytes);
    } else {
        packet.header.encode_with_sack(packet.sack, &mut bytes);
    }
    bytes.extend_from_slice(packet.payload);
    assert_eq!(Packet::parse(&bytes), Some(packet));
}

/// Whatever the remotes of two streams send, what comes of each is in order, and nothing grows without end.
///
/// The input is a row of steps, each with four bytes of a head (what, how long after the last, and the length in two)
/// and so many bytes. Packets are turned so that their names and numbers are near to what they should be.
pub fn utp_session(mut data: &[u8]) {
    let (mut now, mut out, mut buffer) = (Timestamp::ZERO, Outbox::new(), BytesMut::new());
    let mut streams = Utp::new(utp::Config::default(), Rng::from_number(1));
    let from = SocketAddr::from(([8, 8, 8, 8], 1));
    let mut open = vec![streams.connect(now, from, &mut out).expect("there is none yet")];
    let mut last = None;
    while let Some(([what, wait, high, low], rest)) = data.split_first_chunk() {
        let (bytes, rest) = rest.split_at(usize::from(u16::from_be_bytes([*high, *low])).min(rest.len()));
        data = rest;
        now = now + Duration::from_millis(20 * u64::from(*wait));
        let stream = open[usize::from(*what >> 4) % open.len()];
        match what & 7 {
            0 => streams.write(now, stream, [Bytes::copy_from_slice(bytes)], &mut out),
            1 => streams.set_credit(stream, u32::from(*low) << 8, &mut out),
            2 if *wait == 0 => streams.close(now, stream, &mut out),
            3 => streams.handle_datagram(now, from, Bytes::copy_from_slice(bytes), &mut out),
            _ => {
                let mut bytes = BytesMut::from(bytes);
                if let (Some(last), Some(head)) = (last, bytes.get_mut(..utp::HEADER_LEN)) {
                    turn(last, head);
                }
                streams.handle_datagram(now, from, bytes.freeze(), &mut out);
            }
        }
        if streams.poll_timeout().is_some_and(|due| due.at <= now) {
            streams.handle_timeout(now, &mut out);
            assert!(streams.poll_timeout().is_none_or(|next| next.at > now));
        }
        for action in out.drain(..) {
            if let utp::Action::Incoming { stream, .. } = action {
                open.push(stream);
            }
        }
        let mut pulls = 0;
        while let Some(transmit) = streams.poll_transmit(now, &mut buffer, 16) {
            for packet in buffer.split().chunks(transmit.segment_len) {
                last = Some(Packet::parse(packet).expect("what is written can be read").header);
            }
            pulls += 1;
            assert!(pulls < 10_000, "it is silent some time");
        }
    }
}

/// Makes of the name and the numbers of a packet what they are as differences to those of a packet of the other side.
fn turn(last: utp::Header, head: &mut [u8]) {
    let short = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
    let connection =
        last.connection.wrapping_add(short(2) % 3).wrapping_sub(u16::from(last.kind != Kind::Syn));
    let (seq, ack) = (last.ack.wrapping_add(1 + short(16) % 64), last.seq.wrapping_sub(short(18) % 64));
    for (at, number) in [(2, connection), (16, seq), (18, ack)] {
        head[at..at + 2].copy_from_slice(&number.to_be_bytes());
    }
}

/// A stream gives the same frames however it is cut, and each message is read again as it was when it is written.
pub fn wire_stream(data: &[u8]) {
    let [cut, pieces, stream @ ..] = data else { return };
    let pieces = (*pieces != 0).then_some(u32::from(*pieces));
    let whole = frames(stream, stream.len(), pieces);
    assert_eq!(frames(stream, usize::from(*cut), pieces), whole);
    for frame in whole.0 {
        let mut bytes = BytesMut::new();
        match &frame {
            Frame::Handshake(handshake) => wire::encode_handshake(handshake, &mut bytes),
            Frame::Message(message) => wire::encode(message, &mut bytes),
            Frame::PieceHead { piece, begin, len } => {
                wire::encode_piece_head(*piece, *begin, *len, &mut bytes);
            }
        }
        let mut decoder = Decoder::new();
        if !matches!(frame, Frame::Handshake(_)) {
            let mut handshake = BytesMut::from(&b"\x13BitTorrent protocol"[..]);
            handshake.resize(wire::HANDSHAKE_LEN, 0);
            decoder.decode(&mut handshake).expect("this is a handshake");
        }
        assert_eq!(decoder.decode(&mut bytes), Ok(Some(frame)));
        assert!(bytes.is_empty());
    }
}

fn assert_harmless(component: &str) {
    assert!(!matches!(component, "" | "." | ".."), "{component:?}");
    assert!(!component.contains(['/', '\\']) && !component.chars().any(char::is_control), "{component:?}");
    assert!(component.len() <= 255, "{component:?}");
}

fn assert_alike(raw: Raw<'_>, value: Value<'_>) {
    assert_eq!((raw.as_int(), raw.as_bytes()), (value.as_int(), value.as_bytes()));
    let (mut raw_items, items) = (raw.items().into_iter().flatten(), value.as_list().into_iter().flatten());
    items.for_each(|item| assert_alike(raw_items.next().expect("as many items"), item));
    let (mut raw_pairs, pairs) = (raw.pairs().into_iter().flatten(), value.as_dict().into_iter().flatten());
    for (key, value) in pairs {
        let (raw_key, raw) = raw_pairs.next().expect("as many pairs");
        assert_eq!(raw_key, key);
        assert_alike(raw, value);
    }
    assert!(raw_items.next().is_none() && raw_pairs.next().is_none());
}

fn encode(value: Value<'_>, to: SingleItemEncoder<'_>) -> Result<(), Error> {
    match value {
        Value::Int(int) => to.emit_int(int),
        Value::Bytes(bytes) => to.emit_bytes(bytes),
        Value::List(list) => {
            to.emit_list(|to| list.iter().try_for_each(|item| to.emit_with(|to| encode(item, to))))
        }
        Value::Dict(dict) => to.emit_dict(|mut to| {
            dict.iter().try_for_each(|(key, value)| to.emit_pair_with(key, |to| encode(value, to)))
        }),
    }
}

/// What comes out of `stream` when it arrives `cut` bytes at a time; blocks are skipped.
fn frames(stream: &[u8], cut: usize, pieces: Option<u32>) -> (Vec<Frame>, Option<Offence>) {
    let (mut decoder, mut buffer, mut frames, mut block) = (Decoder::new(), BytesMut::new(), Vec::new(), 0);
    decoder.set_piece_count(pieces);
    for part in stream.chunks(cut.max(1)) {
        buffer.extend_from_slice(part);
        loop {
            let taken = buffer.len().min(block);
            buffer.advance(taken);
            block -= taken;
            if block > 0 {
                break;
            }
            match decoder.decode(&mut buffer) {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    if let Frame::PieceHead { len, .. } = frame {
                        block = len as usize;
                    }
                    frames.push(frame);
                }
                Err(offence) => return (frames, Some(offence)),
            }
        }
    }
    (frames, None)
}
