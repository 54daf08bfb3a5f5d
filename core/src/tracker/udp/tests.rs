use super::{AskId, Question, UdpAction, UdpEvent, UdpReply, UdpTrackers};
use crate::id::{InfoHash, PeerId};
use crate::machine::{Machine as _, Outbox, Timestamp};
use crate::rng::Rng;
use crate::tracker::{Announce, AnnounceRequest, Answer, ScrapeCounts, TrackerError, packet};
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use core::time::Duration;
use proptest::prelude::*;

const FOUR: &str = "203.0.113.1:6969";
const SIX: &str = "[2001:db8::1]:6969";
const LONG: Duration = Duration::from_secs(100_000);

#[test]
fn a_lost_connect_is_sent_again_as_in_bep_15() {
    let mut world = World::new();
    world.announce(1, &[FOUR], LONG);
    assert_eq!(world.run_to(300), ["0 connect", "15 connect", "45 connect", "105 connect", "225 connect"]);
}

#[test]
fn a_lost_announce_is_sent_again_as_in_bep_15() {
    let mut world = World::new();
    world.connect_at(1);
    world.run_to(2);
    world.announce(1, &[FOUR], LONG);
    let sent = world.run_to(300);
    assert_eq!(sent, ["2 announce", "17 announce", "47 announce", "107 connect", "227 connect"]);
    // The answer to the connect starts the waiting anew.
    world.reply(FOUR, packet::CONNECT, &[9; 8]);
    assert_eq!(world.run_to(340), ["300 announce", "315 announce"]);
}

#[test]
fn a_connection_id_lasts_a_minute_as_in_bep_15() {
    let mut world = World::new();
    world.connect_at(1);
    for (id, second) in [(1, 2), (2, 4), (3, 60)] {
        world.run_to(second);
        world.announce(id, &[FOUR], LONG);
        world.reply(FOUR, packet::ANNOUNCE, &[0; 12]);
        assert_eq!(world.run_to(second), [format!("{second} announce"), format!("{second} done {id}")]);
    }
    world.run_to(62);
    world.announce(4, &[FOUR], LONG);
    assert_eq!(world.run_to(62), ["62 connect"]);
}

#[test]
fn a_name_is_answered_from_where_it_leads() {
    const NAME: &str = "198.18.0.1:6969";
    let mut world = World::new();
    world.announce(1, &[NAME], LONG);
    world.datagram(SIX, &packet::reply(packet::CONNECT, world.last_transaction() ^ 1, &[9; 8]));
    assert_eq!(world.run_to(1), ["0 connect"], "the transaction counts");
    world.reply(SIX, packet::CONNECT, &[9; 8]);
    assert_eq!(world.run_to(2), ["1 announce"]);
    let peer = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[7, 0x1a, 0xe1]].concat();
    world.reply(SIX, packet::ANNOUNCE, &[&[0; 12][..], &peer].concat());
    assert_eq!(world.run_to(3), ["2 done 1"]);
    let [UdpReply::Announced(answer)] = &world.answers[..] else { panic!("{:?}", world.answers) };
    assert_eq!(answer.peers, ["[2001:db8::7]:6881".parse().unwrap()], "the family of the answer decides");
}

#[test]
fn every_wait_doubles_and_the_ninth_is_the_last() {
    let mut world = World::new();
    world.announce(1, &[FOUR], LONG);
    let sent = world.run_to(20_000);
    // 15 * (2^9 - 1) seconds after the first.
    assert_eq!(sent.len(), 10);
    assert_eq!(sent[8], "3825 connect");
    assert_eq!(sent[9], "7665 done 1: the tracker did not answer in time");
    assert!(!world.machine.knows(FOUR.parse().unwrap()));
}

#[test]
fn an_answer_has_the_layout_of_bep_15() {
    let mut world = World::new();
    world.connect_at(0);
    world.announce(1, &[FOUR], LONG);
    let transaction = world.last_transaction().to_be_bytes();
    let reply = [
        &[0, 0, 0, 1],
        &transaction[..],
        b"\x00\x00\x07\x08\x00\x00\x00\x02\x00\x00\x00\x03",
        b"\xcb\x00\x71\x05\x1a\xe1\xcb\x00",
    ]
    .concat();
    world.datagram(FOUR, &reply);
    let expected = Answer {
        interval: Duration::from_secs(1800),
        leechers: Some(2),
        seeders: Some(3),
        peers: vec!["203.0.113.5:6881".parse().unwrap()],
        ..Answer::default()
    };
    assert_eq!(world.answers, [UdpReply::Announced(expected)]);
}

#[test]
fn the_family_of_the_packet_is_that_of_the_peers() {
    let mut world = World::new();
    world.announce(1, &[SIX], LONG);
    world.reply(SIX, packet::CONNECT, &[9; 8]);
    let body = [&[0; 12], &b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x05\x1a\xe1"[..]].concat();
    world.reply(SIX, packet::ANNOUNCE, &body);
    let [UdpReply::Announced(answer)] = &world.answers[..] else { panic!("{:?}", world.answers) };
    assert_eq!(answer.peers, ["[2001:db8::5]:6881".parse().unwrap()]);
    assert_eq!(answer.interval, Duration::from_secs(60), "an interval of 0 would be a flood");
}

#[test]
fn a_scrape_is_answered_in_its_order() {
    let mut world = World::new();
    world.connect_at(0);
    let torrents = vec![InfoHash([1; 20]), InfoHash([2; 20])];
    world.ask(1, &[FOUR], Question::Scrape(torrents), LONG);
    let body: Vec<u8> = (1..=7_u32).flat_map(u32::to_be_bytes).collect();
    world.reply(FOUR, packet::SCRAPE, &body);
    let counts =
        |seeders, completed, leechers| ScrapeCounts { seeders, completed, leechers, downloaders: None };
    assert_eq!(world.answers, [UdpReply::Scraped(vec![counts(1, 2, 3), counts(4, 5, 6)])]);
}

#[test]
fn refusals_end_the_question() {
    for (action, body, reason) in [
        (packet::ERROR, &b"go away\0"[..], "go away"),
        (packet::ERROR, b"", "no reason given"),
        // opentracker's answer for a torrent that is not on its list
        (packet::ANNOUNCE, b"", "an empty answer"),
    ] {
        let mut world = World::new();
        world.connect_at(0);
        world.announce(1, &[FOUR], LONG);
        world.reply(FOUR, action, body);
        assert_eq!(world.run_to(1000), ["0 announce", &format!("0 done 1: the tracker refused: {reason}")]);
    }
    let mut world = World::new();
    world.announce(1, &[FOUR], LONG);
    world.reply(FOUR, packet::ERROR, b"full");
    assert_eq!(world.run_to(1000), ["0 connect", "0 done 1: the tracker refused: full"]);
}

#[test]
fn a_forgotten_connection_is_renewed_once() {
    let mut world = World::new();
    world.connect_at(0);
    world.announce(1, &[FOUR], LONG);
    let refused = packet::reply(packet::ERROR, world.last_transaction(), b"Connection ID missmatch.\0");
    world.datagram(FOUR, &refused);
    world.datagram(FOUR, &refused);
    world.reply(FOUR, packet::CONNECT, &[8; 8]);
    assert_eq!(world.run_to(0), ["0 announce", "0 connect", "0 announce"]);
    world.reply(FOUR, packet::ERROR, b"bad connection id");
    assert_eq!(world.run_to(0), ["0 done 1: the tracker refused: bad connection id"]);
}

#[test]
fn what_was_not_asked_for_is_ignored() {
    let mut world = World::new();
    world.announce(1, &[FOUR], LONG);
    let connect = world.last_transaction();
    let id = packet::reply(packet::CONNECT, connect, &[9; 8]);
    world.datagram("203.0.113.2:6969", &id); // another host
    world.datagram("203.0.113.1:6970", &id); // another port
    world.datagram(FOUR, &packet::reply(packet::CONNECT, connect ^ 1, &[9; 8]));
    world.datagram(FOUR, &packet::reply(packet::ANNOUNCE, connect, &[0; 12]));
    world.datagram(FOUR, &id[..15]);
    assert_eq!(world.run_to(1), ["0 connect"]);
    world.datagram(FOUR, &id);
    let announce = world.last_transaction();
    world.datagram(FOUR, &packet::reply(packet::SCRAPE, announce, &[0; 12]));
    world.datagram(FOUR, &packet::reply(packet::ANNOUNCE, connect, &[0; 12]));
    world.datagram(SIX, &packet::reply(packet::ANNOUNCE, announce, &[0; 12]));
    assert_eq!(world.run_to(2), ["1 announce"]);
}

#[test]
fn questions_share_a_connection() {
    let mut world = World::new();
    world.announce(1, &[FOUR], LONG);
    world.announce(2, &["[::ffff:203.0.113.1]:6969"], LONG);
    assert_eq!(world.run_to(1), ["0 connect"]);
    world.reply(FOUR, packet::CONNECT, &[9; 8]);
    assert_eq!(world.run_to(1), ["1 announce", "1 announce"]);
}

#[test]
fn a_family_that_is_dropped_delays_nothing() {
    let mut world = World::new();
    world.announce(1, &[SIX, FOUR], Duration::from_secs(30));
    world.reply(FOUR, packet::CONNECT, &[9; 8]);
    world.reply(FOUR, packet::ANNOUNCE, &[0; 12]);
    assert_eq!(world.answers.len(), 1);
    let sent = world.run_to(100);
    assert_eq!(sent, ["0 connect", "0 connect", "0 announce", "15 connect", "30 done 1"]);
}

#[test]
fn patience_ends_and_what_a_tracker_said_is_remembered() {
    let mut world = World::new();
    world.announce(1, &[SIX, FOUR], Duration::from_secs(30));
    world.reply(FOUR, packet::ERROR, b"full");
    assert_eq!(world.run_to(100).last().unwrap(), "30 done 1: the tracker refused: full");
    world.announce(2, &[FOUR], Duration::from_secs(30));
    assert_eq!(world.run_to(200).last().unwrap(), "130 done 2: the tracker did not answer in time");
    world.announce(3, &[], Duration::from_secs(30));
    assert_eq!(world.run_to(200), ["200 done 3: the tracker can't be reached: it has no address"]);
}

#[test]
fn a_cancelled_question_leaves_nothing_behind() {
    let mut world = World::new();
    world.announce(1, &[FOUR, SIX], LONG);
    world.event(UdpEvent::Cancel { id: AskId(1) });
    assert_eq!(world.run_to(1000), ["0 connect", "0 connect"]);
    assert_eq!(world.machine.poll_timeout(), None);
    assert!(!world.machine.knows(FOUR.parse().unwrap()));
}

fn an_announce() -> Announce {
    let request = AnnounceRequest { event: None, key: 1, num_want: 200, tracker_id: None };
    Announce {
        info_hash: InfoHash([0xaa; 20]),
        peer_id: PeerId([b'p'; 20]),
        port: 6881,
        ip: None,
        uploaded: 0,
        downloaded: 0,
        left: 1,
        encryption: false,
        request,
    }
}

/// The machine, and a clock that stops at each deadline.
struct World {
    machine: UdpTrackers,
    now: Timestamp,
    log: Vec<String>,
    sent: Vec<Vec<u8>>,
    answers: Vec<UdpReply>,
}

impl World {
    fn new() -> Self {
        let machine = UdpTrackers::new(Rng::from_number(1));
        Self { machine, now: Timestamp::ZERO, log: vec![], sent: vec![], answers: vec![] }
    }

    /// A world whose tracker has given a connection id at this second, and nothing else is under way.
    fn connect_at(&mut self, second: u64) {
        self.announce(0, &[FOUR], LONG);
        self.run_to(second);
        self.reply(FOUR, packet::CONNECT, &[9; 8]);
        self.event(UdpEvent::Cancel { id: AskId(0) });
        self.log.clear();
    }

    fn announce(&mut self, id: u64, to: &[&str], patience: Duration) {
        let question =
            Question::Announce { announce: an_announce(), path_and_query: String::from("/announce") };
        self.ask(id, to, question, patience);
    }

    fn ask(&mut self, id: u64, to: &[&str], question: Question, patience: Duration) {
        let to = to.iter().map(|to| to.parse().unwrap()).collect();
        self.event(UdpEvent::Ask { id: AskId(id), to, question, patience });
    }

    /// Answers what was sent last.
    fn reply(&mut self, from: &str, action: u32, body: &[u8]) {
        let transaction = self.last_transaction();
        self.datagram(from, &packet::reply(action, transaction, body));
    }

    fn last_transaction(&self) -> u32 {
        let packet = self.sent.last().unwrap();
        u32::from_be_bytes(packet[12..16].try_into().unwrap())
    }

    fn datagram(&mut self, from: &str, data: &[u8]) {
        self.event(UdpEvent::Datagram { from: from.parse().unwrap(), data: Bytes::copy_from_slice(data) });
    }

    fn event(&mut self, event: UdpEvent) {
        let mut out = Outbox::new();
        self.machine.handle_event(self.now, event, &mut out);
        self.take(out);
    }

    /// Lets time pass, and gives what happened since the last call: second and action.
    fn run_to(&mut self, second: u64) -> Vec<String> {
        let end = Timestamp::from_micros(second * 1_000_000);
        while let Some(due) = self.machine.poll_timeout().filter(|due| due.at <= end) {
            self.now = due.at;
            let mut out = Outbox::new();
            self.machine.handle_timeout(self.now, &mut out);
            assert!(self.machine.poll_timeout().is_none_or(|next| next.at > self.now));
            self.take(out);
        }
        self.now = end;
        core::mem::take(&mut self.log)
    }

    fn take(&mut self, out: Outbox<UdpAction>) {
        let second = self.now.as_micros() / 1_000_000;
        for action in out {
            match action {
                UdpAction::Answered { reply, .. } => self.answers.push(reply),
                UdpAction::Done { id, error } => {
                    let why = error.map(|error| format!(": {error}")).unwrap_or_default();
                    self.log.push(format!("{second} done {}{why}", id.0));
                }
                UdpAction::Send { data, .. } => {
                    let kind = if data.len() == 16 {
                        "connect"
                    } else if data.len() < 98 {
                        "scrape"
                    } else {
                        "announce"
                    };
                    self.log.push(format!("{second} {kind}"));
                    self.sent.push(data);
                }
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Ask(u8, u64),
    Cancel(u8),
    Noise(Vec<u8>),
    Reply(u32, Vec<u8>),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (any::<u8>(), 1..200_u64).prop_map(|(to, patience)| Step::Ask(to, patience)),
        any::<u8>().prop_map(Step::Cancel),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(Step::Noise),
        (0..4_u32, prop::collection::vec(any::<u8>(), 0..40))
            .prop_map(|(action, body)| Step::Reply(action, body)),
        (0..100_u64).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 0..40)
}

proptest! {
    /// Whatever trackers send: each question that is not cancelled is done once, and then all is forgotten.
    #[test]
    fn every_question_ends_once(steps in steps()) {
        let mut world = World::new();
        let (mut asked, mut done) = (0, vec![]);
        let mut cancelled = vec![];
        for step in steps {
            match step {
                Step::Ask(to, patience) => {
                    let to: &[&str] = [&[FOUR][..], &[SIX], &[FOUR, SIX], &[]][to as usize % 4];
                    world.announce(asked, to, Duration::from_secs(patience));
                    asked += 1;
                }
                Step::Cancel(id) if asked > 0 => {
                    let id = u64::from(id) % asked;
                    world.event(UdpEvent::Cancel { id: AskId(id) });
                    cancelled.push(id);
                }
                Step::Reply(action, body) if !world.sent.is_empty() => {
                    world.reply(FOUR, action, &body);
                    world.reply(SIX, action, &body);
                }
                Step::Noise(data) => world.datagram(FOUR, &data),
                Step::Wait(seconds) => {
                    let second = world.now.as_micros() / 1_000_000 + seconds;
                    done.extend(world.run_to(second));
                }
                Step::Cancel(_) | Step::Reply(..) => {}
            }
        }
        done.extend(world.run_to(100_000));
        for id in 0..asked {
            let said = done.iter().filter(|line| line.contains(" done ") && {
                line.split([' ', ':']).nth(2) == Some(&id.to_string())
            });
            let said = said.count();
            prop_assert!(said == 1 || said == 0 && cancelled.contains(&id), "{id} done {said} times: {done:?}");
        }
        prop_assert_eq!(world.machine.poll_timeout(), None);
        prop_assert!(world.machine.asks.is_empty() && world.machine.endpoints.is_empty());
    }

    /// Guesses at the transaction don't get in (T-06), short of one in 2^32.
    #[test]
    fn forged_answers_are_ignored(guesses in prop::collection::vec((0..4_u32, any::<u32>()), 0..50)) {
        let mut world = World::new();
        world.connect_at(0);
        world.announce(1, &[FOUR], LONG);
        let transaction = world.last_transaction();
        for (action, guess) in guesses.into_iter().filter(|(_, guess)| *guess != transaction) {
            world.datagram(FOUR, &packet::reply(action, guess, &[7; 12]));
        }
        prop_assert_eq!(world.run_to(1), ["0 announce"]);
    }
}

#[test]
fn an_early_timeout_changes_nothing() {
    let mut world = World::new();
    world.announce(1, &[FOUR], LONG);
    let before = format!("{:?}", world.machine);
    let mut out = Outbox::new();
    world.machine.handle_timeout(world.now, &mut out);
    assert_eq!((format!("{:?}", world.machine), out.len()), (before, 0));
    let error = TrackerError::TimedOut;
    assert_eq!(
        UdpAction::Done { id: AskId(1), error: Some(error) }.to_string(),
        "ask 1 failed: the tracker did not answer in time"
    );
}
