//! What a bystander reads off a stream: the frames as they are sent, and when the other side has used them up.

use bytes::{BufMut as _, BytesMut};
use core::fmt;
use fast_peer_core::session::Segment;
use fast_peer_core::store::payload::Payload;
use fast_peer_core::wire::{Decoder, Frame, HolepunchMessage, Message, MetadataMessage, PexMessage};

/// Something that was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Spoken {
    /// A part of the block that the last frame announced.
    Block { piece: u32, begin: u32, part: Payload },
    /// A frame, and the offset in the stream at which it ends, a block counted.
    Frame { frame: Frame, end: u64 },
}

/// A frame as a line of a trace shows it: what an extended message says, and not only how long it is.
pub(crate) struct Shown<'a>(pub(crate) &'a Frame);

impl Shown<'_> {
    /// What it says about other peers, if it does. No other extended message has these keys.
    fn exchange(&self) -> Option<PexMessage> {
        let Frame::Message(Message::Extended { id: 1.., payload }) = self.0 else { return None };
        PexMessage::parse(payload).ok().filter(|_| payload.starts_with(b"d5:added"))
    }

    /// What it says about a connection to another peer. No other extended message is as long and begins like that.
    fn holepunch(&self) -> Option<HolepunchMessage> {
        let Frame::Message(Message::Extended { id: 1.., payload }) = self.0 else { return None };
        HolepunchMessage::parse(payload).filter(|message| message.encode() == payload[..])
    }

    pub(crate) fn is_exchange(&self) -> bool {
        self.exchange().is_some()
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Frame::Message(Message::Extended { id: 1.., payload }) = self.0 else { return self.0.fmt(f) };
        match (MetadataMessage::parse(payload), self.exchange(), self.holepunch()) {
            (Ok(Some(message)), ..) => message.fmt(f),
            (_, Some(message), _) => message.fmt(f),
            (.., Some(message)) => write!(f, "holepunch {message}"),
            _ => self.0.fmt(f),
        }
    }
}

/// Reads one direction of a stream. Of what breaks the protocol it reads nothing more.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    decoder: Decoder,
    buffer: BytesMut,
    /// The rest of a block: its piece, where it goes on, and its length.
    block: Option<(u32, u32, u32)>,
    fed: u64,
    broken: bool,
}

impl Watch {
    /// Takes in what is sent next and says what it means, in order.
    pub(crate) fn feed(&mut self, segment: &Segment, mut say: impl FnMut(Spoken)) {
        self.fed += segment.len() as u64;
        if self.broken {
            return;
        }
        match segment {
            Segment::Inline(bytes) if self.block.is_none() => self.buffer.put_slice(bytes),
            Segment::Inline(bytes) => {
                let rest = self.take_block(&Payload::Content(bytes.clone()), &mut say);
                self.buffer.put_slice(&bytes[bytes.len() - rest as usize..]);
            }
            Segment::Payload(payload) => {
                let rest = self.take_block(payload, &mut say);
                // Only what fakes send can be longer than the block that was announced.
                self.broken |= rest > 0;
            }
        }
        while !self.broken && self.block.is_none() && !self.buffer.is_empty() {
            match self.decoder.decode(&mut self.buffer) {
                Ok(Some(frame)) => self.take_frame(frame, &mut say),
                Ok(None) => break,
                Err(_) => self.broken = true,
            }
        }
    }

    fn take_frame(&mut self, frame: Frame, say: &mut impl FnMut(Spoken)) {
        let mut end = self.fed - self.buffer.len() as u64;
        if let Frame::PieceHead { piece, begin, len } = frame {
            end += u64::from(len);
            self.block = Some((piece, begin, len));
        }
        say(Spoken::Frame { frame, end });
        if self.block.is_some() && !self.buffer.is_empty() {
            let bytes = self.buffer.split().freeze();
            let rest = self.take_block(&Payload::Content(bytes.clone()), say);
            self.buffer.put_slice(&bytes[bytes.len() - rest as usize..]);
        }
    }

    /// Takes what belongs to the block under way and returns how much of `payload` is left.
    fn take_block(&mut self, payload: &Payload, say: &mut impl FnMut(Spoken)) -> u32 {
        let Some((piece, begin, left)) = self.block else { return payload.len() };
        let len = left.min(payload.len());
        say(Spoken::Block { piece, begin, part: payload.slice(0..len) });
        self.block = (left > len).then_some((piece, begin + len, left - len));
        payload.len() - len
    }
}

#[cfg(test)]
mod tests {
    use super::{Spoken, Watch};
    use bytes::{Bytes, BytesMut};
    use fast_peer_core::id::{InfoHash, PeerId};
    use fast_peer_core::session::Segment;
    use fast_peer_core::store::payload::Payload;
    use fast_peer_core::wire::{
        Frame, Handshake, Message, Reserved, encode, encode_handshake, encode_piece_head,
    };

    fn spoken(segments: &[Segment]) -> Vec<Spoken> {
        let (mut watch, mut said) = (Watch::default(), vec![]);
        segments.iter().for_each(|segment| watch.feed(segment, |spoken| said.push(spoken)));
        said
    }

    fn opening() -> BytesMut {
        let mut bytes = BytesMut::new();
        let handshake =
            Handshake { reserved: Reserved::NONE, info_hash: InfoHash([1; 20]), peer_id: PeerId([2; 20]) };
        encode_handshake(&handshake, &mut bytes);
        encode_piece_head(3, 16384, 5, &mut bytes);
        bytes
    }

    #[test]
    fn a_block_is_read_whether_it_is_bytes_a_buffer_or_a_length() {
        let mut tail = BytesMut::new();
        encode(&Message::Have(9), &mut tail);
        let mut flat = opening();
        flat.extend_from_slice(b"block");
        flat.extend_from_slice(&tail);
        let flat = spoken(&[Segment::Inline(flat.freeze())]);
        let frames: Vec<_> = flat
            .iter()
            .filter_map(|said| match said {
                Spoken::Frame { frame, end } => Some((frame.clone(), *end)),
                Spoken::Block { .. } => None,
            })
            .collect();
        assert_eq!(frames[1], (Frame::PieceHead { piece: 3, begin: 16384, len: 5 }, 68 + 13 + 5));
        assert_eq!(frames[2], (Frame::Message(Message::Have(9)), 68 + 13 + 5 + 9));
        let part = Payload::Content(Bytes::from_static(b"block"));
        assert_eq!(flat[2], Spoken::Block { piece: 3, begin: 16384, part: part.clone() });
        for part in [part, Payload::Length(5)] {
            let apart = [
                Segment::Inline(opening().freeze()),
                Segment::Payload(part.clone()),
                Segment::Inline(tail.clone().freeze()),
            ];
            let said = spoken(&apart);
            assert_eq!(said[2], Spoken::Block { piece: 3, begin: 16384, part });
            assert_eq!((said.len(), &said[3]), (4, &flat[3]));
        }
    }

    #[test]
    fn nothing_is_read_after_a_breach() {
        let mut bytes = opening();
        bytes.extend_from_slice(b"block\xff\xff\xff\xff");
        encode(&Message::Choke, &mut bytes);
        assert_eq!(spoken(&[Segment::Inline(bytes.freeze())]).len(), 3);
    }
}
