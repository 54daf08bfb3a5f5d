//! Finding peers of a torrent without downloading it: each is told as soon as anybody names it.

use super::swarm::{Swarm, all_trackers, peer_id};
use crate::engine::{self, Engine};
use crate::exit::Failure;
use crate::network::Bootstrap;
use crate::trackers::Tracker;
use crate::way::Outside;
use fast_peer_core::dht::{Summary, Task};
use fast_peer_core::id::{LookupId, TorrentId};
use fast_peer_core::ip_filter::IpFilter;
use fast_peer_core::magnet::Magnet;
use fast_peer_core::session::{Config, Encryption, Event, Found, NewTorrent, Notice, Transports};
use fast_peer_core::torrent::known_peers::Source;
use fast_peer_core::tracker::{
    Announce, AnnounceEvent, AnnounceRequest, Answer, MAX_PEERS, STOP_PATIENCE, TrackerError, TrackerUrl,
};
use fast_peer_core::wire::PexFlags;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// What the user wants to be asked.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    /// Trackers besides the torrent's own; nothing if none is to be asked.
    pub(super) trackers: Option<&'a [TrackerUrl]>,
    /// How to get into the DHT, if it is to be asked.
    pub(super) dht: Option<&'a Bootstrap>,
    /// Whether peers are asked for others.
    pub(super) pex: bool,
    /// Whether the local network is.
    pub(super) lsd: bool,
    /// Peers to begin with.
    pub(super) peers: &'a [SocketAddr],
    /// The port that trackers are told.
    pub(super) port: u16,
    /// What carries connections to peers.
    pub(super) transports: Transports,
    /// Whether connections to peers are obfuscated.
    pub(super) encryption: Encryption,
    /// Whom to leave alone.
    pub(super) filter: Arc<IpFilter>,
    /// How long a tracker has to answer.
    pub(super) patience: Duration,
}

impl Wanted<'_> {
    /// Whether it takes being in the swarm.
    pub(super) fn takes_part(&self) -> bool {
        self.pex || self.lsd
    }
}

/// What was heard.
#[derive(Debug)]
pub(super) enum Heard {
    /// The DHT has nothing more to say.
    Dht(Summary),
    /// Peers with what another says of them, and the tracker that named them, if it was one.
    Peers { source: Source, tracker: Option<String>, peers: Vec<(SocketAddr, PexFlags)> },
    /// A tracker answered, or did not.
    Tracker { url: TrackerUrl, answer: Result<Answer, TrackerError> },
}

/// A search for peers.
#[derive(Debug)]
pub(super) struct Finder {
    asking: JoinSet<(Tracker, Result<Answer, TrackerError>)>,
    leaving: JoinSet<()>,
    announce: Announce,
    engine: Option<Engine>,
    /// The torrent, if we take part in its swarm.
    torrent: Option<TorrentId>,
    lookup: Option<LookupId>,
    asks_dht: bool,
    filter: Arc<IpFilter>,
    waiting: VecDeque<Heard>,
}

impl Finder {
    pub(super) async fn start(
        outside: &Outside,
        swarm: &Swarm,
        wanted: &Wanted<'_>,
    ) -> Result<Self, Failure> {
        let announce = announce(swarm, wanted.port)?;
        let mut asking = JoinSet::new();
        let can_do_without = wanted.dht.is_some() || wanted.takes_part();
        let trackers = wanted.trackers.filter(|added| {
            let has_some = !added.is_empty() || !swarm.trackers.is_empty();
            has_some || !can_do_without
        });
        let trackers = trackers.map(|added| all_trackers(outside, &swarm.trackers, added)).transpose()?;
        for mut tracker in trackers.into_iter().flatten() {
            let (announce, patience) = (announce.clone(), wanted.patience);
            asking.spawn_local(async move {
                let answer = tracker.announce(&announce, patience).await;
                (tracker, answer)
            });
        }
        let mut finder = Self {
            asking,
            leaving: JoinSet::new(),
            announce,
            engine: None,
            torrent: None,
            lookup: None,
            asks_dht: wanted.dht.is_some(),
            filter: Arc::clone(&wanted.filter),
            waiting: VecDeque::new(),
        };
        finder.join(outside, swarm, wanted).await?;
        Ok(finder)
    }

    /// Starts a session, if what is wanted takes one.
    async fn join(&mut self, outside: &Outside, swarm: &Swarm, wanted: &Wanted<'_>) -> Result<(), Failure> {
        if !wanted.takes_part() && wanted.dht.is_none() {
            return Ok(());
        }
        let dht = wanted.dht.map(|bootstrap| bootstrap.config(true));
        let (pex, lsd, encryption) = (wanted.pex, wanted.lsd, wanted.encryption);
        let transports = wanted.transports;
        let ip_filter = Arc::clone(&wanted.filter);
        let config = Config { dht, pex, lsd, transports, encryption, ip_filter, ..Config::default() };
        let (mut engine, _) = Engine::start(outside, config, Some(0..=0)).await?;
        engine.keep();
        if wanted.takes_part() {
            let (info_hash, peers) = (Some(swarm.info_hash), swarm.peers.clone());
            let magnet = Magnet { info_hash, peers, ..Magnet::default() };
            let mut new = NewTorrent::try_from(&magnet).expect("a link with a hash names a torrent");
            new.peers.extend(wanted.peers);
            self.torrent = Some(engine.add_link(new));
        } else {
            let task = Task::GetPeers { info_hash: swarm.info_hash, announce: None, noseed: false };
            self.lookup = engine.look_up(task);
        }
        self.engine = Some(engine);
        Ok(())
    }

    /// What is heard next; nothing once all that can say something has. Peers and the local network never have.
    pub(super) async fn next(&mut self) -> Option<Heard> {
        loop {
            if let Some(mut heard) = self.waiting.pop_front() {
                if let Heard::Peers { peers, .. } = &mut heard {
                    peers.retain(|(peer, _)| !self.filter.blocks(peer.ip()));
                }
                return Some(heard);
            }
            if self.asking.is_empty() && !self.asks_dht && self.torrent.is_none() {
                return None;
            }
            let Self { asking, engine, .. } = self;
            let notice = async {
                match engine {
                    Some(engine) => engine.notice().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                Some(joined) = asking.join_next() => {
                    let (tracker, answer) = joined.ok()?;
                    self.on_answer(tracker, answer);
                }
                notice = notice => self.on_notice(notice?),
            }
        }
    }

    fn on_answer(&mut self, mut tracker: Tracker, answer: Result<Answer, TrackerError>) {
        let url = tracker.url().clone();
        if let Ok(answer) = &answer {
            let peers = answer.peers.clone();
            if let (Some(engine), Some(torrent)) = (&self.engine, self.torrent) {
                engine.event(Event::AddPeers { torrent, peers: peers.clone() });
            }
            let (named_by, peers) = (Some(url.to_string()), unflagged(peers));
            self.waiting.push_back(Heard::Peers { source: Source::Tracker, tracker: named_by, peers });
            let mut announce = self.announce.clone();
            announce.request.event = Some(AnnounceEvent::Stopped);
            announce.request.num_want = 0;
            announce.request.tracker_id.clone_from(&answer.tracker_id);
            self.leaving.spawn_local(async move {
                // A tracker that does not hear of it forgets us in time.
                if let Err(error) = tracker.announce(&announce, STOP_PATIENCE).await {
                    tracing::debug!("leaving {}: {error}", tracker.url());
                }
            });
        }
        self.waiting.push_back(Heard::Tracker { url, answer });
    }

    fn on_notice(&mut self, notice: Notice) {
        match notice {
            Notice::Peers { source, peers, .. } => {
                self.waiting.push_back(Heard::Peers { source, tracker: None, peers });
            }
            Notice::DhtAsked { summary, .. } => self.on_dht(summary),
            Notice::Lookup { lookup, found } if Some(lookup) == self.lookup => match found {
                Found::Peers { peers, .. } => {
                    let peers = unflagged(peers);
                    self.waiting.push_back(Heard::Peers { source: Source::Dht, tracker: None, peers });
                }
                Found::Done(summary) => self.on_dht(summary),
                _ => {}
            },
            _ => {}
        }
    }

    /// The DHT was asked. Whoever takes part asks it again, which is not waited for.
    fn on_dht(&mut self, summary: Summary) {
        if self.asks_dht {
            self.asks_dht = false;
            self.waiting.push_back(Heard::Dht(summary));
        }
    }

    /// Leaves trackers and the session.
    pub(super) async fn end(mut self) -> Result<(), Failure> {
        self.asking.abort_all();
        while self.leaving.join_next().await.is_some() {}
        match self.engine {
            Some(engine) => engine.stop().await,
            None => Ok(()),
        }
    }
}

/// Only peers say something of each other.
fn unflagged(peers: Vec<SocketAddr>) -> Vec<(SocketAddr, PexFlags)> {
    peers.into_iter().map(|peer| (peer, PexFlags::default())).collect()
}

fn announce(swarm: &Swarm, port: u16) -> Result<Announce, Failure> {
    let mut key = [0; 4];
    key.copy_from_slice(&engine::random_seed()?[..4]);
    Ok(Announce {
        info_hash: swarm.info_hash,
        peer_id: peer_id()?,
        port,
        ip: None,
        uploaded: 0,
        downloaded: 0,
        // Trackers name no seeds to seeds.
        left: swarm.torrent.as_ref().map_or(1, |torrent| torrent.lengths().total().max(1)),
        encryption: false,
        request: AnnounceRequest {
            event: Some(AnnounceEvent::Started),
            key: u32::from_be_bytes(key),
            num_want: MAX_PEERS as u32,
            tracker_id: None,
        },
    })
}
