//! Asking a tracker directly, for commands that want its answer and no download.

use crate::engine;
use crate::exit::Failure;
use crate::way::Outside;
use fast_peer_core::id::InfoHash;
use fast_peer_core::machine::{Machine as _, Outbox, Timestamp};
use fast_peer_core::rng::Rng;
use fast_peer_core::tracker::{
    Announce, Answer, AskId, Question, Scheme, ScrapeCounts, TrackerError, TrackerUrl, UdpAction, UdpEvent,
    UdpReply, UdpTrackers, announce_url, parse_announce, parse_scrape, scrape_url,
};
use fast_peer_io::http::{Author, Client, Fetch, MAX_BODY};
use fast_peer_io::net::{Net as _, Real, RecvMeta, Udp as _, Via, ViaUdp, resolve_error};
use std::future::poll_fn;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::task::Poll;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout};

/// A tracker to ask, more than once if need be.
#[derive(Debug)]
pub(crate) struct Tracker {
    url: TrackerUrl,
    author: Author,
    http: Client<Via<Real>>,
    udp: UdpAsker,
}

impl Tracker {
    /// The tracker at `url`, which `author` named.
    pub(crate) fn new(outside: &Outside, url: TrackerUrl, author: Author) -> Result<Self, Failure> {
        let http = Client::new(outside.net.clone(), engine::tls()?);
        let udp = UdpAsker::new(outside.net.clone(), Rng::new(engine::random_seed()?));
        Ok(Self { url, author, http, udp })
    }

    pub(crate) fn url(&self) -> &TrackerUrl {
        &self.url
    }

    /// The answer to an announce; over UDP, the answers of both address families in one.
    pub(crate) async fn announce(
        &mut self,
        announce: &Announce,
        patience: Duration,
    ) -> Result<Answer, TrackerError> {
        if self.url.scheme() != Scheme::Udp {
            let (status, body) = self.get(&announce_url(&self.url, announce), patience).await?;
            return parse_announce(status, &body);
        }
        let path_and_query = self.url.path_and_query().to_owned();
        let question = Question::Announce { announce: announce.clone(), path_and_query };
        let replies = self.udp.ask(&self.url, question, patience).await?;
        let answers = replies.into_iter().filter_map(|reply| match reply {
            UdpReply::Announced(answer) => Some(answer),
            UdpReply::Scraped(_) => None,
        });
        answers.reduce(joined).ok_or(TrackerError::Malformed)
    }

    /// How many peers each of `torrents` has, or nothing where the tracker does not know the torrent.
    pub(crate) async fn scrape(
        &mut self,
        torrents: &[InfoHash],
        patience: Duration,
    ) -> Result<Vec<Option<ScrapeCounts>>, TrackerError> {
        if self.url.scheme() != Scheme::Udp {
            let url = scrape_url(&self.url, torrents)
                .ok_or_else(|| TrackerError::Unreachable(String::from("it has no address for scrapes")))?;
            let (status, body) = self.get(&url, patience).await?;
            return parse_scrape(status, &body, torrents);
        }
        let replies = self.udp.ask(&self.url, Question::Scrape(torrents.to_vec()), patience).await?;
        let counts = replies.into_iter().find_map(|reply| match reply {
            UdpReply::Scraped(counts) => Some(counts),
            UdpReply::Announced(_) => None,
        });
        let counts = counts.ok_or(TrackerError::Malformed)?;
        Ok((0..torrents.len()).map(|at| counts.get(at).copied()).collect())
    }

    async fn get(&self, url: &str, patience: Duration) -> Result<(u16, Vec<u8>), TrackerError> {
        let fetch = Fetch { url, author: self.author, max_body: MAX_BODY };
        match timeout(patience, self.http.get(fetch)).await {
            Ok(Ok(answer)) => Ok((answer.status, answer.body.to_vec())),
            Ok(Err(error)) => Err(TrackerError::Unreachable(error.to_string())),
            Err(_) => Err(TrackerError::TimedOut),
        }
    }
}

/// The peers of both; the rest as the first says, where it says anything.
fn joined(mut first: Answer, second: Answer) -> Answer {
    first.peers.extend(second.peers);
    first.seeders = first.seeders.max(second.seeders);
    first.leechers = first.leechers.max(second.leechers);
    first.warning = first.warning.or(second.warning);
    first
}

/// A socket of each family, and the machine that says what to send.
#[derive(Debug)]
struct UdpAsker {
    net: Via<Real>,
    machine: UdpTrackers,
    start: Instant,
    sockets: Vec<ViaUdp<Real>>,
    asked: u64,
}

impl UdpAsker {
    fn new(net: Via<Real>, rng: Rng) -> Self {
        Self { net, machine: UdpTrackers::new(rng), start: Instant::now(), sockets: vec![], asked: 0 }
    }

    async fn ask(
        &mut self,
        url: &TrackerUrl,
        question: Question,
        patience: Duration,
    ) -> Result<Vec<UdpReply>, TrackerError> {
        let end = Instant::now() + patience;
        let ips = match url.ip() {
            Some(ip) => vec![ip],
            None => match timeout(patience, self.net.resolve(url.host())).await {
                Ok(found) => {
                    found.map_err(|error| TrackerError::Unreachable(resolve_error(&error).to_string()))?
                }
                Err(_) => return Err(TrackerError::TimedOut),
            },
        };
        if self.sockets.is_empty() {
            self.sockets = open_sockets(&self.net)
                .await
                .map_err(|error| TrackerError::Unreachable(error.to_string()))?;
        }
        // A tracker names peers of the family that it was asked over (BEP 15).
        let first = |v4: bool| ips.iter().copied().find(|ip| ip.is_ipv4() == v4);
        let to = [first(true), first(false)].into_iter().flatten();
        let to = to.map(|ip| SocketAddr::new(ip, url.port())).collect();
        let id = AskId(self.asked);
        self.asked += 1;
        let patience = end.saturating_duration_since(Instant::now());
        let mut event = Some(UdpEvent::Ask { id, to, question, patience });
        let (mut out, mut replies) = (Outbox::new(), vec![]);
        // When the other family has had its chance.
        let mut enough = end;
        loop {
            if enough <= Instant::now() && !replies.is_empty() {
                self.machine.handle_event(self.now(), UdpEvent::Cancel { id }, &mut out);
                return Ok(replies);
            }
            match event.take() {
                Some(event) => self.machine.handle_event(self.now(), event, &mut out),
                None => self.machine.handle_timeout(self.now(), &mut out),
            }
            while let Some(action) = out.pop_front() {
                match action {
                    UdpAction::Answered { reply, .. } => {
                        replies.push(reply);
                        enough = enough.min(Instant::now() + OTHER_FAMILY);
                    }
                    UdpAction::Done { error: Some(error), .. } => return Err(error),
                    UdpAction::Done { error: None, .. } => return Ok(replies),
                    UdpAction::Send { to, data } => self.send(to, &data).await,
                }
            }
            let due = self.machine.poll_timeout().expect("a question that is not done has an end");
            let due = self.start + Duration::from_micros(due.at.as_micros());
            tokio::select! {
                biased;
                (from, data) = receive(&mut self.sockets) => {
                    event = Some(UdpEvent::Datagram { from, data: data.into() });
                }
                () = sleep_until(due.min(enough)) => {}
            }
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_micros(u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// A datagram that cannot be sent is like one that is lost: the machine sends another in time.
    async fn send(&mut self, to: SocketAddr, data: &[u8]) {
        if let Some(socket) = self.sockets.iter_mut().find(|socket| socket.carries(to))
            && let Err(error) = poll_fn(|cx| socket.poll_send(cx, to, data)).await
        {
            tracing::debug!("sending to {to}: {error}");
        }
    }
}

/// A socket of each family that this host has.
async fn open_sockets(net: &Via<Real>) -> io::Result<Vec<ViaUdp<Real>>> {
    let (mut sockets, mut absent) = (vec![], None);
    for ip in [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)] {
        match net.udp(SocketAddr::new(ip, 0)).await {
            Ok(socket) => sockets.push(socket),
            Err(error) => absent = Some(error),
        }
    }
    match absent {
        Some(error) if sockets.is_empty() => Err(error),
        _ => Ok(sockets),
    }
}

/// The next datagram at any socket. Nothing is lost when the future is dropped.
async fn receive(sockets: &mut [ViaUdp<Real>]) -> (SocketAddr, Vec<u8>) {
    let mut buffer = vec![0; DATAGRAM_MAX];
    poll_fn(|cx| {
        for socket in sockets.iter_mut() {
            let mut meta = [RecvMeta::UNUSED];
            // An error says nothing about the socket.
            while let Poll::Ready(received) =
                socket.poll_recv(cx, &mut [IoSliceMut::new(&mut buffer)], &mut meta)
            {
                if received.is_ok() {
                    // Of several in one run the rest is as if it was lost: nobody sends two answers at once.
                    let len = meta[0].len.min(meta[0].stride);
                    return Poll::Ready((meta[0].from, buffer[..len].to_vec()));
                }
            }
        }
        Poll::Pending
    })
    .await
}

/// How long an answer of the second address family is waited for after that of the first. Many hosts have only one, and
/// do not say so.
const OTHER_FAMILY: Duration = Duration::from_secs(1);

const DATAGRAM_MAX: usize = 1 << 16;
