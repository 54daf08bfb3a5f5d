//! `scrape`: how many peers torrents have, as their trackers count.

use super::swarm::{Swarm, all_trackers, judge, tracker_url};
use crate::engine;
use crate::exit::{Exit, Failure};
use crate::output::{Output, one_line};
use crate::trackers::Tracker;
use crate::way::Way;
use fast_peer_core::id::InfoHash;
use fast_peer_core::tracker::{MAX_SCRAPE, ScrapeCounts, TrackerError, TrackerUrl};
use serde_json::json;
use std::ffi::OsString;
use std::time::Duration;
use tokio::task::JoinSet;

/// Ask trackers how many peers torrents have, without joining them
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Torrent files, http(s) URLs of some, magnet links, or infohashes
    #[arg(required = true, value_name = "TORRENT")]
    torrents: Vec<OsString>,
    /// A tracker to ask for all of them besides their own; may be repeated
    #[arg(long, value_name = "URL", value_parser = tracker_url)]
    tracker: Vec<TrackerUrl>,
    /// How long a tracker has to answer
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=600))]
    timeout: u64,
    #[command(flatten)]
    way: Way,
}

/// A tracker, the numbers of the torrents it was asked for, and what it said of each.
struct Asked {
    tracker: Tracker,
    torrents: Vec<usize>,
    counts: Result<Vec<Option<ScrapeCounts>>, TrackerError>,
}

impl Args {
    pub(crate) fn run(self, out: &mut Output) -> Result<(), Failure> {
        engine::block_on(async {
            let outside = self.way.open()?;
            let mut swarms = vec![];
            for torrent in &self.torrents {
                swarms.push(Swarm::find(&outside, torrent).await?);
            }
            let trackers =
                all_trackers(&outside, swarms.iter().flat_map(|swarm| &swarm.trackers), &self.tracker)?;
            let asked = self.ask_all(trackers, &swarms).await?;
            show(&swarms, &asked, out)
        })
    }

    async fn ask_all(&self, trackers: Vec<Tracker>, swarms: &[Swarm]) -> Result<Vec<Asked>, Failure> {
        let patience = Duration::from_secs(self.timeout);
        let mut asking = JoinSet::new();
        for (number, mut tracker) in trackers.into_iter().enumerate() {
            let url = tracker.url();
            let serves = |swarm: &Swarm| self.tracker.contains(url) || swarm.trackers.contains(url);
            let torrents: Vec<usize> = (0..swarms.len()).filter(|at| serves(&swarms[*at])).collect();
            let hashes: Vec<InfoHash> = torrents.iter().map(|at| swarms[*at].info_hash).collect();
            asking.spawn_local(async move {
                let counts = scrape(&mut tracker, &hashes, patience).await;
                (number, Asked { tracker, torrents, counts })
            });
        }
        let mut asked = vec![];
        while let Some(joined) = asking.join_next().await {
            asked
                .push(joined.map_err(|error| Failure::new(Exit::Unknown, format!("asking broke: {error}")))?);
        }
        asked.sort_by_key(|(number, _)| *number);
        Ok(asked.into_iter().map(|(_, asked)| asked).collect())
    }
}

/// The counts of as many torrents as there are, however many one question takes.
async fn scrape(
    tracker: &mut Tracker,
    torrents: &[InfoHash],
    patience: Duration,
) -> Result<Vec<Option<ScrapeCounts>>, TrackerError> {
    let mut counts = vec![];
    for some in torrents.chunks(MAX_SCRAPE) {
        counts.extend(tracker.scrape(some, patience).await?);
    }
    Ok(counts)
}

fn show(swarms: &[Swarm], asked: &[Asked], out: &mut Output) -> Result<(), Failure> {
    for Asked { tracker, torrents, counts } in asked {
        let url = tracker.url().to_string();
        let Ok(counts) = counts else { continue };
        for (swarm, counts) in torrents.iter().map(|at| &swarms[*at]).zip(counts) {
            if out.is_json() {
                out.json(&json!({
                    "name": swarm.name,
                    "info_hash": swarm.info_hash.to_string(),
                    "tracker": url,
                    "seeders": counts.map(|counts| counts.seeders),
                    "completed": counts.map(|counts| counts.completed),
                    "leechers": counts.map(|counts| counts.leechers),
                }))?;
                continue;
            }
            let said = match counts {
                Some(ScrapeCounts { seeders, completed, leechers, .. }) => {
                    format!("{seeders} seeders, {completed} completed, {leechers} leechers")
                }
                None => String::from("not known there"),
            };
            out.line(format_args!("{} {url}: {said}", one_line(&swarm.name)))?;
        }
    }
    out.flush()?;
    let failed: Vec<_> = asked
        .iter()
        .filter_map(|one| Some((one.tracker.url(), one.counts.as_ref().err()?.clone())))
        .collect();
    judge(failed.len() < asked.len(), &failed)
}
