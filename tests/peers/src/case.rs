//! One transfer: a seeder, leechers, and the way that the bytes take.

use std::collections::BTreeSet;
use std::fmt::{self, Display, Write};
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use crate::calls::Calls;
use crate::client::{Client, Discovery, Job, Kind, Link, METADATA, PORT, Role, Source, Want};
use crate::content::{Content, Payload, Torrent};
use crate::dht::{Dht, Nodes};
use crate::namespace::{Family, Host, Network, in_new_network};
use crate::process::target_folder;
use crate::tracker::{OpenTracker, PlainTracker, Tracker};

/// How leechers find the seeder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Route {
    /// By the DHT, of which they know one node.
    Dht(Nodes),
    /// They are handed its address.
    Direct,
    /// By a tracker over HTTP.
    HttpTracker,
    /// By calls into the local network.
    Lsd,
    /// They are handed the address of another leecher, which has been handed the seeder's. Its link is so thin that the
    /// payload can't come through it.
    Pex(Kind),
    /// By a tracker over UDP.
    UdpTracker,
}

/// A transfer. All leechers must end with the seeder's payload, byte for byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Who has the payload.
    pub seeder: Kind,
    /// Who wants it.
    pub leechers: Vec<Kind>,
    /// How they find the seeder.
    pub route: Route,
    /// The addresses they use.
    pub family: Family,
    /// What they speak through.
    pub link: Link,
    /// Whether each leecher has another one instead, in turn: uTP, encrypted TCP, TCP; where it can't, TCP.
    pub mixed: bool,
    /// What they exchange.
    pub content: Content,
    /// Whether the leechers know no more than a magnet link.
    pub magnet: bool,
    /// What the leechers are after.
    pub want: Want,
}

impl Case {
    /// The plainest transfer between two clients.
    pub fn new(seeder: Kind, leecher: Kind) -> Self {
        Self {
            seeder,
            leechers: vec![leecher],
            route: Route::HttpTracker,
            family: Family::V4,
            link: Link::Tcp,
            mixed: false,
            content: Content::Single,
            magnet: false,
            want: Want::Payload,
        }
    }

    /// Runs it, in a network of its own. An error holds what everyone in it logged.
    pub fn run(&self) -> Result<()> {
        let home = target_folder()?.join("peers/cases").join(self.to_string().replace('/', "."));
        if home.exists() {
            fs::remove_dir_all(&home).with_context(|| format!("cannot clear {}", home.display()))?;
        }
        fs::create_dir_all(&home)?;
        in_new_network(|network| self.run_in(network, &home))?;
        fs::remove_dir_all(&home)?;
        Ok(())
    }

    fn run_in(&self, network: &Network, home: &Path) -> Result<()> {
        let mut swarm = Swarm::prepare(self, network, home)?;
        let result = swarm.run();
        result.map_err(|error| anyhow!("{error:#}\n{}", swarm.tails()))
    }
}

impl Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let leechers: Vec<_> = self.leechers.iter().map(ToString::to_string).collect();
        let route = match self.route {
            Route::Dht(nodes) => format!("dht-{nodes}"),
            Route::Direct => "direct".to_owned(),
            Route::HttpTracker => "http".to_owned(),
            Route::Lsd => "lsd".to_owned(),
            Route::Pex(between) => format!("pex-{between}"),
            Route::UdpTracker => "udp".to_owned(),
        };
        let family = match self.family {
            Family::V4 => "ipv4",
            Family::V6 => "ipv6",
        };
        let link = match self.link {
            _ if self.mixed => "mixed",
            Link::Encrypted => "encrypted",
            Link::Plaintext => "plaintext",
            Link::Rc4 => "rc4",
            Link::Tcp => "tcp",
            Link::Utp => "utp",
        };
        let content = match self.content {
            Content::Folder => "folder",
            Content::LargePieces => "large-pieces",
            Content::OddPieces => "odd-pieces",
            Content::Single => "single",
            Content::Tiny => "tiny",
        };
        let source = if self.magnet { "magnet" } else { "file" };
        write!(f, "{}-to-{}/{route}/{family}/{link}/{content}/{source}", self.seeder, leechers.join("+"))?;
        f.write_str(match self.want {
            Want::Lookup => "/lookup",
            Want::Metadata => "/metadata",
            Want::Payload => "",
            Want::Peers => "/peers",
        })
    }
}

struct Swarm<'a> {
    case: &'a Case,
    network: &'a Network,
    home: &'a Path,
    payload: Payload,
    torrent: Torrent,
    tracker: Option<Box<dyn Tracker>>,
    dht: Option<Dht>,
    calls: Calls,
    clients: Vec<Box<dyn Client>>,
}

impl<'a> Swarm<'a> {
    fn prepare(case: &'a Case, network: &'a Network, home: &'a Path) -> Result<Self> {
        let payload = case.content.payload();
        let (torrent, tracker): (_, Option<Box<dyn Tracker>>) = match (case.route, case.family) {
            (Route::Dht(_) | Route::Direct | Route::Lsd | Route::Pex(_), _) => (payload.torrent(None), None),
            (Route::HttpTracker, Family::V6) => {
                let torrent = payload.torrent(Some(&PlainTracker::url(network)));
                let tracker = PlainTracker::start(network, torrent.infohash)?;
                (torrent, Some(Box::new(tracker)))
            }
            (route, family) => {
                ensure!(family == Family::V4, "no tracker here speaks UDP and IPv6");
                let host = network.host()?;
                let url = match route {
                    Route::UdpTracker => OpenTracker::udp_url(&host),
                    _ => OpenTracker::http_url(&host),
                };
                let torrent = payload.torrent(Some(&url));
                let tracker = OpenTracker::start(host, home, &torrent)?;
                (torrent, Some(Box::new(tracker)))
            }
        };
        let dht = match case.route {
            Route::Dht(nodes) => Some(Dht::start(nodes, network, home)?),
            _ => None,
        };
        let calls = Calls::new(network)?;
        Ok(Self { case, network, home, payload, torrent, tracker, dht, calls, clients: Vec::new() })
    }

    fn run(&mut self) -> Result<()> {
        let file = self.home.join("test.torrent");
        fs::write(&file, &self.torrent.bytes)?;
        let file = Source::File(file);
        let host = self.host()?;
        let address = host.port(self.case.family, PORT);
        let seeder = self.start(self.case.seeder, &host, Part::Seeder, &file, &[])?;
        self.wait("the seeder is ready", START, |swarm| swarm.clients[seeder].is_complete())?;
        self.wait("the tracker knows the seeder", START, |swarm| match &mut swarm.tracker {
            Some(tracker) => Ok(tracker.seeds()? > 0),
            None => Ok(true),
        })?;
        self.wait("the DHT knows the seeder", JOIN, |swarm| {
            swarm.clients[seeder].is_complete()?;
            match &mut swarm.dht {
                Some(dht) => dht.knows(swarm.torrent.infohash, address),
                None => Ok(true),
            }
        })?;

        let mut peers = Vec::new();
        if let Route::Direct | Route::Pex(_) = self.case.route {
            peers.push(address);
        }
        if let Route::Pex(kind) = self.case.route {
            let host = self.host()?;
            self.start(kind, &host, Part::Between, &file, &peers)?;
            // It tells whom it knows at once when a peer comes, and then again after a minute.
            let known = format!("{}:", host.address(self.case.family));
            self.wait("the seeder has another peer", START, |swarm| {
                Ok(swarm.clients[seeder].process().output().contains(&known))
            })?;
            peers = vec![host.port(self.case.family, PORT)];
        }
        let source = if self.case.magnet { Source::Magnet(self.torrent.magnet()) } else { file };
        let leechers = self.clients.len()..self.clients.len() + self.case.leechers.len();
        let mut addresses = BTreeSet::from([address.ip()]);
        for kind in &self.case.leechers {
            let host = self.host()?;
            addresses.insert(host.address(self.case.family));
            self.start(*kind, &host, Part::Leecher, &source, &peers)?;
        }
        let mut waiting: Vec<_> = leechers.clone().collect();
        self.wait("all leechers are complete", TRANSFER, |swarm| {
            let mut still = Vec::new();
            for &leecher in &waiting {
                if !swarm.clients[leecher].is_complete()? {
                    still.push(leecher);
                }
            }
            waiting = still;
            Ok(waiting.is_empty())
        })?;
        for (leecher, kind) in leechers.zip(&self.case.leechers) {
            self.check(leecher, *kind, address).with_context(|| format!("what {kind} got"))?;
        }
        self.check_link()?;
        self.check_calls(&addresses)
    }

    /// Fails unless all clients have called into the local network, or none where none may.
    fn check_calls(&mut self, clients: &BTreeSet<IpAddr>) -> Result<()> {
        let infohash = self.torrent.hex();
        if self.case.route == Route::Lsd {
            return self.wait("all clients have called", START, |swarm| {
                Ok(swarm.calls.callers(&infohash)?.is_superset(clients))
            });
        }
        let callers = self.calls.callers(&infohash)?;
        ensure!(callers.is_empty(), "{callers:?} called into the local network");
        Ok(())
    }

    /// Fails unless a fast-peer says that its connections are sent by the method that the link is about.
    fn check_link(&self) -> Result<()> {
        let (wanted, other) = match self.case.link {
            Link::Plaintext => ("method=plain", "method=RC4"),
            Link::Rc4 => ("method=RC4", "method=plain"),
            Link::Encrypted | Link::Tcp | Link::Utp => return Ok(()),
        };
        let ends = [&[self.case.seeder][..], &self.case.leechers].concat();
        for (client, _) in self.clients.iter().zip(ends).filter(|(_, kind)| *kind == Kind::FastPeer) {
            let output = client.process().output();
            ensure!(output.contains(wanted) && !output.contains(other), "no connection with {wanted} alone");
        }
        Ok(())
    }

    /// Fails unless a leecher has got what it wanted.
    fn check(&self, leecher: usize, kind: Kind, seeder: SocketAddr) -> Result<()> {
        let folder = folder(self.home, leecher);
        match self.case.want {
            Want::Lookup | Want::Peers => {
                let output = self.clients[leecher].process().output();
                ensure!(output.contains(&seeder.to_string()), "{output}");
            }
            Want::Metadata => {
                let file = fs::read(folder.join(METADATA))?;
                let info = &self.torrent.info;
                ensure!(file.windows(info.len()).any(|bytes| bytes == info), "another info dictionary");
            }
            Want::Payload if kind.makes_empty_files() => self.payload.compare(&folder)?,
            Want::Payload => self.payload.clone().without_empty_files().compare(&folder)?,
        }
        Ok(())
    }

    fn host(&self) -> Result<Host> {
        let host = self.network.host()?;
        if self.case.link == Link::Utp {
            host.forbid_tcp()?;
        }
        if (self.case.route, self.case.family) == (Route::Lsd, Family::V6) {
            host.forbid_ipv4()?;
        }
        Ok(host)
    }

    fn start(
        &mut self,
        kind: Kind,
        host: &Host,
        part: Part,
        source: &Source,
        peers: &[SocketAddr],
    ) -> Result<usize> {
        let number = self.clients.len();
        let home = self.home.join(number.to_string());
        let folder = folder(self.home, number);
        fs::create_dir_all(&home)?;
        fs::create_dir_all(&folder)?;
        let role = if part == Part::Seeder { Role::Seed } else { Role::Leech };
        if role == Role::Seed {
            self.payload.write(&folder)?;
        }
        let infohash = self.torrent.hex();
        let job = Job {
            host,
            home: &home,
            folder: &folder,
            name: self.payload.name(),
            infohash: &infohash,
            role,
            source,
            link: self.link(kind, role),
            peers,
            discovery: self.discovery(part),
            rate: (part == Part::Between).then_some(THIN_LINK),
            want: if part == Part::Leecher { self.case.want } else { Want::Payload },
        };
        self.clients.push(kind.start(&job)?);
        Ok(number)
    }

    /// What the next client speaks through.
    fn link(&self, kind: Kind, role: Role) -> Link {
        if !self.case.mixed || role == Role::Seed {
            return self.case.link;
        }
        let link = [Link::Tcp, Link::Utp, Link::Encrypted][self.clients.len() % 3];
        if kind.speaks(link) { link } else { Link::Tcp }
    }

    fn discovery(&self, part: Part) -> Discovery<'_> {
        Discovery {
            dht: self.dht.as_ref().map_or(&[], Dht::nodes),
            lsd: self.case.route == Route::Lsd,
            // A seeder that hears of the leechers would call them, and it would not matter what they hear.
            pex: matches!(self.case.route, Route::Pex(_)) && part != Part::Seeder,
        }
    }

    fn wait(
        &mut self,
        what: &str,
        limit: Duration,
        mut done: impl FnMut(&mut Self) -> Result<bool>,
    ) -> Result<()> {
        let end = Instant::now() + limit;
        while !done(self).with_context(|| format!("before {what}"))? {
            ensure!(Instant::now() < end, "after {} s it is still not true that {what}", limit.as_secs());
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    fn tails(&self) -> String {
        let mut text = String::new();
        for client in &self.clients {
            text += &client.process().tail();
        }
        if let Some(tracker) = &self.tracker {
            // Writing to a string can't fail.
            let _ = writeln!(text, "{}", tracker.tail());
        }
        if let Some(dht) = &self.dht {
            text += &dht.tail();
        }
        text
    }
}

/// What a client does for its swarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// It knows the seeder, and has hardly any rate.
    Between,
    Leecher,
    Seeder,
}

fn folder(home: &Path, client: usize) -> std::path::PathBuf {
    home.join(format!("{client}-payload"))
}

const PAUSE: Duration = Duration::from_millis(50);
/// How long a client may take until it serves a payload that it finds on the disk.
const START: Duration = Duration::from_secs(30);
/// How long a client may take until it has joined the DHT and announced itself there.
const JOIN: Duration = Duration::from_secs(90);
/// Bytes a second with which no payload comes through in the time that leechers may take, but addresses do.
const THIN_LINK: u32 = 20_000;
/// How long the leechers may take. Transmission 3.00 decides every 10 s whom it is interested in.
const TRANSFER: Duration = Duration::from_secs(90);
