//! Being a node, and what it knows.

use super::{Asking, start};
use crate::engine::{Engine, interrupted};
use crate::exit::{Exit, Failure};
use crate::network::{Bootstrap, Filtering, ports};
use crate::output::Output;
use crate::way::Way;
use fast_peer_core::dht::message::Family;
use fast_peer_core::dht::{Dht, Task};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;
use tokio::time::{Instant, interval_at};

/// Arguments of `dht node`.
#[derive(Debug, clap::Args)]
pub(super) struct Node {
    #[command(flatten)]
    bootstrap: Bootstrap,
    #[command(flatten)]
    filtering: Filtering,
    /// UDP port to listen on: one, or a range of which the first free one is taken
    #[arg(long, value_name = "PORT[-PORT]", default_value = "6881-6999", value_parser = ports)]
    port: RangeInclusive<u16>,
    #[command(flatten)]
    way: Way,
}

/// Arguments of `dht stats`.
#[derive(Debug, clap::Args)]
pub(super) struct Stats {
    #[command(flatten)]
    asking: Asking,
}

impl Node {
    /// Says where it listens, and how it is once in a while.
    pub(super) async fn run(self, out: &mut Output) -> Result<(), Failure> {
        let outside = self.way.open()?;
        let (mut engine, port) =
            start(&outside, &self.bootstrap, &self.filtering, self.port.clone(), false).await?;
        let Some(port) = port else {
            let message = "others can't reach a node behind a proxy: it takes none, --proxy ''";
            return Err(Failure::new(Exit::Option, message));
        };
        let addrs: Vec<_> = outside.addrs.iter().map(|ip| SocketAddr::new(*ip, port)).collect();
        if out.is_json() {
            out.json(&json!({ "event": "listening", "addresses": addrs }))?;
        } else {
            let addrs: Vec<_> = addrs.iter().map(ToString::to_string).collect();
            out.line(format_args!("listening on {}", addrs.join(" and ")))?;
        }
        out.flush()?;
        let mut tick = interval_at(Instant::now() + SHOW_EVERY, SHOW_EVERY);
        let mut stop = std::pin::pin!(interrupted());
        let ended = loop {
            tokio::select! {
                biased;
                _ = &mut stop => break Ok(()),
                notice = engine.notice() => if notice.is_none() {
                    break Err(Failure::new(Exit::Unknown, "the session ended"));
                },
                _ = tick.tick() => {
                    show(&engine, out)?;
                    out.flush()?;
                }
            }
        };
        engine.stop().await?;
        ended
    }
}

impl Stats {
    pub(super) async fn run(self, out: &mut Output) -> Result<(), Failure> {
        let mut asker = self.asking.start(&self.asking.way.open()?).await?;
        let own = asker.engine.with_session(|session| {
            let node = session.dht().and_then(|dht| dht.node(Family::V4));
            node.expect("there is a node of each family").id()
        });
        // Our neighbours are what every node looks for first.
        let asked = asker.look_up(Task::FindNode { target: own }, |_| Ok(())).await;
        let shown = match &asked {
            Ok(summary) if summary.answered > 0 => show(&asker.engine, out),
            Ok(summary) => Err(super::silent(summary.asked)),
            Err(_) => Ok(()),
        };
        asker.end(asked).await?;
        shown
    }
}

/// Shows what both nodes know.
fn show(engine: &Engine, out: &mut Output) -> Result<(), Failure> {
    let stats = engine.with_session(|session| session.dht().map(stats)).expect("it was started with a DHT");
    for (name, stats) in &stats {
        if out.is_json() {
            out.json(stats)?;
            continue;
        }
        out.line(format_args!(
            "{name}: id {}, {} nodes known, about {} in all; keeps {} peers of {} torrents and {} values",
            stats["id"].as_str().unwrap_or_default(),
            stats["nodes"],
            stats["population"],
            stats["peers"],
            stats["torrents"],
            stats["items"],
        ))?;
    }
    Ok(())
}

fn stats(dht: &Dht) -> Vec<(&'static str, Value)> {
    let families = [("IPv4", Family::V4), ("IPv6", Family::V6)];
    let nodes = families.into_iter().filter_map(|(name, family)| Some((name, dht.node(family)?)));
    let stats = nodes.map(|(name, node)| {
        let stats = json!({
            "event": "stats",
            "family": name,
            "id": node.id().to_string(),
            "nodes": node.table().len(),
            "population": node.table().population(),
            "torrents": node.peers().torrents(),
            "peers": node.peers().peers(),
            "items": node.items().len(),
        });
        (name, stats)
    });
    stats.collect()
}

/// How often a node says how it is.
const SHOW_EVERY: Duration = Duration::from_secs(60);
