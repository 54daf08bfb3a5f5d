use super::{
    ANSWER_WITHIN, Action, Event, GiveUp, Holepunch, MAX_ASKED, MAX_ATTEMPTS, MAX_OBEYED, MAX_OBEYED_PER_IP,
    MAX_OWN, MAX_RELAYS, MAX_TARGETS, MAX_TARGETS_PER_RELAY, OPEN_WITHIN, TRIED_FOR,
};
use crate::id::ConnId;
use crate::machine::{Machine as _, Outbox, Timestamp};
use crate::wire::{HolepunchError, HolepunchMessage};
use alloc::vec;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

const RELAY: ConnId = ConnId(1);
const OTHER: ConnId = ConnId(2);

#[derive(Default)]
struct End {
    punch: Holepunch,
    now: Timestamp,
}

impl End {
    /// With two members that speak the extension, both of which told of [`target`].
    fn new() -> Self {
        let mut end = Self::default();
        for peer in [RELAY, OTHER] {
            assert_eq!(end.event(Event::Member { peer, addr: nth(peer.0 as u32), speaks: true }), []);
            assert_eq!(end.event(Event::Told { peer, addr: target() }), []);
        }
        end
    }

    fn event(&mut self, event: Event) -> Vec<Action> {
        let mut out = Outbox::new();
        self.punch.handle_event(self.now, event, &mut out);
        self.punch.check_invariants();
        out.into()
    }

    fn heard(&mut self, peer: ConnId, message: HolepunchMessage) -> Vec<Action> {
        self.event(Event::Heard { peer, message })
    }

    fn after(&mut self, time: Duration) -> Vec<Action> {
        self.now = self.now + time;
        let mut out = Outbox::new();
        self.punch.handle_timeout(self.now, &mut out);
        self.punch.check_invariants();
        out.into()
    }
}

fn nth(n: u32) -> SocketAddr {
    SocketAddr::from(([45, (n >> 8) as u8, n as u8, 1], 6881))
}

fn target() -> SocketAddr {
    nth(1000)
}

fn ask(peer: ConnId, addr: SocketAddr) -> Action {
    Action::Send { peer, message: HolepunchMessage::Rendezvous(addr) }
}

fn failed(addr: SocketAddr) -> Event {
    Event::DialFailed { addr, answered: false, has_place: true }
}

fn gave_up(why: GiveUp) -> [Action; 1] {
    [Action::GaveUp { addr: target(), why }]
}

#[test]
fn who_cannot_be_reached_is_asked_for_and_dialled_when_the_relay_says_so() {
    let mut end = End::new();
    assert_eq!(end.event(failed(target())), [ask(RELAY, target())]);
    assert_eq!(end.heard(OTHER, HolepunchMessage::Connect(target())), [], "another was asked");
    assert_eq!(end.heard(RELAY, HolepunchMessage::Connect(target())), [Action::Open { addr: target() }]);
    assert_eq!(end.heard(RELAY, HolepunchMessage::Connect(target())), [], "once is enough");
    assert_eq!(end.event(Event::Connected { addr: target() }), []);
    assert_eq!(end.punch.attempts(), 0);
    assert_eq!(end.after(OPEN_WITHIN), []);
}

#[test]
fn it_is_tried_twice_by_different_relays_and_then_left_for_an_hour() {
    let mut end = End::new();
    for relay in [RELAY, OTHER] {
        assert_eq!(end.event(failed(target())), [ask(relay, target())]);
        assert_eq!(end.heard(relay, HolepunchMessage::Connect(target())), [Action::Open { addr: target() }]);
        assert_eq!(end.event(failed(target())), gave_up(GiveUp::NotThrough));
    }
    assert_eq!(end.event(failed(target())), []);
    assert_eq!(end.after(TRIED_FOR), []);
    assert_eq!(end.event(failed(target())), [ask(RELAY, target())]);
}

#[test]
fn the_second_relay_is_another_one_whoever_came_or_left() {
    // The first one left: its place in the order is the other's now.
    let mut end = End::new();
    assert_eq!(end.event(failed(target())), [ask(RELAY, target())]);
    assert_eq!(end.event(Event::Gone { peer: RELAY }), gave_up(GiveUp::NoAnswer));
    assert_eq!(end.event(failed(target())), [ask(OTHER, target())]);

    // One came before the first.
    let mut end = End::default();
    for peer in [OTHER, RELAY] {
        end.event(Event::Member { peer, addr: nth(peer.0 as u32), speaks: true });
        end.event(Event::Told { peer, addr: target() });
        assert_eq!(end.event(failed(target())), [ask(peer, target())]);
        end.after(ANSWER_WITHIN);
    }
}

#[test]
fn what_others_want_of_us_is_counted_apart() {
    let mut end = End::new();
    for _ in 0..2 {
        assert_eq!(end.heard(RELAY, HolepunchMessage::Connect(target())), [Action::Open { addr: target() }]);
        assert_eq!(end.event(failed(target())), gave_up(GiveUp::NotThrough));
    }
    assert_eq!(end.heard(RELAY, HolepunchMessage::Connect(target())), []);
    assert_eq!(end.event(failed(target())), [ask(RELAY, target())], "we want it too");
    assert_eq!(end.heard(RELAY, HolepunchMessage::Connect(target())), [Action::Open { addr: target() }]);
}

#[test]
fn one_address_is_not_worn_down_port_by_port() {
    let mut end = End::new();
    let port = |port| SocketAddr::new(target().ip(), port);
    let mut opened = 0;
    for n in 1..9 {
        opened += end.heard(RELAY, HolepunchMessage::Connect(port(n))).len();
        end.event(failed(port(n)));
        end.after(OPEN_WITHIN);
    }
    assert_eq!(opened, MAX_OBEYED_PER_IP);
}

#[test]
fn what_was_not_opened_does_not_count() {
    let mut end = End::new();
    for _ in 0..3 {
        assert_eq!(end.event(failed(target())), [ask(RELAY, target())]);
        end.heard(RELAY, HolepunchMessage::Connect(target()));
        assert_eq!(end.event(Event::NotOpened { addr: target() }), gave_up(GiveUp::Unwanted));
    }
    for _ in 0..3 {
        assert_eq!(end.heard(OTHER, HolepunchMessage::Connect(target())), [Action::Open { addr: target() }]);
        assert_eq!(end.event(Event::NotOpened { addr: target() }), gave_up(GiveUp::Unwanted));
    }
    assert_eq!(end.punch.poll_timeout(), None);
}

#[test]
fn who_is_connected_to_a_peer_no_more_is_not_asked_for_it() {
    let mut end = End::new();
    end.event(Event::Dropped { peer: RELAY, addr: target() });
    assert_eq!(end.event(failed(target())), [ask(OTHER, target())]);
    end.event(Event::Dropped { peer: OTHER, addr: target() });
    end.after(ANSWER_WITHIN);
    end.event(Event::Told { peer: RELAY, addr: nth(1001) });
    assert_eq!(end.event(failed(target())), []);
    assert_eq!(end.event(failed(nth(1001))), [ask(RELAY, nth(1001))]);
}

#[test]
fn who_has_no_place_asks_nobody() {
    let mut end = End::new();
    assert_eq!(end.event(Event::DialFailed { addr: target(), answered: false, has_place: false }), []);
    assert_eq!(end.event(failed(target())), [ask(RELAY, target())]);
    end.heard(RELAY, HolepunchMessage::Connect(target()));
    let failed = Event::DialFailed { addr: target(), answered: false, has_place: false };
    assert_eq!(end.event(failed), gave_up(GiveUp::NotThrough), "what is under way ends all the same");
}

#[test]
fn of_our_own_addresses_the_oldest_is_forgotten() {
    let mut end = End::new();
    let own = |n| nth(2000 - n);
    (0..=MAX_OWN as u32).for_each(|n| drop(end.event(Event::Own { addr: own(n) })));
    assert_eq!(end.heard(RELAY, HolepunchMessage::Connect(own(MAX_OWN as u32))), []);
    assert_eq!(end.heard(RELAY, HolepunchMessage::Connect(own(1))), []);
    assert_eq!(end.heard(RELAY, HolepunchMessage::Connect(own(0))), [Action::Open { addr: own(0) }]);
}

#[test]
fn who_does_not_speak_the_extension_takes_no_place_as_a_relay() {
    let mut end = End::default();
    for peer in 0..10 {
        end.event(Event::Member { peer: ConnId(peer), addr: nth(peer as u32), speaks: peer == 9 });
        end.event(Event::Told { peer: ConnId(peer), addr: target() });
    }
    assert_eq!(end.event(failed(target())), [ask(ConnId(9), target())]);
}

#[test]
fn an_attempt_ends_by_an_error_by_silence_or_with_the_relay() {
    let ask_relay = |end: &mut End| assert_eq!(end.event(failed(target())), [ask(RELAY, target())]);
    let mut end = End::new();
    ask_relay(&mut end);
    let error = HolepunchMessage::Error(target(), HolepunchError::NotConnected);
    assert_eq!(end.heard(OTHER, error), []);
    assert_eq!(end.heard(RELAY, error), gave_up(GiveUp::Refused(HolepunchError::NotConnected)));
    assert_eq!(end.heard(RELAY, error), []);

    let mut end = End::new();
    ask_relay(&mut end);
    assert_eq!(end.after(ANSWER_WITHIN - Duration::from_micros(1)), []);
    assert_eq!(end.after(Duration::from_micros(1)), gave_up(GiveUp::NoAnswer));

    let mut end = End::new();
    ask_relay(&mut end);
    assert_eq!(end.event(Event::Gone { peer: RELAY }), gave_up(GiveUp::NoAnswer));

    let mut end = End::new();
    ask_relay(&mut end);
    end.heard(RELAY, HolepunchMessage::Connect(target()));
    assert_eq!(end.event(Event::Gone { peer: RELAY }), [], "it is not needed any more");
    assert_eq!(end.after(OPEN_WITHIN), gave_up(GiveUp::NotThrough));
}

#[test]
fn what_was_answered_may_go_on_by_their_connection() {
    let opening = || {
        let mut end = End::new();
        end.event(failed(target()));
        assert_eq!(end.heard(RELAY, HolepunchMessage::Connect(target())), [Action::Open { addr: target() }]);
        end
    };
    let broken_off = Event::DialFailed { addr: target(), answered: true, has_place: true };
    let mut end = opening();
    assert_eq!(end.event(broken_off.clone()), []);
    assert_eq!(end.event(Event::Connected { addr: target() }), []);
    assert_eq!(end.after(OPEN_WITHIN), []);

    let mut end = opening();
    end.event(broken_off.clone());
    assert_eq!(end.after(OPEN_WITHIN), gave_up(GiveUp::BrokenOff));
    assert_eq!(end.event(broken_off), [], "who answers needs no relay");

    let mut end = opening();
    assert_eq!(end.event(Event::NotOpened { addr: target() }), gave_up(GiveUp::Unwanted));
}

#[test]
fn a_peer_that_its_router_gave_another_port_is_found() {
    let mut end = End::new();
    let listens = SocketAddr::new(target().ip(), 1);
    assert_eq!(end.event(failed(listens)), [ask(RELAY, target())]);
    end.heard(RELAY, HolepunchMessage::Connect(target()));
    assert_eq!(end.event(failed(listens)), [], "it is being tried");
    end.event(Event::Connected { addr: target() });
    end.event(Event::Member { peer: ConnId(5), addr: target(), speaks: true });
    assert_eq!(end.event(failed(listens)), [], "it is here");
}

#[test]
fn addresses_that_stand_for_names_mean_nothing_to_others() {
    let name: SocketAddr = "198.18.0.7:6881".parse().unwrap();
    let mut end = End::new();
    end.event(Event::Told { peer: RELAY, addr: name });
    assert_eq!(end.event(failed(name)), []);
    assert_eq!(end.heard(RELAY, HolepunchMessage::Connect(name)), []);
    end.event(Event::Member { peer: ConnId(5), addr: name, speaks: true });
    let refused = |target| {
        let message = HolepunchMessage::Error(target, HolepunchError::NoSuchPeer);
        move |peer| [Action::Send { peer, message }]
    };
    assert_eq!(end.heard(RELAY, HolepunchMessage::Rendezvous(name)), refused(name)(RELAY));
    assert_eq!(end.heard(ConnId(5), HolepunchMessage::Rendezvous(nth(1))), refused(nth(1))(ConnId(5)));
}

#[test]
fn nobody_is_asked_who_does_not_speak_the_extension_or_has_not_told() {
    let mut end = End::default();
    end.event(Event::Told { peer: RELAY, addr: target() });
    assert_eq!(end.event(failed(target())), [], "who told is no member");
    end.event(Event::Member { peer: RELAY, addr: nth(1), speaks: false });
    end.event(Event::Told { peer: RELAY, addr: target() });
    assert_eq!(end.event(failed(target())), []);
    assert_eq!(end.event(failed(nth(7))), []);
    for addr in ["10.0.0.1:1", "45.1.1.1:0", "224.0.0.1:1"] {
        let addr = addr.parse().unwrap();
        end.event(Event::Member { peer: RELAY, addr: nth(1), speaks: true });
        end.event(Event::Told { peer: RELAY, addr });
        assert_eq!(end.event(failed(addr)), [], "{addr}");
    }
}

#[test]
fn on_one_network_peers_are_brought_together_too() {
    let mut end = End::default();
    let near = |last: u8| SocketAddr::from(([10, 0, 0, last], 6881));
    end.event(Event::Member { peer: RELAY, addr: near(1), speaks: true });
    end.event(Event::Told { peer: RELAY, addr: near(2) });
    assert_eq!(end.event(failed(near(2))), [ask(RELAY, near(2))]);
    assert_eq!(end.heard(RELAY, HolepunchMessage::Connect(near(3))), [Action::Open { addr: near(3) }]);
}

#[test]
fn a_target_connects_at_once_but_not_to_everybody() {
    let mut end = End::new();
    let connect = |addr| HolepunchMessage::Connect(addr);
    assert_eq!(end.heard(RELAY, connect(nth(7))), [Action::Open { addr: nth(7) }]);
    end.event(Event::Own { addr: nth(8) });
    for addr in [nth(8), nth(2), "10.0.0.1:80".parse().unwrap(), "45.9.9.9:0".parse().unwrap()] {
        assert_eq!(end.heard(RELAY, connect(addr)), [], "{addr}");
    }
    end.event(Event::Member { peer: ConnId(3), addr: nth(3), speaks: false });
    assert_eq!(end.heard(ConnId(3), connect(nth(9))), [], "it never said that it speaks the extension");
    // As many within a minute as are harmless to whoever is there.
    let mut opened = 1;
    for n in 100..200 {
        opened += end.heard(RELAY, connect(nth(n))).len();
        end.event(Event::Connected { addr: nth(n) });
    }
    assert_eq!(opened, MAX_OBEYED as usize);
    end.after(Duration::from_secs(60));
    assert_eq!(end.heard(RELAY, connect(nth(300))).len(), 1);
}

#[test]
fn a_relay_tells_both_or_says_why_not() {
    let mut end = End::new();
    end.event(Event::Member { peer: ConnId(3), addr: nth(3), speaks: false });
    end.event(Event::Own { addr: nth(8) });
    let to = |peer, message| Action::Send { peer, message };
    assert_eq!(
        end.heard(RELAY, HolepunchMessage::Rendezvous(nth(2))),
        [to(OTHER, HolepunchMessage::Connect(nth(1))), to(RELAY, HolepunchMessage::Connect(nth(2)))]
    );
    for (target, error) in [
        (nth(9), HolepunchError::NotConnected),
        (nth(3), HolepunchError::NoSupport),
        (nth(8), HolepunchError::NoSelf),
        (nth(1), HolepunchError::NoSuchPeer),
        ("45.1.1.1:0".parse().unwrap(), HolepunchError::NoSuchPeer),
        ("[2a00::1]:1".parse().unwrap(), HolepunchError::NoSuchPeer),
        ("10.0.0.1:1".parse().unwrap(), HolepunchError::NoSuchPeer),
    ] {
        let expected = to(RELAY, HolepunchMessage::Error(target, error));
        assert_eq!(end.heard(RELAY, HolepunchMessage::Rendezvous(target)), [expected], "{target}");
    }
    assert_eq!(end.heard(ConnId(3), HolepunchMessage::Rendezvous(nth(2))), []);
    assert_eq!(end.heard(ConnId(4), HolepunchMessage::Rendezvous(nth(2))), []);
    // Eight were answered.
    for left in (0..5).rev() {
        let said = end.heard(RELAY, HolepunchMessage::Rendezvous(nth(9))).len();
        assert_eq!(said, usize::from(left >= 5 - (MAX_ASKED as usize - 8)), "{left}");
    }
    assert_eq!(end.heard(OTHER, HolepunchMessage::Rendezvous(nth(9))).len(), 1, "others are not held up");
    end.after(Duration::from_secs(60));
    assert_eq!(end.heard(RELAY, HolepunchMessage::Rendezvous(nth(9))).len(), 1);
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut end = End::default();
    for peer in 0..10 {
        end.event(Event::Member { peer: ConnId(peer), addr: nth(peer as u32), speaks: true });
        for n in 0..60 {
            end.event(Event::Told { peer: ConnId(peer), addr: nth(1000 + 60 * peer as u32 + n) });
        }
    }
    assert_eq!(end.punch.relays.len(), MAX_TARGETS);
    assert_eq!(end.punch.relays.len(), 4 * MAX_TARGETS_PER_RELAY);
    for peer in 1..10 {
        end.event(Event::Told { peer: ConnId(peer), addr: nth(1000) });
    }
    assert_eq!(end.punch.relays[&nth(1000)].len(), MAX_RELAYS);
    let asked: Vec<usize> = (0..40).map(|n| end.event(failed(nth(1000 + n))).len()).collect();
    assert_eq!(asked.iter().sum::<usize>(), MAX_ATTEMPTS);
    end.after(ANSWER_WITHIN);
    assert_eq!(end.punch.attempts(), 0);
    (0..10).for_each(|peer| drop(end.event(Event::Gone { peer: ConnId(peer) })));
    assert_eq!(end.punch.relays.len(), 0);
    assert_eq!(end.after(TRIED_FOR), vec![]);
    assert_eq!(end.punch.poll_timeout(), None);
}
