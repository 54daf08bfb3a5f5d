//! What must hold for a node after each of its steps, whatever happens to the network.
//!
//! A watch sees the packets of one node and what the node holds, but not how it came to its decisions. Each rule has the
//! number under which it is known, and a test that breaks it and sees it fire. What only concerns the inside of a node
//! is checked by the node itself (INV-S-33, 35, 37).

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use fast_peer_core::dht::Node;
use fast_peer_core::dht::item::{immutable_target, mutable_target};
use fast_peer_core::dht::lookup::MAX_QUERIES;
use fast_peer_core::dht::message::{Body, Message, Method, Put};
use fast_peer_core::dht::node_id::NodeId;
use fast_peer_core::machine::Timestamp;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The watch over one node.
#[derive(Debug, Default)]
pub(super) struct Watch {
    checks: u64,
    /// Tokens that were sent, by whom and what for, with when.
    tokens: BTreeMap<(IpAddr, NodeId, Vec<u8>), Timestamp>,
    /// What was asked, and not answered.
    open: BTreeSet<(SocketAddr, Vec<u8>)>,
    /// Addresses that answered, or showed a token.
    proven: BTreeSet<IpAddr>,
    /// Answers that were sent, with their lengths.
    sent: VecDeque<(Timestamp, usize)>,
    /// Who was asked for what since the last lookup of that began.
    asked: BTreeMap<NodeId, BTreeSet<SocketAddr>>,
    /// What the query is about that is answered now.
    target: Option<NodeId>,
    expected: Expected,
}

/// What was seen before a step.
#[derive(Debug, Default)]
enum Expected {
    #[default]
    Anything,
    /// Nobody asked for this: the node stays as it is.
    Same(String),
    /// The stores stay as they are, which hold so many torrents, peers and items.
    SameStores(Held),
}

type Held = (usize, usize, usize);

impl Watch {
    pub(super) fn checks(&self) -> u64 {
        self.checks
    }

    /// The node begins to look for this.
    pub(super) fn lookup_starts(&mut self, target: NodeId) {
        self.asked.remove(&target);
    }

    /// A packet is about to reach the node.
    pub(super) fn before(&mut self, now: Timestamp, node: &Node, from: SocketAddr, data: &[u8]) {
        self.expected = Expected::Anything;
        let Ok(message) = Message::parse(data) else { return };
        match message.body {
            Body::Error(_) | Body::Reply(_) => {
                if self.open.remove(&(from, message.transaction.as_bytes().to_vec())) {
                    self.proven.insert(from.ip());
                } else {
                    self.expected = Expected::Same(format!("{node:?}"));
                }
            }
            Body::Query(query) => {
                self.target = query.method.target();
                let stored = match &query.method {
                    Method::AnnouncePeer(announce) => Some((announce.info_hash.into(), announce.token)),
                    Method::Put(put) => Some((target_of(put), put.token)),
                    _ => None,
                };
                let Some((target, token)) = stored else { return };
                let issued = self.tokens.get(&(from.ip(), target, token.to_vec()));
                if issued.is_some_and(|issued| now.since(*issued) <= TOKEN_LIFE) {
                    self.proven.insert(from.ip());
                } else {
                    self.expected = Expected::SameStores(held(node));
                }
            }
        }
    }

    /// The node did something, perhaps since it `heard` a packet of that sender and length.
    pub(super) fn after<'a>(
        &mut self,
        now: Timestamp,
        node: &Node,
        heard: Option<(SocketAddr, usize)>,
        sent: impl IntoIterator<Item = (SocketAddr, &'a [u8])>,
    ) -> Result<(), String> {
        self.checks += 1;
        node.check_invariants(now);
        match core::mem::take(&mut self.expected) {
            Expected::Anything => {}
            Expected::Same(before) => hold(format!("{node:?}") == before, || {
                String::from("INV-S-34: an answer that nobody asked for changed the node")
            })?,
            Expected::SameStores(before) => hold(held(node) == before, || {
                format!("INV-S-32: something was stored without a token: {before:?}, {:?}", held(node))
            })?,
        }
        for (to, data) in sent {
            self.on_sent(now, heard, to, data)?;
        }
        Ok(())
    }

    fn on_sent(
        &mut self,
        now: Timestamp,
        heard: Option<(SocketAddr, usize)>,
        to: SocketAddr,
        data: &[u8],
    ) -> Result<(), String> {
        let message = Message::parse(data).map_err(|error| format!("the node sends {error}"))?;
        let transaction = message.transaction.as_bytes().to_vec();
        match message.body {
            Body::Query(query) => {
                hold(self.open.insert((to, transaction)), || {
                    format!("INV-S-34: {to} is asked two things with one transaction")
                })?;
                if let Method::GetPeers { info_hash, .. } = query.method {
                    let asked = self.asked.entry(info_hash.into()).or_default();
                    hold(asked.insert(to), || format!("INV-S-37: {to} is asked for {info_hash} twice"))?;
                    let count = asked.len();
                    hold(count <= MAX_QUERIES, || format!("INV-S-37: {count} were asked for {info_hash}"))?;
                }
                return Ok(());
            }
            Body::Reply(reply) => {
                if let (Some(token), Some(target)) = (reply.token, self.target) {
                    self.tokens.insert((to.ip(), target, token.to_vec()), now);
                }
            }
            Body::Error(_) => {}
        }
        let (from, len) = heard.ok_or_else(|| format!("{to} is answered but asked nothing"))?;
        hold(from == to, || format!("{from} asks, and {to} is answered"))?;
        hold(self.proven.contains(&to.ip()) || data.len() <= 3 * len, || {
            format!("INV-S-36: a stranger gets {} bytes for {len}", data.len())
        })?;
        self.sent.push_back((now, data.len()));
        while self.sent.front().is_some_and(|(at, _)| now.since(*at) > Duration::from_secs(1)) {
            self.sent.pop_front();
        }
        let bytes: usize = self.sent.iter().map(|(_, len)| len).sum();
        hold(bytes <= MAX_SECOND, || format!("INV-S-36: {bytes} bytes of answers in a second"))
    }
}

fn target_of(put: &Put<'_>) -> NodeId {
    match put.signed {
        Some(signed) => mutable_target(signed.key, signed.salt),
        None => immutable_target(put.value),
    }
}

fn held(node: &Node) -> Held {
    (node.peers().torrents(), node.peers().peers(), node.items().len())
}

fn hold(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}

/// BEP 5: a token is good for ten minutes at most.
const TOKEN_LIFE: Duration = Duration::from_secs(600);

/// Limit L12: the bytes of a second, a burst, and one answer that goes beyond it.
const MAX_SECOND: usize = 8000 + 8000 + 1400;

#[cfg(test)]
mod tests {
    use super::{MAX_SECOND, Watch};
    use core::net::SocketAddr;
    use fast_peer_core::dht::message::{
        Announce, Body, Family, Message, Method, Query, Reply, Transaction, Values,
    };
    use fast_peer_core::dht::node_id::NodeId;
    use fast_peer_core::dht::{Action, Config, Event, Node};
    use fast_peer_core::id::InfoHash;
    use fast_peer_core::machine::{Machine as _, Outbox, Timestamp};
    use fast_peer_core::rng::Rng;

    const HASH: InfoHash = InfoHash([0x5a; 20]);

    const NOW: Timestamp = Timestamp::ZERO;

    fn node() -> Node {
        Node::new(NOW, Config::new(Family::V4), &Rng::from_number(1))
    }

    fn nth(n: u8) -> SocketAddr {
        SocketAddr::from(([46, n, 1, 1], 6881))
    }

    fn query(n: u16, method: Method<'_>) -> Vec<u8> {
        let query = Query::new(NodeId([9; 20]), method);
        Message::new(Transaction::from(n), Body::Query(query)).encode()
    }

    fn reply(n: u16) -> Vec<u8> {
        Message::new(Transaction::from(n), Body::Reply(Reply::new(NodeId([9; 20])))).encode()
    }

    fn get_peers(n: u16) -> Vec<u8> {
        query(n, Method::GetPeers { info_hash: HASH, noseed: false, scrape: false })
    }

    /// The watch sees the node do nothing but send this, after it heard from the first so many bytes.
    fn sends(
        watch: &mut Watch,
        heard: Option<(SocketAddr, usize)>,
        to: SocketAddr,
        data: &[u8],
    ) -> Option<String> {
        watch.after(NOW, &node(), heard, [(to, data)]).err()
    }

    #[test]
    fn an_honest_node_breaks_nothing() {
        let (mut node, mut watch) = (node(), Watch::default());
        let mut out = Outbox::new();
        for n in 0..200_u8 {
            let data = get_peers(n.into());
            watch.before(NOW, &node, nth(n), &data);
            node.handle_event(NOW, Event::Datagram { from: nth(n), data: data.clone().into() }, &mut out);
            let sent = out.iter().filter_map(|it| match it {
                Action::Send { to, data } => Some((*to, &data[..])),
                _ => None,
            });
            watch.after(NOW, &node, Some((nth(n), data.len())), sent).expect("the node is honest");
            out.clear();
        }
        assert_eq!(watch.checks(), 200);
    }

    #[test]
    fn s_32_what_is_stored_has_a_token() {
        let (mut node, mut watch, mut out) = (node(), Watch::default(), Outbox::new());
        let ask = get_peers(1);
        node.handle_event(NOW, Event::Datagram { from: nth(1), data: ask.into() }, &mut out);
        let Some(Action::Send { data, .. }) = out.pop_front() else { panic!("it answers") };
        let Body::Reply(reply) = Message::parse(&data).expect("it is ours").body else { panic!("a reply") };
        let token = reply.token.expect("it gives a token");
        // The watch never saw that token.
        let announce = Announce { info_hash: HASH, implied_port: true, port: 0, seed: false, token };
        let data = query(2, Method::AnnouncePeer(announce));
        watch.before(NOW, &node, nth(1), &data);
        node.handle_event(NOW, Event::Datagram { from: nth(1), data: data.into() }, &mut out);
        let breach = watch.after(NOW, &node, Some((nth(1), 100)), []).unwrap_err();
        assert!(breach.starts_with("INV-S-32"), "{breach}");
    }

    #[test]
    fn s_34_an_answer_needs_a_question() {
        let (mut node, mut watch) = (node(), Watch::default());
        watch.before(NOW, &node, nth(1), &reply(1));
        node.handle_event(NOW, Event::SetReadOnly(true), &mut Outbox::new());
        let breach = watch.after(NOW, &node, None, []).unwrap_err();
        assert!(breach.starts_with("INV-S-34"), "{breach}");
        assert_eq!(sends(&mut watch, None, nth(1), &query(7, Method::Ping)), None);
        let breach = sends(&mut watch, None, nth(1), &query(7, Method::Ping)).unwrap();
        assert!(breach.starts_with("INV-S-34"), "{breach}");
    }

    #[test]
    fn s_36_strangers_get_little_and_all_together_not_too_much() {
        let mut watch = Watch::default();
        let peers = [nth(3); 50];
        let long = Reply { values: Some(Values::Addrs(&peers)), ..Reply::new(NodeId([9; 20])) };
        let long = Message::new(Transaction::from(1), Body::Reply(long)).encode();
        let breach = sends(&mut watch, Some((nth(1), 90)), nth(1), &long).unwrap();
        assert!(breach.starts_with("INV-S-36: a stranger"), "{breach}");
        let count = MAX_SECOND / long.len();
        let heard = Some((nth(1), 1000));
        assert!((0..count - 1).all(|_| sends(&mut watch, heard, nth(1), &long).is_none()));
        let breach = (0..2).find_map(|_| sends(&mut watch, heard, nth(1), &long)).unwrap();
        assert!(breach.contains("in a second"), "{breach}");
        assert!(sends(&mut watch, Some((nth(2), 900)), nth(1), &reply(1)).unwrap().contains("is answered"));
        assert!(sends(&mut watch, None, nth(1), &reply(1)).unwrap().contains("asked nothing"));
    }

    #[test]
    fn s_37_nobody_is_asked_twice() {
        let mut watch = Watch::default();
        assert_eq!(sends(&mut watch, None, nth(1), &get_peers(1)), None);
        let breach = sends(&mut watch, None, nth(1), &get_peers(2)).unwrap();
        assert!(breach.starts_with("INV-S-37"), "{breach}");
        watch.lookup_starts(HASH.into());
        assert_eq!(sends(&mut watch, None, nth(1), &get_peers(3)), None);
        let far = |n: u16| SocketAddr::from(([47, (n >> 8) as u8, n as u8, 1], 6881));
        let breach = (0..200).find_map(|n| sends(&mut watch, None, far(n), &get_peers(n + 4))).unwrap();
        assert!(breach.contains("201 were asked"), "{breach}");
    }
}
