//! `demo`: a swarm of its own on this machine, from the first announce to the last byte.
//!
//! Its members meet by a tracker, or by the DHT alone.

use super::create;
use crate::engine::{self, Engine, interrupted};
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::storage;
use crate::way::Outside;
use fast_peer_core::dht::Task;
use fast_peer_core::dht::message::Family;
use fast_peer_core::id::TorrentId;
use fast_peer_core::machine::Timestamp;
use fast_peer_core::magnet::Magnet;
use fast_peer_core::metainfo::Metainfo;
use fast_peer_core::pieces::Priority;
use fast_peer_core::rng::Rng;
use fast_peer_core::session::{Config, DhtConfig, Found, NewTorrent, Notice};
use fast_peer_core::tracker::TrackerServer;
use fast_peer_io::disk::StorageSpec;
use fast_peer_io::http::serve_http;
use fast_peer_io::net::{Net as _, Real};
use indicatif::HumanBytes;
use serde_json::json;
use std::cell::RefCell;
use std::fs::{self, File};
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

/// Share some files in a swarm on this machine, and check what arrives; needs no network
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Work in this folder, which must be new or empty, and keep what is in it
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Without a tracker: the seeders are found by no more than a magnet link, in a DHT of a few dozen nodes
    #[arg(long)]
    trackerless: bool,
}

impl Args {
    pub(crate) fn run(self, out: &mut Output) -> Result<(), Failure> {
        let Some(folder) = &self.keep else {
            let folder = tempfile::tempdir();
            let folder = folder.map_err(|error| Failure::io(Exit::Directory, "temporary folder", &error))?;
            return demonstrate(folder.path(), self.trackerless, out);
        };
        let failed = |error| Failure::io(Exit::Directory, folder.display(), &error);
        fs::create_dir_all(folder).map_err(failed)?;
        if fs::read_dir(folder).map_err(failed)?.next().is_some() {
            let message = format!("{}: is not empty; name a new folder", folder.display());
            return Err(Failure::new(Exit::FileExists, message));
        }
        demonstrate(folder, self.trackerless, out)
    }
}

fn demonstrate(folder: &Path, trackerless: bool, out: &mut Output) -> Result<(), Failure> {
    engine::block_on(async {
        let report = tokio::select! {
            biased;
            _ = interrupted() => return Err(Failure::new(Exit::Unfinished, "stopped before the end")),
            report = timeout(LIMIT, share(folder, trackerless)) => report.unwrap_or_else(|_| {
                let seconds = LIMIT.as_secs();
                Err(Failure::new(Exit::Timeout, format!("the swarm did not come to an end within {seconds} s")))
            })?,
        };
        report.show(out)
    })
}

/// What came of it.
struct Report {
    torrent: Arc<Metainfo>,
    /// The tracker, if they met by one.
    tracker: Option<String>,
    /// How many nodes the DHT had, if they met by it, and the magnet link that was looked up.
    dht: Option<(usize, String)>,
    /// Where each seeder listened, and how many bytes it sent.
    seeders: Vec<(SocketAddr, u64)>,
    took: Duration,
}

/// Makes files and a torrent of them, seeds them from several sessions, downloads them with one more that knows nothing
/// but where they meet, and compares.
async fn share(folder: &Path, trackerless: bool) -> Result<Report, Failure> {
    let (seeded, downloaded) = (folder.join("seeded"), folder.join("downloaded"));
    make_files(&seeded.join(NAME))?;
    let place = if trackerless { Place::Dht(start_nodes().await?) } else { start_tracker().await? };
    let mut options = create::Options::default();
    options.piece_size = Some(PIECE_LEN);
    if let Place::Tracker(url, _) = &place {
        options.tracker = vec![create::Tier(vec![url.clone()])];
    }
    let bytes = create::torrent_of(&seeded.join(NAME), options)?;
    create::write(&folder.join(NAME).with_extension("torrent"), &bytes, false)?;
    let torrent = Arc::new(Metainfo::parse(&bytes).expect("what was written is a torrent"));

    let mut seeders = vec![];
    for _ in 0..SEEDERS {
        seeders.push(Member::join(&torrent, &seeded, place.config()).await?);
    }
    for seeder in &mut seeders {
        // From here on it is named to others.
        seeder
            .until(|notice| match notice {
                Notice::TrackerAnswered { .. } => true,
                Notice::DhtAsked { summary, .. } => summary.stored > 0,
                _ => false,
            })
            .await?;
    }
    let link = Magnet::from(&*torrent).to_string();
    let start = Instant::now();
    let mut leecher = match &place {
        Place::Tracker(..) => Member::join(&torrent, &downloaded, place.config()).await?,
        Place::Dht(_) => Member::join_by_link(&link, &downloaded, place.config()).await?,
    };
    leecher.until(|notice| matches!(notice, Notice::Completed { .. })).await?;
    let took = start.elapsed();
    let sent = seeders.iter().map(|seeder| (seeder.addr, seeder.sent())).collect();

    leecher.engine.stop().await?;
    for seeder in seeders {
        seeder.engine.stop().await?;
    }
    let (tracker, dht) = match place {
        Place::Tracker(url, serving) => {
            serving.abort();
            (Some(url), None)
        }
        Place::Dht(nodes) => {
            let count = nodes.len();
            for (node, _) in nodes {
                node.stop().await?;
            }
            (None, Some((count, link)))
        }
    };
    for file in torrent.files() {
        let path: PathBuf = file.path.components().collect();
        compare(&seeded.join(&path), &downloaded.join(&path))?;
    }
    Ok(Report { torrent, tracker, dht, seeders: sent, took })
}

/// Where members of a swarm meet.
enum Place {
    /// Nodes of a DHT, and where each listens.
    Dht(Vec<(Engine, SocketAddr)>),
    /// A tracker's URL, and who serves it.
    Tracker(String, JoinHandle<()>),
}

impl Place {
    /// How to get there, and nowhere else.
    fn config(&self) -> Config {
        let dht = match self {
            Self::Dht(nodes) => Some(dht_config(nodes.iter().map(|(_, addr)| *addr))),
            Self::Tracker(..) => None,
        };
        Config { dht, pex: false, lsd: false, ..Config::default() }
    }
}

/// Joining by some of these nodes.
fn dht_config(nodes: impl Iterator<Item = SocketAddr>) -> DhtConfig {
    let bootstrap = nodes.take(BOOTSTRAP_NODES).map(|addr| (addr.ip().to_string(), addr.port())).collect();
    DhtConfig { bootstrap, ..DhtConfig::default() }
}

/// A session with one torrent.
struct Member {
    engine: Engine,
    addr: SocketAddr,
    id: TorrentId,
}

impl Member {
    async fn join(torrent: &Arc<Metainfo>, root: &Path, config: Config) -> Result<Self, Failure> {
        let (engine, addr) = start(config).await?;
        let id = engine.add(NewTorrent::new(Arc::clone(torrent)), all_files(torrent, root));
        Ok(Self { engine, addr, id })
    }

    /// Joins with nothing but a link, and learns from others what the torrent holds.
    async fn join_by_link(link: &str, root: &Path, config: Config) -> Result<Self, Failure> {
        let (engine, addr) = start(config).await?;
        let magnet = Magnet::parse(link).expect("what was written is a link");
        let id = engine.add_link(NewTorrent::try_from(&magnet).expect("the link has a hash"));
        let mut member = Self { engine, addr, id };
        let mut content = None;
        let told = |notice: &Notice| match notice {
            Notice::Metadata { content: told, .. } => {
                content = Some(told.clone());
                true
            }
            _ => false,
        };
        member.until(told).await?;
        let content = *content.expect("it is what was waited for");
        let storage = all_files(&content.metainfo, root);
        member.engine.set_content(id, content, storage);
        Ok(member)
    }

    /// Waits for a notice; one of trouble means that it will not come.
    async fn until(&mut self, mut awaited: impl FnMut(&Notice) -> bool) -> Result<(), Failure> {
        while let Some(notice) = self.engine.notice().await {
            match notice {
                notice if awaited(&notice) => return Ok(()),
                Notice::DiskTrouble { .. } => return Err(Failure::new(Exit::Io, notice.to_string())),
                Notice::TrackerFailed { .. } => return Err(Failure::new(Exit::Network, notice.to_string())),
                _ => {}
            }
        }
        Err(Failure::new(Exit::Unknown, "the session ended"))
    }

    fn sent(&self) -> u64 {
        self.engine.status(self.id).map_or(0, |status| status.up_bytes)
    }
}

async fn start(config: Config) -> Result<(Engine, SocketAddr), Failure> {
    let (engine, port) = Engine::start(&Outside::direct(&[HERE]), config, Some(0..=0)).await?;
    Ok((engine, SocketAddr::new(HERE, port.expect("a port was asked for"))))
}

fn all_files(torrent: &Metainfo, root: &Path) -> StorageSpec {
    storage::storage(torrent, root, None, &vec![Priority::Normal; torrent.files().len()])
}

/// Starts nodes that get to know each other. Each begins with those before it, so that none has to answer all others at
/// once.
async fn start_nodes() -> Result<Vec<(Engine, SocketAddr)>, Failure> {
    let mut nodes: Vec<(Engine, SocketAddr)> = vec![];
    for _ in 0..NODES {
        let before = nodes.iter().rev().map(|(_, addr)| *addr);
        let config = Config { dht: Some(dht_config(before)), pex: false, lsd: false, ..Config::default() };
        nodes.push(start(config).await?);
    }
    // The first has nobody to ask, but is asked.
    let others = nodes.get_mut(1..).unwrap_or_default();
    let look_around = |(node, _): &(Engine, SocketAddr)| {
        let target = node.with_session(|session| {
            let own = session.dht().and_then(|dht| dht.node(Family::V4));
            own.expect("it was started with a DHT").id()
        });
        node.look_up(Task::FindNode { target })
    };
    let lookups: Vec<_> = others.iter().map(look_around).collect();
    for ((node, _), lookup) in others.iter_mut().zip(lookups) {
        while let Some(notice) = node.notice().await {
            if let Notice::Lookup { lookup: of, found: Found::Done(_) } = notice
                && Some(of) == lookup
            {
                break;
            }
        }
    }
    Ok(nodes)
}

/// Serves a tracker on a port of its own until the task is aborted, and says where.
async fn start_tracker() -> Result<Place, Failure> {
    let failed = |error| Failure::io(Exit::Network, "the tracker's port", &error);
    let listener = Real::default().listen(SocketAddr::new(HERE, 0)).await.map_err(failed)?;
    let url = format!("http://{}/announce", listener.local_addr().map_err(failed)?);
    let server = RefCell::new(TrackerServer::new(INTERVAL, Rng::new(engine::random_seed()?)));
    let start = Instant::now();
    let answer = move |target: &str, remote: SocketAddr| {
        let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        (200, server.borrow_mut().handle_http(Timestamp::from_micros(micros), target, remote.ip()))
    };
    Ok(Place::Tracker(url, tokio::task::spawn_local(serve_http(listener, answer))))
}

/// Files whose ends do not fall on those of pieces, and an empty one.
fn make_files(folder: &Path) -> Result<(), Failure> {
    fs::create_dir_all(folder).map_err(|error| Failure::io(Exit::Directory, folder.display(), &error))?;
    let mut rng = Rng::from_number(1);
    for (name, len) in FILES {
        let mut content = vec![0; len];
        rng.fill(&mut content);
        create::write(&folder.join(name), &content, false)?;
    }
    Ok(())
}

/// Fails unless both files hold the same bytes.
fn compare(one: &Path, other: &Path) -> Result<(), Failure> {
    let open = |path: &Path| {
        let file = File::open(path).map_err(|error| Failure::io(Exit::Open, path.display(), &error))?;
        Ok::<_, Failure>(file)
    };
    let (mut files, mut bytes) = ([open(one)?, open(other)?], [vec![], vec![]]);
    let mut at = 0_u64;
    loop {
        for ((file, bytes), path) in files.iter_mut().zip(&mut bytes).zip([one, other]) {
            bytes.clear();
            let read = file.take(COMPARED_AT_ONCE).read_to_end(bytes);
            read.map_err(|error| Failure::io(Exit::Io, path.display(), &error))?;
        }
        if bytes[0] != bytes[1] {
            let message = format!("{}: differs from {} behind byte {at}", other.display(), one.display());
            return Err(Failure::new(Exit::Checksum, message));
        }
        if bytes[0].is_empty() {
            return Ok(());
        }
        at += bytes[0].len() as u64;
    }
}

impl Report {
    fn show(&self, out: &mut Output) -> Result<(), Failure> {
        let total = self.torrent.lengths().total();
        let micros = self.took.as_micros().max(1);
        let rate = u64::try_from(u128::from(total) * 1_000_000 / micros).unwrap_or(u64::MAX);
        let (files, pieces) = (self.torrent.files().len(), self.torrent.lengths().piece_count());
        if out.is_json() {
            let seeder = |(addr, sent): &(SocketAddr, u64)| json!({ "address": addr, "uploaded": sent });
            return out.json(&json!({
                "info_hash": self.torrent.swarm_hash().to_string(),
                "files": files,
                "pieces": pieces,
                "bytes": total,
                "tracker": self.tracker,
                "nodes": self.dht.as_ref().map(|(nodes, _)| nodes),
                "magnet": self.dht.as_ref().map(|(_, link)| link),
                "seeders": self.seeders.iter().map(seeder).collect::<Vec<_>>(),
                "seconds": self.took.as_secs_f64(),
                "bytes_per_s": rate,
            }));
        }
        out.line(format_args!(
            "Torrent: {files} files, {} in {pieces} pieces, infohash {}",
            HumanBytes(total),
            self.torrent.swarm_hash()
        ))?;
        if let Some(tracker) = &self.tracker {
            out.line(format_args!("Tracker: {tracker}"))?;
        }
        if let Some((nodes, link)) = &self.dht {
            out.line(format_args!("DHT:     {nodes} nodes"))?;
            out.line(format_args!("Link:    {link}"))?;
        }
        for (addr, sent) in &self.seeders {
            out.line(format_args!("Seeder:  {addr}, sent {}", HumanBytes(*sent)))?;
        }
        let seconds = self.took.as_secs_f64();
        out.line(format_args!("Downloaded in {seconds:.3} s, {}/s; every byte is right", HumanBytes(rate)))
    }
}

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

const NAME: &str = "demo";

const FILES: [(&str, usize); 3] = [("empty", 0), ("large", (8 << 20) + 4_321), ("small", 99_999)];

const PIECE_LEN: u32 = 64 << 10;

const SEEDERS: usize = 3;

/// Nodes of the DHT besides the members' own.
const NODES: usize = 32;

/// Nodes that one begins with: the answer of one can be lost.
const BOOTSTRAP_NODES: usize = 4;

/// How often the tracker wants to hear of its peers: not again in this life.
const INTERVAL: Duration = Duration::from_secs(1800);

/// What takes a second is hopeless after so many.
const LIMIT: Duration = Duration::from_secs(60);

const COMPARED_AT_ONCE: u64 = 64 << 10;
