//! What a torrent and its peers tell each other about the torrent: its metadata (BEP 9), and who else is there (BEP 11).

use super::known_peers::{Source, UtpHint};
use super::members::Member;
use super::{Action, NewContent, Torrent, Work, discovery, holepunch};
use crate::address::canonical;
use crate::id::ConnId;
use crate::machine::{Machine as _, Outbox, Timestamp};
use crate::metadata;
use crate::metainfo::Metainfo;
use crate::peer::{self, Offer};
use crate::pex;
use crate::session::{Notice, Reason};
use crate::store::op::{DiskError, DiskOp, DiskOutput};
use crate::wire::{Extension, ExtensionIds, MetadataMessage, PexFlags};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddr;

impl Torrent {
    /// What peers are told of the extensions.
    pub(super) fn offer(&self) -> Offer {
        let pex = self.pex.is_some().then_some(Extension::UtPex);
        let punch = self.punch.is_some().then_some(Extension::UtHolepunch);
        let always = [Extension::LtDonthave, Extension::UploadOnly, Extension::UtMetadata];
        Offer {
            ids: ExtensionIds::ours(always.into_iter().chain(pex).chain(punch)),
            metadata_len: self.metadata.info_len(),
        }
    }

    /// A peer said what it knows of the extensions.
    pub(super) fn on_extended(&mut self, now: Timestamp, conn: ConnId, out: &mut Outbox<Action>) {
        let Some(member) = self.members.get(&conn) else { return };
        if let Some(ip) = member.peer.extended().your_ip {
            out.push_back(Action::Seen { by: member.peer.remote(), ip });
        }
        let takes_requests = member.peer.their_id(Extension::UtMetadata).is_some();
        if let Some(len) = member.peer.extended().metadata_size.filter(|_| takes_requests) {
            self.tell_metadata(now, metadata::Event::Offer { peer: conn, len });
        }
        let Some(member) = self.members.get(&conn) else { return };
        if member.peer.their_id(Extension::UtPex).is_some() {
            let remote = member.peer.remote();
            self.tell_pex(now, pex::Event::Listens { peer: conn, remote });
        }
        self.update_contact(now, conn);
        self.drop_if_useless(now, conn, out);
    }

    /// Notes where others can reach a peer, if that is known, and what they may know of it.
    pub(super) fn update_contact(&mut self, now: Timestamp, conn: ConnId) {
        let Some(member) = self.members.get(&conn).filter(|member| member.peer.is_open()) else { return };
        let peer = &member.peer;
        // Where a relay brought us together nobody gets in by himself.
        let reachable = peer.is_outgoing() && !member.punched;
        let extended = peer.extended();
        let speaks = peer.their_id(Extension::UtHolepunch).is_some();
        let contact = member.contact();
        let seed = self.content.is_some() && member.has.is_all() || extended.upload_only == Some(true);
        let mut flags = PexFlags::default();
        flags.0 |= if member.obfuscated { PexFlags::OBFUSCATES } else { 0 };
        flags.0 |= if member.by_utp { PexFlags::UTP } else { 0 };
        flags.0 |= if seed { PexFlags::SEED } else { 0 };
        flags.0 |= if reachable { PexFlags::REACHABLE } else { 0 };
        flags.0 |= if speaks && self.punch.is_some() { PexFlags::HOLEPUNCH } else { 0 };
        let addr = contact.unwrap_or(peer.remote());
        self.tell_punch(now, holepunch::Event::Member { peer: conn, addr, speaks });
        if contact.is_some() {
            self.tell_pex(now, pex::Event::Contact { peer: conn, addr, flags });
        }
    }

    pub(super) fn on_pex_action(&mut self, now: Timestamp, action: pex::Action, out: &mut Outbox<Action>) {
        match action {
            pex::Action::Accuse { peer, offence } => self.disconnect(now, peer, offence.into(), out),
            pex::Action::Learn { peer, peers, dropped } => {
                // Who was sent away for something else that it said is believed no more.
                if let Some(member) = self.members.get(&peer) {
                    let teller = member.peer.remote().ip();
                    for addr in dropped {
                        self.tell_punch(now, holepunch::Event::Dropped { peer, addr });
                    }
                    self.on_peers_told(now, peers.clone(), Source::Pex, Some(teller), out);
                    for (addr, flags) in peers {
                        if flags.has(PexFlags::SEED) {
                            self.known.note_told_seed(addr, teller);
                        }
                        if flags.has(PexFlags::UTP) {
                            self.known.note_utp(addr, UtpHint::Told);
                        }
                        if flags.has(PexFlags::HOLEPUNCH) {
                            self.on_told(now, peer, addr);
                        }
                    }
                }
            }
            pex::Action::Tell { peer, message } => self.tell(now, peer, peer::Event::Pex(message)),
        }
    }

    pub(super) fn tell_pex(&mut self, now: Timestamp, event: pex::Event) {
        if let Some(pex) = &mut self.pex {
            pex.handle_event(now, event, &mut self.pending.pex);
        }
    }

    pub(super) fn on_metadata_message(&mut self, now: Timestamp, peer: ConnId, message: MetadataMessage) {
        let event = match message {
            MetadataMessage::Data { piece, data, .. } => {
                self.remember_sender(peer);
                metadata::Event::Data { peer, piece, data }
            }
            MetadataMessage::Reject { piece } => metadata::Event::Rejected { peer, piece },
            MetadataMessage::Request { piece } => metadata::Event::Requested { peer, piece },
        };
        self.tell_metadata(now, event);
    }

    /// A driver has put metadata together.
    pub(super) fn on_metadata_read(
        &mut self,
        now: Timestamp,
        job: u32,
        result: Result<DiskOutput, DiskError>,
    ) {
        let result = match result {
            Ok(DiskOutput::Metadata(assembled)) => Some(assembled),
            _ => None,
        };
        self.tell_metadata(now, metadata::Event::Read { job, result });
    }

    pub(super) fn on_metadata_action(
        &mut self,
        now: Timestamp,
        action: metadata::Action,
        out: &mut Outbox<Action>,
    ) {
        let mut say = |peer, message| self.tell(now, peer, peer::Event::Metadata(message));
        match action {
            metadata::Action::Accuse { peer, offence } => self.disconnect(now, peer, offence.into(), out),
            metadata::Action::Ask { peer, piece } => say(peer, MetadataMessage::Request { piece }),
            metadata::Action::Known(metainfo) => self.on_metadata_known(now, metainfo, out),
            metadata::Action::Liar(peer) => {
                if let Some(liar) = self.senders.get(&peer) {
                    self.ban(now, *liar, out);
                }
            }
            metadata::Action::Read { job, assembly } => {
                out.push_back(Action::Disk { work: Work::Metadata(job), op: DiskOp::Metadata(assembly) });
            }
            metadata::Action::Refuse { peer, piece } => say(peer, MetadataMessage::Reject { piece }),
            metadata::Action::Serve { peer, piece, total_len, data } => {
                say(peer, MetadataMessage::Data { piece, total_len: Some(total_len), data });
            }
            metadata::Action::Useless(error) => {
                out.push_back(Action::Notice(Notice::MetadataUseless { torrent: self.id, error }));
            }
        }
    }

    pub(super) fn tell_metadata(&mut self, now: Timestamp, event: metadata::Event) {
        self.metadata.handle_event(now, event, &mut self.pending.metadata);
    }

    /// What the torrent is has been proved: peers that don't know it may ask us for that now. If it is private, all but
    /// its trackers said what they should not have, and hear nothing more from this moment on (BEP 27).
    fn on_metadata_known(&mut self, now: Timestamp, metainfo: Arc<Metainfo>, out: &mut Outbox<Action>) {
        let private = metainfo.is_private();
        let without_pex = private && self.pex.take().is_some();
        let without_punch = private && self.punch.take().is_some();
        if private {
            self.announcer.set_private();
            self.discovery.handle_event(now, discovery::Event::Forbid, &mut self.pending.discovery);
            self.part_from_strangers(now, out);
        }
        let mut offer = self.offer();
        if without_pex {
            offer.ids.set(Extension::UtPex, 0);
        }
        if without_punch {
            offer.ids.set(Extension::UtHolepunch, 0);
        }
        let open = self.members.values().filter(|member| member.peer.is_open());
        let open = open.filter(|member| without_pex || member.peer.extended().metadata_size.is_none());
        for conn in open.map(|member| member.peer.conn()).collect::<Vec<_>>() {
            self.tell(now, conn, peer::Event::Offer(offer));
        }
        if self.content.is_none() {
            let mut content = NewContent::new(metainfo);
            if !self.select_only.is_empty() {
                content.select(&self.select_only);
            }
            let content = Box::new(content);
            out.push_back(Action::Notice(Notice::Metadata { torrent: self.id, content }));
        }
    }

    /// Forgets the peers that no tracker named, nor the user. Of those met in an earlier run nobody knows who named them.
    fn part_from_strangers(&mut self, now: Timestamp, out: &mut Outbox<Action>) {
        let strangers = self.known.unlearn(&[Source::Dht, Source::Lsd, Source::Pex, Source::Resume]);
        // By a relay we are connected to peers that nobody named.
        let is_dialled_stranger = |member: &&Member| {
            let sources = self.known.sources(member.endpoint);
            let named = sources.has(Source::Tracker) || sources.has(Source::Manual);
            member.peer.is_outgoing() && !named
        };
        let members = self.members.values().filter(|member| {
            strangers.contains(&canonical(member.peer.remote())) || is_dialled_stranger(member)
        });
        for conn in members.map(|member| member.peer.conn()).collect::<Vec<_>>() {
            self.disconnect(now, conn, Reason::Private, out);
        }
    }
}

impl Member {
    /// Where others can reach it, if that is known: the same address by which they may ask us for a connection to it.
    fn contact(&self) -> Option<SocketAddr> {
        let peer = &self.peer;
        // Streams of uTP come from the port to which those of others go, as the peer's router has it.
        if self.by_utp && peer.their_id(Extension::UtHolepunch).is_some() {
            return Some(peer.remote());
        }
        (peer.is_outgoing() || peer.extended().port.is_some()).then_some(self.endpoint)
    }
}
