//! `peers`: whom the trackers name.

use super::swarm::{Swarm, all_trackers, judge, peer_id, tracker_url};
use crate::engine::{self, interrupted};
use crate::exit::{Exit, Failure};
use crate::output::{Output, one_line};
use crate::trackers::Tracker;
use fast_peer_core::tracker::{
    Announce, AnnounceEvent, AnnounceRequest, Answer, MAX_PEERS, STOP_PATIENCE, TrackerError, TrackerUrl,
};
use serde_json::json;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::task::JoinSet;

/// Ask a torrent's trackers for peers, without connecting to any; trackers may count this run as a leecher
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Torrent file, http(s) URL of one, magnet link, or infohash
    torrent: OsString,
    /// A tracker to ask besides the torrent's own; may be repeated
    #[arg(long, value_name = "URL", value_parser = tracker_url)]
    tracker: Vec<TrackerUrl>,
    /// How long a tracker has to answer
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=600))]
    timeout: u64,
    /// The port to announce. Nobody listens there; trackers are told of the leave at once
    #[arg(long, value_name = "PORT", default_value_t = 6881, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
}

impl Args {
    pub(crate) fn run(self, out: &mut Output) -> Result<(), Failure> {
        engine::refuse_proxy()?;
        engine::block_on(async {
            let swarm = Swarm::find(&self.torrent).await?;
            let trackers = all_trackers(&swarm.trackers, &self.tracker)?;
            let announce = self.announce(&swarm)?;
            let asked = ask_all(trackers, &announce, Duration::from_secs(self.timeout)).await?;
            show(&swarm, &asked, out)
        })
    }

    fn announce(&self, swarm: &Swarm) -> Result<Announce, Failure> {
        let mut key = [0; 4];
        key.copy_from_slice(&engine::random_seed()?[..4]);
        Ok(Announce {
            info_hash: swarm.info_hash,
            peer_id: peer_id()?,
            port: self.port,
            uploaded: 0,
            downloaded: 0,
            // Trackers name no seeds to seeds.
            left: swarm.torrent.as_ref().map_or(1, |torrent| torrent.lengths().total().max(1)),
            encryption: false,
            request: AnnounceRequest {
                event: Some(AnnounceEvent::Started),
                key: u32::from_be_bytes(key),
                num_want: MAX_PEERS as u32,
                tracker_id: None,
            },
        })
    }
}

/// What a tracker said.
type Asked = (Tracker, Result<Answer, TrackerError>);

/// Asks all of them at once, and tells those that answered that we have left. The answers are in the order of the
/// trackers.
async fn ask_all(
    trackers: Vec<Tracker>,
    announce: &Announce,
    patience: Duration,
) -> Result<Vec<Asked>, Failure> {
    let mut asking = JoinSet::new();
    for (number, mut tracker) in trackers.into_iter().enumerate() {
        let announce = announce.clone();
        asking.spawn_local(async move {
            let answer = tracker.announce(&announce, patience).await;
            (number, (tracker, answer))
        });
    }
    let mut asked = BTreeMap::new();
    let mut stop = std::pin::pin!(interrupted());
    let stopped = loop {
        tokio::select! {
            biased;
            _ = &mut stop => break true,
            joined = asking.join_next() => match joined {
                Some(Ok((number, result))) => asked.insert(number, result),
                Some(Err(error)) => return Err(Failure::new(Exit::Unknown, format!("asking broke: {error}"))),
                None => break false,
            },
        };
    };
    let mut leaving = JoinSet::new();
    let mut told = BTreeMap::new();
    for (number, (mut tracker, answer)) in asked {
        let Ok(answer) = answer else {
            told.insert(number, (tracker, answer));
            continue;
        };
        let mut announce = announce.clone();
        announce.request.event = Some(AnnounceEvent::Stopped);
        announce.request.num_want = 0;
        announce.request.tracker_id.clone_from(&answer.tracker_id);
        leaving.spawn_local(async move {
            // A tracker that does not hear of it forgets us in time.
            if let Err(error) = tracker.announce(&announce, STOP_PATIENCE).await {
                tracing::debug!("leaving {}: {error}", tracker.url());
            }
            (number, (tracker, Ok(answer)))
        });
    }
    told.extend(leaving.join_all().await);
    if stopped {
        return Err(Failure::new(Exit::Unfinished, "stopped before all trackers had answered"));
    }
    Ok(told.into_values().collect())
}

fn show(swarm: &Swarm, asked: &[Asked], out: &mut Output) -> Result<(), Failure> {
    let answers =
        || asked.iter().filter_map(|(tracker, answer)| Some((tracker.url(), answer.as_ref().ok()?)));
    let mut peers: BTreeMap<SocketAddr, Vec<String>> = BTreeMap::new();
    for (url, answer) in answers() {
        for peer in &answer.peers {
            let named_by = peers.entry(*peer).or_default();
            if !named_by.contains(&url.to_string()) {
                named_by.push(url.to_string());
            }
        }
    }
    if out.is_json() {
        let peer = |(address, trackers)| json!({ "address": address, "trackers": trackers });
        out.json(&json!({
            "name": swarm.name,
            "info_hash": swarm.info_hash.to_string(),
            "peers": peers.iter().map(peer).collect::<Vec<_>>(),
            "trackers": asked.iter().map(tracker_json).collect::<Vec<_>>(),
        }))?;
    } else {
        for (address, trackers) in &peers {
            out.line(format_args!("{address} {}", one_line(&trackers.join(" "))))?;
        }
        for (url, answer) in answers() {
            let count =
                |count: Option<u32>| count.map_or_else(|| String::from("?"), |count| count.to_string());
            let (seeders, leechers) = (count(answer.seeders), count(answer.leechers));
            out.line(format_args!("# {url}: {seeders} seeders, {leechers} leechers"))?;
            if let Some(warning) = &answer.warning {
                eprintln!("fast-peer: {url} warns: {}", one_line(warning));
            }
        }
    }
    out.flush()?;
    let failed =
        asked.iter().filter_map(|(tracker, answer)| Some((tracker.url(), answer.as_ref().err()?.clone())));
    judge(answers().next().is_some(), &failed.collect::<Vec<_>>())
}

fn tracker_json((tracker, answer): &Asked) -> serde_json::Value {
    let url = tracker.url().to_string();
    match answer {
        Ok(answer) => json!({
            "tracker": url,
            "seeders": answer.seeders,
            "leechers": answer.leechers,
            "warning": answer.warning,
        }),
        Err(error) => json!({ "tracker": url, "error": error.to_string() }),
    }
}
