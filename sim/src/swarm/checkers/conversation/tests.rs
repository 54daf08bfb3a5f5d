use super::super::tests::{BOUNDS, expect_breach};
use super::{
    Arc, BTreeSet, Bitfield, BookEntry, ConnId, Conversations, Facts, Frame, InfoHash, Lengths, MAX_OWNERS,
    Message, Notice, Observation, RawBlock, Timestamp, TorrentId, Verdict,
};
use bytes::Bytes;
use fast_peer_core::id::PeerId;
use fast_peer_core::wire::{ExtendedHandshake, Handshake, Reserved};

const T: TorrentId = TorrentId(0);
const A: ConnId = ConnId(1);
const B: ConnId = ConnId(2);
const BLOCK: u32 = 16384;

/// A client with a torrent of four pieces of two blocks, of which it wants all but the last.
struct Client {
    conversations: Conversations,
    at: u64,
}

impl Client {
    fn new() -> Self {
        let lengths = Lengths::contiguous(8 * 16384, 2 * 16384).unwrap();
        let mut wanted = Bitfield::all(4);
        wanted.remove(lengths.piece(3).unwrap());
        let mut conversations = Conversations::new(BOUNDS);
        let facts = Facts { info_hash: InfoHash([7; 20]), lengths, info: Bytes::new(), private: false };
        conversations.add_torrent(&Arc::new(facts), T, wanted);
        Self { conversations, at: 0 }
    }

    fn observe(&mut self, observation: &Observation<'_>) -> Verdict {
        self.conversations.observe(Timestamp::from_micros(self.at), observation)
    }

    fn sent(&mut self, conn: ConnId, message: Message) -> Verdict {
        self.observe(&Observation::Sent {
            conn,
            frame: &Frame::Message(message),
            false_claim: None,
            unsent: 0,
        })
    }

    fn seen(&mut self, conn: ConnId, message: Message) {
        self.observe(&Observation::Seen { conn, frame: &Frame::Message(message) }).unwrap();
    }

    /// Handshakes with the fast extension.
    fn meet(&mut self, conn: ConnId) -> Verdict {
        self.meet_with(conn, Reserved::NONE.with_fast())
    }

    fn meet_with(&mut self, conn: ConnId, reserved: Reserved) -> Verdict {
        let frame =
            Frame::Handshake(Handshake { reserved, info_hash: InfoHash([7; 20]), peer_id: PeerId([0; 20]) });
        self.observe(&Observation::Connected { conn })?;
        self.observe(&Observation::Seen { conn, frame: &frame })?;
        self.observe(&Observation::Sent { conn, frame: &frame, false_claim: None, unsent: 0 })
    }

    /// Goes on until `conn` serves everything.
    fn open(&mut self, conn: ConnId) {
        self.meet(conn).unwrap();
        self.seen(conn, Message::HaveAll);
        self.seen(conn, Message::Unchoke);
        self.sent(conn, Message::Interested).unwrap();
    }

    fn request(&mut self, conn: ConnId, piece: u32, number: u32) -> Verdict {
        self.sent(conn, Message::Request(block(piece, number)))
    }

    fn block_comes(&mut self, conn: ConnId, piece: u32, number: u32) {
        let frame = Frame::PieceHead { piece, begin: number * BLOCK, len: BLOCK };
        self.observe(&Observation::Seen { conn, frame: &frame }).unwrap();
    }

    fn block_leaves(&mut self, conn: ConnId, piece: u32, number: u32) -> Verdict {
        let frame = Frame::PieceHead { piece, begin: number * BLOCK, len: BLOCK };
        self.observe(&Observation::Sent { conn, frame: &frame, false_claim: None, unsent: 0 })
    }
}

/// A is choked and owes nothing.
fn entry_of_a(has: Bitfield) -> BookEntry {
    let owed = BTreeSet::new();
    BookEntry { conn: A, has, we_choke: true, outstanding: 0, owed, arriving: None, unwritten: false }
}

fn block(piece: u32, number: u32) -> RawBlock {
    RawBlock { piece, begin: number * BLOCK, len: BLOCK }
}

#[test]
fn s02_and_s03_a_claim_or_a_block_that_is_not_true() {
    let mut client = Client::new();
    client.meet(A).unwrap();
    let frame = Frame::Message(Message::Have(1));
    let lie = Observation::Sent { conn: A, frame: &frame, false_claim: Some(1), unsent: 0 };
    expect_breach(client.observe(&lie), "INV-S-02");
    let lie = Observation::BlockSent { piece: 1, begin: 0, good: false };
    expect_breach(client.observe(&lie), "INV-S-03");
}

#[test]
fn s02_a_piece_that_is_gone_and_not_taken_back() {
    let mut client = Client::new();
    client.open(A);
    client.seen(A, Message::Extended { id: 0, payload: b"d1:md11:lt_donthavei7eee"[..].into() });
    client.sent(A, Message::Have(1)).unwrap();
    let all = Bitfield::all(4);
    let books = |client: &mut Client| {
        client.observe(&Observation::Books { torrent: T, peers: &[entry_of_a(all.clone())] })
    };
    books(&mut client).unwrap();
    let piece = Lengths::contiguous(8 * 16384, 2 * 16384).unwrap().piece(1).unwrap();
    let lost = Notice::PieceLost { torrent: T, piece };
    client.observe(&Observation::Notice { notice: &lost, honest: true }).unwrap();
    expect_breach(books(&mut client), "INV-S-02");
    client.sent(A, Message::Extended { id: 7, payload: b"\0\0\0\x01"[..].into() }).unwrap();
    books(&mut client).unwrap();
}

#[test]
fn s09_two_owners_before_the_endgame() {
    let mut client = Client::new();
    client.open(A);
    client.open(B);
    client.request(A, 0, 0).unwrap();
    expect_breach(client.request(B, 0, 0), "INV-S-09");
    client.seen(A, Message::Reject(block(0, 0)));
    client.request(B, 0, 0).expect("the reject set it free");
}

#[test]
fn s09_a_request_that_lapsed_may_be_made_again() {
    let mut client = Client::new();
    client.open(A);
    client.open(B);
    client.request(A, 0, 0).unwrap();
    client.at = 60_000_000;
    client.request(B, 0, 0).unwrap();
}

#[test]
fn s09_the_endgame_begins_when_nothing_is_free_and_has_a_limit() {
    let mut client = Client::new();
    client.conversations.bounds.connections_per_torrent = 9;
    (1..=4).for_each(|conn| client.open(ConnId(conn)));
    for (piece, number) in [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)] {
        client.request(A, piece, number).unwrap();
    }
    client.block_comes(A, 0, 0);
    expect_breach(client.request(B, 0, 1), "INV-S-09");
    client.request(A, 2, 1).unwrap();
    for conn in 2..=MAX_OWNERS as u64 {
        client.request(ConnId(conn), 0, 1).expect("it is the endgame");
    }
    expect_breach(client.request(ConnId(4), 0, 1), "INV-S-09");
}

#[test]
fn s10_requests_out_of_place() {
    let mut client = Client::new();
    client.meet(A).unwrap();
    client.seen(A, Message::Unchoke);
    client.sent(A, Message::Interested).unwrap();
    expect_breach(client.request(A, 0, 0), "INV-S-10");
    client.seen(A, Message::Have(0));
    client.request(A, 0, 0).unwrap();
    client.seen(A, Message::Choke);
    expect_breach(client.request(A, 0, 1), "INV-S-10");
    client.seen(A, Message::AllowedFast(0));
    client.request(A, 0, 1).unwrap();
    client.seen(A, Message::Unchoke);
    client.seen(A, Message::Bitfield(Bytes::from_static(&[0xf0])));
    expect_breach(client.sent(A, Message::Request(RawBlock { piece: 1, begin: 5, len: 9 })), "INV-S-10");
    client.sent(A, Message::NotInterested).unwrap();
    expect_breach(client.request(A, 1, 0), "INV-S-10");
}

#[test]
fn s11_more_requests_than_the_peer_queues() {
    let mut client = Client::new();
    client.open(A);
    let handshake = ExtendedHandshake { request_queue: Some(2), ..ExtendedHandshake::default() };
    client.seen(A, Message::Extended { id: 0, payload: handshake.encode().into() });
    client.request(A, 0, 0).unwrap();
    client.request(A, 0, 1).unwrap();
    // BEP 6: a cancelled request is still answered, so it still counts.
    client.sent(A, Message::Cancel(block(0, 1))).unwrap();
    expect_breach(client.request(A, 1, 0), "INV-S-11");
}

#[test]
fn s12_what_is_had_or_unwanted_or_came_already() {
    let mut client = Client::new();
    client.open(A);
    expect_breach(client.request(A, 3, 0), "INV-S-12");
    client.request(A, 1, 0).unwrap();
    client.block_comes(A, 1, 0);
    expect_breach(client.request(A, 1, 0), "INV-S-12");
    let piece = client.conversations.torrents[0].facts.lengths.piece(1).unwrap();
    let failed = Notice::HashFailed { torrent: T, piece };
    client.observe(&Observation::Notice { notice: &failed, honest: true }).unwrap();
    client.request(A, 1, 0).expect("the piece failed its hash");
    client.sent(A, Message::Have(0)).unwrap();
    expect_breach(client.request(A, 0, 0), "INV-S-12");
    client.observe(&Observation::Verified { torrent: T, piece: 2, good: true }).unwrap();
    expect_breach(client.request(A, 2, 0), "INV-S-12");
}

#[test]
fn s13_a_request_that_is_forgotten_or_kept_when_it_has_ended() {
    let mut client = Client::new();
    client.open(A);
    client.request(A, 0, 0).unwrap();
    client.request(A, 0, 1).unwrap();
    let books = |client: &mut Client, owed: &[u32], arriving: Option<u32>, unwritten| {
        let owed = owed.iter().map(|number| block(0, *number)).collect();
        let arriving = arriving.map(|number| block(0, number));
        let entry = BookEntry { owed, arriving, unwritten, ..entry_of_a(Bitfield::all(4)) };
        client.observe(&Observation::Books { torrent: T, peers: &[entry] })
    };
    books(&mut client, &[0, 1], None, false).unwrap();
    expect_breach(books(&mut client, &[0], None, false), "INV-S-13");
    books(&mut client, &[0], None, true).expect("a cancel may wait to be written");
    books(&mut client, &[0], Some(1), false).expect("it is arriving");
    client.block_comes(A, 0, 1);
    expect_breach(books(&mut client, &[0, 1], None, false), "INV-S-13");
    books(&mut client, &[0], None, false).unwrap();
    client.sent(A, Message::Cancel(block(0, 0))).unwrap();
    expect_breach(books(&mut client, &[0], None, false), "INV-S-13");
    books(&mut client, &[], None, false).unwrap();
    client.request(A, 1, 0).unwrap();
    client.at = 60_000_000;
    books(&mut client, &[], None, false).expect("its time ran out");
}

#[test]
fn s15_too_many_connections_for_one_torrent() {
    let mut client = Client::new();
    (1..=3).for_each(|conn| client.meet(ConnId(conn)).unwrap());
    expect_breach(client.meet(ConnId(4)), "INV-S-15");
}

#[test]
fn s11_s14_and_s16_books_that_differ_from_what_was_said() {
    let mut client = Client::new();
    client.meet(A).unwrap();
    client.seen(A, Message::Have(1));
    let mut has = Bitfield::none(4);
    let entry = |has: &Bitfield, we_choke, outstanding| {
        vec![BookEntry { we_choke, outstanding, ..entry_of_a(has.clone()) }]
    };
    let mut books = |peers: Vec<BookEntry>| client.observe(&Observation::Books { torrent: T, peers: &peers });
    expect_breach(books(entry(&has, true, 0)), "INV-S-14");
    has.insert(Lengths::contiguous(4, 1).unwrap().piece(1).unwrap());
    books(entry(&has, true, 0)).unwrap();
    expect_breach(books(entry(&has, true, 251)), "INV-S-11");
    expect_breach(
        books([A, B, ConnId(3)].into_iter().flat_map(|_| entry(&has, false, 0)).collect()),
        "INV-S-16",
    );
}

#[test]
fn s16_served_without_being_asked_or_allowed() {
    let mut client = Client::new();
    client.meet(A).unwrap();
    client.seen(A, Message::Request(block(0, 0)));
    expect_breach(client.block_leaves(A, 0, 0), "INV-S-16");
    client.sent(A, Message::AllowedFast(0)).unwrap();
    client.block_leaves(A, 0, 0).unwrap();
    client.sent(A, Message::Unchoke).unwrap();
    expect_breach(client.block_leaves(A, 0, 0), "INV-S-16");
}

#[test]
fn s16_without_the_fast_extension_a_choke_drops_requests() {
    let mut client = Client::new();
    client.meet_with(A, Reserved::NONE).unwrap();
    client.sent(A, Message::Unchoke).unwrap();
    client.seen(A, Message::Request(block(0, 0)));
    client.sent(A, Message::Choke).unwrap();
    client.sent(A, Message::Unchoke).unwrap();
    expect_breach(client.block_leaves(A, 0, 0), "INV-S-16");
}
