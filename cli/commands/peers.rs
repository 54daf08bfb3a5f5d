//! `peers`: who has a torrent, as whoever can be asked names them.

use super::finder::{Finder, Heard, Wanted};
use super::swarm::{Swarm, judge, tracker_url};
use crate::engine::{self, interrupted};
use crate::exit::{Exit, Failure};
use crate::network::{Bootstrap, Encrypting, Filtering, Transporting};
use crate::output::{Output, one_line};
use crate::way::{HostPort, Way};
use fast_peer_core::dht::Summary;
use fast_peer_core::torrent::known_peers;
use fast_peer_core::tracker::{Answer, TrackerError, TrackerUrl};
use fast_peer_core::wire::PexFlags;
use serde_json::json;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Ask for a torrent's peers, and print each as soon as it is named
///
/// With peers that another peer names stands what it says of them: whether they take encryption and uTP, whether it can
/// bring about a connection to them, whether it connected to them, and whether they want nothing any more.
///
/// Trackers may count this run as a leecher. The DHT is asked without joining the torrent; peers and the local network
/// can only be asked by taking part, which goes on until the time is up.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Torrent file, http(s) URL of one, magnet link, or infohash
    torrent: OsString,
    /// Whom to ask, with commas between [default: tracker,dht, of a private torrent only tracker]
    #[arg(long, value_name = "SOURCES", value_delimiter = ',')]
    source: Vec<Source>,
    /// A tracker to ask besides the torrent's own; may be repeated
    #[arg(long, value_name = "URL", value_parser = tracker_url)]
    tracker: Vec<TrackerUrl>,
    /// A peer to ask for others; may be repeated
    #[arg(long, value_name = "HOST:PORT", value_parser = HostPort::parse)]
    peer: Vec<HostPort>,
    #[command(flatten)]
    transporting: Transporting,
    #[command(flatten)]
    encrypting: Encrypting,
    #[command(flatten)]
    filtering: Filtering,
    #[command(flatten)]
    bootstrap: Bootstrap,
    /// Don't ask the DHT
    #[arg(long)]
    no_dht: bool,
    /// How long a tracker has to answer, and how long peers and the local network are listened to
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=600))]
    timeout: u64,
    /// The port to announce to trackers. Nobody listens there; they are told of the leave at once
    #[arg(long, value_name = "PORT", default_value_t = 6881, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    #[command(flatten)]
    way: Way,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Source {
    /// The torrent's trackers, and those given here
    Tracker,
    /// The distributed hash table
    Dht,
    /// Peers, which tell of others
    Pex,
    /// The local network
    Lsd,
}

impl Args {
    pub(crate) fn run(self, out: &mut Output) -> Result<(), Failure> {
        engine::block_on(async {
            let outside = self.way.open()?;
            let filter = self.filtering.read()?;
            let swarm = Swarm::find(&outside, &self.torrent).await?;
            let sources = self.sources(&swarm)?;
            let asks = |source| sources.contains(&source);
            let wanted = Wanted {
                trackers: asks(Source::Tracker).then_some(&self.tracker[..]),
                dht: asks(Source::Dht).then_some(&self.bootstrap),
                pex: asks(Source::Pex),
                lsd: asks(Source::Lsd),
                peers: &outside.resolve(&self.peer).await?,
                port: self.port,
                transports: self.transporting.config(),
                encryption: self.encrypting.config(),
                filter,
                patience: Duration::from_secs(self.timeout),
            };
            let end = wanted.takes_part().then(|| Instant::now() + Duration::from_secs(self.timeout));
            let mut finder = Finder::start(&outside, &swarm, &wanted).await?;
            let mut told = Told::default();
            let listened = told.listen(&mut finder, end, out).await;
            finder.end().await?;
            listened?;
            told.judge(out)
        })
    }

    /// Whom to ask. A private torrent has no peers but those of its trackers (BEP 27).
    fn sources(&self, swarm: &Swarm) -> Result<Vec<Source>, Failure> {
        let is_private = swarm.torrent.as_ref().is_some_and(|torrent| torrent.is_private());
        if !self.source.is_empty() {
            if is_private && self.source.iter().any(|source| *source != Source::Tracker) {
                return Err(Failure::new(
                    Exit::Option,
                    format!("{}: the torrent is private: only its trackers may be asked", swarm.name),
                ));
            }
            if self.no_dht && self.source.contains(&Source::Dht) {
                return Err(Failure::new(Exit::Option, "--source asks for the DHT, and --no-dht forbids it"));
            }
            return Ok(self.source.clone());
        }
        let has_tracker = !swarm.trackers.is_empty() || !self.tracker.is_empty();
        let asks_dht = !is_private && !self.no_dht;
        // Without either it is trackers that are missed.
        let trackers = (has_tracker || !asks_dht).then_some(Source::Tracker);
        Ok(trackers.into_iter().chain(asks_dht.then_some(Source::Dht)).collect())
    }
}

/// What was told so far.
#[derive(Debug, Default)]
struct Told {
    peers: BTreeSet<(SocketAddr, known_peers::Source, Option<String>)>,
    trackers: Vec<(TrackerUrl, Answer)>,
    failed: Vec<(TrackerUrl, TrackerError)>,
    dht: Option<Summary>,
}

impl Told {
    async fn listen(
        &mut self,
        finder: &mut Finder,
        end: Option<Instant>,
        out: &mut Output,
    ) -> Result<(), Failure> {
        let far = Instant::now() + Duration::from_secs(86_400);
        let mut stop = std::pin::pin!(interrupted());
        loop {
            let heard = tokio::select! {
                biased;
                _ = &mut stop => {
                    return Err(Failure::new(Exit::Unfinished, "stopped before all had answered"));
                }
                heard = finder.next() => heard,
                () = sleep_until(end.unwrap_or(far)) => None,
            };
            match heard {
                None => return Ok(()),
                Some(Heard::Dht(summary)) => self.dht = Some(summary),
                Some(Heard::Peers { source, tracker, peers }) => {
                    for (peer, flags) in peers {
                        self.show(peer, flags, source, tracker.as_ref(), out)?;
                    }
                    out.flush()?;
                }
                Some(Heard::Tracker { url, answer: Ok(answer) }) => self.trackers.push((url, answer)),
                Some(Heard::Tracker { url, answer: Err(error) }) => self.failed.push((url, error)),
            }
        }
    }

    /// Shows a peer, unless the same source named it before.
    fn show(
        &mut self,
        peer: SocketAddr,
        flags: PexFlags,
        source: known_peers::Source,
        tracker: Option<&String>,
        out: &mut Output,
    ) -> Result<(), Failure> {
        if !self.peers.insert((peer, source, tracker.cloned())) {
            return Ok(());
        }
        // Only peers say something of each other.
        let says = (source == known_peers::Source::Pex).then(|| flags.names().collect::<Vec<_>>());
        let source = source.to_string().to_lowercase();
        if out.is_json() {
            let mut shown = json!({ "address": peer, "source": source, "tracker": tracker });
            if let Some(says) = says {
                shown["says"] = json!(says);
            }
            return out.json(&shown);
        }
        let tracker = tracker.map_or_else(String::new, |url| format!(" {url}"));
        let says = says.filter(|says| !says.is_empty());
        let says = says.map_or_else(String::new, |says| format!(" ({})", says.join(", ")));
        out.line(one_line(&format!("{peer} {source}{tracker}{says}")))
    }

    /// Shows how it went; a failure if nobody answered.
    fn judge(&self, out: &mut Output) -> Result<(), Failure> {
        for (url, answer) in &self.trackers {
            let Answer { seeders, leechers, warning, .. } = answer;
            if out.is_json() {
                out.json(&json!({
                    "tracker": url.to_string(), "seeders": seeders, "leechers": leechers, "warning": warning,
                }))?;
                continue;
            }
            let count =
                |count: &Option<u32>| count.map_or_else(|| String::from("?"), |count| count.to_string());
            out.line(format_args!("# {url}: {} seeders, {} leechers", count(seeders), count(leechers)))?;
            if let Some(warning) = warning {
                eprintln!("fast-peer: {url} warns: {}", one_line(warning));
            }
        }
        for (url, error) in &self.failed {
            if out.is_json() {
                out.json(&json!({ "tracker": url.to_string(), "error": error.to_string() }))?;
            }
        }
        if let Some(Summary { asked, answered, .. }) = self.dht {
            if out.is_json() {
                out.json(&json!({ "dht": { "asked": asked, "answered": answered } }))?;
            } else {
                out.line(format_args!("# DHT: {answered} of {asked} nodes answered"))?;
            }
        }
        out.flush()?;
        let dht_answered = self.dht.is_some_and(|summary| summary.answered > 0);
        let answered = !self.trackers.is_empty() || dht_answered || !self.peers.is_empty();
        let failed: Vec<_> = self.failed.iter().map(|(url, error)| (url, error.clone())).collect();
        if failed.is_empty() && !answered && self.dht.is_some() {
            return Err(Failure::new(Exit::Timeout, "no node of the DHT answered"));
        }
        if failed.is_empty() { Ok(()) } else { judge(answered, &failed) }
    }
}
