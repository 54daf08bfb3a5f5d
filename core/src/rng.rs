//! Seeded randomness. One 32-byte seed a process; each machine draws from a stream of its own.

use core::fmt;
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng as _, SeedableRng as _};
use sha1::{Digest as _, Sha1};

/// A stream of random numbers that a seed and a path of labels determine.
///
/// Children are forked by label rather than by drawing from the parent, so a new draw in one machine leaves the
/// streams of all others, and so their traces, as they were.
#[derive(Clone)]
pub struct Rng {
    seed: [u8; 32],
    stream: ChaCha12Rng,
}

impl Rng {
    /// The root stream of `seed`.
    pub fn new(seed: [u8; 32]) -> Self {
        Self { seed, stream: ChaCha12Rng::from_seed(seed) }
    }

    /// A root stream for tests and simulations, from a number that a person can type.
    pub fn from_number(number: u64) -> Self {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&number.to_le_bytes());
        Self::new(seed)
    }

    /// The child stream called `label`. Independent of what was drawn before.
    pub fn fork(&self, label: &str) -> Self {
        self.fork_bytes(label.as_bytes())
    }

    /// The child stream called `label` number `n`.
    pub fn fork_nth(&self, label: &str, n: u64) -> Self {
        self.fork(label).fork_bytes(&n.to_le_bytes())
    }

    fn fork_bytes(&self, label: &[u8]) -> Self {
        let mut seed = [0; 32];
        for (half, part) in seed.chunks_exact_mut(16).zip([0_u8, 1]) {
            let digest =
                Sha1::new().chain_update([part]).chain_update(self.seed).chain_update(label).finalize();
            half.copy_from_slice(&digest[..16]);
        }
        Self::new(seed)
    }

    /// A uniform 32-bit number.
    pub fn next_u32(&mut self) -> u32 {
        self.stream.next_u32()
    }

    /// A uniform 64-bit number.
    pub fn next_u64(&mut self) -> u64 {
        self.stream.next_u64()
    }

    /// A number in `0..bound`, or 0 if `bound` is 0. The bias is below `bound / 2^64`.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// Whether an event of chance `numerator / denominator` happens.
    pub fn chance(&mut self, numerator: u64, denominator: u64) -> bool {
        self.below(denominator) < numerator
    }

    /// Fills `buffer` with random bytes.
    pub fn fill(&mut self, buffer: &mut [u8]) {
        self.stream.fill_bytes(buffer);
    }

    /// Puts `items` into a random order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            let j = self.below(i as u64 + 1) as usize;
            items.swap(i, j);
        }
    }
}

/// The seed stays out of logs: tokens and keys come from it.
impl fmt::Debug for Rng {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rng")
    }
}

#[cfg(test)]
mod tests {
    use super::Rng;

    #[test]
    fn a_fork_does_not_depend_on_what_was_drawn() {
        let mut drawn = Rng::from_number(7);
        let fresh = drawn.clone();
        drawn.next_u64();
        assert_eq!(drawn.fork("dht").next_u64(), fresh.fork("dht").next_u64());
    }

    #[test]
    fn forks_with_other_labels_differ() {
        let root = Rng::from_number(7);
        assert_ne!(root.fork("dht").next_u64(), root.fork("picker").next_u64());
        assert_ne!(root.fork_nth("peer", 0).next_u64(), root.fork_nth("peer", 1).next_u64());
    }

    #[test]
    fn below_stays_below_and_reaches_every_value() {
        let mut rng = Rng::from_number(1);
        let mut seen = [false; 5];
        for _ in 0..200 {
            seen[rng.below(5) as usize] = true;
        }
        assert_eq!(seen, [true; 5]);
        assert_eq!(rng.below(0), 0);
    }

    #[test]
    fn a_shuffle_keeps_every_item() {
        let mut items: [u32; 40] = core::array::from_fn(|i| i as u32);
        Rng::from_number(3).shuffle(&mut items);
        assert_ne!(items, core::array::from_fn(|i| i as u32), "40 items hardly ever stay in order");
        items.sort_unstable();
        assert_eq!(items, core::array::from_fn(|i| i as u32));
    }
}
