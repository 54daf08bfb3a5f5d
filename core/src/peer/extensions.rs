//! Messages of the extension protocol (BEP 10), in both directions.

use super::{Action, Offer, Peer, Stage, raw};
use crate::lengths::PieceIndex;
use crate::machine::{Outbox, Timestamp};
use crate::session::WriteBatch;
use crate::wire::{
    self, DEFAULT_REQUEST_QUEUE, ExtendedHandshake, Extension, HolepunchMessage, Message, MetadataMessage,
    Offence, PexMessage,
};
use bytes::{Bytes, BytesMut};

impl Peer {
    /// The id under which they take messages of an extension, if they do.
    pub fn their_id(&self, extension: Extension) -> Option<u8> {
        self.extended.ids.id(extension).filter(|_| self.is_extended())
    }

    /// Whether both sides speak the extension protocol.
    fn is_extended(&self) -> bool {
        self.setup.ours.reserved.extended() && self.theirs.is_some_and(|theirs| theirs.reserved.extended())
    }

    pub(super) fn say_extended(&mut self, handshake: ExtendedHandshake) {
        if self.is_extended() {
            self.say(&Message::Extended { id: 0, payload: handshake.encode().into() });
        }
    }

    pub(super) fn on_extended(
        &mut self,
        now: Timestamp,
        id: u8,
        payload: &Bytes,
        out: &mut Outbox<Action>,
    ) -> Result<(), Offence> {
        if id == 0 {
            self.on_extended_handshake(payload, out);
            return Ok(());
        }
        if !self.setup.ours.reserved.extended() {
            return Err(Offence::ExtendedNotAgreed);
        }
        match Extension::from_our_id(id).filter(|known| self.offered.id(*known).is_some()) {
            Some(Extension::UtMetadata) => {
                out.extend(MetadataMessage::parse(payload)?.map(Action::Metadata));
            }
            Some(Extension::UtPex) => out.push_back(Action::Pex(PexMessage::parse(payload)?)),
            Some(Extension::LtDonthave) => self.on_dont_have(now, payload, out)?,
            Some(Extension::UploadOnly) => {
                if let &[upload_only] = &payload[..] {
                    self.extended.upload_only = Some(upload_only != 0);
                    out.push_back(Action::Extended);
                }
            }
            Some(Extension::UtHolepunch) => {
                out.extend(HolepunchMessage::parse(payload).map(Action::Holepunch));
            }
            None => {}
        }
        Ok(())
    }

    fn on_extended_handshake(&mut self, payload: &[u8], out: &mut Outbox<Action>) {
        // A malformed one says nothing; what else the peer sends may still be of use.
        let Ok(theirs) = ExtendedHandshake::parse(payload) else { return };
        if let Some(port) = theirs.port {
            out.push_back(Action::ListenPort(port));
        }
        self.extended.update(theirs);
        let queue = self.extended.request_queue.unwrap_or(DEFAULT_REQUEST_QUEUE);
        self.requests.set_limit(self.setup.max_requests.min(queue));
        out.push_back(Action::Extended);
    }

    /// They have a piece no more (BEP 54). What was asked of it is rejected by a peer that is fast, and by others given up
    /// without a word.
    fn on_dont_have(
        &mut self,
        now: Timestamp,
        payload: &[u8],
        out: &mut Outbox<Action>,
    ) -> Result<(), Offence> {
        let Some(index) = payload.try_into().ok().map(u32::from_be_bytes) else { return Ok(()) };
        self.nuisance.lost += 1;
        let pieces = self.lengths().map_or(1, |lengths| lengths.piece_count().max(1));
        let burst = (LOST_WORK / u64::from(pieces)).clamp(8, 1000);
        if self.nuisance.lost > burst + now.since(self.opened).as_secs() {
            return Err(Offence::MessageFlood);
        }
        let Some(lengths) = self.lengths() else {
            self.claims.lost(index);
            return Ok(());
        };
        let piece = lengths.piece(index).ok_or(Offence::HaveOutOfRange)?;
        self.allowed_to_us.retain(|allowed| *allowed != piece);
        self.suggested.retain(|suggested| *suggested != piece);
        let freed = self.requests.drop_piece(piece, !self.is_fast());
        out.extend(freed.into_iter().map(Action::Freed));
        out.push_back(Action::DontHave(piece));
        Ok(())
    }

    /// Takes a piece back, if they were told of it (BEP 54): first that, and then a reject for all that was asked of it
    /// where both are fast.
    pub(super) fn on_lost(&mut self, piece: PieceIndex, place: usize) {
        self.allowed_to_them.retain(|allowed| *allowed != piece);
        let dropped = self.uploads.retain(|block| block.piece() != piece);
        if place < self.told {
            self.told -= 1;
            if let Some(id) = self.their_id(Extension::LtDonthave).filter(|_| self.stage == Stage::Open) {
                let payload = Bytes::copy_from_slice(&piece.get().to_be_bytes());
                self.say(&Message::Extended { id, payload });
            }
        }
        dropped.into_iter().for_each(|block| self.refuse(raw(block)));
    }

    /// By a message of its own to those that take it, and to others by another handshake.
    pub(super) fn say_upload_only(&mut self, upload_only: bool) {
        if self.stage != Stage::Open {
            return;
        }
        match self.their_id(Extension::UploadOnly) {
            Some(id) => {
                let payload = Bytes::copy_from_slice(&[u8::from(upload_only)]);
                self.say(&Message::Extended { id, payload });
            }
            None => {
                let upload_only = Some(upload_only);
                let ids = self.offered;
                self.say_extended(ExtendedHandshake { upload_only, ids, ..ExtendedHandshake::default() });
            }
        }
    }

    pub(super) fn on_metadata(&mut self, message: MetadataMessage) {
        let Some(id) = self.their_id(Extension::UtMetadata).filter(|_| self.stage == Stage::Open) else {
            return;
        };
        match message {
            MetadataMessage::Data { piece, ref data, .. } => {
                if self.metadata.len() >= MAX_METADATA_QUEUED {
                    return self.on_metadata(MetadataMessage::Reject { piece });
                }
                let (dict, mut head) = (message.encode_head(), BytesMut::new());
                wire::encode_extended_head(id, dict.len() + data.len(), &mut head);
                head.extend_from_slice(&dict);
                self.metadata.push_back((head, data.clone()));
            }
            MetadataMessage::Reject { .. } | MetadataMessage::Request { .. } => {
                self.say(&Message::Extended { id, payload: message.encode().into() });
            }
        }
    }

    pub(super) fn on_pex(&mut self, message: &PexMessage) {
        if let Some(id) = self.their_id(Extension::UtPex).filter(|_| self.stage == Stage::Open) {
            self.say(&Message::Extended { id, payload: message.encode().into() });
        }
    }

    pub(super) fn on_holepunch(&mut self, message: HolepunchMessage) {
        if let Some(id) = self.their_id(Extension::UtHolepunch).filter(|_| self.stage == Stage::Open) {
            self.say(&Message::Extended { id, payload: message.encode().into() });
        }
    }

    pub(super) fn next_metadata_len(&self) -> Option<usize> {
        self.metadata.front().map(|(head, data)| head.len() + data.len())
    }

    /// Appends pieces of the metadata, as far as `left` goes.
    pub(super) fn write_metadata(&mut self, left: &mut usize, batch: &mut WriteBatch) {
        while self.next_metadata_len().is_some_and(|len| len <= *left) {
            let Some((head, data)) = self.metadata.pop_front() else { return };
            *left -= head.len() + data.len();
            batch.open.unsplit(head);
            batch.push_bytes(data);
        }
    }
}

impl Offer {
    pub(super) fn handshake(&self) -> ExtendedHandshake {
        ExtendedHandshake { ids: self.ids, metadata_size: self.metadata_len, ..ExtendedHandshake::default() }
    }
}

/// What it may cost that a peer takes pieces back at once, besides one a second: each can cost as much as there are pieces.
const LOST_WORK: u64 = 1 << 22;

/// Pieces of the metadata that may wait to be written to one peer: as many as the longest has.
const MAX_METADATA_QUEUED: usize = 1024;
