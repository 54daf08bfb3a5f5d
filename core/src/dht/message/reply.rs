//! What is answered.

use super::super::node_id::NodeId;
use super::compact::{Contact, Family, MAX_NODES_READ, Nodes, Values};
use super::query::{array, bytes, int};
use super::{MAX_ITEM_MESSAGE_LEN, MAX_LEN, MAX_TOKEN_LEN, first};
use crate::bencode::{Raw, Writer};
use core::fmt;

/// An answer. It doesn't say to which query, so it may hold anything.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    /// Who answers.
    pub id: NodeId,
    /// Filters of the peers of a swarm (BEP 33).
    pub blooms: Option<Blooms<'a>>,
    /// An item, or what of it was wanted (BEP 44).
    pub item: ItemPart<'a>,
    /// Nodes near to what was asked for, of IPv4.
    pub nodes: Option<Nodes<'a>>,
    /// Nodes near to what was asked for, of IPv6.
    pub nodes6: Option<Nodes<'a>>,
    /// Some of the torrents that are known (BEP 51).
    pub samples: Option<Samples<'a>>,
    /// What an announce or put to this node has to show.
    pub token: Option<&'a [u8]>,
    /// Peers of a swarm.
    pub values: Option<Values<'a>>,
}

/// The bloom filters of the peers of a swarm (BEP 33).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blooms<'a> {
    /// Those that have everything.
    pub seeds: &'a [u8; BLOOM_LEN],
    /// The others.
    pub peers: &'a [u8; BLOOM_LEN],
}

/// An item, or what of it was wanted (BEP 44).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ItemPart<'a> {
    /// The public key.
    pub key: Option<&'a [u8; 32]>,
    /// The item's number.
    pub seq: Option<i64>,
    /// The signature.
    pub signature: Option<&'a [u8; 64]>,
    /// The value, bencoded.
    pub value: Option<&'a [u8]>,
}

/// Some of the torrents that a node knows (BEP 51).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Samples<'a> {
    /// For so many seconds others are not to be had.
    pub interval: i64,
    /// How many it knows in all.
    pub count: i64,
    /// These are some.
    pub hashes: &'a [[u8; 20]],
}

impl<'a> Reply<'a> {
    /// An answer that says only that it is one.
    pub fn new(id: NodeId) -> Self {
        Self {
            id,
            blooms: None,
            item: ItemPart::default(),
            nodes: None,
            nodes6: None,
            samples: None,
            token: None,
            values: None,
        }
    }

    /// The nodes of a family, see [`Nodes::iter`].
    pub fn contacts(&self, family: Family) -> impl Iterator<Item = Contact> + 'a {
        self.nodes_of(family).unwrap_or_default().iter(family)
    }

    fn nodes_of(&self, family: Family) -> Option<Nodes<'a>> {
        match family {
            Family::V4 => self.nodes,
            Family::V6 => self.nodes6,
        }
    }

    /// Only an id is indispensable. Whatever else is not as it should be is taken as absent.
    pub(super) fn read(reply: Raw<'a>) -> Option<Self> {
        let mut found = Self::new(NodeId([0; 20]));
        let (mut id, mut seeds, mut peers) = (None, None, None);
        let (mut interval, mut count, mut samples) = (None, None, None);
        for (key, value) in reply.pairs()? {
            match key {
                b"BFpe" => first(&mut peers, array(value)),
                b"BFsd" => first(&mut seeds, array(value)),
                b"id" => first(&mut id, array(value)),
                b"interval" => first(&mut interval, value.as_int()),
                b"k" => first(&mut found.item.key, array(value)),
                b"nodes" => first(&mut found.nodes, value.as_bytes().map(Nodes::Compact)),
                b"nodes6" => first(&mut found.nodes6, value.as_bytes().map(Nodes::Compact)),
                b"num" => first(&mut count, value.as_int()),
                b"samples" => first(&mut samples, value.as_bytes()),
                b"seq" => first(&mut found.item.seq, value.as_int()),
                b"sig" => first(&mut found.item.signature, array(value)),
                b"token" => first(&mut found.token, value.as_bytes()),
                b"v" => first(&mut found.item.value, Some(value.raw())),
                b"values" => first(&mut found.values, Values::read(value)),
                _ => {}
            }
        }
        found.id = NodeId(*id?);
        found.token = found.token.filter(|token| token.len() <= MAX_TOKEN_LEN);
        found.blooms = seeds.zip(peers).map(|(seeds, peers)| Blooms { seeds, peers });
        found.samples = samples.map(|samples| Samples {
            interval: interval.unwrap_or_default().clamp(0, MAX_INTERVAL),
            count: count.unwrap_or_default().max(0),
            hashes: samples.as_chunks().0,
        });
        Some(found)
    }

    pub(super) fn write(&self, cut: &Cut, to: &mut Writer) {
        let item = if cut.item { self.item } else { ItemPart { seq: self.item.seq, ..ItemPart::default() } };
        to.dict();
        if let Some(blooms) = self.blooms.filter(|_| cut.blooms) {
            bytes(b"BFpe", blooms.peers, to);
            bytes(b"BFsd", blooms.seeds, to);
        }
        bytes(b"id", &self.id.0, to);
        if let Some(samples) = self.samples {
            int(b"interval", samples.interval, to);
        }
        if let Some(key) = item.key {
            bytes(b"k", key, to);
        }
        if let Some(nodes) = self.nodes {
            to.bytes(b"nodes");
            nodes.write(Family::V4, cut.nodes, to);
        }
        if let Some(nodes) = self.nodes6 {
            to.bytes(b"nodes6");
            nodes.write(Family::V6, cut.nodes6, to);
        }
        if let Some(samples) = self.samples {
            int(b"num", samples.count, to);
            let hashes = samples.hashes.get(..cut.samples).unwrap_or(samples.hashes);
            bytes(b"samples", hashes.as_flattened(), to);
        }
        if let Some(seq) = item.seq {
            int(b"seq", seq, to);
        }
        if let Some(signature) = item.signature {
            bytes(b"sig", signature, to);
        }
        if let Some(token) = self.token {
            bytes(b"token", token, to);
        }
        if let Some(value) = item.value {
            to.bytes(b"v");
            to.raw(value);
        }
        if let Some(values) = self.values {
            to.bytes(b"values");
            values.write(cut.values, to);
        }
        to.end();
    }

    /// How long it may be as a whole.
    pub(super) fn max_len(&self) -> usize {
        if self.item.value.is_some() { MAX_ITEM_MESSAGE_LEN } else { MAX_LEN }
    }

    /// What to write so that at most `budget` bytes are, if all has `bare` that can't be left out.
    ///
    /// An item's value and the filters come first, as they are what was asked for. Of the rest nodes are worth most,
    /// as a lookup ends without them; but a third of the room is for values and samples if there are any, lest an asker
    /// who gets little gets nothing but nodes.
    pub(super) fn cut_to(&self, budget: usize, bare: usize) -> Cut {
        let mut cut = Cut::BARE;
        let item = self.item.len();
        cut.item = item > 0 && bare + item <= budget.min(MAX_ITEM_MESSAGE_LEN);
        let limit = budget.min(if cut.item { MAX_ITEM_MESSAGE_LEN } else { MAX_LEN });
        // The length of a string that is not empty has up to three digits more.
        let strings = [self.nodes.is_some(), self.nodes6.is_some(), self.samples.is_some()];
        let digits = 3 * strings.into_iter().filter(|present| *present).count();
        let mut room = limit.saturating_sub(bare + digits + if cut.item { item } else { 0 });
        if self.blooms.is_some() && BLOOMS_LEN <= room {
            cut.blooms = true;
            room -= BLOOMS_LEN;
        }
        let values = self.values.unwrap_or_default();
        let samples = self.samples.map_or(0, |samples| samples.hashes.len());
        let others = values.lens().sum::<usize>() + 20 * samples;
        let mut for_nodes = room - others.min(room / 3);
        // One of each family in turn.
        let there = |family| self.nodes_of(family).map_or(0, |nodes| nodes.len(family));
        let (there, there6) = (there(Family::V4), there(Family::V6));
        for nth in 0..there.max(there6).min(MAX_NODES_READ) {
            for (there, family, taken) in
                [(there, Family::V4, &mut cut.nodes), (there6, Family::V6, &mut cut.nodes6)]
            {
                let len = family.contact_len();
                if nth < there && len <= for_nodes {
                    *taken += 1;
                    for_nodes -= len;
                    room -= len;
                }
            }
        }
        for len in values.lens() {
            if len > room {
                break;
            }
            room -= len;
            cut.values += 1;
        }
        cut.samples = samples.min(room / 20);
        cut
    }
}

/// Whether both say the same.
impl PartialEq for Reply<'_> {
    fn eq(&self, other: &Self) -> bool {
        let nodes_alike = |family| {
            self.nodes_of(family).is_some() == other.nodes_of(family).is_some()
                && self.contacts(family).eq(other.contacts(family))
        };
        self.id == other.id
            && self.blooms == other.blooms
            && self.item == other.item
            && nodes_alike(Family::V4)
            && nodes_alike(Family::V6)
            && self.samples == other.samples
            && self.token == other.token
            && self.values == other.values
    }
}

impl Eq for Reply<'_> {}

impl fmt::Display for Reply<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "from={:.8}", self.id)?;
        for (name, nodes, family) in [("nodes", self.nodes, Family::V4), ("nodes6", self.nodes6, Family::V6)]
        {
            if let Some(nodes) = nodes {
                write!(f, " {name}={}", nodes.iter(family).count())?;
            }
        }
        if let Some(values) = self.values {
            write!(f, " values={}", values.iter().count())?;
        }
        if let Some(seq) = self.item.seq {
            write!(f, " seq={seq}")?;
        }
        if let Some(value) = self.item.value {
            write!(f, " len={}", value.len())?;
        }
        if let Some(samples) = self.samples {
            write!(f, " samples={} num={}", samples.hashes.len(), samples.count)?;
        }
        f.write_str(if self.blooms.is_some() { " blooms" } else { "" })?;
        f.write_str(if self.token.is_some() { " token" } else { "" })
    }
}

impl ItemPart<'_> {
    /// What of it can be left out, in a message.
    fn len(&self) -> usize {
        let key = self.key.map_or(0, |_| "1:k32:".len() + 32);
        let signature = self.signature.map_or(0, |_| "3:sig64:".len() + 64);
        key + signature + self.value.map_or(0, |value| "1:v".len() + value.len())
    }
}

/// How much of a reply to write.
#[derive(Debug)]
pub(super) struct Cut {
    blooms: bool,
    item: bool,
    nodes: usize,
    nodes6: usize,
    samples: usize,
    values: usize,
}

impl Cut {
    /// Only what can't be left out.
    pub(super) const BARE: Self =
        Self { blooms: false, item: false, nodes: 0, nodes6: 0, samples: 0, values: 0 };
    /// All.
    pub(super) const WHOLE: Self = Self {
        blooms: true,
        item: true,
        nodes: usize::MAX,
        nodes6: usize::MAX,
        samples: usize::MAX,
        values: usize::MAX,
    };
}

/// BEP 33: the bytes of a filter.
pub const BLOOM_LEN: usize = 256;

/// Both filters in a message.
const BLOOMS_LEN: usize = 2 * ("4:BFpe256:".len() + BLOOM_LEN);

/// BEP 51: six hours.
const MAX_INTERVAL: i64 = 21_600;
