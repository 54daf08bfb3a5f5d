//! Routers between hosts and everybody else, which give them other ports and let nothing in but answers (RFC 4787).

use super::world::{HostId, World};
use core::net::SocketAddr;
use core::time::Duration;
use fast_peer_core::machine::Timestamp;
use std::collections::BTreeMap;

/// How a router maps the ports of a host. Whatever it does, a datagram comes in only from an address and port to which
/// one went out from the same port, and no stream comes in at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NatKind {
    /// A port inside has one port outside, the same number.
    KeepsPorts,
    /// A port inside has one port outside, whatever number is free.
    OnePort,
    /// A port inside has another port outside for each remote.
    Symmetric,
}

/// A router of one host. Its address is the host's.
#[derive(Debug)]
pub(super) struct Nat {
    kind: NatKind,
    /// The ports outside, by the port inside and, if that matters, the remote.
    ports: BTreeMap<(u16, Option<SocketAddr>), u16>,
    /// Who is let in by a port outside, and until when.
    holes: BTreeMap<(u16, SocketAddr), Timestamp>,
}

impl Nat {
    pub(super) fn new(kind: NatKind) -> Self {
        Self { kind, ports: BTreeMap::new(), holes: BTreeMap::new() }
    }

    /// A datagram goes out; from where, as others see it.
    pub(super) fn let_out(&mut self, now: Timestamp, from: SocketAddr, to: SocketAddr) -> SocketAddr {
        let inside = from.port();
        let remote = (self.kind == NatKind::Symmetric).then_some(to);
        let free = FIRST_PORT + self.ports.len() as u16;
        let kept = self.kind == NatKind::KeepsPorts;
        let outside = *self.ports.entry((inside, remote)).or_insert(if kept { inside } else { free });
        self.holes.insert((outside, to), now + HOLE_FOR);
        SocketAddr::new(from.ip(), outside)
    }

    /// Whether a datagram gets through that comes for a port outside.
    pub(super) fn lets_in(&self, now: Timestamp, from: SocketAddr, outside: u16) -> bool {
        self.holes.get(&(outside, from)).is_some_and(|until| *until > now)
    }
}

impl World {
    /// Puts a router between a host and everybody else.
    pub fn set_nat(&mut self, host: HostId, kind: NatKind) {
        self.host_mut(host).nat = Some(Nat::new(kind));
    }
}

/// How long an answer may take. Routers forget what they saw last two minutes ago, or sooner.
const HOLE_FOR: Duration = Duration::from_secs(60);

/// The first port that a router gives.
const FIRST_PORT: u16 = 40_000;

#[cfg(test)]
mod tests {
    use super::{HOLE_FOR, Nat, NatKind, SocketAddr, Timestamp};

    fn remote(last: u8, port: u16) -> SocketAddr {
        ([11, 0, 9, last], port).into()
    }

    fn inside() -> SocketAddr {
        ([11, 0, 0, 1], 6881).into()
    }

    const NOW: Timestamp = Timestamp::ZERO;

    #[test]
    fn only_answers_come_in_and_not_for_ever() {
        for kind in [NatKind::KeepsPorts, NatKind::OnePort, NatKind::Symmetric] {
            let mut nat = Nat::new(kind);
            let seen = nat.let_out(NOW, inside(), remote(1, 5)).port();
            assert!(nat.lets_in(NOW, remote(1, 5), seen), "{kind:?}");
            for stranger in [remote(2, 5), remote(1, 6)] {
                assert!(!nat.lets_in(NOW, stranger, seen), "{kind:?}");
            }
            assert!(!nat.lets_in(NOW + HOLE_FOR, remote(1, 5), seen), "{kind:?}");
        }
    }

    #[test]
    fn a_symmetric_one_has_a_port_for_each_remote() {
        for (kind, expected) in [
            (NatKind::KeepsPorts, [6881, 6881, 6881]),
            (NatKind::OnePort, [40_000, 40_000, 40_000]),
            (NatKind::Symmetric, [40_000, 40_001, 40_000]),
        ] {
            let mut nat = Nat::new(kind);
            let seen =
                [remote(1, 5), remote(1, 6), remote(1, 5)].map(|to| nat.let_out(NOW, inside(), to).port());
            assert_eq!(seen, expected, "{kind:?}");
        }
    }
}
