//! librqbit as a process of its own:
//! `rqbit_peer [--dht=NODE] [--lsd] tcp|utp LISTEN_PORT FOLDER TORRENT_OR_MAGNET [PEER]...`
//!
//! Seeds what FOLDER already holds and downloads the rest, for ever. Prints `complete` once it has everything.

use std::env;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::Path;

use anyhow::{Context, Result};
use librqbit::{
    AddTorrent, AddTorrentOptions, ConnectionOptions, DhtSessionConfig, ListenerMode, ListenerOptions,
    Session, SessionOptions,
};
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let (options, args): (Vec<_>, Vec<_>) = env::args().skip(1).partition(|arg| arg.starts_with("--"));
    let bootstrap = options.iter().find_map(|option| option.strip_prefix("--dht="));
    let mut args = args.into_iter();
    let utp = args.next().context("no link")? == "utp";
    let port: u16 = args.next().context("no port")?.parse()?;
    let folder = args.next().context("no folder")?;
    let source = args.next().context("no torrent")?;
    let peers = args.map(|peer| peer.parse()).collect::<Result<Vec<SocketAddr>, _>>()?;

    let listen = ListenerOptions {
        listen_addr: (Ipv6Addr::UNSPECIFIED, port).into(),
        mode: if utp { ListenerMode::UtpOnly } else { ListenerMode::TcpOnly },
        ..ListenerOptions::default()
    };
    let options = SessionOptions {
        connect: Some(ConnectionOptions { enable_tcp: !utp, ..ConnectionOptions::default() }),
        dht: bootstrap.map(|node| DhtSessionConfig {
            bootstrap_addrs: Some(vec![node.to_owned()]),
            port: Some(port),
            persistence: None,
        }),
        disable_local_service_discovery: !options.iter().any(|option| option == "--lsd"),
        listen: Some(listen),
        ..SessionOptions::default()
    };
    let session = Session::new_with_opts(folder.into(), options).await?;
    let add = if Path::new(&source).exists() {
        AddTorrent::from_local_filename(&source)?
    } else {
        AddTorrent::from_url(source)
    };
    let add_options =
        AddTorrentOptions { overwrite: true, initial_peers: Some(peers), ..AddTorrentOptions::default() };
    let torrent = session
        .add_torrent(add, Some(add_options))
        .await?
        .into_handle()
        .context("the torrent was not added")?;
    torrent.wait_until_completed().await?;
    println!("complete");
    std::future::pending().await
}
