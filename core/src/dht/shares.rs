//! Who has to give way when a store is full.

use crate::address::Subnet;
use alloc::collections::BTreeMap;
use core::net::SocketAddr;

/// Who something in a store is charged to. An attacker with a subnet has all of its addresses, so they count as one;
/// of local addresses each counts for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Owner {
    Local(SocketAddr),
    Subnet(Subnet),
}

impl Owner {
    pub(super) fn of(addr: SocketAddr) -> Self {
        Subnet::of(addr.ip()).map_or(Self::Local(addr), Self::Subnet)
    }
}

/// How many things each owner has.
///
/// When there is room for no more, one of the owners who have most gives way; and who would become one of them gives way
/// itself. So whoever owns less than an equal share keeps it, however many things others bring.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shares(BTreeMap<Owner, usize>);

impl Shares {
    pub(super) const fn new() -> Self {
        Self(BTreeMap::new())
    }

    pub(super) fn add(&mut self, owner: Owner) {
        *self.0.entry(owner).or_default() += 1;
    }

    pub(super) fn remove(&mut self, owner: Owner) {
        let count = self.0.get_mut(&owner).expect("what is removed was added");
        *count -= 1;
        if *count == 0 {
            self.0.remove(&owner);
        }
    }

    /// Which of `things`, all with owner and rank, has to give way: to one more of `newcomer`, or because there is too much
    /// anyway. Of those whose owners may have to, the one with the lowest rank.
    pub(super) fn who_yields<T, R: Ord>(
        &self,
        newcomer: Option<Owner>,
        things: impl Iterator<Item = (T, Owner, R)>,
    ) -> Option<T> {
        let most = self.0.values().copied().max().unwrap_or_default();
        let newcomer = newcomer.filter(|newcomer| most > 0 && self.of(*newcomer) == most);
        let must_yield = |owner| match newcomer {
            Some(newcomer) => owner == newcomer,
            // Where nobody has more than one, all have most.
            None => most == 1 || self.of(owner) == most,
        };
        let mut lowest: Option<(T, R)> = None;
        for (thing, owner, rank) in things {
            if lowest.as_ref().is_none_or(|(_, lowest)| rank < *lowest) && must_yield(owner) {
                lowest = Some((thing, rank));
            }
        }
        lowest.map(|(thing, _)| thing)
    }

    /// Charges a thing of `owner` to `other`, who vouches for it too, if that one has less. Else what many vouch for
    /// could be driven out by whoever came first. Returns who owns it then.
    pub(super) fn lighten(&mut self, owner: Owner, other: Owner) -> Owner {
        if self.of(other) + 1 >= self.of(owner) {
            return owner;
        }
        self.remove(owner);
        self.add(other);
        other
    }

    fn of(&self, owner: Owner) -> usize {
        self.0.get(&owner).copied().unwrap_or_default()
    }
}

impl FromIterator<Owner> for Shares {
    fn from_iter<I: IntoIterator<Item = Owner>>(owners: I) -> Self {
        let mut shares = Self::new();
        owners.into_iter().for_each(|owner| shares.add(owner));
        shares
    }
}

#[cfg(test)]
mod tests {
    use super::{Owner, Shares};

    fn owner(text: &str) -> Owner {
        Owner::of(text.parse().unwrap())
    }

    #[test]
    fn a_subnet_is_one_owner_and_a_local_address_is_one() {
        assert_eq!(owner("8.8.8.8:1"), owner("8.8.8.9:2"));
        assert_ne!(owner("8.8.8.8:1"), owner("8.8.9.8:1"));
        assert_ne!(owner("127.0.0.1:1"), owner("127.0.0.1:2"));
    }

    #[test]
    fn who_has_most_gives_way() {
        let (much, little, nothing) = (owner("8.8.8.8:1"), owner("9.9.9.9:1"), owner("7.7.7.7:1"));
        let yields = |owners: &[super::Owner], newcomer| {
            let shares: Shares = owners.iter().copied().collect();
            shares.who_yields(newcomer, owners.iter().enumerate().map(|(i, owner)| (i, *owner, 10 - i)))
        };
        for newcomer in [Some(nothing), Some(little), Some(much), None] {
            assert_eq!(
                yields(&[much, much, much, little], newcomer),
                Some(2),
                "its last, which ranks lowest"
            );
        }
        assert_eq!(yields(&[much, little], Some(nothing)), Some(1), "all have most");
        assert_eq!(yields(&[much, much, little, little], None), Some(3));
        assert_eq!(
            yields(&[much, much, little, little], Some(much)),
            Some(1),
            "who would have more than all"
        );
        assert_eq!(yields(&[], Some(much)), None);
    }

    #[test]
    fn what_two_vouch_for_is_charged_to_the_lighter() {
        let (much, little) = (owner("8.8.8.8:1"), owner("9.9.9.9:1"));
        let mut shares: Shares = [much, much].into_iter().collect();
        assert_eq!(shares.lighten(much, little), little);
        assert_eq!(shares, [much, little].into_iter().collect());
        assert_eq!(shares.lighten(much, little), much, "as much as the other");
        assert_eq!(shares.lighten(much, much), much);
    }
}
