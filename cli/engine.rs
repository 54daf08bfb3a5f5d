//! Running a session: what all commands that use the network or check files share.

use crate::exit::{Exit, Failure};
use crate::met;
use crate::output::one_line;
use crate::paths;
use crate::port_map;
use crate::way::Outside;
use fast_peer_core::dht::{Saved, Task};
use fast_peer_core::id::{LookupId, TorrentId};
use fast_peer_core::machine::Timestamp;
use fast_peer_core::portmap::Mode;
use fast_peer_core::session::{Config, Event, NewContent, NewTorrent, Notice, Session, Status};
use fast_peer_io::disk::{Files, StorageSpec};
use fast_peer_io::driver::{Counters, Driver, Ended, Handle, Sockets};
use fast_peer_io::http::Tls;
use fast_peer_io::net::{Real, Via};
use fast_peer_io::state;
use std::future::Future;
use std::io;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, LocalSet};

/// A running session over the real network and disk.
#[derive(Debug)]
pub(crate) struct Engine {
    handle: Handle<Via<Real>, Files>,
    notices: mpsc::UnboundedReceiver<Notice>,
    running: JoinHandle<Ended>,
    /// Whether what was met is kept for the next run.
    keeps: bool,
    /// Where the nodes of the DHT are kept, if they are.
    nodes: Option<PathBuf>,
}

/// Runs `work` on a thread of its own kind: everything that a session needs lives on it.
pub(crate) fn block_on<R>(work: impl Future<Output = Result<R, Failure>>) -> Result<R, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::io(Exit::Unknown, "starting", &error))?;
    let result = LocalSet::new().block_on(&runtime, work);
    // A name that is still looked up, for as long as the system likes, keeps nobody waiting.
    runtime.shutdown_background();
    result
}

/// Where `https` finds whom to trust.
pub(crate) fn tls() -> Result<Tls, Failure> {
    Tls::from_env().map_err(|error| Failure::io(Exit::Open, "certificates", &error))
}

/// A seed that nobody can guess.
pub(crate) fn random_seed() -> Result<[u8; 32], Failure> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)
        .map_err(|error| Failure::new(Exit::Unknown, format!("no randomness: {error}")))?;
    Ok(seed)
}

impl Engine {
    /// Starts a session outside and on the first of `ports` that is free; without ports nobody can connect to it. Nor can
    /// anybody through a proxy: then the local network is not called, nodes of the DHT need not remember us, and no port
    /// is told.
    pub(crate) async fn start(
        outside: &Outside,
        mut config: Config,
        ports: Option<RangeInclusive<u16>>,
    ) -> Result<(Self, Option<u16>), Failure> {
        if outside.net.is_proxied() && ports.is_some() {
            tracing::info!(
                "by way of the proxy nobody can connect to this host, and the local network is not called"
            );
            config.lsd = false;
            config.port_map = Mode::Off;
            config.dht.iter_mut().for_each(|dht| dht.read_only = true);
        }
        let calls = config.lsd && ports.is_some();
        let sockets = match ports {
            Some(ports) => {
                // What nobody may use is not opened.
                let streams = config.transports.tcp;
                let opened = Sockets::open(&outside.net, &outside.addrs, ports.clone(), streams).await;
                Some(opened.map_err(|error| no_port(&ports, &error))?)
            }
            None => None,
        };
        if let (Some(dht), Some(sockets)) = (&mut config.dht, &sockets) {
            // Nothing can be sent to the nodes of another family.
            dht.families.retain(|family| sockets.carry(*family));
        }
        let session = Session::new(config, random_seed()?, Timestamp::ZERO);
        let disk = Files::new()
            .map_err(|error| Failure::io(Exit::Unknown, "starting the disk's threads", &error))?;
        let driver = Driver::new(outside.net.clone(), disk, tls()?, session);
        let port = match sockets {
            Some(sockets) => {
                let port = driver.listen_on(sockets);
                driver.watch_network(&outside.addrs);
                port
            }
            None => None,
        };
        if calls && let Err(error) = driver.join_local().await {
            tracing::debug!("no calls into the local network: {error}");
        }
        let handle = driver.handle();
        let notices = handle.notices();
        let running = tokio::task::spawn_local(driver.run());
        Ok((Self { handle, notices, running, keeps: false, nodes: None }, port))
    }

    /// Begins with the peers and the nodes of the DHT that an earlier run knew, and keeps those that this one knows.
    pub(crate) fn keep(&mut self) {
        self.keeps = true;
        self.keep_nodes();
    }

    fn keep_nodes(&mut self) {
        let Some(path) = paths::nodes().filter(|_| self.with_session(|session| session.dht().is_some()))
        else {
            return;
        };
        match state::load(&path) {
            Ok(Some(saved)) => {
                // Programs of one user can run at the same time, and two nodes of one name don't hear each other.
                let saved = Saved { id4: None, id6: None, ..saved };
                self.event(Event::RestoreNodes { saved });
            }
            Ok(None) => {}
            Err(error) => {
                let message = format!("{}: {error}; starting without the nodes in it", path.display());
                eprintln!("fast-peer: {}", one_line(&message));
            }
        }
        let (handle, to) = (self.handle.clone(), path.clone());
        tokio::task::spawn_local(async move {
            loop {
                tokio::time::sleep(SAVE_NODES_EVERY).await;
                save_nodes(&handle, to.clone()).await;
            }
        });
        self.nodes = Some(path);
    }

    pub(crate) fn add(&self, mut torrent: NewTorrent, storage: StorageSpec) -> TorrentId {
        self.remember(&mut torrent);
        self.handle.add_torrent(torrent, storage)
    }

    /// Adds a torrent of which only the hash is known.
    pub(crate) fn add_link(&self, mut torrent: NewTorrent) -> TorrentId {
        self.remember(&mut torrent);
        self.handle.add_link(torrent)
    }

    /// Adds the peers that an earlier run met. Those of a private torrent come from its trackers alone (BEP 27).
    fn remember(&self, torrent: &mut NewTorrent) {
        let is_private = torrent.content.as_ref().is_some_and(|content| content.metainfo.is_private());
        if self.keeps && torrent.discover && !torrent.check_only && !is_private {
            torrent.met = met::load(torrent.hashes.swarm());
        }
    }

    /// Says what is wanted of such a torrent, and where its files lie.
    pub(crate) fn set_content(&self, torrent: TorrentId, content: NewContent, storage: StorageSpec) {
        self.handle.set_content(torrent, content, storage);
    }

    /// Ends one torrent; the others go on. The peers that it met are kept first, as they go with it.
    pub(crate) fn remove(&self, torrent: TorrentId) {
        self.keep_met(Some(torrent));
        self.event(Event::RemoveTorrent { torrent });
    }

    /// Keeps the peers that one torrent met, or all of them did. Those of a private torrent are none of the next run's
    /// business (BEP 27): it may have become known as private since others were kept.
    fn keep_met(&self, only: Option<TorrentId>) {
        if !self.keeps {
            return;
        }
        self.with_session(|session| {
            for (_, torrent) in session.torrents().filter(|(id, _)| only.is_none_or(|only| only == *id)) {
                if torrent.is_private() {
                    met::forget(torrent.info_hash());
                } else {
                    met::save(torrent.info_hash(), torrent.met());
                }
            }
        });
    }

    /// Looks for something in the DHT; what is found comes as notices. Nothing without a DHT.
    pub(crate) fn look_up(&self, task: Task) -> Option<LookupId> {
        self.handle.start_lookup(task)
    }

    /// The next notice; none once the session has ended.
    pub(crate) async fn notice(&mut self) -> Option<Notice> {
        let notice = self.notices.recv().await;
        notice.iter().for_each(port_map::log);
        notice
    }

    pub(crate) fn status(&self, torrent: TorrentId) -> Option<Status> {
        self.handle.with_session(|session| session.status(torrent))
    }

    pub(crate) fn with_session<R>(&self, look: impl FnOnce(&Session) -> R) -> R {
        self.handle.with_session(look)
    }

    pub(crate) fn event(&self, event: Event) {
        self.handle.event(event);
    }

    pub(crate) fn counters(&self) -> Counters {
        self.handle.counters()
    }

    /// Ends requests, brings the disk to rest and tells the trackers; a second interrupt ends the process at once.
    pub(crate) async fn stop(self) -> Result<(), Failure> {
        self.keep_met(None);
        self.handle.event(Event::Stop);
        let ended = async {
            if let Some(path) = self.nodes {
                save_nodes(&self.handle, path).await;
            }
            self.running.await
        };
        tokio::select! {
            biased;
            ended = ended => match ended {
                Ok(_) => Ok(()),
                Err(error) => Err(Failure::new(Exit::Unknown, format!("the session broke: {error}"))),
            },
            signal = interrupted() => std::process::exit(signal.exit_code()),
        }
    }
}

/// Writes the nodes that the session knows, if it knows any. The next run can do without.
#[expect(clippy::disallowed_methods, reason = "the session never hears of it, so its order is nothing to it")]
async fn save_nodes(handle: &Handle<Via<Real>, Files>, to: PathBuf) {
    let saved = handle.with_session(Session::save_nodes).filter(|saved| !saved.contacts.is_empty());
    let Some(saved) = saved else { return };
    let shown = to.display().to_string();
    match tokio::task::spawn_blocking(move || state::save(&to, &saved)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!("{shown}: {error}"),
        Err(error) => tracing::debug!("{shown}: {error}"),
    }
}

/// How often nodes are saved, besides at the end.
const SAVE_NODES_EVERY: Duration = Duration::from_secs(5 * 60);

fn no_port(ports: &RangeInclusive<u16>, error: &io::Error) -> Failure {
    let which = if ports.start() == ports.end() {
        format!("port {}", ports.start())
    } else {
        format!("ports {} to {}", ports.start(), ports.end())
    };
    Failure::io(Exit::Network, which, error)
}

/// A request of the user's to end.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Signal {
    Interrupt,
    Terminate,
}

impl Signal {
    /// What shells expect of a process that a signal ended.
    pub(crate) fn exit_code(self) -> i32 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }
}

/// Waits for Ctrl-C or its like.
pub(crate) async fn interrupted() -> Signal {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let (Ok(mut interrupt), Ok(mut terminate)) =
            (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
        {
            return tokio::select! {
                biased;
                _ = interrupt.recv() => Signal::Interrupt,
                _ = terminate.recv() => Signal::Terminate,
            };
        }
    }
    match tokio::signal::ctrl_c().await {
        Ok(()) => Signal::Interrupt,
        // Without signals there is nothing to wait for.
        Err(_) => std::future::pending().await,
    }
}
