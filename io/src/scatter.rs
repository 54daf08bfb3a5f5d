//! Reading blocks where they belong. The session can say what a connection owes, so it is known how the next bytes will
//! probably lie: rest of a block, head, block, head, block, … One vectored read scatters them into buffers of their own,
//! and what arrives as guessed is never copied. Where the guess is wrong (a `have` came in between), the rest of that
//! read is put together again and parsed in order.

use crate::pool::{Buf, Pool};
use bytes::{Bytes, BytesMut};
use fast_peer_core::lengths::BLOCK_LEN;
use fast_peer_core::session::Intake;
use std::io::IoSliceMut;

/// Who makes sense of the bytes of one connection.
pub(crate) trait Sink {
    /// As `Session::handle_bytes`.
    fn bytes(&mut self, bytes: &mut BytesMut) -> Intake;

    /// As `Session::handle_payload`; false if the connection is gone.
    fn payload(&mut self, block: Bytes) -> bool;
}

/// Where a connection stands after its bytes were taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// [`Scatter::resume`] before anything else is read, after others had their turn.
    Again,
    /// It is gone.
    Closed,
    /// It can take more bytes.
    Open,
}

/// Bytes handed over as blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// All of them.
    pub payload_bytes: u64,
    /// Those that were copied on the way, because they lay elsewhere than expected.
    pub copied_payload_bytes: u64,
}

/// Buffers that all connections of a thread use in turn. Between reads nothing in them matters.
#[derive(Debug)]
pub(crate) struct Landing {
    pool: Pool,
    plan: Vec<u32>,
    heads: Box<[[u8; HEAD_LEN]]>,
    blocks: Vec<Buf>,
    tail: Box<[u8]>,
    /// An allocation for the next connection that has to keep bytes.
    spare: BytesMut,
    /// What has gone through.
    pub(crate) counted: Counters,
}

/// What one connection keeps between reads. Holds no buffer while the stream stands between two messages.
#[derive(Debug, Default)]
pub(crate) struct Scatter {
    /// Bytes that the session has not used up.
    control: BytesMut,
    /// The block that the session expects, as far as it came.
    block: Option<Filling>,
}

#[derive(Debug)]
struct Filling {
    buf: Buf,
    filled: usize,
    len: usize,
}

impl Landing {
    pub(crate) fn new(pool: Pool) -> Self {
        Self {
            pool,
            plan: Vec::with_capacity(MAX_BLOCKS),
            heads: vec![[0; HEAD_LEN]; MAX_BLOCKS].into(),
            blocks: Vec::with_capacity(MAX_BLOCKS),
            tail: vec![0; TAIL_LEN].into(),
            spare: BytesMut::new(),
            counted: Counters::default(),
        }
    }

    /// To be filled with what the connection that reads next owes.
    pub(crate) fn plan(&mut self) -> &mut Vec<u32> {
        self.plan.clear();
        &mut self.plan
    }
}

impl Scatter {
    /// The buffers for the next read, at most `limit` bytes: first what is missing of a block, then the plan, then room
    /// for other messages.
    pub(crate) fn slices<'a>(&'a mut self, landing: &'a mut Landing, limit: usize) -> Vec<IoSliceMut<'a>> {
        // Behind a message that is cut elsewhere than in a head, nothing lies as planned.
        let planned = self.control.len() < HEAD_LEN;
        // Behind so many blocks more of them follow, in the place where other messages would be expected.
        let whole = !planned || landing.plan.len() < MAX_BLOCKS;
        landing.plan.truncate(if planned { MAX_BLOCKS } else { 0 });
        landing.plan.retain(|len| (1..=BLOCK_LEN).contains(len));
        while landing.blocks.len() < landing.plan.len() {
            landing.blocks.push(landing.pool.take());
        }
        let mut slices = Vec::with_capacity(2 + 2 * landing.plan.len());
        let mut left = limit;
        let mut push = |bytes: &'a mut [u8]| {
            let len = bytes.len().min(left);
            left -= len;
            if len > 0 {
                slices.push(IoSliceMut::new(&mut bytes[..len]));
            }
        };
        if let Some(Filling { buf, filled, len }) = &mut self.block {
            push(&mut buf.bytes_mut()[*filled..*len]);
        }
        // A head that has begun lacks its end only.
        let mut begun = self.control.len();
        for ((head, block), len) in landing.heads.iter_mut().zip(&mut landing.blocks).zip(&landing.plan) {
            push(&mut head[begun..]);
            push(&mut block.bytes_mut()[..*len as usize]);
            begun = 0;
        }
        if whole {
            push(&mut landing.tail);
        }
        slices
    }

    /// Takes in the first `read` bytes of the buffers that [`slices`](Self::slices) gave.
    pub(crate) fn take_in(&mut self, landing: &mut Landing, read: usize, sink: &mut impl Sink) -> Standing {
        let mut left = read;
        if let Some(block) = &mut self.block {
            let count = left.min(block.len - block.filled);
            block.filled += count;
            left -= count;
            if !self.hand_over(&mut landing.counted, sink) {
                return Standing::Closed;
            }
        }
        let mut begun = self.control.len();
        let mut at = 0;
        while left > 0 && at < landing.plan.len() {
            let head = &landing.heads[at][begun..];
            let count = left.min(head.len());
            keep(&mut self.control, &mut landing.spare, &head[..count]);
            left -= count;
            if count < head.len() {
                break;
            }
            let len = landing.plan[at] as usize;
            let answer = sink.bytes(&mut self.control);
            if answer == Intake::Closed {
                return Standing::Closed;
            }
            if answer != Intake::Payload(landing.plan[at]) || !self.control.is_empty() {
                return self.reassemble(landing, at, left, answer, sink);
            }
            let buf = std::mem::replace(&mut landing.blocks[at], landing.pool.take());
            let filled = left.min(len);
            self.block = Some(Filling { buf, filled, len });
            left -= filled;
            if !self.hand_over(&mut landing.counted, sink) {
                return Standing::Closed;
            }
            begun = 0;
            at += 1;
        }
        if left > 0 {
            keep(&mut self.control, &mut landing.spare, &landing.tail[..left]);
        }
        self.settle(landing, None, sink)
    }

    /// Goes on with bytes that were there when the session wanted a break.
    pub(crate) fn resume(&mut self, landing: &mut Landing, sink: &mut impl Sink) -> Standing {
        self.settle(landing, None, sink)
    }

    /// The head number `at` was none, or one of another block: what was read behind it is put behind what the session
    /// left of it, and parsed in order.
    fn reassemble(
        &mut self,
        landing: &mut Landing,
        at: usize,
        mut left: usize,
        answer: Intake,
        sink: &mut impl Sink,
    ) -> Standing {
        let Landing { plan, heads, blocks, tail, spare, .. } = landing;
        let mut put = |bytes: &[u8]| {
            let count = left.min(bytes.len());
            keep(&mut self.control, spare, &bytes[..count]);
            left -= count;
        };
        for i in at..plan.len() {
            if i > at {
                put(&heads[i]);
            }
            put(&blocks[i].bytes_mut()[..plan[i] as usize]);
        }
        put(tail);
        // The session has seen too little of these bytes to know that it needs more.
        self.settle(landing, Some(answer).filter(|answer| *answer != Intake::NeedMore), sink)
    }

    /// Lets the session parse what is kept, from its last answer on if there is one.
    fn settle(&mut self, landing: &mut Landing, mut last: Option<Intake>, sink: &mut impl Sink) -> Standing {
        let standing = loop {
            if self.control.is_empty() && last.is_none() {
                break Standing::Open;
            }
            match last.take().unwrap_or_else(|| sink.bytes(&mut self.control)) {
                Intake::Again => break Standing::Again,
                Intake::Closed => break Standing::Closed,
                Intake::NeedMore => break Standing::Open,
                Intake::Payload(len) => {
                    let len = len as usize;
                    let mut buf = landing.pool.take();
                    let filled = len.min(self.control.len());
                    buf.bytes_mut()[..filled].copy_from_slice(&self.control.split_to(filled));
                    landing.counted.copied_payload_bytes += filled as u64;
                    self.block = Some(Filling { buf, filled, len });
                    if !self.hand_over(&mut landing.counted, sink) {
                        break Standing::Closed;
                    }
                }
            }
        };
        if self.control.is_empty() {
            let drained = std::mem::take(&mut self.control);
            if drained.capacity() <= TAIL_LEN {
                landing.spare = drained;
            }
        }
        standing
    }

    /// Hands the block over if it is whole; false if the connection is gone.
    fn hand_over(&mut self, counted: &mut Counters, sink: &mut impl Sink) -> bool {
        match self.block.take_if(|block| block.filled == block.len) {
            Some(Filling { buf, len, .. }) => {
                counted.payload_bytes += len as u64;
                sink.payload(buf.freeze(len))
            }
            None => true,
        }
    }
}

/// Puts `bytes` behind what is kept.
fn keep(control: &mut BytesMut, spare: &mut BytesMut, bytes: &[u8]) {
    if control.capacity() == 0 {
        std::mem::swap(control, spare);
    }
    control.extend_from_slice(bytes);
}

/// BEP 3: a `piece` message is its length, its id and two numbers, and then the block.
const HEAD_LEN: usize = 13;

/// Blocks in one read: with fewer than 64, measured, the wake-ups cost more than the reads.
const MAX_BLOCKS: usize = 64;

/// Room for messages other than `piece` in one read.
const TAIL_LEN: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::{Counters, HEAD_LEN, Landing, Scatter, Sink, Standing};
    use crate::pool::Pool;
    use bytes::{Buf as _, Bytes, BytesMut};
    use fast_peer_core::session::Intake;
    use proptest::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq)]
    enum Message {
        /// Of so many bytes behind its id.
        Other(u8, usize),
        Block(Vec<u8>),
    }

    impl Message {
        fn write(&self, out: &mut Vec<u8>) {
            match self {
                Self::Other(id, len) => {
                    out.extend((1 + *len as u32).to_be_bytes());
                    out.push(*id);
                    out.extend(vec![*id; *len]);
                }
                Self::Block(data) => {
                    out.extend((9 + data.len() as u32).to_be_bytes());
                    out.push(7);
                    out.extend([0; 8]);
                    out.extend(data);
                }
            }
        }
    }

    /// A session that only cuts messages, `budget` of them at a call.
    struct Cutter {
        budget: usize,
        expected: Option<usize>,
        heard: Vec<Message>,
    }

    impl Sink for Cutter {
        fn bytes(&mut self, bytes: &mut BytesMut) -> Intake {
            assert_eq!(self.expected, None, "a block was announced");
            for _ in 0..self.budget {
                let Some(prefix) = bytes.first_chunk::<4>() else { return Intake::NeedMore };
                let len = u32::from_be_bytes(*prefix) as usize;
                match bytes.get(4) {
                    Some(7) if bytes.len() >= HEAD_LEN => {
                        bytes.advance(HEAD_LEN);
                        self.expected = Some(len - 9);
                        return Intake::Payload(len as u32 - 9);
                    }
                    Some(id) if *id != 7 && bytes.len() >= 4 + len => {
                        self.heard.push(Message::Other(*id, len - 1));
                        bytes.advance(4 + len);
                    }
                    _ => return Intake::NeedMore,
                }
            }
            Intake::Again
        }

        fn payload(&mut self, block: Bytes) -> bool {
            assert_eq!(self.expected.take(), Some(block.len()));
            self.heard.push(Message::Block(block.to_vec()));
            true
        }
    }

    /// Feeds `stream` in reads of at most `cuts` bytes, each against a plan of `owed`.
    fn run(stream: &[u8], cuts: &[usize], owed: &[Vec<u32>], budget: usize) -> (Vec<Message>, Landing) {
        let mut landing = Landing::new(Pool::new(64));
        let mut scatter = Scatter::default();
        let mut sink = Cutter { budget, expected: None, heard: vec![] };
        let mut rest = stream;
        for i in 0.. {
            if rest.is_empty() {
                break;
            }
            landing.plan().extend(&owed[i % owed.len()]);
            let mut read = 0;
            for mut slice in scatter.slices(&mut landing, cuts[i % cuts.len()]) {
                let count = slice.len().min(rest.len());
                slice[..count].copy_from_slice(&rest[..count]);
                rest = &rest[count..];
                read += count;
            }
            let mut standing = scatter.take_in(&mut landing, read, &mut sink);
            while standing == Standing::Again {
                standing = scatter.resume(&mut landing, &mut sink);
            }
            assert_eq!(standing, Standing::Open);
        }
        assert!(
            scatter.control.is_empty() && scatter.block.is_none(),
            "the stream ends between two messages"
        );
        assert_eq!(scatter.control.capacity(), 0, "and nothing is held there");
        (sink.heard, landing)
    }

    fn stream(messages: &[Message]) -> Vec<u8> {
        let mut out = vec![];
        messages.iter().for_each(|message| message.write(&mut out));
        out
    }

    fn block(seed: u8, len: usize) -> Message {
        Message::Block((0..len).map(|i| (i as u8).wrapping_mul(seed)).collect())
    }

    #[test]
    fn blocks_in_the_order_of_the_plan_are_not_copied() {
        let messages: Vec<_> = (1..=40).map(|i| block(i, if i == 40 { 77 } else { 16384 })).collect();
        let mut owed = vec![16384; 39];
        owed.push(77);
        // Reads that end within heads and within blocks, and plans that still name what has come: the last block is
        // shorter than they say.
        let (heard, landing) = run(&stream(&messages), &[16404, 30, 100_000], &[owed], 1);
        assert!(heard == messages);
        assert_eq!(landing.counted.copied_payload_bytes, 77);
        assert_eq!(landing.counted.payload_bytes, 39 * 16384 + 77);
    }

    #[test]
    fn more_blocks_than_one_read_takes_are_not_copied_either() {
        let messages: Vec<_> = (0..100).map(|i| block(i, 16384)).collect();
        let (heard, landing) =
            run(&stream(&messages), &[usize::MAX], &[vec![16384; 100], vec![16384; 36]], 1);
        assert!(heard == messages);
        assert_eq!(landing.counted, Counters { payload_bytes: 100 * 16384, copied_payload_bytes: 0 });
    }

    #[test]
    fn a_message_in_between_costs_the_rest_of_its_read_only() {
        let messages = [block(1, 16384), Message::Other(4, 4), block(2, 16384), block(3, 16384)];
        let first_read = 2 * (13 + 16384) + 9;
        let (heard, landing) = run(&stream(&messages), &[first_read], &[vec![16384; 3]], 10);
        assert!(heard == messages);
        assert_eq!(landing.counted.copied_payload_bytes, 16384);
    }

    #[test]
    fn a_short_message_is_heard_though_a_head_was_expected() {
        let (heard, _) = run(&stream(&[Message::Other(4, 4)]), &[100], &[vec![16384]], 10);
        assert_eq!(heard, [Message::Other(4, 4)]);
    }

    #[test]
    fn nothing_follows_a_closed_connection() {
        struct Closing(usize);
        impl Sink for Closing {
            fn bytes(&mut self, bytes: &mut BytesMut) -> Intake {
                bytes.advance(HEAD_LEN);
                Intake::Payload(5)
            }
            fn payload(&mut self, _: Bytes) -> bool {
                self.0 += 1;
                false
            }
        }
        let mut landing = Landing::new(Pool::new(1));
        let mut scatter = Scatter::default();
        let mut sink = Closing(0);
        landing.plan().extend([5, 5]);
        let room: usize = scatter.slices(&mut landing, 36).iter().map(|slice| slice.len()).sum();
        assert_eq!(room, 36);
        assert_eq!(scatter.take_in(&mut landing, 36, &mut sink), Standing::Closed);
        assert_eq!(sink.0, 1);
    }

    proptest! {
        /// However the kernel cuts the stream, whatever the plan says, and however often the session wants a break.
        #[test]
        fn any_cut_and_any_plan_give_the_same_messages(
            messages in prop::collection::vec(
                prop_oneof![
                    (prop_oneof![0_u8..7, 8_u8..30], 0_usize..60).prop_map(|(id, len)| Message::Other(id, len)),
                    (any::<u8>(), 1_usize..50).prop_map(|(seed, len)| block(seed, len)),
                    any::<u8>().prop_map(|seed| block(seed, 16384)),
                ],
                1..30,
            ),
            cuts in prop::collection::vec(prop_oneof![1_usize..40, 1_usize..70_000], 1..10),
            plans in prop::collection::vec(
                prop::collection::vec(prop_oneof![Just(16384_u32), 0_u32..50], 0..8), 1..5),
            budget in 1_usize..5,
        ) {
            let (heard, landing) = run(&stream(&messages), &cuts, &plans, budget);
            let blocks = messages.iter().filter_map(|message| match message {
                Message::Block(data) => Some(data.len() as u64),
                Message::Other(..) => None,
            });
            prop_assert_eq!(landing.counted.payload_bytes, blocks.sum::<u64>());
            prop_assert!(heard == messages);
        }
    }
}
