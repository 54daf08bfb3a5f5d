//! How much of the metadata each peer may have.

use crate::id::ConnId;
use crate::machine::Timestamp;
use alloc::collections::BTreeMap;
use core::time::Duration;

/// Counts what peers ask for: the whole dictionary at once, and once more a minute, so that nobody gets it more than
/// twice in any minute (P-20).
#[derive(Debug, Default)]
pub(super) struct Server {
    /// When each peer has paid for all that it got.
    paid_at: BTreeMap<ConnId, Timestamp>,
}

impl Server {
    /// Whether `peer` may have another piece of `pieces` now.
    pub(super) fn serves(&mut self, now: Timestamp, peer: ConnId, pieces: u32) -> bool {
        let paid_at = self.paid_at.entry(peer).or_insert(now);
        let after = now.max(*paid_at) + MINUTE / pieces.max(1);
        if after > now + MINUTE {
            return false;
        }
        *paid_at = after;
        true
    }

    pub(super) fn forget(&mut self, peer: ConnId) {
        self.paid_at.remove(&peer);
    }
}

const MINUTE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::Server;
    use crate::id::ConnId;
    use crate::machine::Timestamp;
    use alloc::vec::Vec;

    #[test]
    fn nobody_gets_everything_more_than_twice_in_any_minute() {
        for pieces in [1, 2, 7, 1024] {
            let mut server = Server::default();
            // Somebody who asks for as much as possible, ten times a second.
            let mut served = Vec::new();
            for tick in 0..3000 {
                let now = Timestamp::from_micros(tick * 100_000);
                while server.serves(now, ConnId(1), pieces) {
                    served.push(tick);
                }
                let minute = served.iter().filter(|at| **at + 600 > tick).count();
                assert!(minute <= 2 * pieces as usize, "{minute} of {pieces} in a minute");
            }
            let first = served.iter().filter(|at| **at == 0).count();
            assert_eq!(first, pieces as usize, "everything at once");
            assert!(served.len() >= 5 * pieces as usize, "and once more a minute: {}", served.len());
            assert!(
                server.serves(Timestamp::from_micros(300_000_000), ConnId(2), pieces),
                "others are not affected"
            );
        }
    }
}
