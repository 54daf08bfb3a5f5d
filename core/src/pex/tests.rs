use super::{Action, Event, Pex};
use crate::id::ConnId;
use crate::machine::{Machine as _, Outbox, Timestamp};
use crate::wire::{Offence, PexFlags, PexMessage};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;
use proptest::prelude::*;

#[test]
fn a_peer_is_told_of_the_others_and_then_of_what_changed() {
    let mut end = End::default();
    end.listens(1);
    end.contact(1);
    end.contact(2);
    assert_eq!(end.at(999), []);
    assert_eq!(end.at(1000), [told(1, &[2], &[])], "not of itself");
    end.contact(3);
    assert_eq!(end.at(65_999), []);
    end.gone(2);
    assert_eq!(end.at(66_000), [told(1, &[3], &[2])]);
    assert_eq!(end.pex.poll_timeout(), None, "there is nothing more to tell");
    end.gone(3);
    end.contact(3);
    assert_eq!(end.at(131_000), [], "it came back");
}

/// BEP 11: 50 of each; more only in the first message.
#[test]
fn a_message_has_fifty_of_each_and_the_first_a_hundred() {
    let mut end = End::default();
    end.listens(1);
    (100..260).for_each(|n| end.contact(n));
    let counts = |said: Vec<Action>| {
        said.iter()
            .map(|action| match action {
                Action::Tell { message, .. } => (message.added.len(), message.dropped.len()),
                other => panic!("{other:?}"),
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(counts(end.at(1000)), [(100, 0)]);
    assert_eq!(counts(end.at(66_000)), [(50, 0)]);
    (100..220).for_each(|n| end.gone(n));
    assert_eq!(counts(end.at(131_000)), [(10, 50)]);
    assert_eq!(counts(end.at(196_000)), [(0, 50)]);
    assert_eq!(counts(end.at(261_000)), [(0, 20)]);
    assert_eq!(end.pex.poll_timeout(), None);
}

#[test]
fn flags_go_along_and_change_nothing_by_themselves() {
    let mut end = End::default();
    end.listens(1);
    let contact = |flags| Event::Contact { peer: ConnId(2), addr: addr(2), flags: PexFlags(flags) };
    end.event(contact(PexFlags::REACHABLE));
    end.event(contact(PexFlags::REACHABLE | PexFlags::SEED));
    let flags = PexFlags(PexFlags::REACHABLE | PexFlags::SEED);
    let message = PexMessage { added: vec![(addr(2), flags)], dropped: vec![] };
    assert_eq!(end.at(1000), [Action::Tell { peer: ConnId(1), message }]);
    end.event(contact(0));
    assert_eq!(end.pex.poll_timeout(), None);
}

#[test]
fn local_addresses_are_told_to_local_peers_only() {
    let mut end = End::default();
    let near: SocketAddr = "192.168.1.2:6881".parse().unwrap();
    end.event(Event::Contact { peer: ConnId(3), addr: near, flags: PexFlags::default() });
    end.listens(1);
    end.event(Event::Listens { peer: ConnId(2), remote: "192.168.1.9:1".parse().unwrap() });
    let message = PexMessage { added: vec![(near, PexFlags::default())], dropped: vec![] };
    assert_eq!(end.at(1000), [Action::Tell { peer: ConnId(2), message }]);
}

#[test]
fn what_comes_too_soon_is_not_believed_and_the_seventh_is_too_much() {
    let mut end = End::default();
    let heard = || Event::Heard {
        peer: ConnId(1),
        message: PexMessage { added: vec![(addr(7), PexFlags::default())], dropped: vec![addr(8)] },
    };
    let peers = vec![(addr(7), PexFlags::default())];
    let learn = [Action::Learn { peer: ConnId(1), peers, dropped: vec![addr(8)] }];
    end.at(100_000);
    assert_eq!(end.event(heard()), learn);
    end.at(144_999);
    assert_eq!(end.event(heard()), []);
    end.at(145_000);
    assert_eq!(end.event(heard()), learn);
    for _ in 0..3 {
        assert_eq!(end.event(heard()), []);
    }
    let flood = [Action::Accuse { peer: ConnId(1), offence: Offence::PexFlood }];
    assert_eq!(end.event(heard()), flood);
}

proptest! {
    /// Whatever comes and goes, who adds up what it was told knows in the end who is there; and no message breaks a
    /// rule (INV-S-39).
    #[test]
    fn a_listener_knows_in_the_end_who_is_there(steps in prop::collection::vec((0_u64..130, any::<bool>(), 0_u64..20), 0..300)) {
        let mut end = End::default();
        end.listens(1);
        let (mut there, mut known, mut last) = (BTreeSet::new(), BTreeMap::new(), None);
        let mut now = 0;
        for (n, joins, pause) in steps.into_iter().chain([(0, false, 0)]) {
            if joins {
                end.contact(200 + n);
                there.insert(addr(200 + n));
            } else {
                end.gone(200 + n);
                there.remove(&addr(200 + n));
            }
            now += pause * 1000;
            for action in end.at(now) {
                let Action::Tell { message, .. } = action else { panic!("{action:?}") };
                let most = if last.is_none() { 100 } else { 50 };
                prop_assert!(message.added.len() <= most && message.dropped.len() <= 50);
                prop_assert!(last.is_none_or(|last| now - last >= 60_000));
                last = Some(now);
                for addr in message.dropped {
                    prop_assert!(known.remove(&addr).is_some(), "what is dropped was told");
                }
                for (addr, _) in message.added {
                    prop_assert!(there.contains(&addr) && known.insert(addr, ()).is_none());
                }
            }
        }
        while let Some(due) = end.pex.poll_timeout() {
            now = due.at.as_micros() / 1000;
            for action in end.at(now) {
                let Action::Tell { message, .. } = action else { panic!("{action:?}") };
                known.retain(|addr, ()| !message.dropped.contains(addr));
                known.extend(message.added.iter().map(|(addr, _)| (*addr, ())));
            }
        }
        prop_assert_eq!(known.into_keys().collect::<BTreeSet<_>>(), there);
    }
}

#[derive(Default)]
struct End {
    pex: Pex,
    now: Timestamp,
}

impl End {
    fn event(&mut self, event: Event) -> Vec<Action> {
        let mut out = Outbox::new();
        self.pex.handle_event(self.now, event, &mut out);
        out.into()
    }

    fn at(&mut self, millis: u64) -> Vec<Action> {
        self.now = Timestamp::ZERO + Duration::from_millis(millis);
        let mut out = Outbox::new();
        self.pex.handle_timeout(self.now, &mut out);
        out.into()
    }

    fn listens(&mut self, n: u64) {
        assert_eq!(self.event(Event::Listens { peer: ConnId(n), remote: addr(n) }), []);
    }

    fn contact(&mut self, n: u64) {
        let contact = Event::Contact { peer: ConnId(n), addr: addr(n), flags: PexFlags::default() };
        assert_eq!(self.event(contact), []);
    }

    fn gone(&mut self, n: u64) {
        assert_eq!(self.event(Event::Gone { peer: ConnId(n) }), []);
    }
}

fn addr(n: u64) -> SocketAddr {
    SocketAddr::from(([203, 0, 113, n as u8], 6000 + (n >> 8) as u16))
}

fn told(peer: u64, added: &[u64], dropped: &[u64]) -> Action {
    let added = added.iter().map(|n| (addr(*n), PexFlags::default())).collect();
    let dropped = dropped.iter().map(|n| addr(*n)).collect();
    Action::Tell { peer: ConnId(peer), message: PexMessage { added, dropped } }
}
