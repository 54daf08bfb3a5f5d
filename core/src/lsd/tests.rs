use super::{Action, Announcement, Event, Group, Lsd, MAX_TORRENTS};
use crate::id::InfoHash;
use crate::machine::{Machine as _, Outbox, Timestamp};
use crate::rng::Rng;
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use core::net::SocketAddr;
use core::time::Duration;

#[test]
fn a_torrent_is_called_at_once_and_every_five_minutes() {
    let mut end = End::new(1);
    end.event(Event::Shared { torrent: hash(1) });
    assert_eq!(end.lsd.poll_timeout(), None, "nobody could come");
    end.event(Event::Listening { port: 6881 });
    assert_eq!(end.calls_at(0), [hash(1)]);
    assert_eq!(end.calls_at(299), []);
    assert_eq!(end.calls_at(300), [hash(1)]);
    end.event(Event::Unshared { torrent: hash(1) });
    assert_eq!(end.lsd.poll_timeout(), None);
}

#[test]
fn there_is_a_minute_between_two_calls() {
    let mut end = End::listening(1);
    end.event(Event::Shared { torrent: hash(1) });
    assert_eq!(end.calls_at(0), [hash(1)]);
    end.event(Event::Shared { torrent: hash(2) });
    assert_eq!(end.calls_at(59), []);
    assert_eq!(end.calls_at(60), [hash(2)]);
    assert_eq!(end.calls_at(300), [hash(1)], "each has its own five minutes");
    assert_eq!(end.calls_at(360), [hash(2)]);
}

#[test]
fn a_new_network_is_called_into_as_soon_as_may_be() {
    let mut end = End::listening(1);
    end.event(Event::Shared { torrent: hash(1) });
    assert_eq!(end.calls_at(0), [hash(1)]);
    end.event(Event::NetworkChanged);
    assert_eq!(end.calls_at(59), []);
    assert_eq!(end.calls_at(60), [hash(1)]);
    assert_eq!(end.calls_at(359), []);
}

#[test]
fn many_torrents_take_turns() {
    let mut end = End::listening(1);
    let count = 3 * MAX_TORRENTS + 5;
    (0..count).for_each(|n| drop(end.event(Event::Shared { torrent: hash(n as u16) })));
    let mut called: BTreeMap<InfoHash, u32> = BTreeMap::new();
    for minute in 0..10 {
        let calls = end.calls_at(minute * 60);
        assert!(calls.len() <= MAX_TORRENTS);
        calls.into_iter().for_each(|torrent| *called.entry(torrent).or_default() += 1);
    }
    assert_eq!(called.len(), count);
    assert!(called.values().all(|calls| *calls == 2), "{called:?}");
}

#[test]
fn a_call_for_our_torrent_names_a_peer_and_our_own_does_not() {
    let mut end = End::listening(1);
    end.event(Event::Shared { torrent: hash(1) });
    let from: SocketAddr = "192.168.1.7:6771".parse().unwrap();
    let call = |torrents: Vec<InfoHash>, cookie: Option<&str>| {
        let call = Announcement { port: 51413, torrents, cookie: cookie.map(Into::into) };
        Event::Datagram { from, data: call.encode(Group::V4).into() }
    };
    let peer = "192.168.1.7:51413".parse().unwrap();
    let found = [Action::Found { torrent: hash(1), peer }];
    assert_eq!(end.event(call(vec![hash(2), hash(1)], None)), found);
    assert_eq!(end.event(call(vec![hash(2)], None)), []);
    assert_eq!(end.event(Event::Datagram { from, data: Bytes::from_static(b"BT-SEARCH") }), []);
    let Action::Call { data, .. } = end.at(0).remove(0) else { panic!("it calls") };
    assert_eq!(end.event(Event::Datagram { from, data }), [], "an echo");
}

///
#[test]
fn ten_datagrams_a_second_are_looked_at() {
    let mut end = End::listening(1);
    end.event(Event::Shared { torrent: hash(1) });
    let call = Announcement { port: 1, torrents: vec![hash(1)], cookie: None };
    let datagram =
        || Event::Datagram { from: "192.168.1.7:1".parse().unwrap(), data: call.encode(Group::V4).into() };
    end.at(100);
    let found = |end: &mut End| (0..15).map(|_| end.event(datagram()).len()).sum::<usize>();
    assert_eq!(found(&mut end), 10);
    end.at(101);
    assert_eq!(found(&mut end), 10);
}

#[test]
fn both_groups_hear_a_call() {
    let mut end = End::listening(1);
    end.event(Event::Shared { torrent: hash(1) });
    let groups: Vec<Group> = end
        .at(0)
        .into_iter()
        .map(|action| match action {
            Action::Call { group, .. } => group,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(groups, Group::ALL);
}

struct End {
    lsd: Lsd,
    now: Timestamp,
}

impl End {
    fn new(seed: u64) -> Self {
        Self { lsd: Lsd::new(Rng::from_number(seed)), now: Timestamp::ZERO }
    }

    fn listening(seed: u64) -> Self {
        let mut end = Self::new(seed);
        end.event(Event::Listening { port: 6881 });
        end
    }

    fn event(&mut self, event: Event) -> Vec<Action> {
        let mut out = Outbox::new();
        self.lsd.handle_event(self.now, event, &mut out);
        out.into()
    }

    fn at(&mut self, secs: u64) -> Vec<Action> {
        self.now = Timestamp::ZERO + Duration::from_secs(secs);
        let mut out = Outbox::new();
        self.lsd.handle_timeout(self.now, &mut out);
        out.into()
    }

    /// The torrents that are called at this time, to the group of IPv4.
    fn calls_at(&mut self, secs: u64) -> Vec<InfoHash> {
        let calls = self.at(secs).into_iter().filter_map(|action| match action {
            Action::Call { group: Group::V4, data } => Announcement::parse(&data),
            _ => None,
        });
        calls.flat_map(|call| call.torrents).collect()
    }
}

fn hash(n: u16) -> InfoHash {
    let mut hash = [7; 20];
    hash[..2].copy_from_slice(&n.to_be_bytes());
    InfoHash(hash)
}
