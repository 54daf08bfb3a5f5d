//! Packets of uTP as they lie in a datagram (BEP 29).

use bytes::{BufMut as _, BytesMut};

/// The bytes of a packet before its extensions and its payload.
pub const HEADER_LEN: usize = 20;

/// What a packet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Carries a part of the stream.
    Data,
    /// Ends the stream; has a sequence number like data.
    Fin,
    /// Only acknowledges; has no sequence number of its own.
    State,
    /// Ends the connection at once.
    Reset,
    /// Opens a connection.
    Syn,
}

/// The fixed part of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What it is for.
    pub kind: Kind,
    /// The receiver's name of the connection; in a SYN, the name by which the sender wants to be answered.
    pub connection: u16,
    /// The sender's clock, in microseconds.
    pub timestamp: u32,
    /// How long the last packet in the other direction took by the clocks of both, in microseconds; zero if none came.
    pub difference: u32,
    /// The bytes that the sender is ready to receive after what it acknowledges.
    pub window: u32,
    /// The packet's number.
    pub seq: u16,
    /// The last number that arrived in order.
    pub ack: u16,
}

/// A packet that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Its fixed part.
    pub header: Header,
    /// The selective acknowledgement, empty if there is none: bit 0 of byte 0 is the packet `ack + 2`, and so on.
    pub sack: &'a [u8],
    /// The part of the stream that it carries.
    pub payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Reads a datagram. `None` if it isn't a packet of version 1 or one of its extensions ends beyond it. Extensions that
    /// nobody knows are skipped.
    pub fn parse(data: &'a [u8]) -> Option<Self> {
        let (head, mut rest) = data.split_first_chunk::<HEADER_LEN>()?;
        let kind = match head[0] {
            0x01 => Kind::Data,
            0x11 => Kind::Fin,
            0x21 => Kind::State,
            0x31 => Kind::Reset,
            0x41 => Kind::Syn,
            _ => return None,
        };
        let short = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
        let long = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let header = Header {
            kind,
            connection: short(2),
            timestamp: long(4),
            difference: long(8),
            window: long(12),
            seq: short(16),
            ack: short(18),
        };
        let (mut extension, mut sack) = (head[1], &[][..]);
        while extension != 0 {
            let ([next, len], after) = rest.split_first_chunk()?;
            let (body, after) = after.split_at_checked(usize::from(*len))?;
            if extension == SELECTIVE_ACK && body.len().is_multiple_of(4) {
                sack = body;
            }
            (extension, rest) = (*next, after);
        }
        Some(Self { header, sack, payload: rest })
    }
}

/// Whether a datagram that came to a port shared with others means to be a packet of uTP.
pub fn is_utp(data: &[u8]) -> bool {
    data.len() >= HEADER_LEN && data[0] & 0xf == 1 && data[0] >> 4 <= 4
}

impl Header {
    /// Appends the fixed part, followed by no extension.
    pub fn encode(&self, out: &mut BytesMut) {
        self.put(0, out);
    }

    /// Appends the fixed part and a selective acknowledgement, whose length is a multiple of four and at most 252.
    pub fn encode_with_sack(&self, sack: &[u8], out: &mut BytesMut) {
        assert!(sack.len().is_multiple_of(4) && sack.len() <= MAX_SACK_LEN, "a bit mask has whole words");
        self.put(SELECTIVE_ACK, out);
        out.put_slice(&[0, sack.len() as u8]);
        out.put_slice(sack);
    }

    /// Appends the fixed part and extensions without a meaning that are `padding` bytes long.
    pub fn encode_padded(&self, mut padding: usize, out: &mut BytesMut) {
        if padding < 2 {
            return self.encode(out);
        }
        self.put(PADDING, out);
        while padding > 0 {
            // What follows must have room for a head of two bytes, or not be there.
            let whole = padding.min(2 + MAX_PADDING_LEN);
            let whole = if padding - whole == 1 { whole - 1 } else { whole };
            padding -= whole;
            out.put_slice(&[if padding > 0 { PADDING } else { 0 }, (whole - 2) as u8]);
            out.put_bytes(0, whole - 2);
        }
    }

    fn put(&self, extension: u8, out: &mut BytesMut) {
        let kind = match self.kind {
            Kind::Data => 0,
            Kind::Fin => 1,
            Kind::State => 2,
            Kind::Reset => 3,
            Kind::Syn => 4,
        };
        let mut head = [0; HEADER_LEN];
        head[0] = kind << 4 | 1;
        head[1] = extension;
        head[2..4].copy_from_slice(&self.connection.to_be_bytes());
        head[4..8].copy_from_slice(&self.timestamp.to_be_bytes());
        head[8..12].copy_from_slice(&self.difference.to_be_bytes());
        head[12..16].copy_from_slice(&self.window.to_be_bytes());
        head[16..18].copy_from_slice(&self.seq.to_be_bytes());
        head[18..20].copy_from_slice(&self.ack.to_be_bytes());
        out.put_slice(&head);
    }
}

/// How far `to` lies after `from` in the circle of sequence numbers; negative if it lies before.
pub(super) const fn distance(from: u16, to: u16) -> i16 {
    to.wrapping_sub(from).cast_signed()
}

/// The longest bit mask that an extension can hold.
pub const MAX_SACK_LEN: usize = 252;

const MAX_PADDING_LEN: usize = 255;

const SELECTIVE_ACK: u8 = 1;

/// A number that no client gives a meaning to.
const PADDING: u8 = 0x70;

#[cfg(test)]
mod tests {
    use super::{HEADER_LEN, Header, Kind, Packet, distance, is_utp};
    use bytes::BytesMut;

    const HEADER: Header = Header {
        kind: Kind::State,
        connection: 0x2741,
        timestamp: 0x005e_885e,
        difference: 0x36a7_e883,
        window: 0x0010_0000,
        seq: 0x41a7,
        ack: 0x2e6d,
    };

    #[test]
    fn a_packet_is_laid_out_as_bep_29_says() {
        let mut bytes = BytesMut::new();
        HEADER.encode_with_sack(&[1, 0, 0, 0x80], &mut bytes);
        let written = b"\x21\x01\x27\x41\x00\x5e\x88\x5e\x36\xa7\xe8\x83\x00\x10\x00\x00\x41\xa7\x2e\x6d\
            \x00\x04\x01\x00\x00\x80";
        assert_eq!(bytes[..], written[..]);
        assert_eq!(
            Packet::parse(written),
            Some(Packet { header: HEADER, sack: &[1, 0, 0, 0x80], payload: b"" })
        );
    }

    #[test]
    fn unknown_extensions_are_skipped() {
        let header = Header { kind: Kind::Data, ..HEADER };
        for padding in (2..600).chain([70_000]) {
            let mut bytes = BytesMut::new();
            header.encode_padded(padding, &mut bytes);
            assert_eq!(bytes.len(), HEADER_LEN + padding);
            bytes.extend_from_slice(b"data");
            assert_eq!(Packet::parse(&bytes), Some(Packet { header, sack: &[], payload: b"data" }));
        }
    }

    #[test]
    fn what_ends_early_is_no_packet() {
        let mut bytes = BytesMut::new();
        HEADER.encode_with_sack(&[1; 8], &mut bytes);
        (0..bytes.len()).for_each(|len| assert_eq!(Packet::parse(&bytes[..len]), None));
        for first in [0x00, 0x02, 0x51, 0x64] {
            bytes[0] = first;
            assert_eq!(Packet::parse(&bytes), None);
        }
    }

    #[test]
    fn a_mask_without_whole_words_is_skipped() {
        let mut bytes = BytesMut::new();
        HEADER.encode_with_sack(&[1; 4], &mut bytes);
        bytes[21] = 3;
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!((packet.sack, packet.payload), (&[][..], &[1][..]));
    }

    #[test]
    fn other_protocols_of_the_port_are_told_apart() {
        assert!(!is_utp(b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe"));
        assert!(!is_utp(&[0; 20]) && !is_utp(&[0x51; 20]) && !is_utp(&[0x21; 19]));
        assert!(is_utp(&[0x21; 20]));
    }

    #[test]
    fn numbers_go_round_in_a_circle() {
        assert_eq!(distance(0xffff, 1), 2);
        assert_eq!(distance(1, 0xffff), -2);
        assert_eq!(distance(7, 7), 0);
    }
}
