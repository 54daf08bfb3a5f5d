//! Nodes of the crate `mainline` in one process, one on each address: `mainline_nodes [--bootstrap=NODE] ADDRESS...`
//!
//! Without a node to join by, the first of them founds the DHT and the others join by it. Prints `listening` once all
//! of them know others, and serves for ever.

use std::env;
use std::net::SocketAddrV4;

use anyhow::{Context, Result};
use mainline::Dht;

#[tokio::main]
async fn main() -> Result<()> {
    let (options, args): (Vec<_>, Vec<_>) = env::args().skip(1).partition(|arg| arg.starts_with("--"));
    let addresses = args.iter().map(|arg| arg.parse()).collect::<Result<Vec<SocketAddrV4>, _>>()?;
    let bootstrap = options.iter().find_map(|option| option.strip_prefix("--bootstrap="));
    let mut nodes = Vec::new();
    for address in &addresses {
        let mut node = Dht::builder();
        // Only one that is told of nobody takes in those who ask it.
        match bootstrap {
            Some(other) => node.bootstrap(&[other]),
            None if nodes.is_empty() => node.no_bootstrap(),
            None => node.bootstrap(&addresses[..1]),
        };
        node.server_mode().bind_address(*address.ip()).port(address.port());
        nodes.push(node.build().with_context(|| format!("cannot start a node on {address}"))?.as_async());
    }
    // Those that came early have to ask again for who came late.
    for node in &nodes {
        while node.to_bootstrap().await.len() < KNOWN.min(nodes.len() - 1) {
            node.bootstrapped().await;
        }
    }
    println!("listening");
    std::future::pending().await
}

/// How many others each node has to know.
const KNOWN: usize = 4;
