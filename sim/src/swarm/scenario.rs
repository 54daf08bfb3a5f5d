//! Named runs: a world, what happens in it, and what must have come of it.

use super::links::Access;
use super::trace::{Keep, TraceHash};
use super::world::{HostId, World};
use core::fmt;
use core::time::Duration;
use fast_peer_core::id::TorrentId;
use fast_peer_core::machine::Timestamp;

/// A named run.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name, as one types it.
    pub name: &'static str,
    /// What happens and what is expected.
    pub about: &'static str,
    pub(super) play: fn(&mut World, &mut Notes) -> Result<(), Failure>,
}

/// What else there is to say about a run.
#[derive(Debug, Default)]
pub(super) struct Notes(Vec<String>);

impl Notes {
    pub(super) fn add(&mut self, note: String) {
        self.0.push(note);
    }
}

/// Why a run did not end as it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure(pub(super) String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What it was.
    pub name: &'static str,
    /// Its seed.
    pub seed: u64,
    /// What stands for all of its lines.
    pub hash: TraceHash,
    /// Why it did not end as it should, if so.
    pub failure: Option<Failure>,
    /// The time that passed in it.
    pub time: Duration,
    /// How many things happened.
    pub steps: u64,
    /// How many observations were checked.
    pub checks: u64,
    /// Figures.
    pub notes: Vec<String>,
}

impl Scenario {
    /// Runs it.
    pub fn run(&self, seed: u64, keep: Keep) -> Outcome {
        let mut world = World::new(seed, keep);
        let mut notes = Notes::default();
        let mut result = (self.play)(&mut world, &mut notes);
        world.audit_all();
        // What went wrong first explains the rest.
        if let Some(violation) = world.violation() {
            result = Err(Failure(violation.to_string()));
        }
        Outcome {
            name: self.name,
            seed,
            hash: world.hash(),
            failure: result.err(),
            time: world.now().since(Timestamp::ZERO),
            steps: world.steps(),
            checks: world.checks(),
            notes: notes.0,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, seed, hash, failure, time, steps, checks, notes } = self;
        let verdict = if failure.is_none() { "passed" } else { "FAILED" };
        write!(f, "{name} seed {seed} {verdict}: {:.1} s, {steps} steps, ", time.as_secs_f64())?;
        write!(f, "{checks} checks, hash {hash}")?;
        notes.iter().try_for_each(|note| write!(f, "\n  {note}"))?;
        failure.iter().try_for_each(|failure| write!(f, "\n  {failure}"))
    }
}

/// The least time in which a seeder and `leechers`, all behind links like `access`, can bring `bytes` to every leecher:
/// the greatest of what the seeder needs to send one copy, a leecher to receive one, and all together to send as many
/// as there are leechers.
pub fn fluid_limit(bytes: u64, leechers: u64, access: &Access) -> Duration {
    let micros = |bytes: u64, rate: u64| u128::from(bytes) * 1_000_000 / u128::from(rate);
    let one_copy = micros(bytes, access.up_bytes_per_s.min(access.down_bytes_per_s));
    let all_copies = micros(bytes * leechers, access.up_bytes_per_s * (leechers + 1));
    Duration::from_micros(one_copy.max(all_copies) as u64)
}

/// Fails unless it holds.
pub(super) fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(Failure(otherwise())) }
}

/// Lets things happen until all of these are complete; fails if they are not after `limit` more. Returns when the last
/// one was.
pub(super) fn complete(
    world: &mut World,
    leechers: &[(HostId, TorrentId)],
    limit: Duration,
) -> Result<Timestamp, Failure> {
    let until = world.now() + limit;
    let mut waits: Vec<_> = leechers.to_vec();
    world.run_to(until, |world| {
        waits.retain(|(host, torrent)| !world.is_complete(*host, *torrent));
        waits.is_empty()
    });
    if waits.is_empty() {
        let ends = leechers.iter().map(|(host, torrent)| world.stats(*host).completed[torrent]);
        return Ok(ends.max().unwrap_or_default());
    }
    let mut text = format!("after {} s not complete:", limit.as_secs());
    for (host, torrent) in waits {
        let (there, wanted) = world.progress(host, torrent);
        let waiting = world.session(host).status(torrent).and_then(|status| status.waiting);
        let waiting = waiting.map_or_else(|| "nothing".to_owned(), |waiting| waiting.to_string());
        text += &format!(" {} {torrent} has {there} of {wanted}, waits for: {waiting};", world.name(host));
    }
    Err(Failure(text))
}

#[cfg(test)]
mod tests {
    use super::{Access, Duration, fluid_limit};

    #[test]
    fn the_fluid_limit_is_the_tightest_of_three() {
        let even = Access::symmetric(1_000, Duration::ZERO);
        assert_eq!(fluid_limit(10_000, 3, &even), Duration::from_secs(10));
        let slow_up = Access { up_bytes_per_s: 100, ..even };
        assert_eq!(fluid_limit(10_000, 3, &slow_up), Duration::from_secs(100));
        let slow_down = Access { down_bytes_per_s: 10, ..even };
        assert_eq!(fluid_limit(10_000, 3, &slow_down), Duration::from_secs(1000));
    }
}
