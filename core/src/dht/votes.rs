//! What others say our address is (BEP 42).

use super::contact::Block;
use crate::address::{is_dialable, is_local};
use alloc::collections::VecDeque;
use core::net::{IpAddr, SocketAddr};

/// The latest words of nodes about our address, one of each neighbourhood.
#[derive(Clone, Debug, Default)]
pub struct Votes {
    /// Who said so, and what.
    votes: VecDeque<(Block, IpAddr)>,
}

impl Votes {
    /// A node sees us at this address. Returns whether that is news: one neighbourhood has one vote, and local addresses
    /// are nobody's business.
    pub fn cast(&mut self, from: SocketAddr, seen: IpAddr) -> bool {
        let seen = seen.to_canonical();
        let Some(voter) = Block::subnet(from.ip()) else { return false };
        if is_local(seen) || !is_dialable(SocketAddr::new(seen, 1)) {
            return false;
        }
        if let Some(vote) = self.votes.iter_mut().find(|(other, _)| *other == voter) {
            return core::mem::replace(&mut vote.1, seen) != seen;
        }
        if self.votes.len() == MAX_VOTES {
            self.votes.pop_front();
        }
        self.votes.push_back((voter, seen));
        true
    }

    /// The address on which at least five agree, and more than half of all.
    pub fn elected(&self) -> Option<IpAddr> {
        let count = |ip: IpAddr| self.votes.iter().filter(|(_, seen)| *seen == ip).count();
        let mut seen = self.votes.iter().map(|(_, seen)| *seen);
        seen.find(|ip| count(*ip) >= ENOUGH && 2 * count(*ip) > self.votes.len())
    }
}

/// Votes that are remembered.
const MAX_VOTES: usize = 16;

/// An id is changed only if so many agree: it costs the neighbours whom we know.
const ENOUGH: usize = 5;

#[cfg(test)]
mod tests {
    use super::{ENOUGH, MAX_VOTES, Votes};
    use core::net::{IpAddr, SocketAddr};

    fn voter(n: u8) -> SocketAddr {
        SocketAddr::from(([45, 1, n, 1], 6881))
    }

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([93, 184, 216, last])
    }

    #[test]
    fn enough_have_to_agree() {
        let mut votes = Votes::default();
        for n in 0..ENOUGH as u8 {
            assert_eq!(votes.elected(), None, "{n} votes");
            assert!(votes.cast(voter(n), ip(7)));
        }
        assert_eq!(votes.elected(), Some(ip(7)));
    }

    #[test]
    fn a_neighbourhood_has_one_vote() {
        let mut votes = Votes::default();
        for host in 0..=255 {
            assert_eq!(votes.cast(SocketAddr::from(([45, 1, 1, host], 1)), ip(7)), host == 0);
        }
        assert_eq!(votes.elected(), None);
        assert!(votes.cast(voter(1), ip(8)), "it may change its mind");
    }

    #[test]
    fn a_minority_elects_nobody() {
        let mut votes = Votes::default();
        for n in 0..10 {
            votes.cast(voter(n), ip(n));
        }
        for n in 10..10 + ENOUGH as u8 {
            votes.cast(voter(n), ip(200));
        }
        assert_eq!(votes.elected(), None);
        for n in 0..4 {
            votes.cast(voter(n), ip(200));
        }
        assert_eq!(votes.elected(), Some(ip(200)));
    }

    #[test]
    fn a_new_address_is_elected_in_time() {
        let mut votes = Votes::default();
        for n in 0..100 {
            votes.cast(voter(n), ip(7));
        }
        let until = (100..).find(|n| {
            votes.cast(voter(*n), ip(9));
            votes.elected() == Some(ip(9))
        });
        assert_eq!(until, Some(100 + MAX_VOTES as u8 / 2));
    }

    #[test]
    fn local_addresses_say_nothing() {
        let mut votes = Votes::default();
        assert!(!votes.cast("127.0.0.1:1".parse().unwrap(), ip(7)));
        for seen in ["10.0.0.1", "::1", "0.0.0.0", "224.0.0.1"] {
            assert!(!votes.cast(voter(1), seen.parse().unwrap()), "{seen}");
        }
        assert_eq!(votes.elected(), None);
    }
}
