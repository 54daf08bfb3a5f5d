//! Whom to unchoke.

use crate::address::Subnet;
use crate::id::ConnId;
use crate::machine::{Deadline, Timestamp};
use crate::rng::Rng;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::net::IpAddr;
use core::time::Duration;

/// What a torrent uploads for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// To be uploaded to: those who give most get most (tit for tat).
    Reciprocate,
    /// To spread what it has: those who take fastest get most, by turns.
    Spread,
}

/// A connected peer as the choker judges it.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// The connection.
    pub conn: ConnId,
    /// Where it comes from.
    pub ip: IpAddr,
    /// Whether it wants something we have.
    pub interested: bool,
    /// Whether it could give us something, was asked, and has not for a minute.
    pub snubbed: bool,
    /// What it gave us of late, in bytes per second.
    pub down_rate_bytes_per_s: u64,
    /// What it took from us of late, in bytes per second.
    pub up_rate_bytes_per_s: u64,
    /// When its connection was made.
    pub connected_at: Timestamp,
    /// Whether we unchoke it now.
    pub unchoked: bool,
    /// Since when it is unchoked, or choked; a connection starts choked.
    pub since: Timestamp,
    /// What it took from us since we unchoked it, in bytes.
    pub uploaded: u64,
}

/// Shares a torrent's upload slots out among those who want them.
///
/// Most slots go by merit, and are dealt anew every [`RECHOKE`]. One in five, but at least one, is *optimistic*: it
/// goes to whoever has waited longest, for [`OPTIMISTIC_TURN`], so that a peer can show what it gives or takes, and
/// nobody starves. A new connection's wait counts three times, since it has nothing to trade yet.
///
/// The caller asks for a new deal with [`rechoke`](Self::rechoke) when [`poll_timeout`](Self::poll_timeout) says so.
#[derive(Clone, Debug)]
pub struct Choker {
    slots: usize,
    /// What a taker may have before it makes room for others.
    turn_bytes: u64,
    rng: Rng,
    /// Since when each peer holds an optimistic slot.
    optimistic: BTreeMap<ConnId, Timestamp>,
    unchoked: BTreeSet<ConnId>,
    dealt_at: Option<Timestamp>,
    /// When slots are next dealt anew; nothing while nobody is interested.
    next_deal: Option<Timestamp>,
    /// When free slots are to be filled, if that is before the next deal.
    next_fill: Option<Timestamp>,
}

impl Choker {
    /// A choker with so many slots. When spreading, a peer has had its turn when it took `turn_bytes`.
    pub fn new(slots: usize, turn_bytes: u64, rng: Rng) -> Self {
        Self {
            slots,
            turn_bytes,
            rng,
            optimistic: BTreeMap::new(),
            unchoked: BTreeSet::new(),
            dealt_at: None,
            next_deal: None,
            next_fill: None,
        }
    }

    /// The most peers that are unchoked at a time.
    pub const fn slots(&self) -> usize {
        self.slots
    }

    /// Sets the most peers that are unchoked at a time; what is too many is choked at once.
    pub fn set_slots(&mut self, now: Timestamp, slots: usize) {
        self.slots = slots;
        self.next_fill = Some(now);
    }

    /// Who holds an optimistic slot.
    pub fn optimistic(&self) -> impl Iterator<Item = ConnId> + '_ {
        self.optimistic.keys().copied()
    }

    /// Notes that a choked peer became interested: it is unchoked at once if a slot is free.
    pub fn handle_interested(&mut self, now: Timestamp) {
        if self.unchoked.len() < self.slots {
            self.fill_soon(now);
        }
    }

    /// Notes that `conn` left or is not interested any more: its slot goes to another at once.
    pub fn handle_gone(&mut self, now: Timestamp, conn: ConnId) {
        self.optimistic.remove(&conn);
        if self.unchoked.remove(&conn) {
            self.fill_soon(now);
        }
    }

    /// When [`rechoke`](Self::rechoke) is to be called. None while nobody is interested.
    pub fn poll_timeout(&self) -> Option<Deadline> {
        let fill = self.next_fill.map(|at| Deadline { at, why: "free upload slot" });
        Deadline::earlier(fill, self.next_deal.map(|at| Deadline { at, why: "rechoke" }))
    }

    /// Chooses, out of all connected peers, those to be unchoked from now on. Between two deals nobody loses a slot
    /// by merit; free ones are filled.
    pub fn rechoke(&mut self, now: Timestamp, goal: Goal, peers: &[Candidate]) -> &BTreeSet<ConnId> {
        let deal = self.next_deal.is_none_or(|at| at <= now);
        let interested: Vec<&Candidate> = peers.iter().filter(|peer| peer.interested).collect();
        let here: BTreeSet<ConnId> = interested.iter().map(|peer| peer.conn).collect();
        self.optimistic
            .retain(|conn, since| here.contains(conn) && (!deal || now.since(*since) < OPTIMISTIC_TURN));

        let optimistic_slots = self.optimistic_slots();
        let merit = self.by_merit(now, goal, deal, &interested, self.slots - optimistic_slots);
        self.optimistic.retain(|conn, _| !merit.contains(conn));
        self.fill_optimistic(now, goal, &interested, &merit, optimistic_slots);

        self.unchoked = merit;
        self.unchoked.extend(self.optimistic.keys());
        self.dealt_at = Some(now);
        self.next_fill = None;
        if deal || interested.is_empty() {
            self.next_deal = (!interested.is_empty()).then_some(now + RECHOKE);
        }
        &self.unchoked
    }

    fn optimistic_slots(&self) -> usize {
        (self.slots / 5).max(1).min(self.slots)
    }

    fn fill_soon(&mut self, now: Timestamp) {
        let soon = self.dealt_at.map_or(now, |dealt| now.max(dealt + FILL_GAP));
        self.next_fill = Some(self.next_fill.map_or(soon, |fill| fill.min(soon)));
    }

    /// The peers that earned one of so many slots. Without a deal, those who have one come first.
    fn by_merit(
        &mut self,
        now: Timestamp,
        goal: Goal,
        deal: bool,
        interested: &[&Candidate],
        slots: usize,
    ) -> BTreeSet<ConnId> {
        let mut ranked = Vec::with_capacity(interested.len());
        for peer in interested {
            let may = match goal {
                Goal::Reciprocate => !peer.snubbed,
                Goal::Spread => true,
            };
            if may && (deal || !self.optimistic.contains_key(&peer.conn)) {
                let keeps = !deal && peer.unchoked;
                let chance = self.rng.next_u32();
                ranked.push(((!keeps, self.rank(now, goal, peer), chance), *peer));
            }
        }
        ranked.sort_unstable_by_key(|(rank, _)| *rank);

        let (mut chosen, mut subnets) = (BTreeSet::new(), BTreeSet::new());
        if goal == Goal::Spread {
            // Giving asks for nothing in return, so many names from one neighbourhood could have it all: one slot each,
            // and more only if nobody else wants them.
            for (_, peer) in &ranked {
                if chosen.len() < slots && Subnet::of(peer.ip).is_none_or(|subnet| subnets.insert(subnet)) {
                    chosen.insert(peer.conn);
                }
            }
        }
        for (_, peer) in &ranked {
            if chosen.len() < slots {
                chosen.insert(peer.conn);
            }
        }
        chosen
    }

    /// The lowest rank comes first. Among equals, those who have a slot by merit keep it.
    fn rank(&self, now: Timestamp, goal: Goal, peer: &Candidate) -> (u8, Reverse<u64>, bool) {
        match goal {
            Goal::Reciprocate => {
                let earned = peer.unchoked && !self.optimistic.contains_key(&peer.conn);
                (0, Reverse(peer.down_rate_bytes_per_s), !earned)
            }
            Goal::Spread if !peer.unchoked => (1, Reverse(waited(now, peer)), false),
            Goal::Spread => {
                let held = now.since(peer.since);
                let full = peer.uploaded >= self.turn_bytes || held >= LONGEST_TURN;
                let class = if held >= SHORTEST_TURN && full { 2 } else { 0 };
                (class, Reverse(peer.up_rate_bytes_per_s), false)
            }
        }
    }

    /// Gives free optimistic slots to those who have waited longest.
    fn fill_optimistic(
        &mut self,
        now: Timestamp,
        goal: Goal,
        interested: &[&Candidate],
        merit: &BTreeSet<ConnId>,
        slots: usize,
    ) {
        let holders = interested.iter().filter(|peer| merit.contains(&peer.conn));
        let subnets: BTreeSet<Subnet> = holders.filter_map(|peer| Subnet::of(peer.ip)).collect();
        let mut waiting = Vec::with_capacity(interested.len());
        for peer in interested {
            if !merit.contains(&peer.conn) && !self.optimistic.contains_key(&peer.conn) {
                let crowd = Subnet::of(peer.ip).is_some_and(|subnet| subnets.contains(&subnet));
                let last = goal == Goal::Spread && crowd;
                waiting.push(((last, Reverse(waited(now, peer)), self.rng.next_u32()), peer.conn));
            }
        }
        waiting.sort_unstable();
        let free = slots.saturating_sub(self.optimistic.len());
        self.optimistic.extend(waiting.into_iter().take(free).map(|(_, conn)| (conn, now)));
        while self.optimistic.len() > slots {
            self.optimistic.pop_last();
        }
    }
}

/// For how long a peer has been waiting for a slot, in microseconds that count three times if it is new.
fn waited(now: Timestamp, peer: &Candidate) -> u64 {
    if peer.unchoked {
        return 0;
    }
    let weight = if now.since(peer.connected_at) < NEW { 3 } else { 1 };
    u64::try_from(now.since(peer.since).as_micros()).unwrap_or(u64::MAX).saturating_mul(weight)
}

/// How often slots are dealt anew (BEP 3).
pub const RECHOKE: Duration = Duration::from_secs(10);

/// How long an optimistic slot is held (BEP 3).
pub const OPTIMISTIC_TURN: Duration = Duration::from_secs(30);

/// For how long a connection counts as new.
const NEW: Duration = Duration::from_secs(60);

/// How long a taker keeps its slot at least, so that it gets whole pieces.
const SHORTEST_TURN: Duration = Duration::from_secs(60);

/// How long a taker keeps its slot at most while others wait, however little it takes.
const LONGEST_TURN: Duration = Duration::from_secs(300);

/// The least time between two looks at all peers, so that a peer cannot cause one with each message.
const FILL_GAP: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::{Candidate, Choker, Goal, OPTIMISTIC_TURN, RECHOKE};
    use crate::id::ConnId;
    use crate::machine::Timestamp;
    use crate::rng::Rng;
    use alloc::collections::{BTreeMap, BTreeSet};
    use alloc::vec;
    use alloc::vec::Vec;
    use core::net::{IpAddr, Ipv4Addr};
    use core::time::Duration;
    use proptest::prelude::*;

    const TURN_BYTES: u64 = 20 << 20;

    #[test]
    fn those_who_give_most_are_unchoked() {
        let mut world = World::new(Goal::Reciprocate, 6, 1);
        for conn in 0..20 {
            world.join(conn).down_rate_bytes_per_s = conn * 1000;
        }
        let merit = world.rechoke_without_optimistic();
        assert_eq!(merit, (15..20).map(ConnId).collect());
    }

    #[test]
    fn among_equals_those_with_a_slot_keep_it() {
        let mut world = World::new(Goal::Reciprocate, 4, 1);
        for conn in 0..20 {
            world.join(conn).down_rate_bytes_per_s = 5000;
        }
        let first = world.rechoke_without_optimistic();
        for _ in 0..2 {
            world.pass(RECHOKE);
            assert!(world.unchoked.is_superset(&first));
        }
        let others: BTreeSet<_> = (0..20)
            .map(|seed| {
                let mut other = World::new(Goal::Reciprocate, 4, seed);
                other.peers = world
                    .peers
                    .values()
                    .map(|peer| (peer.conn, Candidate { unchoked: false, ..*peer }))
                    .collect();
                other.rechoke_without_optimistic()
            })
            .collect();
        assert!(others.len() > 10, "who wins among equals is chance");
    }

    #[test]
    fn a_snubbing_peer_has_only_the_optimistic_slot_to_hope_for() {
        let mut world = World::new(Goal::Reciprocate, 4, 1);
        for conn in 0..3 {
            world.join(conn).snubbed = true;
        }
        world.rechoke();
        assert_eq!(world.unchoked.len(), 1);
        assert_eq!(world.unchoked, world.choker.optimistic().collect());
    }

    #[test]
    fn an_interested_peer_gets_a_free_slot_at_once_and_nobody_loses_one() {
        let mut world = World::new(Goal::Reciprocate, 4, 1);
        for conn in 0..3 {
            world.join(conn);
        }
        world.rechoke();
        let before = world.unchoked.clone();
        world.now = world.now + Duration::from_secs(2);
        world.join(3).down_rate_bytes_per_s = 1 << 20;
        world.choker.handle_interested(world.now);
        assert_eq!(world.due(), Some((world.now, "free upload slot")));
        world.rechoke();
        assert_eq!(world.unchoked, before.into_iter().chain([ConnId(3)]).collect());

        let fourth = world.join(4).conn;
        world.choker.handle_interested(world.now);
        assert_eq!(world.due().unwrap().1, "rechoke", "no slot is free");
        world.peers.remove(&ConnId(0));
        world.choker.handle_gone(world.now, ConnId(0));
        assert_eq!(world.due(), Some((world.now + Duration::from_millis(100), "free upload slot")));
        world.now = world.now + Duration::from_millis(100);
        world.rechoke();
        assert!(world.unchoked.contains(&fourth));
    }

    #[test]
    fn nobody_interested_means_no_timer() {
        let mut world = World::new(Goal::Spread, 4, 1);
        assert_eq!(world.due(), None);
        world.join(0).interested = false;
        world.rechoke();
        assert_eq!((world.unchoked.len(), world.due()), (0, None));
    }

    #[test]
    fn every_peer_gets_the_optimistic_slot_in_its_turn() {
        const PEERS: u64 = 23;
        let mut world = World::new(Goal::Reciprocate, 5, 1);
        for conn in 0..PEERS {
            world.join(conn).down_rate_bytes_per_s = if conn < 4 { 1 << 20 } else { 0 };
        }
        let mut turns: BTreeMap<ConnId, u32> = BTreeMap::new();
        for _ in 0..4 * (PEERS - 4) {
            world.rechoke();
            world.choker.optimistic().for_each(|conn| *turns.entry(conn).or_default() += 1);
            world.pass(OPTIMISTIC_TURN);
        }
        assert_eq!(turns.len() as u64, PEERS - 4);
        assert!(turns.values().all(|count| (3..=5).contains(count)), "{turns:?}");
    }

    #[test]
    fn a_new_connection_need_not_wait_as_long() {
        let mut world = World::new(Goal::Reciprocate, 1, 1);
        for conn in 0..3 {
            world.join(conn);
        }
        world.run(Duration::from_secs(600));
        world.join(9);
        world.run(Duration::from_secs(31));
        assert!(world.unchoked.contains(&ConnId(9)), "{:?}", world.unchoked);
    }

    #[test]
    fn free_riders_get_less_than_half() {
        let mut world = World::new(Goal::Reciprocate, 8, 1);
        for conn in 0..20 {
            world.join(conn).down_rate_bytes_per_s = if conn < 10 { 50_000 + conn } else { 0 };
        }
        let mut held: BTreeMap<ConnId, u32> = BTreeMap::new();
        for _ in 0..360 {
            world.rechoke();
            world.unchoked.iter().for_each(|conn| *held.entry(*conn).or_default() += 1);
            world.pass(RECHOKE);
        }
        let sum = |range: core::ops::Range<u64>| -> u32 {
            range.map(|conn| held.get(&ConnId(conn)).copied().unwrap_or(0)).sum()
        };
        assert!(sum(10..20) * 2 < sum(0..10), "{held:?}");
        assert!((10..20).all(|conn| held.contains_key(&ConnId(conn))), "but each gets its chance");
    }

    #[test]
    fn a_seed_prefers_fast_takers_for_a_turn_at_a_time() {
        let mut world = World::new(Goal::Spread, 4, 1);
        for conn in 0..12 {
            world.join(conn).up_rate_bytes_per_s = 1000;
        }
        let thief = world.join(99).conn;
        let mut held = 0;
        for _ in 0..360 {
            world.rechoke();
            for peer in world.peers.values_mut() {
                let rate = if peer.conn == thief { 2 << 20 } else { 1000 };
                peer.up_rate_bytes_per_s = if peer.unchoked { rate } else { 0 };
                peer.uploaded += peer.up_rate_bytes_per_s * 10;
            }
            held += u32::from(world.unchoked.contains(&thief));
            world.pass(RECHOKE);
        }
        assert!((111..=180).contains(&held), "4 of 13 is fair, a little more is earned: {held} of 360");
    }

    #[test]
    fn a_slow_taker_does_not_keep_its_slot_for_ever() {
        let mut world = World::new(Goal::Spread, 3, 1);
        let mut seen = BTreeSet::new();
        for conn in 0..30 {
            world.join(conn);
        }
        for _ in 0..360 {
            world.rechoke();
            seen.extend(world.unchoked.iter().copied());
            world.pass(RECHOKE);
        }
        assert_eq!(seen.len(), 30);
    }

    #[test]
    fn one_neighbourhood_gets_one_slot_by_merit_while_others_wait() {
        let mut world = World::new(Goal::Spread, 5, 1);
        for conn in 0..8 {
            world.join(conn).ip = IpAddr::V4(Ipv4Addr::new(93, 184, 216, conn as u8));
        }
        for conn in 8..12 {
            world.join(conn).ip = IpAddr::V4(Ipv4Addr::new(93, 184, conn as u8, 1));
        }
        world.rechoke();
        assert_eq!(world.unchoked.iter().filter(|conn| conn.0 < 8).count(), 1);
        for conn in 8..12 {
            world.peers.remove(&ConnId(conn));
            world.choker.handle_gone(world.now, ConnId(conn));
        }
        world.pass(RECHOKE);
        assert_eq!(world.unchoked.len(), 5, "a slot that nobody else wants is not left empty");
    }

    #[test]
    fn local_addresses_are_no_neighbourhood() {
        let mut world = World::new(Goal::Spread, 5, 1);
        for conn in 0..8 {
            world.join(conn).ip = IpAddr::V4(Ipv4Addr::new(192, 168, 0, conn as u8));
        }
        world.join(8);
        world.rechoke();
        assert!(world.unchoked.iter().filter(|conn| conn.0 < 8).count() >= 4);
    }

    #[test]
    fn fewer_slots_take_effect_at_once() {
        let mut world = World::new(Goal::Spread, 10, 1);
        for conn in 0..20 {
            world.join(conn);
        }
        world.rechoke();
        assert_eq!(world.unchoked.len(), 10);
        for slots in [3, 1, 0] {
            world.choker.set_slots(world.now, slots);
            world.rechoke();
            assert_eq!(world.unchoked.len(), slots);
        }
    }

    proptest! {
        #[test]
        fn slots_are_never_exceeded_nor_left_empty(
            seed in any::<u64>(),
            spread in any::<bool>(),
            slots in 0_usize..12,
            steps in prop::collection::vec((0_u64..20, 0_u8..6, 0_u64..15_000), 1..80),
        ) {
            let mut world = World::new(if spread { Goal::Spread } else { Goal::Reciprocate }, slots, seed);
            for (conn, kind, ms) in steps {
                match kind {
                    0 => {
                        world.peers.remove(&ConnId(conn));
                        world.choker.handle_gone(world.now, ConnId(conn));
                    }
                    1 => world.join(conn).snubbed = true,
                    2 => world.join(conn).interested = false,
                    _ => world.join(conn).down_rate_bytes_per_s = ms,
                }
                let peer = world.peers.get(&ConnId(conn)).copied();
                match peer {
                    Some(peer) if peer.interested => world.choker.handle_interested(world.now),
                    Some(_) => world.choker.handle_gone(world.now, ConnId(conn)),
                    None => {}
                }
                world.run(Duration::from_millis(ms));
                let wanted = |peer: &&Candidate| peer.interested && (spread || !peer.snubbed);
                let wanting = world.peers.values().filter(wanted).count();
                prop_assert!(world.unchoked.len() <= slots);
                prop_assert!(world.unchoked.iter().all(|conn| world.peers[conn].interested));
                if ms > 100 {
                    prop_assert!(world.unchoked.len() >= slots.min(wanting));
                }
            }
        }
    }

    /// Peers, and a choker that decides about them.
    struct World {
        choker: Choker,
        goal: Goal,
        peers: BTreeMap<ConnId, Candidate>,
        unchoked: BTreeSet<ConnId>,
        now: Timestamp,
    }

    impl World {
        fn new(goal: Goal, slots: usize, seed: u64) -> Self {
            let choker = Choker::new(slots, TURN_BYTES, Rng::from_number(seed));
            let now = Timestamp::from_micros(1_000_000_000);
            Self { choker, goal, peers: BTreeMap::new(), unchoked: BTreeSet::new(), now }
        }

        /// A peer that wants something, anew if it was here.
        fn join(&mut self, conn: u64) -> &mut Candidate {
            let now = self.now;
            let conn = ConnId(conn);
            self.choker.handle_gone(now, conn);
            let peer = Candidate {
                conn,
                ip: IpAddr::V4(Ipv4Addr::new(45, conn.0 as u8, 7, 7)),
                interested: true,
                snubbed: false,
                down_rate_bytes_per_s: 0,
                up_rate_bytes_per_s: 0,
                connected_at: now,
                unchoked: false,
                since: now,
                uploaded: 0,
            };
            self.peers.insert(conn, peer);
            self.choker.handle_interested(now);
            self.peers.get_mut(&conn).unwrap()
        }

        fn rechoke(&mut self) {
            let list: Vec<Candidate> = self.peers.values().copied().collect();
            self.unchoked = self.choker.rechoke(self.now, self.goal, &list).clone();
            for peer in self.peers.values_mut() {
                let unchoked = self.unchoked.contains(&peer.conn);
                if unchoked != peer.unchoked {
                    *peer = Candidate { unchoked, since: self.now, uploaded: 0, ..*peer };
                }
            }
        }

        fn rechoke_without_optimistic(&mut self) -> BTreeSet<ConnId> {
            self.rechoke();
            let optimistic: BTreeSet<ConnId> = self.choker.optimistic().collect();
            &self.unchoked - &optimistic
        }

        fn pass(&mut self, time: Duration) {
            self.now = self.now + time;
            self.rechoke();
        }

        /// Lets time pass and rechokes whenever that is due.
        fn run(&mut self, time: Duration) {
            let end = self.now + time;
            let mut steps = vec![];
            while let Some((at, why)) = self.due().filter(|(at, _)| *at <= end) {
                self.now = self.now.max(at);
                self.rechoke();
                steps.push(why);
                assert!(self.due().is_none_or(|(next, _)| next > self.now), "no busy loop: {steps:?}");
            }
            self.now = end;
        }

        fn due(&self) -> Option<(Timestamp, &'static str)> {
            self.choker.poll_timeout().map(|due| (due.at, due.why))
        }
    }
}
