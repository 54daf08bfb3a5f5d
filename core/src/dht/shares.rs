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

    /// Which owners may have to give way: when `newcomer` wants one more, or when there is too much anyway.
    pub(super) fn yielding(&self, newcomer: Option<Owner>) -> Yielding {
        let most = self.0.values().copied().max().unwrap_or_default();
        match newcomer {
            Some(newcomer) if most > 0 && self.of(newcomer) == most => Yielding::Only(newcomer),
            _ => Yielding::With(most),
        }
    }

    pub(super) fn must_yield(&self, owner: Owner, yielding: Yielding) -> bool {
        match yielding {
            Yielding::Only(only) => owner == only,
            Yielding::With(most) => self.of(owner) == most,
        }
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

/// Those who may have to give way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Yielding {
    /// This one.
    Only(Owner),
    /// All who have this many things.
    With(usize),
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
        let mut shares: Shares = [much, much, much, little].into_iter().collect();
        for (newcomer, expected) in
            [(nothing, [true, false, false]), (little, [true, false, false]), (much, [true, false, false])]
        {
            let yielding = shares.yielding(Some(newcomer));
            assert_eq!([much, little, nothing].map(|owner| shares.must_yield(owner, yielding)), expected);
        }
        shares.remove(much);
        shares.remove(much);
        let yielding = shares.yielding(Some(little));
        assert!(shares.must_yield(little, yielding) && !shares.must_yield(much, yielding));
        for newcomer in [Some(nothing), None] {
            let yielding = shares.yielding(newcomer);
            assert!(shares.must_yield(little, yielding) && shares.must_yield(much, yielding));
        }
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
