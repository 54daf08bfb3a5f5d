//! What is done before it is proved what a torrent is: INV-S-27.

use super::{Facts, Observation, Verdict, hold};
use fast_peer_core::id::{ConnId, TorrentId};
use fast_peer_core::session::Notice;
use fast_peer_core::wire::{
    ExtendedHandshake, Extension, Frame, METADATA_PIECE_LEN, Message, MetadataMessage,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Which metadata a client has, and what it tells of it.
#[derive(Debug, Default)]
pub(super) struct Metadata {
    torrents: Vec<Torrent>,
    talks: BTreeMap<ConnId, Talk>,
}

#[derive(Debug)]
struct Torrent {
    facts: Arc<Facts>,
    id: TorrentId,
    known: bool,
}

#[derive(Debug, Default)]
struct Talk {
    torrent: Option<usize>,
    /// Under which id the peer takes metadata.
    their_id: Option<u8>,
}

impl Metadata {
    pub(super) fn add_torrent(&mut self, facts: &Arc<Facts>, id: TorrentId, known: bool) {
        self.torrents.push(Torrent { facts: facts.clone(), id, known });
    }

    pub(super) fn observe(&mut self, observation: &Observation<'_>) -> Verdict {
        match *observation {
            Observation::DiskOp { torrent, on_files } => {
                let known = self.torrents.iter().any(|it| it.id == torrent && it.known);
                hold(known || !on_files, "INV-S-27", || {
                    "files are touched before it is known which they are".into()
                })?;
            }
            Observation::Gone { conn } => drop(self.talks.remove(&conn)),
            Observation::Notice { notice: Notice::Metadata { torrent, content }, .. } => {
                let Some(torrent) = self.torrents.iter_mut().find(|it| it.id == *torrent) else {
                    return Ok(());
                };
                let right = content.metainfo.info() == &torrent.facts.info;
                hold(right, "INV-S-27", || "it takes metadata in that is not the torrent's".into())?;
                torrent.known = true;
            }
            Observation::Seen { conn, frame: Frame::Message(Message::Extended { id: 0, payload }) } => {
                if let Ok(theirs) = ExtendedHandshake::parse(payload)
                    && let Some(id) = theirs.ids.id(Extension::UtMetadata)
                {
                    self.talks.entry(conn).or_default().their_id = Some(id);
                }
            }
            Observation::Sent { conn, frame, .. } => return self.on_sent(conn, frame),
            _ => {}
        }
        Ok(())
    }

    fn on_sent(&mut self, conn: ConnId, frame: &Frame) -> Verdict {
        let talk = self.talks.entry(conn).or_default();
        if let Frame::Handshake(handshake) = frame {
            talk.torrent = self.torrents.iter().position(|it| it.facts.info_hash == handshake.info_hash);
        }
        let Some(torrent) = talk.torrent.and_then(|index| self.torrents.get(index)) else { return Ok(()) };
        match frame {
            Frame::Message(Message::Interested | Message::Request(_)) => {
                hold(torrent.known, "INV-S-27", || "it wants pieces before it knows which there are".into())
            }
            Frame::Message(Message::Extended { id, payload }) if Some(*id) == talk.their_id => {
                let Ok(Some(MetadataMessage::Data { piece, data, .. })) = MetadataMessage::parse(payload)
                else {
                    return Ok(());
                };
                let from = (piece * METADATA_PIECE_LEN) as usize;
                let right = torrent.facts.info.get(from..from + data.len()) == Some(&data[..]);
                hold(torrent.known && right, "INV-S-27", || {
                    format!("it gives out piece {piece} of metadata that is not proved")
                })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::expect_breach;
    use super::{
        ConnId, ExtendedHandshake, Extension, Facts, Frame, Message, Metadata, MetadataMessage, Notice,
        Observation, TorrentId, Verdict,
    };
    use bytes::Bytes;
    use fast_peer_core::id::{InfoHash, PeerId};
    use fast_peer_core::lengths::Lengths;
    use fast_peer_core::metainfo::Metainfo;
    use fast_peer_core::session::NewContent;
    use fast_peer_core::wire::{ExtensionIds, Handshake, RawBlock, Reserved};
    use std::sync::Arc;

    const T: TorrentId = TorrentId(0);
    const C: ConnId = ConnId(1);
    const INFO: &[u8] = b"d6:lengthi3e4:name1:n12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaae";

    /// A client with a connection to a peer that takes metadata.
    fn talking(known: bool) -> Metadata {
        let facts = Facts {
            info_hash: InfoHash([7; 20]),
            lengths: Lengths::contiguous(3, 16384).unwrap(),
            info: Bytes::from_static(INFO),
            private: false,
        };
        let mut metadata = Metadata::default();
        metadata.add_torrent(&Arc::new(facts), T, known);
        let (reserved, peer_id) = (Reserved::NONE.with_extended(), PeerId([1; 20]));
        let handshake = Handshake { reserved, info_hash: InfoHash([7; 20]), peer_id };
        sent(&mut metadata, &Frame::Handshake(handshake)).unwrap();
        let mut ids = ExtensionIds::NONE;
        ids.set(Extension::UtMetadata, 9);
        let payload = ExtendedHandshake { ids, ..ExtendedHandshake::default() }.encode().into();
        let frame = Frame::Message(Message::Extended { id: 0, payload });
        metadata.observe(&Observation::Seen { conn: C, frame: &frame }).unwrap();
        metadata
    }

    fn sent(metadata: &mut Metadata, frame: &Frame) -> Verdict {
        metadata.observe(&Observation::Sent { conn: C, frame, false_claim: None, unsent: 0 })
    }

    fn data(bytes: &[u8]) -> Frame {
        let data = Bytes::copy_from_slice(bytes);
        let payload = MetadataMessage::Data { piece: 0, total_len: None, data }.encode().into();
        Frame::Message(Message::Extended { id: 9, payload })
    }

    fn learned(info: &'static [u8]) -> Notice {
        let metainfo = Metainfo::from_info(Bytes::from_static(info)).unwrap();
        Notice::Metadata { torrent: T, content: Box::new(NewContent::new(Arc::new(metainfo))) }
    }

    #[test]
    fn s27_pieces_or_files_before_the_metadata() {
        let block = RawBlock { piece: 0, begin: 0, len: 3 };
        for message in [Message::Interested, Message::Request(block)] {
            expect_breach(sent(&mut talking(false), &Frame::Message(message.clone())), "INV-S-27");
            sent(&mut talking(true), &Frame::Message(message)).unwrap();
        }
        let on_files = Observation::DiskOp { torrent: T, on_files: true };
        expect_breach(talking(false).observe(&on_files), "INV-S-27");
        talking(true).observe(&on_files).unwrap();
        talking(false).observe(&Observation::DiskOp { torrent: T, on_files: false }).unwrap();
    }

    #[test]
    fn s27_other_metadata_is_taken_in() {
        let other: &[u8] = b"d6:lengthi3e4:name1:x12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaae";
        let (right, wrong) = (learned(INFO), learned(other));
        let notice = |notice| Observation::Notice { notice, honest: true };
        expect_breach(talking(false).observe(&notice(&wrong)), "INV-S-27");
        let mut metadata = talking(false);
        metadata.observe(&notice(&right)).unwrap();
        sent(&mut metadata, &Frame::Message(Message::Interested)).expect("it is known by then");
    }

    #[test]
    fn s27_metadata_is_given_out_that_is_wrong_or_not_proved() {
        sent(&mut talking(true), &data(INFO)).unwrap();
        expect_breach(sent(&mut talking(false), &data(INFO)), "INV-S-27");
        expect_breach(sent(&mut talking(true), &data(b"d6:lengthi4e")), "INV-S-27");
    }
}
