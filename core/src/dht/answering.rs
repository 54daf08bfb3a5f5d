//! What a node answers to others.
//!
//! Who sends a query may have forged its address, so that the answer hits somebody else. Until it has shown that it
//! receives what is sent there, by answering a query of ours or with a token, it gets no more than [`AMPLIFICATION`]
//! times the bytes it sent (row D-05).

use super::Node;
use super::event::Action;
use super::item::{Item, ItemError, immutable_target, mutable_target};
use super::message::{
    Announce, Blooms, Body, Contact, ErrorCode, ErrorReply, Family, Malformed, Message, Method, Nodes, Put,
    Query, Reply, Transaction, Values, Want,
};
use super::node_id::NodeId;
use super::table::{K, Table};
use crate::address::is_dialable;
use crate::machine::{Outbox, Timestamp};
use alloc::vec::Vec;
use core::net::SocketAddr;

/// A query, and what matters of the datagram in which it came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) from: SocketAddr,
    pub(super) message: &'a Message<'a>,
    pub(super) query: &'a Query<'a>,
    pub(super) len: usize,
}

impl Node {
    /// Answers a query, and takes note of who sent it. `other` is the table of the other family.
    pub(super) fn on_query(
        &mut self,
        now: Timestamp,
        asked: Asked<'_>,
        other: Option<&Table>,
        out: &mut Outbox<Action>,
    ) {
        let Asked { from, message, query, .. } = asked;
        if query.id == self.id() || !self.senders.admit(now, from) {
            return;
        }
        self.queries.hear(now);
        if !self.read_only {
            self.answer(now, asked, other, out);
        }
        if !message.read_only {
            let contact = Contact { id: query.id, addr: from };
            self.table.queried(now, &contact);
            if self.table.wants(&contact) {
                self.ping(now, from, Some(query.id), out);
            } else {
                self.table.stand_by(now, &contact);
            }
        }
    }

    /// Tells who sent a query that makes no sense what is wrong with it, if that takes no more bytes than it sent.
    pub(super) fn on_malformed(
        &mut self,
        now: Timestamp,
        from: SocketAddr,
        malformed: Malformed,
        len: usize,
        out: &mut Outbox<Action>,
    ) {
        if let Malformed::Query(transaction, why) = malformed
            && !self.read_only
            && self.senders.admit(now, from)
        {
            self.refuse(now, from, transaction, (ErrorCode::PROTOCOL, why.as_bytes()), len, out);
        }
    }

    fn answer(&mut self, now: Timestamp, asked: Asked<'_>, other: Option<&Table>, out: &mut Outbox<Action>) {
        let Asked { from, message, query, len } = asked;
        let refusal = match query.method {
            Method::AnnouncePeer(announce) => self.store_peer(now, from, &announce),
            Method::Put(put) => self.store_item(now, from, &put),
            Method::Unknown { target: None, .. } => Err((ErrorCode::UNKNOWN_METHOD, &b"unknown method"[..])),
            _ => Ok(()),
        };
        if let Err(refusal) = refusal {
            return self.refuse(now, from, message.transaction, refusal, len, out);
        }
        let is_proven =
            self.proven.contains(now, from) || self.table.has_answered(&Contact { id: query.id, addr: from });
        let budget = if is_proven { usize::MAX } else { AMPLIFICATION * len };
        if self.reply_meter.opens_at() > now {
            return;
        }
        let data = self.write_reply(now, asked, other, budget);
        self.reply_meter.take(now, data.len());
        out.push_back(Action::Send { to: from, data });
    }

    /// The answer to a query that was done, in as many bytes at most.
    fn write_reply(
        &mut self,
        now: Timestamp,
        asked: Asked<'_>,
        other: Option<&Table>,
        budget: usize,
    ) -> Vec<u8> {
        let Asked { from, message, query, .. } = asked;
        let mut reply = Reply::new(self.id());
        let mut peers = Vec::new();
        let (nodes, token, blooms);
        if let Some(target) =
            query.method.target().filter(|_| !matches!(query.method, Method::AnnouncePeer(_)))
        {
            nodes = [Family::V4, Family::V6].map(|family| self.nodes_for(family, target, query.want, other));
            let [v4, v6] = nodes.each_ref().map(|nodes| nodes.as_deref().map(Nodes::Contacts));
            (reply.nodes, reply.nodes6) = (v4, v6);
            token = self.tokens.issue(now, from.ip(), target);
            if matches!(query.method, Method::Get { .. } | Method::GetPeers { .. }) {
                reply.token = Some(&token);
            }
        }
        match query.method {
            Method::Get { target, seq } => {
                reply.item = self.items.get(now, target).map(|item| item.part(seq)).unwrap_or_default();
            }
            Method::GetPeers { info_hash, noseed, scrape } => {
                self.peers.pick(now, info_hash, noseed, MAX_VALUES, &mut peers);
                reply.values = (!peers.is_empty()).then_some(Values::Addrs(&peers));
                if scrape {
                    blooms = self.peers.blooms(now, info_hash);
                    reply.blooms = blooms
                        .as_ref()
                        .map(|(seeds, peers)| Blooms { seeds: seeds.as_bytes(), peers: peers.as_bytes() });
                }
            }
            Method::SampleInfohashes { .. } => reply.samples = Some(self.peers.sample(now)),
            _ => {}
        }
        let message = Message::new(message.transaction, Body::Reply(reply));
        Message { ip: Some(from), ..message }.encode_within(budget)
    }

    /// The nodes of a family that belong in an answer, if any do (BEP 32).
    fn nodes_for(
        &self,
        family: Family,
        target: NodeId,
        want: Want,
        other: Option<&Table>,
    ) -> Option<Vec<Contact>> {
        let is_wanted = match family {
            _ if want == Want::default() => family == self.family,
            Family::V4 => want.n4,
            Family::V6 => want.n6,
        };
        let table = if family == self.family { Some(&self.table) } else { other };
        Some(table.filter(|_| is_wanted)?.closest(target, K, true))
    }

    fn store_peer(
        &mut self,
        now: Timestamp,
        from: SocketAddr,
        announce: &Announce<'_>,
    ) -> Result<(), Refusal> {
        let addr = announce.addr(from);
        self.check_token(now, from, announce.info_hash.into(), announce.token)?;
        if !is_dialable(addr) {
            return Err((ErrorCode::PROTOCOL, b"bad port"));
        }
        self.peers.announce(now, announce.info_hash, addr, announce.seed);
        Ok(())
    }

    fn store_item(&mut self, now: Timestamp, from: SocketAddr, put: &Put<'_>) -> Result<(), Refusal> {
        let refuse = |error: ItemError| (error.code(), &b"item refused"[..]);
        let target = match put.signed {
            Some(signed) => mutable_target(signed.key, signed.salt),
            None => immutable_target(put.value),
        };
        // It takes long to check a signature.
        self.check_token(now, from, target, put.token)?;
        let item = Item::from_put(put).map_err(refuse)?;
        let cas = put.signed.and_then(|signed| signed.cas);
        self.items.put(now, from, item, cas).map_err(refuse)
    }

    /// A token shows that its owner asked us before, and got the answer.
    fn check_token(
        &mut self,
        now: Timestamp,
        from: SocketAddr,
        target: NodeId,
        token: &[u8],
    ) -> Result<(), Refusal> {
        if !self.tokens.accepts(now, from.ip(), target, token) {
            return Err((ErrorCode::PROTOCOL, b"bad token"));
        }
        self.proven.insert(now, from);
        Ok(())
    }

    fn refuse(
        &mut self,
        now: Timestamp,
        to: SocketAddr,
        transaction: Transaction,
        (code, text): Refusal,
        len: usize,
        out: &mut Outbox<Action>,
    ) {
        let message = Message::new(transaction, Body::Error(ErrorReply { code, text }));
        let data = message.encode();
        if data.len() <= len && self.reply_meter.take(now, data.len()) {
            out.push_back(Action::Send { to, data });
        }
    }
}

/// Why a query is not done, in a number and words.
type Refusal = (ErrorCode, &'static [u8]);

/// D-05: bytes out for a byte in.
const AMPLIFICATION: usize = 3;

/// Peers in an answer, as far as they fit: libtorrent's number.
const MAX_VALUES: usize = 100;
