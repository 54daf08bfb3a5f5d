//! `dht`: the distributed hash table by itself.

mod items;
mod node;

use super::swarm::Swarm;
use crate::args::{self, Cli};
use crate::engine::{self, Engine, interrupted};
use crate::exit::{Exit, Failure};
use crate::network::{Bootstrap, Filtering};
use crate::output::Output;
use crate::way::{HostPort, Outside, Way};
use clap::FromArgMatches as _;
use fast_peer_core::dht::node_id::NodeId;
use fast_peer_core::dht::{Announced, Summary, Task};
use fast_peer_core::id::InfoHash;
use fast_peer_core::session::{Config, Found, Notice};
use serde_json::json;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Ask the distributed hash table, or be a node of it
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, arg_required_else_help = true)]
pub(crate) struct Args {
    /// What the prototype's `dht` was called with: it downloaded the torrent of a magnet link
    #[arg(hide = true)]
    magnet: Option<OsString>,
    #[arg(short, hide = true)]
    out: Option<OsString>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Tell nodes that a torrent's peers can connect to a port of this host
    Announce(Announce),
    /// Find the nodes closest to a place
    FindNode(FindNode),
    /// Get a value that somebody put there
    Get(items::Get),
    /// Find a torrent's peers, and print each as soon as a node names it
    GetPeers(GetPeers),
    /// Be a node until interrupted
    Node(node::Node),
    /// See whether there is a node at an address
    Ping(Ping),
    /// Put a value there, for two hours or so
    Put(items::Put),
    /// Ask the nodes close to a place for some of the torrents that they know
    Sample(Sample),
    /// Estimate how many seeds and other peers a torrent has
    Scrape(Scrape),
    /// Show what this host knows of the network once it has found its neighbours
    Stats(node::Stats),
}

/// How to ask.
#[derive(Debug, clap::Args)]
#[group(skip)]
struct Asking {
    #[command(flatten)]
    bootstrap: Bootstrap,
    #[command(flatten)]
    filtering: Filtering,
    #[command(flatten)]
    way: Way,
    /// Give up after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=600))]
    timeout: u64,
}

#[derive(Debug, clap::Args)]
struct Announce {
    /// Torrent file, magnet link, or infohash
    torrent: OsString,
    /// Where peers can connect to
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// Say that everything is there
    #[arg(long)]
    seed: bool,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Debug, clap::Args)]
struct FindNode {
    /// The place: forty hexadecimal digits
    #[arg(value_name = "ID", value_parser = place)]
    target: NodeId,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Debug, clap::Args)]
struct GetPeers {
    /// Torrent file, magnet link, or infohash
    torrent: OsString,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Debug, clap::Args)]
struct Ping {
    /// The address
    #[arg(value_name = "HOST:PORT", value_parser = HostPort::parse)]
    to: HostPort,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Debug, clap::Args)]
struct Sample {
    /// The place: forty hexadecimal digits
    #[arg(value_parser = place)]
    target: NodeId,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Debug, clap::Args)]
struct Scrape {
    /// Torrent file, magnet link, or infohash
    torrent: OsString,
    #[command(flatten)]
    asking: Asking,
}

impl Args {
    pub(crate) fn run(self, out: &mut Output) -> Result<(), Failure> {
        let Some(command) = self.command else { return download(self.magnet, self.out, out) };
        engine::block_on(async {
            match command {
                Command::Announce(args) => args.run(out).await,
                Command::FindNode(args) => args.run(out).await,
                Command::Get(args) => args.run(out).await,
                Command::GetPeers(args) => args.run(out).await,
                Command::Node(args) => args.run(out).await,
                Command::Ping(args) => args.run(out).await,
                Command::Put(args) => args.run(out).await,
                Command::Sample(args) => args.run(out).await,
                Command::Scrape(args) => args.run(out).await,
                Command::Stats(args) => args.run(out).await,
            }
        })
    }
}

/// What `download` does with the same words.
fn download(magnet: Option<OsString>, name: Option<OsString>, out: &mut Output) -> Result<(), Failure> {
    let name = name.map(|name| ["-o".into(), name]);
    let words = ["fast-peer".into(), "download".into()].into_iter().chain(name.into_iter().flatten());
    let words = words.chain(["--".into()]).chain(magnet);
    let parsed = args::command().try_get_matches_from(words);
    match parsed.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli.command.run(out),
        Err(error) => {
            let message = error.to_string();
            let first = message.lines().next().unwrap_or_default();
            Err(Failure::new(Exit::Option, first.strip_prefix("error: ").unwrap_or(first)))
        }
    }
}

/// A session that asks the DHT and does nothing else.
struct Asker {
    engine: Engine,
    patience: Duration,
}

impl Asking {
    async fn start(&self, outside: &Outside) -> Result<Asker, Failure> {
        let (engine, _) = start(outside, &self.bootstrap, &self.filtering, 0..=0, true).await?;
        Ok(Asker { engine, patience: Duration::from_secs(self.timeout) })
    }
}

/// A session that takes part in the DHT alone.
async fn start(
    outside: &Outside,
    bootstrap: &Bootstrap,
    filtering: &Filtering,
    ports: RangeInclusive<u16>,
    read_only: bool,
) -> Result<(Engine, Option<u16>), Failure> {
    let dht = Some(bootstrap.config(read_only));
    let ip_filter = filtering.read()?;
    let config = Config { dht, lsd: false, pex: false, ip_filter, ..Config::default() };
    let (mut engine, port) = Engine::start(outside, config, Some(ports)).await?;
    engine.keep();
    Ok((engine, port))
}

impl Asker {
    /// Looks for something; hands over all that is found, and returns how it went.
    async fn look_up(
        &mut self,
        task: Task,
        mut take: impl FnMut(Found) -> Result<(), Failure>,
    ) -> Result<Summary, Failure> {
        let lookup = self.engine.look_up(task).expect("it was started with a DHT");
        let end = Instant::now() + self.patience;
        let mut stop = std::pin::pin!(interrupted());
        loop {
            tokio::select! {
                biased;
                _ = &mut stop => return Err(Failure::new(Exit::Unfinished, "stopped before all nodes had answered")),
                notice = self.engine.notice() => match notice {
                    Some(Notice::Lookup { lookup: of, found }) if of == lookup => match found {
                        Found::Done(summary) => return Ok(summary),
                        found => take(found)?,
                    },
                    Some(_) => {}
                    None => return Err(Failure::new(Exit::Unknown, "the session ended")),
                },
                () = sleep_until(end) => {
                    let so_far = self.engine.with_session(|session| session.dht()?.summary(lookup));
                    if let Some(Summary { asked, answered: 0, .. }) = so_far {
                        return Err(silent(asked));
                    }
                    let seconds = self.patience.as_secs();
                    return Err(Failure::new(Exit::Timeout, format!("the lookup was not over within {seconds} s")));
                }
            }
        }
    }

    /// Ends the session, whatever came of what was looked for.
    async fn end<T>(self, result: Result<T, Failure>) -> Result<T, Failure> {
        self.engine.stop().await?;
        result
    }
}

/// Shows how a lookup went; a failure if nobody answered.
fn judge(summary: Summary, out: &mut Output) -> Result<(), Failure> {
    let Summary { asked, answered, hops, .. } = summary;
    if answered == 0 {
        return Err(silent(asked));
    }
    if out.is_json() {
        return out.json(&json!({ "asked": asked, "answered": answered, "hops": hops }));
    }
    out.line(format_args!("# {answered} of {asked} nodes answered"))
}

fn silent(asked: u32) -> Failure {
    let message = match asked {
        0 => String::from("no node of the DHT is known to ask; --dht-bootstrap names one"),
        asked => format!("none of {asked} nodes of the DHT answered"),
    };
    Failure::new(Exit::Timeout, message)
}

impl Announce {
    async fn run(self, out: &mut Output) -> Result<(), Failure> {
        let outside = self.asking.way.open()?;
        let info_hash = hash_of(&outside, &self.torrent).await?;
        let announce = Some(Announced { port: self.port, implied_port: false, seed: self.seed });
        let mut asker = self.asking.start(&outside).await?;
        let task = Task::GetPeers { info_hash, announce, noseed: self.seed };
        let asked = asker.look_up(task, |_| Ok(())).await;
        let summary = asker.end(asked).await?;
        if summary.answered == 0 {
            return Err(silent(summary.asked));
        }
        if summary.stored == 0 {
            return Err(Failure::new(Exit::Network, "no node took the announce"));
        }
        let (hash, stored) = (info_hash.to_string(), summary.stored);
        if out.is_json() {
            return out.json(&json!({ "info_hash": hash, "port": self.port, "stored": stored }));
        }
        out.line(format_args!("{hash}: port {} is announced to {stored} nodes", self.port))
    }
}

impl FindNode {
    async fn run(self, out: &mut Output) -> Result<(), Failure> {
        let mut asker = self.asking.start(&self.asking.way.open()?).await?;
        let mut nodes = vec![];
        let asked = asker.look_up(Task::FindNode { target: self.target }, |found| {
            if let Found::Nodes(some) = found {
                nodes.extend(some);
            }
            Ok(())
        });
        let asked = asked.await;
        let summary = asker.end(asked).await?;
        for node in nodes {
            let (id, addr) = (node.id.to_string(), node.addr);
            if out.is_json() {
                out.json(&json!({ "id": id, "address": addr }))?;
            } else {
                out.line(format_args!("{id} {addr}"))?;
            }
        }
        judge(summary, out)
    }
}

impl GetPeers {
    async fn run(self, out: &mut Output) -> Result<(), Failure> {
        let outside = self.asking.way.open()?;
        let info_hash = hash_of(&outside, &self.torrent).await?;
        let mut asker = self.asking.start(&outside).await?;
        let mut known = BTreeSet::new();
        let task = Task::GetPeers { info_hash, announce: None, noseed: false };
        let asked = asker.look_up(task, |found| {
            let Found::Peers { from, peers } = found else { return Ok(()) };
            for peer in peers.into_iter().filter(|peer| known.insert(*peer)) {
                if out.is_json() {
                    out.json(&json!({ "address": peer, "from": from }))?;
                } else {
                    out.line(peer)?;
                }
            }
            out.flush()
        });
        let asked = asked.await;
        judge(asker.end(asked).await?, out)
    }
}

impl Ping {
    async fn run(self, out: &mut Output) -> Result<(), Failure> {
        let outside = self.asking.way.open()?;
        let to = self.to.resolve(&outside).await?;
        let mut asker = self.asking.start(&outside).await?;
        let (start, mut pong) = (Instant::now(), None);
        let asked = asker.look_up(Task::Ping { to }, |found| {
            if let Found::Pong { from, id } = found {
                pong = Some((from, id, start.elapsed()));
            }
            Ok(())
        });
        let asked = asked.await;
        asker.end(asked).await?;
        let Some((from, id, took)) = pong else {
            return Err(Failure::new(Exit::Timeout, format!("{to}: no node answered there")));
        };
        let (id, millis) = (id.to_string(), took.as_secs_f64() * 1000.0);
        if out.is_json() {
            return out.json(&json!({ "address": from, "id": id, "milliseconds": millis }));
        }
        out.line(format_args!("{from}: {id} in {millis:.1} ms"))
    }
}

impl Sample {
    async fn run(self, out: &mut Output) -> Result<(), Failure> {
        let mut asker = self.asking.start(&self.asking.way.open()?).await?;
        let mut known = BTreeSet::new();
        let asked = asker.look_up(Task::Sample { target: self.target }, |found| {
            let Found::Samples { from, hashes, count, interval } = found else { return Ok(()) };
            if out.is_json() {
                let hashes: Vec<_> = hashes.iter().map(ToString::to_string).collect();
                out.json(
                    &json!({ "from": from, "info_hashes": hashes, "count": count, "interval": interval }),
                )?;
            } else {
                hashes.into_iter().filter(|hash| known.insert(*hash)).try_for_each(|hash| out.line(hash))?;
            }
            out.flush()
        });
        let asked = asked.await;
        judge(asker.end(asked).await?, out)
    }
}

impl Scrape {
    async fn run(self, out: &mut Output) -> Result<(), Failure> {
        let outside = self.asking.way.open()?;
        let info_hash = hash_of(&outside, &self.torrent).await?;
        let mut asker = self.asking.start(&outside).await?;
        let mut counts = None;
        let asked = asker.look_up(Task::Scrape { info_hash }, |found| {
            if let Found::Scraped { seeds, peers } = found {
                counts = Some((seeds, peers));
            }
            Ok(())
        });
        let asked = asked.await;
        let summary = asker.end(asked).await?;
        if summary.answered == 0 {
            return Err(silent(summary.asked));
        }
        let hash = info_hash.to_string();
        let (seeds, peers) = counts.unzip();
        if out.is_json() {
            return out.json(&json!({ "info_hash": hash, "seeders": seeds, "leechers": peers }));
        }
        match counts {
            Some((seeds, peers)) => {
                out.line(format_args!("{hash}: about {seeds} seeders and {peers} leechers"))
            }
            None => out.line(format_args!("{hash}: no node knows of peers")),
        }
    }
}

/// The infohash of what a user names.
async fn hash_of(outside: &Outside, source: &OsString) -> Result<InfoHash, Failure> {
    Ok(Swarm::find(outside, source).await?.info_hash)
}

/// Forty hexadecimal digits.
fn place(text: &str) -> Result<NodeId, String> {
    match super::parse_hash(text) {
        Some(InfoHash(id)) => Ok(NodeId(id)),
        None => Err(format!("{text} is no place: write forty hexadecimal digits")),
    }
}
