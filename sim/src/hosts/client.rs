//! A host that runs the real driver.

use super::content::Content;
use super::disk::{SimDisk, Storage};
use super::net::{SimNet, Sought};
use fast_peer_core::id::TorrentId;
use fast_peer_core::machine::Timestamp;
use fast_peer_core::rng::Rng;
use fast_peer_core::session::{Config, Event, NewTorrent, Notice, Session, Status};
use fast_peer_io::driver::{Driver, Ended, Handle};
use fast_peer_io::http::Tls;
use fast_peer_io::net::{Proxy, Via};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::spawn_local;

/// What a client starts with.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The torrent that it has or wants.
    pub content: Rc<Content>,
    /// What is on its disk.
    pub disk: Storage,
    /// The peers that its user names.
    pub peers: Vec<SocketAddr>,
    /// Its settings.
    pub config: Config,
    /// Whether it joins the groups where local peers call each other.
    pub local: bool,
    /// The proxy by way of which it reaches all others, if there is one.
    pub proxy: Option<Proxy>,
}

impl Setup {
    /// Has nothing, knows nobody, and may do all but call into the local network.
    pub fn new(content: &Rc<Content>) -> Self {
        let (disk, config) = (Storage::default(), Config::default());
        Self { content: Rc::clone(content), disk, peers: vec![], config, local: false, proxy: None }
    }
}

/// A host that runs the real driver, as the scenario sees it: between two ticks.
#[derive(Clone)]
pub struct Client(Rc<Host>);

struct Host {
    ip: IpAddr,
    setup: Setup,
    net: SimNet,
    rng: Rng,
    starts: Cell<u64>,
    process: RefCell<Option<Process>>,
    ended: Cell<Option<Ended>>,
}

/// What is known of a running driver.
struct Process {
    handle: Handle<Via<SimNet>, SimDisk>,
    torrent: TorrentId,
    /// The clock of a host stands still between two ticks, so events wait here for the next.
    events: UnboundedSender<Event>,
    incoming: UnboundedReceiver<Notice>,
    notices: Vec<Notice>,
}

impl Client {
    pub(super) fn new(ip: IpAddr, setup: Setup, net: SimNet, rng: Rng) -> Self {
        let (starts, process, ended) = (Cell::new(0), RefCell::new(None), Cell::new(None));
        Self(Rc::new(Host { ip, setup, net, rng, starts, process, ended }))
    }

    /// The host's address.
    pub fn ip(&self) -> IpAddr {
        self.0.ip
    }

    /// Where it lets peers in.
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::new(self.0.ip, PORT)
    }

    /// Its files, which outlive it.
    pub fn disk(&self) -> &Storage {
        &self.0.setup.disk
    }

    /// Tells the session something, at the next tick.
    ///
    /// # Panics
    /// If it is not running.
    pub fn event(&self, event: Event) {
        let process = self.0.process.borrow();
        let process = process.as_ref().expect("a scenario talks to clients that run");
        process.events.send(event).expect("the task that listens ends with the process");
    }

    /// Whether it has said `notice` since it was started last.
    pub fn has_said(&self, notice: impl Fn(&Notice) -> bool) -> bool {
        self.with(|process| process.notices.iter().any(notice)).unwrap_or(false)
    }

    /// How many pieces it found when it checked its disk, once it has.
    pub fn found(&self) -> Option<u32> {
        self.with(|process| {
            process.notices.iter().find_map(|notice| match notice {
                Notice::Checked { pieces, .. } => Some(*pieces),
                _ => None,
            })
        })?
    }

    /// Whether every file is complete, and on the disk byte for byte.
    pub fn is_complete(&self) -> bool {
        let complete = self.status().is_some_and(|status| status.complete);
        assert!(!complete || self.0.setup.content.is_on(self.disk()), "what it calls complete is not");
        complete
    }

    /// The state of its torrent, if it runs.
    pub fn status(&self) -> Option<Status> {
        self.with(|process| process.handle.with_session(|session| session.status(process.torrent)))?
    }

    /// Bytes of pieces that are verified.
    pub fn bytes_have(&self) -> u64 {
        self.status().map_or(0, |status| status.bytes_have)
    }

    /// Open connections, whoever opened them, and half open ones.
    pub fn connections(&self) -> usize {
        self.with(|process| process.handle.with_session(|session| session.connections().0)).unwrap_or(0)
    }

    /// Whom it has sent anything, and which names it has looked up, since it was first started.
    pub fn sought(&self) -> Sought {
        self.0.net.sought()
    }

    /// How the driver came to its end, if it did so by itself.
    pub fn ended(&self) -> Option<Ended> {
        self.0.ended.get()
    }

    /// The process is gone.
    pub(super) fn died(&self) {
        self.0.process.take();
    }

    /// One life of the process.
    pub(super) async fn run(self) -> turmoil::Result {
        let Host { setup, net, rng, starts, process, ended, .. } = &*self.0;
        let rng = rng.fork_nth("start", starts.replace(starts.get() + 1));
        let mut seed = [0; 32];
        seed.chunks_exact_mut(8).zip(0..).for_each(|(part, i)| {
            part.copy_from_slice(&rng.fork_nth("seed", i).next_u64().to_le_bytes());
        });
        let session = Session::new(setup.config.clone(), seed, Timestamp::ZERO);
        let disk = SimDisk::new(setup.disk.clone(), rng.fork("disk"));
        let net = match setup.proxy.clone() {
            Some(proxy) => Via::proxy(net.clone(), proxy),
            None => Via::direct(net.clone()),
        };
        let driver = Driver::new(net, disk, Tls::mozilla(), session);
        let handle = driver.handle();
        let incoming = handle.notices();
        let (events, mut waiting) = mpsc::unbounded_channel();
        driver.listen(&[Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()], PORT..=PORT).await?;
        if setup.local {
            driver.join_local().await?;
        }
        let metainfo = setup.content.metainfo().clone();
        let new = NewTorrent { peers: setup.peers.clone(), ..NewTorrent::new(metainfo) };
        let torrent = handle.add_torrent(new, setup.content.storage_spec());
        let listener = handle.clone();
        spawn_local(async move {
            while let Some(event) = waiting.recv().await {
                listener.event(event);
            }
        });
        process.replace(Some(Process { handle, torrent, events, incoming, notices: vec![] }));
        ended.set(None);
        ended.set(Some(driver.run().await));
        Ok(())
    }

    fn with<R>(&self, look: impl FnOnce(&Process) -> R) -> Option<R> {
        let mut process = self.0.process.borrow_mut();
        let process = process.as_mut()?;
        while let Ok(notice) = process.incoming.try_recv() {
            process.notices.push(notice);
        }
        Some(look(process))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("ip", &self.0.ip).finish_non_exhaustive()
    }
}

/// The port of all clients.
pub const PORT: u16 = 6881;
