//! Whole sessions over loopback and a real disk.

use super::{Driver, Ended, Handle, Sockets, listen};
use crate::disk::{FileSpec, Files, StorageSpec};
use crate::http::Tls;
use crate::net::{Net, Real, RealUdp, Surroundings};
use crate::scratch::Scratch;
use fast_peer_core::id::TorrentId;
use fast_peer_core::machine::Timestamp;
use fast_peer_core::metainfo::Metainfo;
use fast_peer_core::metainfo::create::{Content, Create};
use fast_peer_core::mse::Methods;
use fast_peer_core::portmap::{Mode, Router, UpnpError, UpnpRequest};
use fast_peer_core::session::{Config, Encryption, Event, NewTorrent, Notice, Policy, Session, Transports};
use fast_peer_core::store::op::Sha1State;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use tokio::time::{Instant, timeout};

const PIECE_LEN: u32 = 1 << 17;
const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const LIMIT: Duration = Duration::from_secs(30);

struct Client {
    handle: Handle<Real, Files>,
    notices: UnboundedReceiver<Notice>,
    running: JoinHandle<Ended>,
    addr: SocketAddr,
}

impl Client {
    async fn start(seed: u8) -> Self {
        Self::start_with(seed, Config::default()).await
    }

    async fn start_with(seed: u8, config: Config) -> Self {
        let session = Session::new(config, [seed; 32], Timestamp::ZERO);
        let driver = Driver::new(Real::default(), Files::new().unwrap(), Tls::from_env().unwrap(), session);
        let port = driver.listen(&[LOCAL], 0..=0).await.unwrap().unwrap();
        let handle = driver.handle();
        let notices = handle.notices();
        Self { handle, notices, running: spawn_local(driver.run()), addr: SocketAddr::new(LOCAL, port) }
    }

    /// One that has all of a torrent in `full`, and says so.
    async fn seeding(torrent: &Arc<Metainfo>, files: &[(String, Vec<u8>)], full: &Scratch) -> Self {
        files.iter().for_each(|(path, data)| full.write(path, data));
        let mut seeder = Self::start(1).await;
        let id = seeder.add(torrent, full, vec![]);
        seeder.hears(Notice::Seeding { torrent: id }).await;
        seeder
    }

    fn add(&self, torrent: &Arc<Metainfo>, root: &Scratch, peers: Vec<SocketAddr>) -> TorrentId {
        let files = torrent.files().iter().map(|file| FileSpec {
            path: file.path.components().collect(),
            len: file.len,
            pad: file.attributes.pad,
            wanted: true,
        });
        let storage = StorageSpec::new(root.path().to_owned(), torrent.name(), files.collect());
        self.handle.add_torrent(NewTorrent { peers, ..NewTorrent::new(Arc::clone(torrent)) }, storage)
    }

    async fn hears(&mut self, expected: Notice) {
        let heard = async { while self.notices.recv().await.expect("it runs") != expected {} };
        timeout(LIMIT, heard).await.unwrap_or_else(|_| panic!("no notice: {expected}"));
    }

    async fn stop(self) {
        self.handle.event(Event::Stop);
        assert_eq!(timeout(LIMIT, self.running).await.unwrap().unwrap(), Ended::Clean);
    }
}

fn content(len: usize) -> Vec<u8> {
    (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// A torrent of three files in a folder, and its content.
fn torrent() -> (Arc<Metainfo>, Vec<(String, Vec<u8>)>) {
    let all = content(3_000_000);
    let files = [("a", &all[..1_700_001]), ("b", &all[1_700_001..1_700_003]), ("c", &all[1_700_003..])];
    let hash = |piece: &[u8]| {
        let mut state = Sha1State::new();
        state.update(piece);
        state.finish()
    };
    let create = Create {
        name: "name".into(),
        content: Content::Folder(
            files.iter().map(|(name, data)| (vec![(*name).into()], data.len() as u64)).collect(),
        ),
        piece_len: PIECE_LEN,
        piece_hashes: all.chunks(PIECE_LEN as usize).flat_map(hash).collect(),
        trackers: vec![],
        web_seeds: vec![],
        comment: None,
        created_by: None,
        creation_date: None,
        private: false,
        source: None,
    };
    let torrent = Metainfo::parse(&create.encode().unwrap()).unwrap();
    let files = files.iter().map(|(name, data)| (format!("name/{name}"), data.to_vec())).collect();
    (Arc::new(torrent), files)
}

/// With RC4 every byte of a block is deciphered where it was read, so there are no more copies than without.
#[tokio::test]
async fn a_torrent_goes_from_one_session_to_another() {
    let rc4 = Encryption { incoming: Policy::Require, outgoing: Policy::Require, methods: Methods::RC4 };
    for encryption in [Encryption::default(), rc4] {
        LocalSet::new().run_until(transfer(Config { encryption, ..Config::default() })).await;
    }
}

async fn transfer(config: Config) {
    let (torrent, files) = torrent();
    let (full, empty) = (Scratch::new(), Scratch::new());
    files.iter().for_each(|(path, data)| full.write(path, data));

    let mut seeder = Client::start_with(1, config.clone()).await;
    let id = seeder.add(&torrent, &full, vec![]);
    seeder.hears(Notice::Seeding { torrent: id }).await;
    let mut leecher = Client::start_with(2, config).await;
    let id = leecher.add(&torrent, &empty, vec![seeder.addr]);
    leecher.hears(Notice::Completed { torrent: id }).await;

    for (path, data) in &files {
        assert!(empty.read(path) == *data, "{path}");
    }
    let counters = leecher.handle.counters();
    assert_eq!(counters.payload_bytes, 3_000_000);
    // A message between the first blocks can cost a copy of those that were read with it.
    assert!(counters.copied_payload_bytes * 10 <= counters.payload_bytes, "{counters:?}");
    leecher.stop().await;
    seeder.stop().await;
}

#[tokio::test]
async fn what_is_left_of_a_removed_torrent_is_its_files() {
    LocalSet::new()
        .run_until(async {
            let (torrent, files) = torrent();
            let full = Scratch::new();
            files.iter().for_each(|(path, data)| full.write(path, data));
            let mut client = Client::start(1).await;
            let id = client.add(&torrent, &full, vec![]);
            client.hears(Notice::Seeding { torrent: id }).await;
            client.handle.event(Event::RemoveTorrent { torrent: id });
            let gone = async {
                while client.handle.with_session(|session| session.torrent(id).is_some()) {
                    tokio::task::yield_now().await;
                }
            };
            timeout(LIMIT, gone).await.unwrap();
            assert!(client.handle.hub.state().leaving.is_empty());
            assert!(full.read("name/c") == files[2].1);
            client.stop().await;
        })
        .await;
}

#[tokio::test]
async fn a_download_goes_on_after_ten_hours_of_sleep() {
    LocalSet::new()
        .run_until(async {
            let (torrent, files) = torrent();
            let (full, empty) = (Scratch::new(), Scratch::new());
            let seeder = Client::seeding(&torrent, &files, &full).await;

            let mut leecher = Client::start(2).await;
            let limits = Event::SetLimits { down_bytes_per_s: Some(1_000_000), up_bytes_per_s: None };
            leecher.handle.event(limits);
            let id = leecher.add(&torrent, &empty, vec![seeder.addr]);
            let begun = async {
                while leecher.handle.counters().payload_bytes == 0 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            timeout(LIMIT, begun).await.unwrap();
            let hub = &leecher.handle.hub;
            hub.add_sleep(Duration::from_secs(36_000));
            assert!(hub.due(&hub.state().session).unwrap() < tokio::time::Instant::now(), "all is overdue");
            leecher.handle.event(Event::SetLimits { down_bytes_per_s: None, up_bytes_per_s: None });
            leecher.hears(Notice::Completed { torrent: id }).await;
            leecher.stop().await;
            seeder.stop().await;
        })
        .await;
}

#[tokio::test]
async fn strangers_are_turned_away() {
    LocalSet::new()
        .run_until(async {
            let client = Client::start(1).await;
            let mut stranger = TcpStream::connect(client.addr).await.unwrap();
            stranger.write_all(&[b"\x13BitTorrent protocol".as_slice(), &[0; 48]].concat()).await.unwrap();
            let heard = timeout(LIMIT, stranger.read(&mut [0; 100])).await.unwrap();
            assert!(matches!(heard, Ok(0) | Err(_)), "{heard:?}");
            client.stop().await;
        })
        .await;
}

#[tokio::test]
async fn a_port_is_one_that_is_free_for_all() {
    LocalSet::new()
        .run_until(async {
            let taken = tokio::net::UdpSocket::bind((LOCAL, 0)).await.unwrap();
            let port = taken.local_addr().unwrap().port();
            let session = Session::new(Config::default(), [1; 32], Timestamp::ZERO);
            let driver =
                Driver::new(Real::default(), Files::new().unwrap(), Tls::from_env().unwrap(), session);
            let both = [LOCAL, IpAddr::V6(Ipv6Addr::LOCALHOST)];
            let error = driver.listen(&both, port..=port).await.unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
            let next = driver.listen(&both, port..=port.saturating_add(50)).await.unwrap().unwrap();
            assert!(next > port);
            assert!(TcpStream::connect((LOCAL, next)).await.is_ok());
        })
        .await;
}

#[tokio::test]
async fn dropping_a_driver_ends_its_tasks() {
    LocalSet::new()
        .run_until(async {
            let client = Client::start(1).await;
            client.running.abort();
            assert!(client.running.await.unwrap_err().is_cancelled());
            // The listener goes with its task, which ends when the tasks of this thread next have their turn.
            let refused = async { while TcpStream::connect(client.addr).await.is_ok() {} };
            timeout(LIMIT, refused).await.unwrap();
        })
        .await;
}

/// Loopback, in surroundings that are as they were told, one look after another, and with a router that UPnP looks for in
/// vain.
#[derive(Clone, Default)]
struct Staged {
    looks: Rc<RefCell<VecDeque<Surroundings>>>,
    searches: Rc<Cell<u32>>,
}

impl Staged {
    fn new(looks: &[(u8, bool)]) -> Self {
        let look = |&(host, has_router): &(u8, bool)| {
            let local = Ipv4Addr::new(192, 168, 1, host);
            let router = has_router.then_some(Router { local, gateway: None });
            Surroundings { addresses: vec![local.into()], router, ..Surroundings::default() }
        };
        Self { looks: Rc::new(RefCell::new(looks.iter().map(look).collect())), searches: Rc::default() }
    }

    /// Runs a session in it for a while, and then stops it; how long that took.
    async fn run(&self, time: Duration) -> Duration {
        let config = Config { port_map: Mode::Upnp, ..Config::default() };
        let session = Session::new(config, [1; 32], Timestamp::ZERO);
        let driver = Driver::new(self.clone(), Files::new().unwrap(), Tls::from_env().unwrap(), session);
        driver.listen(&[LOCAL], 0..=0).await.unwrap();
        driver.watch_network(&[Ipv4Addr::UNSPECIFIED.into()]);
        let handle = driver.handle();
        let running = spawn_local(driver.run());
        tokio::time::sleep(time).await;
        let told = Instant::now();
        handle.event(Event::Stop);
        assert_eq!(running.await.unwrap(), Ended::Clean);
        told.elapsed()
    }
}

impl Net for Staged {
    type Stream = TcpStream;
    type Listener = TcpListener;
    type Udp = RealUdp;

    async fn connect(&self, remote: SocketAddr) -> io::Result<TcpStream> {
        Real::default().connect(remote).await
    }

    async fn listen(&self, local: SocketAddr) -> io::Result<TcpListener> {
        Real::default().listen(local).await
    }

    async fn udp(&self, local: SocketAddr) -> io::Result<RealUdp> {
        Real::default().udp(local).await
    }

    async fn join(&self, _: SocketAddr, _: &[IpAddr]) -> io::Result<Vec<RealUdp>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn surroundings(&self) -> io::Result<Surroundings> {
        let mut looks = self.looks.borrow_mut();
        let next = if looks.len() > 1 { looks.pop_front() } else { looks.front().cloned() };
        next.ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    async fn upnp(&self, _: UpnpRequest, _: &Cell<bool>) -> Result<Option<Ipv4Addr>, UpnpError> {
        self.searches.set(self.searches.get() + 1);
        std::future::pending().await
    }

    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        Real::default().resolve(host).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_a_router_to_be_found() {
    let net = Staged::new(&[(7, true)]);
    let took = LocalSet::new().run_until(net.run(Duration::from_secs(1))).await;
    assert_eq!(net.searches.get(), 1);
    assert!(took < Duration::from_millis(100), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_seen_once_does_not_count() {
    for (looks, searches) in [
        (&[(7, true), (7, true), (7, false), (7, true), (7, true), (7, false), (7, true)][..], 1),
        (&[(7, true), (7, false), (7, false), (7, true)], 2),
        (&[(7, true), (8, true)], 2),
    ] {
        let net = Staged::new(looks);
        LocalSet::new().run_until(net.run(Duration::from_secs(40))).await;
        assert_eq!(net.searches.get(), searches, "{looks:?}");
    }
}

#[tokio::test]
async fn who_takes_no_streams_does_not_listen_for_them() {
    LocalSet::new()
        .run_until(async {
            let transports = Transports { tcp: false, utp: true };
            let client = Client::start_with(1, Config { transports, ..Config::default() }).await;
            assert!(TcpStream::connect(client.addr).await.is_err());
            assert!(UdpSocket::bind(client.addr).await.is_err(), "it takes datagrams");
            client.stop().await;
        })
        .await;
}

/// As after an interface was made anew.
#[tokio::test]
async fn a_port_is_opened_anew() {
    LocalSet::new()
        .run_until(async {
            let (torrent, files) = torrent();
            let (full, empty) = (Scratch::new(), Scratch::new());
            let seeder = Client::seeding(&torrent, &files, &full).await;
            let hub = &seeder.handle.hub;
            // Here the old ones have to be gone before there can be new ones.
            hub.take_sockets(
                Sockets { port: seeder.addr.port(), lets_in: true, listeners: vec![], udp: vec![] },
                true,
            );
            while TcpStream::connect(seeder.addr).await.is_ok() || UdpSocket::bind(seeder.addr).await.is_err()
            {
                tokio::task::yield_now().await;
            }
            listen::reopen(hub, &[LOCAL], true).await.unwrap();
            assert_eq!(*hub.bound.borrow(), [LOCAL]);
            listen::reopen(hub, &[LOCAL], false).await.expect("nothing is left to be opened");

            for transports in [Transports { tcp: true, utp: false }, Transports { tcp: false, utp: true }] {
                let mut leecher = Client::start_with(2, Config { transports, ..Config::default() }).await;
                let id = leecher.add(&torrent, &empty, vec![seeder.addr]);
                leecher.hears(Notice::Completed { torrent: id }).await;
                leecher.stop().await;
                files.iter().for_each(|(path, _)| std::fs::remove_file(empty.path().join(path)).unwrap());
            }
            seeder.stop().await;
        })
        .await;
}
