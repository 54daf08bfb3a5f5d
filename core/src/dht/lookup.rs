//! One search through the network: ever closer to a target, until the closest nodes have answered (BEP 5).
//!
//! # Which nodes decide
//!
//! Whoever wants to hide what is stored at a target puts nodes of his own closer to it than any honest one. BEP 42 makes
//! that hard but not impossible: with 64 networks of 256 addresses he may choose among 131,072 places, and finds a
//! hundred that are closer than the closest of ten thousand honest nodes. The usual rule, *eight closest answers end the
//! search*, then ends among them. So answers **count** only under these conditions, for searching and storing alike, so
//! that both meet:
//!
//! - The node's id belongs to its address (BEP 42), unless too few such nodes are known. Others are asked as well, but no
//!   more than [`MAX_INSECURE`] of them.
//! - Of one /24 (IPv6: /64) a single node is asked, and of one /16 (/32) at most [`PER_PROVIDER`] count, unless there
//!   are too few others. So 64 networks in 16 blocks are 32 nodes, however many ids there are to choose from.
//! - All nodes within [`Scope::reach`] count, the distance within which [`K`] nodes are to be expected in a network of
//!   this size, and at least [`Scope::answers`] nodes in any case. In a network at peace the two agree. Where attackers
//!   crowd, the eight honest nodes that belong there are still within reach: they are asked, and announced to.
//! - More than [`CROWD`] nodes within reach are no accident. Then honest nodes there may be hard to hear of, as those who
//!   know them have lists that are full of attackers. The search goes on until [`BEYOND`] nodes from farther away have
//!   answered: they know other ones, and are announced to themselves.
//! - Fewer than [`FEW`] nodes within reach are none either: all who answered may be of one gang, who only know each other.
//!   Then [`FARTHER`] nodes have to answer.
//!
//! What they are worth, in 400 searches among 2,000 simulated nodes. The attacker has 64 networks of 16 providers, and is
//! two fifths of what honest nodes close to the target name:
//!
//! | what counts | found | after (median) | asked (median) |
//! | --- | --- | --- | --- |
//! | the eight closest that answer | 25 % | 280 ms | 17 |
//! | all within reach | 99.2 % | 170 ms | 43 |
//! | and few of one provider | 100 % | 160 ms | 39 |
//! | and others from beyond a crowd | 100 % | 110 ms | 62 |
//!
//! Where a fifth of all nodes are attackers, anywhere, who all name each other and a false peer (`--attack sybils`), 0.15 %
//! of searches fail; without the rule about few nodes it is 0.45 %.
//!
//! # Speed
//!
//! [`ALPHA`] nodes are asked at a time. One that is late does not count as asked, so that another takes its place, and the
//! search does not wait for it to end; its answer is welcome when it comes. Who is not late is waited for, even where
//! enough closer ones answered: a gang answers fast, and one who is honest and slow names those whom it leaves out.
//!
//! With 3 at a time instead of 5 a search asks two nodes less, 12 instead of 14. But a node that starts with a saved table
//! of which a third or more is gone then has its first peer up to twice as late in the worst cases (`--cold`).
//!
//! # Bounds
//!
//! No address is asked twice, at most [`MAX_QUERIES`] are asked in all, [`ALPHA`] + [`BRANCHING`] owe an answer, and
//! nodes that were named over more than [`MAX_HOPS`] steps are left alone: whoever invents ever closer nodes runs into one of
//! these.

use super::contact::{Block, head};
use super::message::{Contact, Family};
use super::node_id::{Distance, NodeId};
use super::table::K;
use alloc::boxed::Box;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::net::SocketAddr;

/// A search, and all nodes that it knows of. It sends nothing itself: [`next_ask`](Self::next_ask) says whom to ask.
#[derive(Clone, Debug)]
pub struct Lookup {
    family: Family,
    own: NodeId,
    target: NodeId,
    scope: Scope,
    /// By distance, and what is at one distance by address.
    candidates: Vec<Candidate>,
    /// Addresses of nodes whose ids we don't know, to be asked if all else fails, and those that were.
    strays: VecDeque<SocketAddr>,
    asked_strays: Vec<(SocketAddr, State)>,
    /// The places of candidates that did not fail.
    taken: BTreeSet<Place>,
    /// All addresses that were asked.
    asked: BTreeSet<SocketAddr>,
    insecure_asked: usize,
    answered: usize,
    /// How many owe an answer and are not late, and how many are.
    prompt: usize,
    late: usize,
}

/// How far a search goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope {
    /// How many nodes have to answer at least.
    pub answers: usize,
    /// All nodes at this distance have to, in its first 64 bits.
    pub reach: u64,
}

/// What a search waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing: all has been asked and answered that has to be.
    Done,
    /// Nodes to ask: nobody answered, and there is nobody left.
    Starved,
    /// Answers, or to be asked for the next node.
    Underway,
}

/// A node to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Where it is.
    pub to: SocketAddr,
    /// Its id, unless all we know is an address.
    pub id: Option<NodeId>,
}

#[derive(Clone, Debug)]
struct Candidate {
    distance: Distance,
    contact: Contact,
    secure: bool,
    /// Whether it is probably there.
    sure: bool,
    /// Over how many nodes we heard of it.
    hops: u8,
    state: State,
    token: Option<Box<[u8]>>,
}

/// ```text
///  fresh ──▶ asked ──▶ answered
///              │  ▲───────┐ │
///              ▼          │ ▼
///             late ──────▶ failed
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Answered,
    Asked,
    Failed,
    Fresh,
    Late,
}

/// Where there is room for one candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Local(SocketAddr),
    Subnet(Block),
}

/// What a walk over the candidates found that count.
#[derive(Debug, Default)]
struct Walk {
    /// The closest that was not asked yet.
    fresh: Option<usize>,
    /// The same among those that don't count, but are close enough.
    insecure: Option<usize>,
    /// Those that count.
    counted: Vec<usize>,
}

impl Lookup {
    /// A search for `target` by the node `own`, which is never asked.
    pub fn new(family: Family, own: NodeId, target: NodeId, scope: Scope) -> Self {
        Self {
            family,
            own,
            target,
            scope,
            candidates: Vec::new(),
            strays: VecDeque::new(),
            asked_strays: Vec::new(),
            taken: BTreeSet::new(),
            asked: BTreeSet::new(),
            insecure_asked: 0,
            answered: 0,
            prompt: 0,
            late: 0,
        }
    }

    /// What is looked for.
    pub fn target(&self) -> NodeId {
        self.target
    }

    /// How far the search goes.
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// Makes the search go farther, or less far.
    pub fn set_scope(&mut self, scope: Scope) {
        self.scope = scope;
    }

    /// How many nodes were asked.
    pub fn queries(&self) -> usize {
        self.asked.len()
    }

    /// How many of them answered.
    pub fn answers(&self) -> usize {
        self.answered
    }

    /// Whether everybody who was asked so far keeps silent, and that were several.
    pub fn meets_silence(&self) -> bool {
        self.answered == 0 && self.queries() - self.prompt >= 2 * ALPHA
    }

    /// Whether no answer is to be expected: it meets silence, or where nobody is known to be alive, nobody answers.
    pub fn is_in_vain(&self, knows_nobody: bool) -> bool {
        self.meets_silence() || knows_nobody && self.answered == 0 && self.prompt == 0
    }

    /// Over how many nodes the closest one that answered was heard of: how many steps the search took.
    pub fn hops(&self) -> u8 {
        let answered = |candidate: &&Candidate| candidate.state == State::Answered;
        self.candidates.iter().find(answered).map_or(0, |candidate| candidate.hops)
    }

    /// Whether it has to do with this many nodes or fewer, so that more are welcome.
    pub fn knows_few(&self) -> bool {
        self.candidates.len() < K
    }

    /// A node is known from elsewhere, and probably there.
    pub fn learn(&mut self, contact: Contact) {
        if !self.asked.contains(&contact.addr) {
            self.add(contact, 0, true);
        }
    }

    /// A node was there once. It is asked only while few others are known, or if one of these names it.
    pub fn learn_unsure(&mut self, contact: Contact) {
        if !self.asked.contains(&contact.addr) {
            self.add(contact, 0, false);
        }
    }

    /// There is a node at this address. It is asked when no known one is left.
    pub fn learn_address(&mut self, addr: SocketAddr) {
        let is_new = !self.asked.contains(&addr) && !self.strays.contains(&addr);
        if self.family.reaches(addr) && is_new && self.strays.len() < MAX_STRAYS {
            self.strays.push_back(addr);
        }
    }

    /// Whom to ask now; nobody while enough answers are awaited. The caller does ask.
    pub fn next_ask(&mut self) -> Option<Ask> {
        let owing = self.prompt + self.late;
        if self.prompt >= ALPHA || owing >= ALPHA + BRANCHING || self.queries() >= MAX_QUERIES {
            return None;
        }
        // Where those with ids keep silent, addresses that others gave us are better.
        if self.answered == 0
            && self.queries() >= ALPHA
            && let Some(ask) = self.next_stray()
        {
            return Some(ask);
        }
        let walk = self.walk();
        let Some(at) = walk.fresh.or(walk.insecure) else { return self.next_stray() };
        if walk.fresh.is_none() {
            self.insecure_asked += 1;
        }
        let Contact { id, addr } = self.candidates[at].contact;
        self.shift(at, State::Asked);
        self.asked.insert(addr);
        Some(Ask { to: addr, id: Some(id) })
    }

    /// A node that was asked lets us wait.
    pub fn late(&mut self, ask: Ask) {
        self.set_state(ask, State::Late);
    }

    /// A node that was asked is dead, or of no use.
    pub fn failed(&mut self, ask: Ask) {
        self.set_state(ask, State::Failed);
    }

    /// A node answered, as `id`, with these nodes. A token is kept if it gave one.
    pub fn answered(
        &mut self,
        ask: Ask,
        node: Contact,
        token: Option<&[u8]>,
        contacts: impl Iterator<Item = Contact>,
    ) {
        let mut hops = 0;
        if ask.id == Some(node.id) {
            let Some(at) = self.find(node) else { return };
            self.shift(at, State::Answered);
            self.candidates[at].token = token.map(Box::from);
            hops = self.candidates[at].hops;
        } else {
            // It is not who it was said to be, or nobody said. It counts as who it says it is.
            self.set_state(ask, State::Failed);
            if let Some(at) = self.add(node, 0, true) {
                self.shift(at, State::Answered);
                self.candidates[at].token = token.map(Box::from);
            }
        }
        for contact in contacts {
            if !self.asked.contains(&contact.addr) && hops < MAX_HOPS {
                self.add(contact, hops + 1, true);
            }
        }
    }

    /// Where the search stands.
    pub fn progress(&self) -> Progress {
        let walk = self.walk();
        let may_ask = self.queries() < MAX_QUERIES;
        let has_more = walk.fresh.is_some() || walk.insecure.is_some() || !self.strays.is_empty();
        let is_counted = !walk.counted.is_empty();
        // Who answers slowly may know of closer nodes than all who were fast.
        if self.prompt > 0 {
            return Progress::Underway;
        }
        let has_answer = self.answered > 0;
        let has_enough = is_counted && walk.fresh.is_none() && walk.insecure.is_none();
        match () {
            () if has_enough && has_answer => Progress::Done,
            () if has_more && may_ask => Progress::Underway,
            () if has_answer || !may_ask => Progress::Done,
            () => Progress::Starved,
        }
    }

    /// The nodes to store at, with their tokens, closest first: those that count, and the closest [`K`] even if they
    /// don't, since that is where programs look that know none of these rules.
    pub fn stores(&self) -> Vec<(Contact, &[u8])> {
        let counted = self.walk().counted;
        let answered = |at: &usize| self.candidates[*at].state == State::Answered;
        let closest = (0..self.candidates.len()).filter(answered).take(K);
        let all: BTreeSet<usize> = closest.chain(counted.into_iter().filter(answered)).collect();
        let stores = all.into_iter().filter_map(|at| {
            let Candidate { contact, token, .. } = &self.candidates[at];
            Some((*contact, token.as_deref()?))
        });
        stores.take(MAX_STORES).collect()
    }

    /// Panics unless the bounds hold. For tests and simulators.
    pub fn check_invariants(&self) {
        let states = self.candidates.iter().map(|candidate| candidate.state);
        let states: Vec<_> = states.chain(self.asked_strays.iter().map(|(_, state)| *state)).collect();
        let [answered, prompt, late] = [State::Answered, State::Asked, State::Late]
            .map(|it| states.iter().filter(|state| **state == it).count());
        assert_eq!((answered, prompt, late), (self.answered, self.prompt, self.late));
        assert!(prompt <= ALPHA && prompt + late <= ALPHA + BRANCHING, "{prompt} asked and {late} late");
        assert!(self.queries() <= MAX_QUERIES, "{} asked", self.queries());
        assert!(self.candidates.len() <= MAX_CANDIDATES, "{} candidates", self.candidates.len());
        assert!(self.candidates.is_sorted_by_key(Candidate::key), "candidates are out of order");
        let mut taken = BTreeSet::new();
        for candidate in &self.candidates {
            let Contact { id, addr } = candidate.contact;
            assert!(id != self.own && self.family.admits(addr), "{} is a candidate", candidate.contact);
            let is_asked = candidate.state != State::Fresh;
            assert_eq!(is_asked, self.asked.contains(&addr), "{addr} is {:?}", candidate.state);
            if candidate.state != State::Failed {
                assert!(taken.insert(Place::of(addr)), "{addr} is not alone in its subnet");
            }
        }
        assert_eq!(taken, self.taken);
    }

    /// Adds a node unless a rule forbids it; returns where it is.
    fn add(&mut self, contact: Contact, hops: u8, sure: bool) -> Option<usize> {
        let place = Place::of(contact.addr);
        if let Some(at) = self.find(contact) {
            self.candidates[at].sure |= sure;
            return None;
        }
        if contact.id == self.own || !self.family.admits(contact.addr) || self.taken.contains(&place) {
            return None;
        }
        let candidate = Candidate {
            distance: contact.id.distance(self.target),
            contact,
            secure: contact.is_secure(),
            sure,
            hops,
            state: State::Fresh,
            token: None,
        };
        let at = self.candidates.partition_point(|other| other.key() < candidate.key());
        if self.candidates.len() == MAX_CANDIDATES {
            let farthest = self.candidates.iter().rposition(|other| other.state == State::Fresh);
            let farthest = farthest.filter(|farthest| *farthest >= at)?;
            let removed = self.candidates.remove(farthest);
            self.taken.remove(&Place::of(removed.contact.addr));
        }
        self.taken.insert(place);
        self.candidates.insert(at, candidate);
        Some(at)
    }

    fn find(&self, contact: Contact) -> Option<usize> {
        let key = (contact.id.distance(self.target), contact.addr);
        self.candidates.binary_search_by_key(&key, Candidate::key).ok()
    }

    fn set_state(&mut self, ask: Ask, state: State) {
        if let Some(id) = ask.id {
            if let Some(at) = self.find(Contact { id, addr: ask.to }) {
                self.shift(at, state);
            }
        } else if let Some(at) = self.asked_strays.iter().position(|(addr, _)| *addr == ask.to) {
            let old = if state == State::Late {
                core::mem::replace(&mut self.asked_strays[at].1, state)
            } else {
                self.asked_strays.swap_remove(at).1
            };
            self.count(old, state);
        }
    }

    fn shift(&mut self, at: usize, state: State) {
        let candidate = &mut self.candidates[at];
        let old = core::mem::replace(&mut candidate.state, state);
        if state == State::Failed {
            self.taken.remove(&Place::of(candidate.contact.addr));
        }
        self.count(old, state);
    }

    fn count(&mut self, old: State, new: State) {
        self.prompt -= usize::from(old == State::Asked);
        self.late -= usize::from(old == State::Late);
        self.prompt += usize::from(new == State::Asked);
        self.late += usize::from(new == State::Late);
        self.answered -= usize::from(old == State::Answered);
        self.answered += usize::from(new == State::Answered);
    }

    fn next_stray(&mut self) -> Option<Ask> {
        while let Some(addr) = self.strays.pop_front() {
            if !self.taken.contains(&Place::of(addr)) && self.asked.insert(addr) {
                self.asked_strays.push((addr, State::Asked));
                self.prompt += 1;
                return Some(Ask { to: addr, id: None });
            }
        }
        None
    }

    /// Walks from the target outwards, as far as candidates count. Of those that are not known to be dead it is assumed
    /// that they will answer.
    fn walk(&self) -> Walk {
        let walk = self.walk_past(PER_PROVIDER);
        // Where all are of one provider, there is no better choice.
        if walk.counted.len() >= self.scope.answers { walk } else { self.walk_past(usize::MAX) }
    }

    /// How many have to count if so many do that are within reach.
    fn wanted(&self, within_reach: usize) -> usize {
        let answers = self.scope.answers;
        match within_reach {
            _ if self.scope.reach == 0 => answers,
            0..FEW => answers.max(FARTHER),
            FEW..=CROWD => answers,
            crowd => answers.max(crowd + BEYOND),
        }
    }

    fn walk_past(&self, per_provider: usize) -> Walk {
        let is_alive = |candidate: &&Candidate| !matches!(candidate.state, State::Failed | State::Late);
        let secure = self.candidates.iter().filter(|candidate| candidate.secure && is_alive(candidate));
        let wants_secure = secure.take(K).count() == K;
        let sure = self.candidates.iter().filter(|candidate| candidate.sure && is_alive(candidate));
        let wants_sure = sure.take(K).count() == K;
        let mut walk = Walk::default();
        let (mut within_reach, mut providers) = (0, Vec::new());
        for (at, candidate) in self.candidates.iter().enumerate() {
            let is_within = distance_head(&candidate.distance) <= self.scope.reach;
            if !is_within && walk.counted.len() >= self.wanted(within_reach) {
                break;
            }
            let is_fresh = candidate.state == State::Fresh;
            if !is_alive(&candidate) || (wants_sure && is_fresh && !candidate.sure) {
                continue;
            }
            if wants_secure && !candidate.secure {
                if is_fresh && self.insecure_asked < MAX_INSECURE {
                    walk.insecure.get_or_insert(at);
                }
                continue;
            }
            if let Some(provider) = Block::provider(candidate.contact.addr.ip()) {
                if providers.iter().filter(|other| **other == provider).count() == per_provider {
                    continue;
                }
                providers.push(provider);
            }
            if is_fresh {
                walk.fresh.get_or_insert(at);
            }
            within_reach += usize::from(is_within);
            walk.counted.push(at);
        }
        walk
    }
}

impl Scope {
    /// Until as many nodes answered, in a network of so many. If that is not known, nothing is expected.
    pub fn new(answers: usize, population: Option<u64>) -> Self {
        let reach = population.map_or(0, |population| match population {
            0..=REACH_NODES => u64::MAX,
            more => u64::MAX / more * REACH_NODES,
        });
        Self { answers, reach }
    }
}

impl Candidate {
    fn key(&self) -> (Distance, SocketAddr) {
        (self.distance, self.contact.addr)
    }
}

impl Place {
    fn of(addr: SocketAddr) -> Self {
        Block::subnet(addr.ip()).map_or(Self::Local(addr), Self::Subnet)
    }
}

fn distance_head(distance: &Distance) -> u64 {
    head(NodeId(distance.0))
}

/// BEP 5 asks for "α" at a time without a number; libtorrent has 5, and the simulator agrees (see above).
pub const ALPHA: usize = 5;

/// How many more may owe an answer if they are late.
pub const BRANCHING: usize = 11;

/// D-10: nodes that are asked in all.
pub const MAX_QUERIES: usize = 200;

/// D-10: a search among a million nodes takes six steps.
pub const MAX_HOPS: u8 = 20;

/// Nodes whose id does not belong to their address that are asked although others are known.
pub const MAX_INSECURE: usize = 16;

/// Nodes of one /16 (IPv6: /32) that count.
pub const PER_PROVIDER: usize = 2;

/// How many nodes are expected within reach: as many as are stored at.
const REACH_NODES: u64 = K as u64;

/// More nodes within reach are no accident: of honest ones there are as many once in ten thousand searches, and once in a
/// hundred where the size of the network is judged a third too small.
pub const CROWD: usize = 20;

/// D-04: nodes from beyond that have to answer where it is crowded.
pub const BEYOND: usize = 16;

/// Fewer nodes within reach may be no accident either: of honest ones there are as few once in twenty-four searches, which
/// then cost some messages more.
pub const FEW: usize = K / 2;

/// Nodes that have to answer where there are few, or where nothing was found.
pub const FARTHER: usize = 20;

/// Nodes that are stored at, at most.
pub const MAX_STORES: usize = 64;

/// Nodes that a search knows of. The farthest are forgotten.
const MAX_CANDIDATES: usize = 300;

/// Addresses without ids that wait to be asked.
const MAX_STRAYS: usize = 32;

#[cfg(test)]
mod tests;
