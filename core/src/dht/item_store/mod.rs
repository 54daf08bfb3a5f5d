//! The items that we keep for others (BEP 44).

#[cfg(test)]
mod tests;

use super::item::{Item, ItemError};
use super::node_id::NodeId;
use super::shares::{Owner, Shares};
use crate::machine::{Deadline, Timestamp};
use alloc::collections::BTreeMap;
use core::net::SocketAddr;
use core::time::Duration;

/// Items, each for [`LIFETIME`] after it was put last.
///
/// When there are too many, somebody has to give way. An item is charged to the subnet from which it was put; if it is put
/// from several, to the one with the fewest items. Of the subnets with most items, the item that was put longest ago
/// goes: a flood from one subnet drives out what came from there before, and nothing of others who have less.
#[derive(Clone, Debug)]
pub struct ItemStore {
    max: usize,
    items: BTreeMap<NodeId, Stored>,
    shares: Shares,
    sweep_at: Timestamp,
}

#[derive(Clone, Debug)]
struct Stored {
    item: Item,
    owner: Owner,
    put_at: Timestamp,
}

impl ItemStore {
    /// Without items; it will have `max` of them at most.
    pub const fn new(max: usize) -> Self {
        Self { max, items: BTreeMap::new(), shares: Shares::new(), sweep_at: Timestamp::ZERO }
    }

    /// How many items it has.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// About how many bytes it takes. Looks at every item.
    pub fn bytes(&self) -> usize {
        let bytes = |stored: &Stored| ITEM_BYTES + stored.item.value().len() + stored.item.salt().len();
        self.items.values().map(bytes).sum()
    }

    /// The item at a place, if there is one.
    pub fn get(&self, now: Timestamp, target: NodeId) -> Option<&Item> {
        self.items.get(&target).filter(|stored| stored.is_alive(now)).map(|stored| &stored.item)
    }

    /// Stores an item that came from `from`, or keeps it longer if it is there. `cas` is the number of the item that it
    /// is to replace, if that matters. Whether it may be put is for others to judge.
    pub fn put(
        &mut self,
        now: Timestamp,
        from: SocketAddr,
        item: Item,
        cas: Option<i64>,
    ) -> Result<(), ItemError> {
        let (target, owner) = (item.target(), Owner::of(from));
        if self.items.is_empty() {
            self.sweep_at = now + SWEEP;
        }
        if let Some(stored) = self.items.get_mut(&target) {
            if stored.is_alive(now) {
                replaces(&stored.item, &item, cas)?;
            }
            stored.owner = self.shares.lighten(stored.owner, owner);
            stored.put_at = now;
            stored.item = item;
            return Ok(());
        }
        if self.max == 0 {
            return Ok(());
        }
        if self.items.len() >= self.max {
            self.make_room(owner);
        }
        self.items.insert(target, Stored { item, owner, put_at: now });
        self.shares.add(owner);
        Ok(())
    }

    /// Forgets what was not put for too long. None of that is handed out before that either.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        if now < self.sweep_at {
            return;
        }
        self.sweep_at = now + SWEEP;
        let shares = &mut self.shares;
        self.items.retain(|_, stored| {
            let keep = stored.is_alive(now);
            if !keep {
                shares.remove(stored.owner);
            }
            keep
        });
    }

    /// When to look for items to forget, while there are any.
    pub fn poll_timeout(&self) -> Option<Deadline> {
        (!self.is_empty()).then_some(Deadline { at: self.sweep_at, why: "stored items expire" })
    }

    /// Panics unless every limit holds, and every count agrees with a recount. For tests and simulators.
    pub fn check_invariants(&self, now: Timestamp) {
        assert!(self.items.len() <= self.max, "L11: items");
        assert_eq!(self.shares, self.items.values().map(|stored| stored.owner).collect());
        for (target, stored) in &self.items {
            assert_eq!(stored.item.target(), *target);
            assert!(stored.put_at <= now, "{target}: it expires in time");
        }
    }

    /// Drops the item that has to give way to one of `newcomer`.
    fn make_room(&mut self, newcomer: Owner) {
        let items = self.items.iter().map(|(target, stored)| (*target, stored.owner, stored.put_at));
        let target = self.shares.who_yields(Some(newcomer), items).expect("somebody has most");
        let dropped = self.items.remove(&target).expect("it was found there");
        self.shares.remove(dropped.owner);
    }
}

impl Stored {
    fn is_alive(&self, now: Timestamp) -> bool {
        now < self.put_at + LIFETIME
    }
}

/// Whether `item` may replace the one at its place (BEP 44).
fn replaces(stored: &Item, item: &Item, cas: Option<i64>) -> Result<(), ItemError> {
    let (Some(old), Some(new)) = (stored.seq(), item.seq()) else { return Ok(()) };
    if cas.is_some_and(|cas| cas != old) {
        return Err(ItemError::CasMismatch);
    }
    let same = new == old && item.value() == stored.value();
    if new > old || same { Ok(()) } else { Err(ItemError::SeqTooLow) }
}

/// Limit L11.
pub const MAX_ITEMS: usize = 500;

/// BEP 44: who wants an item to stay puts it every hour.
pub const LIFETIME: Duration = Duration::from_secs(2 * 3600);

/// How often to look for items to forget. They take memory until then, no more.
const SWEEP: Duration = Duration::from_secs(300);

/// What an item takes beside value and salt: twice its entry, as the nodes of the map are half empty at worst; an owner;
/// and what counts the references to value and salt.
const ITEM_BYTES: usize = 2 * (size_of::<(NodeId, Stored)>() + size_of::<(Owner, usize)>()) + 2 * 48;
