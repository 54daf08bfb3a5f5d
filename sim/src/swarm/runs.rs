//! What a simulated file holds: runs of bytes that were really there, or of zeros that stand for content.

use bytes::Bytes;
use fast_peer_core::store::payload::Payload;
use std::collections::BTreeMap;

/// One run of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Run {
    /// Nobody wrote here. A disk would give zeros, which a torrent without content means by "good": so this is junk.
    Hole(u64),
    /// As many zeros: the content of torrents whose blocks travel as lengths.
    Zeros(u64),
    /// These bytes.
    Bytes(Bytes),
}

impl Run {
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Hole(len) | Self::Zeros(len) => *len,
            Self::Bytes(bytes) => bytes.len() as u64,
        }
    }

    /// Whether every byte is known to be zero.
    pub(crate) fn is_zero(&self) -> bool {
        match self {
            Self::Hole(_) => false,
            Self::Zeros(_) => true,
            Self::Bytes(bytes) => bytes.iter().all(|byte| *byte == 0),
        }
    }

    fn slice(&self, from: u64, to: u64) -> Self {
        match self {
            Self::Hole(_) => Self::Hole(to - from),
            Self::Zeros(_) => Self::Zeros(to - from),
            Self::Bytes(bytes) => Self::Bytes(bytes.slice(from as usize..to as usize)),
        }
    }
}

/// The runs of one file, without overlap. A block of content stays the buffer that it came in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Runs {
    /// By offset; never a hole, never empty, no two runs of zeros side by side.
    runs: BTreeMap<u64, Run>,
    stored: u64,
}

impl Runs {
    /// The bytes that were written.
    pub(crate) fn stored(&self) -> u64 {
        self.stored
    }

    /// Where the last run ends: the length of the file.
    pub(crate) fn end(&self) -> u64 {
        self.runs.last_key_value().map_or(0, |(at, run)| at + run.len())
    }

    /// How many bytes of `len` from `at` were never written.
    pub(crate) fn missing(&self, at: u64, len: u64) -> u64 {
        self.read(at, len).filter(|run| matches!(run, Run::Hole(_))).map(|run| run.len()).sum()
    }

    /// Writes `data` at `at`.
    pub(crate) fn write(&mut self, at: u64, data: &Payload) {
        let len = u64::from(data.len());
        self.erase(at, len);
        self.stored += len;
        let bytes = match data {
            Payload::Content(bytes) => {
                self.runs.insert(at, Run::Bytes(bytes.clone()));
                return;
            }
            Payload::Length(_) => len,
        };
        let (mut start, mut end) = (at, at + bytes);
        if let Some((&before, Run::Zeros(len))) = self.runs.range(..at).next_back()
            && before + len == at
        {
            start = before;
        }
        if let Some(Run::Zeros(len)) = self.runs.get(&end) {
            let len = *len;
            self.runs.remove(&end);
            end += len;
        }
        self.runs.insert(start, Run::Zeros(end - start));
    }

    /// Makes a hole of `len` bytes from `at`.
    pub(crate) fn erase(&mut self, at: u64, len: u64) {
        let end = at + len;
        let mut from = self.first_at(at);
        while let Some((&start, _)) = self.runs.range(from..end).next() {
            from = at;
            let run = self.runs.remove(&start).expect("it was just found");
            let stop = start + run.len();
            if start < at {
                self.runs.insert(start, run.slice(0, at - start));
            }
            if stop > end {
                self.runs.insert(end, run.slice(end - start, run.len()));
            }
            self.stored -= stop.min(end) - start.max(at);
        }
    }

    /// Where the run starts that `at` lies in; `at` itself if it lies in none.
    fn first_at(&self, at: u64) -> u64 {
        match self.runs.range(..=at).next_back() {
            Some((&start, run)) if start + run.len() > at => start,
            _ => at,
        }
    }

    /// The runs that cover `len` bytes from `at`, holes included.
    pub(crate) fn read(&self, at: u64, len: u64) -> impl Iterator<Item = Run> + '_ {
        let end = at + len;
        let mut inside = self.runs.range(self.first_at(at)..end.max(at)).peekable();
        let mut next = at;
        core::iter::from_fn(move || {
            if next >= end {
                return None;
            }
            let run = match inside.peek() {
                Some((start, _)) if **start > next => Run::Hole(**start - next),
                None => Run::Hole(end - next),
                Some((start, run)) => {
                    let (from, to) = (next - **start, run.len().min(end - **start));
                    let run = run.slice(from, to);
                    inside.next();
                    run
                }
            };
            next += run.len();
            Some(run)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Run, Runs};
    use bytes::Bytes;
    use fast_peer_core::rng::Rng;
    use fast_peer_core::store::payload::Payload;

    #[test]
    fn zeros_side_by_side_become_one_run() {
        let mut runs = Runs::default();
        for at in [32, 0, 16] {
            runs.write(at, &Payload::Length(16));
        }
        assert_eq!(runs.read(0, 50).collect::<Vec<_>>(), [Run::Zeros(48), Run::Hole(2)]);
        assert_eq!((runs.stored(), runs.end()), (48, 48));
    }

    #[test]
    fn what_is_written_last_is_read() {
        let mut runs = Runs::default();
        runs.write(0, &Payload::Length(10));
        runs.write(4, &Payload::Content(Bytes::from_static(b"ab")));
        let found: Vec<_> = runs.read(3, 4).collect();
        assert_eq!(found, [Run::Zeros(1), Run::Bytes(Bytes::from_static(b"ab")), Run::Zeros(1)]);
        assert_eq!(runs.stored(), 10);
    }

    /// The naive model is a byte a byte: nothing, zero, or a value.
    #[test]
    fn agrees_with_a_plain_vector() {
        let mut rng = Rng::from_number(1);
        for _ in 0..200 {
            let (mut runs, mut model) = (Runs::default(), vec![None; 64]);
            for step in 1..20_u8 {
                let (at, len) = (rng.below(50), 1 + rng.below(13));
                let (range, kind) = (at as usize..(at + len) as usize, rng.below(3));
                match kind {
                    0 => runs.erase(at, len),
                    1 => runs.write(at, &Payload::Length(len as u32)),
                    _ => runs.write(at, &Payload::Content(Bytes::from(vec![step; len as usize]))),
                }
                model[range].fill([None, Some(0), Some(step)][kind as usize]);
                let (from, len) = (rng.below(40), rng.below(24));
                let read: Vec<_> = runs.read(from, len).flat_map(flat).collect();
                assert_eq!(read, model[from as usize..(from + len) as usize]);
                assert_eq!(runs.stored(), model.iter().flatten().count() as u64);
                let missing = read.iter().filter(|byte| byte.is_none()).count() as u64;
                assert_eq!(runs.missing(from, len), missing);
            }
        }
    }

    fn flat(run: Run) -> Vec<Option<u8>> {
        match run {
            Run::Hole(len) => vec![None; len as usize],
            Run::Zeros(len) => vec![Some(0); len as usize],
            Run::Bytes(bytes) => bytes.iter().map(|byte| Some(*byte)).collect(),
        }
    }
}
