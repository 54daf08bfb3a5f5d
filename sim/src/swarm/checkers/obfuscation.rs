//! What a client lets be seen that has to obfuscate: INV-S-30.

use super::{Bounds, Observation, Verdict, hold};
use fast_peer_core::id::ConnId;
use fast_peer_core::mse::Method;
use fast_peer_core::session::{Encryption, Policy};
use std::collections::BTreeMap;

#[derive(Debug)]
pub(super) struct Obfuscation {
    encryption: Encryption,
    /// The connections that have to be obfuscated: how many bytes have left, and the last of them.
    forced: BTreeMap<ConnId, (u64, Vec<u8>)>,
}

impl Obfuscation {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { encryption: bounds.encryption, forced: BTreeMap::new() }
    }

    pub(super) fn observe(&mut self, observation: &Observation<'_>) -> Verdict {
        match *observation {
            Observation::Accepted { conn, .. } if self.encryption.incoming == Policy::Require => {
                self.forced.insert(conn, (0, Vec::new()));
            }
            Observation::Dialled { conn, .. } if self.encryption.outgoing == Policy::Require => {
                self.forced.insert(conn, (0, Vec::new()));
            }
            Observation::Gone { conn } => {
                self.forced.remove(&conn);
            }
            Observation::Packet { conn, bytes } => return self.check(conn, bytes),
            _ => {}
        }
        Ok(())
    }

    /// How the protocol begins can be seen nowhere; where plain payload is allowed, not before that was agreed, so not at
    /// the very start.
    fn check(&mut self, conn: ConnId, bytes: &[u8]) -> Verdict {
        let Some((sent, last)) = self.forced.get_mut(&conn) else { return Ok(()) };
        let from_start = *sent == 0;
        *sent += bytes.len() as u64;
        last.extend_from_slice(bytes);
        let plain_allowed = self.encryption.methods.has(Method::Plain);
        let seen = if plain_allowed {
            from_start && last.starts_with(START)
        } else {
            last.windows(START.len()).any(|window| window == START)
        };
        last.drain(..last.len().saturating_sub(START.len() - 1));
        hold(!seen, "INV-S-30", || format!("{conn} begins like BitTorrent where it has to be obfuscated"))
    }
}

const START: &[u8; 20] = b"\x13BitTorrent protocol";

#[cfg(test)]
mod tests {
    use super::super::tests::{BOUNDS, expect_breach};
    use super::{Bounds, ConnId, Encryption, Obfuscation, Observation, Policy, START, Verdict};
    use fast_peer_core::mse::Methods;

    fn forced(methods: Methods) -> Obfuscation {
        let encryption = Encryption { incoming: Policy::Require, outgoing: Policy::Require, methods };
        let mut checker = Obfuscation::new(Bounds { encryption, ..BOUNDS });
        let remote = ([11, 0, 0, 2], 6881).into();
        checker.observe(&Observation::Dialled { conn: ConnId(1), remote, honest: true }).unwrap();
        checker.observe(&Observation::Accepted { conn: ConnId(2), remote, honest: true }).unwrap();
        checker
    }

    fn packet(checker: &mut Obfuscation, conn: u64, bytes: &[u8]) -> Verdict {
        checker.observe(&Observation::Packet { conn: ConnId(conn), bytes })
    }

    #[test]
    fn s30_a_handshake_that_anybody_can_read() {
        for methods in [Methods::ALL, Methods::RC4] {
            for conn in [1, 2] {
                expect_breach(packet(&mut forced(methods), conn, START), "INV-S-30");
            }
        }
        // With RC4 alone it is hidden for good, also in packets that are cut anywhere.
        let mut checker = forced(Methods::RC4);
        packet(&mut checker, 1, b"noise\x13BitTor").unwrap();
        expect_breach(packet(&mut checker, 1, b"rent protocol"), "INV-S-30");
        let mut checker = forced(Methods::ALL);
        packet(&mut checker, 1, b"noise").unwrap();
        packet(&mut checker, 1, START).expect("plain was agreed");
        checker.observe(&Observation::Gone { conn: ConnId(2) }).unwrap();
        packet(&mut checker, 2, START).expect("it is another connection by now");
    }
}
