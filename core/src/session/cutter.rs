//! Where the bytes of a stream are cut into messages and blocks, if no driver reads them.

use super::Intake;
use bytes::{Bytes, BytesMut};

/// The bytes of one stream that came and were not taken in.
///
/// A block is gathered in a buffer of its own, as long as the block. A slice of the datagrams would spare that copy, but
/// each could hold a buffer of 64 KiB for a few bytes, which no budget would count.
#[derive(Debug, Default)]
pub(super) struct Cutter {
    /// Messages; what is behind the head of a `piece` belongs to its block.
    control: BytesMut,
    block: Option<Block>,
}

#[derive(Debug)]
struct Block {
    len: usize,
    bytes: BytesMut,
}

/// What there is to do.
#[derive(Debug)]
pub(super) enum Cut {
    /// A block is whole.
    Block(Bytes),
    /// There are new messages in [`Cutter::control`].
    Control,
    /// Nothing before more comes.
    Wait,
}

impl Cutter {
    /// Takes bytes off the front of `data`; `decipher` is applied to them in their new place.
    pub(super) fn take(&mut self, data: &mut Bytes, decipher: impl FnOnce(&mut [u8])) -> Cut {
        if let Some(block) = &mut self.block {
            let missing = block.len - block.bytes.len();
            let part = data.split_to(missing.min(data.len()));
            let before = block.bytes.len();
            block.bytes.extend_from_slice(&part);
            decipher(&mut block.bytes[before..]);
            let whole = self.block.take_if(|block| block.bytes.len() == block.len);
            return whole.map_or(Cut::Wait, |block| Cut::Block(block.bytes.freeze()));
        }
        if data.is_empty() {
            return Cut::Wait;
        }
        let before = self.control.len();
        self.control.extend_from_slice(&core::mem::take(data));
        decipher(&mut self.control[before..]);
        Cut::Control
    }

    /// Lends the messages out, until they are [put back](Self::put_back).
    pub(super) fn control(&mut self) -> BytesMut {
        core::mem::take(&mut self.control)
    }

    /// Takes back what is left of the messages, and what was said of them.
    pub(super) fn put_back(&mut self, mut control: BytesMut, intake: Intake) {
        if let Intake::Payload(len) = intake {
            let len = len as usize;
            let mut bytes = BytesMut::with_capacity(len);
            bytes.extend_from_slice(&control.split_to(len.min(control.len())));
            self.block = Some(Block { len, bytes });
        }
        self.control = control;
    }

    /// Whether messages wait that may be whole.
    pub(super) fn has_control(&self) -> bool {
        self.block.is_none() && !self.control.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::{Cut, Cutter};
    use crate::session::Intake;
    use alloc::vec;
    use alloc::vec::Vec;
    use bytes::{Buf as _, Bytes};

    /// Messages of one byte each; one of them announces a block that is as long as it says.
    fn cut(parts: &[&[u8]]) -> Vec<Vec<u8>> {
        let (mut cutter, mut out) = (Cutter::default(), vec![]);
        for part in parts {
            let mut data = Bytes::copy_from_slice(part);
            let mut next = cutter.take(&mut data, |bytes| bytes.iter_mut().for_each(|byte| *byte ^= 0x80));
            loop {
                match next {
                    Cut::Block(block) => out.push(block.to_vec()),
                    Cut::Wait => break,
                    Cut::Control => {}
                }
                while cutter.has_control() {
                    let mut control = cutter.control();
                    let len = u32::from(control.get_u8());
                    out.push(vec![len as u8]);
                    let intake = if len == 0 { Intake::Again } else { Intake::Payload(len) };
                    cutter.put_back(control, intake);
                }
                next = cutter.take(&mut data, |bytes| bytes.iter_mut().for_each(|byte| *byte ^= 0x80));
            }
        }
        assert!(cutter.block.is_none() && cutter.control.is_empty());
        out
    }

    #[test]
    fn any_split_gives_the_same_messages_and_blocks() {
        let plain = [0, 3, 7, 8, 9, 0, 0, 1, 5, 2, 6, 6, 0];
        let stream: Vec<u8> = plain.iter().map(|byte| byte ^ 0x80).collect();
        let want: Vec<Vec<u8>> =
            [&[0][..], &[3], &[7, 8, 9], &[0], &[0], &[1], &[5], &[2], &[6, 6], &[0]].map(Vec::from).into();
        for a in 0..=stream.len() {
            for b in a..=stream.len() {
                let parts = [&stream[..a], &stream[a..b], &stream[b..]];
                assert_eq!(cut(&parts), want, "cut at {a} and {b}");
            }
        }
    }
}
