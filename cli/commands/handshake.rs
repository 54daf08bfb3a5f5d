//! `handshake`: greet one peer, and show what it says of itself.

use super::finder::{Finder, Heard, Wanted};
use super::swarm::{Swarm, peer_id, tracker_url};
use crate::engine::{self, interrupted, random_seed};
use crate::exit::{Exit, Failure};
use crate::network::{Bootstrap, Encrypting, Filtering, Transporting};
use crate::output::{Output, size};
use crate::utp;
use crate::view::hex;
use crate::way::{HostPort, Outside, Way};
use bytes::{Bytes, BytesMut};
use fast_peer_core::address::stands_for_name;
use fast_peer_core::bitfield::Bitfield;
use fast_peer_core::id::InfoHash;
use fast_peer_core::ip_filter::IpFilter;
use fast_peer_core::mse::{Agreed, Initiator, Method, Methods, Rc4};
use fast_peer_core::rng::Rng;
use fast_peer_core::session::{Config, Encryption, NetError, Policy, Transport, Transports};
use fast_peer_core::tracker::TrackerUrl;
use fast_peer_core::wire::{
    self, Decoder, ExtendedHandshake, Extension, ExtensionIds, Frame, HANDSHAKE_START, Handshake, Message,
    Offence, Reserved,
};
use fast_peer_io::net::{Net as _, net_error};
use serde_json::{Value, json};
use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsString;
use std::fmt::{Debug, Display};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// Connect to one peer, and show what it says of itself
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Torrent file, http(s) URL of one, magnet link, or infohash
    torrent: OsString,
    /// The peer [default: the first to answer of those that the link, trackers and the DHT name]
    #[arg(value_name = "HOST:PORT", value_parser = HostPort::parse)]
    peer: Option<HostPort>,
    /// A tracker to ask for peers besides the torrent's own; may be repeated
    #[arg(long, value_name = "URL", value_parser = tracker_url)]
    tracker: Vec<TrackerUrl>,
    #[command(flatten)]
    transporting: Transporting,
    #[command(flatten)]
    encrypting: Encrypting,
    #[command(flatten)]
    filtering: Filtering,
    #[command(flatten)]
    bootstrap: Bootstrap,
    /// Don't ask the DHT for peers
    #[arg(long)]
    no_dht: bool,
    #[command(flatten)]
    way: Way,
}

impl Args {
    pub(crate) fn run(self, out: &mut Output) -> Result<(), Failure> {
        engine::block_on(async {
            let outside = self.way.open()?;
            let (how, filter) = (self.how(), self.filtering.read()?);
            let swarm = Rc::new(Swarm::find(&outside, &self.torrent).await?);
            let (peer, said) = tokio::select! {
                biased;
                _ = interrupted() => return Err(Failure::new(Exit::Unfinished, "stopped before the peer answered")),
                said = async {
                    match &self.peer {
                        Some(peer) => {
                            let peer = peer.resolve(&outside).await?;
                            if filter.blocks(peer.ip()) {
                                return Err(Failure::new(Exit::Option, format!("{peer}: the IP filter blocks it")));
                            }
                            Ok((peer, greet(&outside, peer, &swarm, how).await?))
                        }
                        None => self.greet_any(&outside, &swarm, &filter).await,
                    }
                } => said?,
            };
            if out.is_json() { out.json(&said.to_json(peer)) } else { said.show(peer, out) }
        })
    }

    const fn how(&self) -> How {
        How { transports: self.transporting.config(), encryption: self.encrypting.config() }
    }

    /// Greets peers as they are found, several at a time, until one has answered.
    async fn greet_any(
        &self,
        outside: &Outside,
        swarm: &Rc<Swarm>,
        filter: &Arc<IpFilter>,
    ) -> Result<(SocketAddr, Said), Failure> {
        let is_private = swarm.torrent.as_ref().is_some_and(|torrent| torrent.is_private());
        let wanted = Wanted {
            trackers: Some(&self.tracker),
            dht: (!self.no_dht && !is_private).then_some(&self.bootstrap),
            pex: false,
            lsd: false,
            peers: &[],
            port: UNUSED_PORT,
            transports: self.transporting.config(),
            encryption: self.encrypting.config(),
            filter: Arc::clone(filter),
            patience: TRACKER_PATIENCE,
        };
        let how = self.how();
        let mut waiting: VecDeque<SocketAddr> = VecDeque::new();
        for (host, port) in &swarm.peers {
            // One that is not there is like one that does not answer.
            let ips = outside.net.resolve(host).await.unwrap_or_default();
            let ips = ips.into_iter().filter(|ip| !filter.blocks(*ip));
            waiting.extend(ips.map(|ip| SocketAddr::new(ip, *port)));
        }
        let mut finder = match Finder::start(outside, swarm, &wanted).await {
            Ok(finder) => Some(finder),
            Err(_) if !waiting.is_empty() => None,
            Err(failure) => return Err(failure),
        };
        let mut known: BTreeSet<SocketAddr> = waiting.iter().copied().collect();
        let (mut greeting, mut is_searching, mut last) = (JoinSet::new(), finder.is_some(), None);
        let answered = loop {
            while greeting.len() < MAX_GREETINGS
                && let Some(peer) = waiting.pop_front()
            {
                let (outside, swarm) = (outside.clone(), Rc::clone(swarm));
                greeting.spawn_local(async move { (peer, greet(&outside, peer, &swarm, how).await) });
            }
            if greeting.is_empty() && !is_searching {
                break None;
            }
            tokio::select! {
                biased;
                Some(greeted) = greeting.join_next() => match greeted {
                    Ok((peer, Ok(said))) => break Some((peer, said)),
                    Ok((_, Err(failure))) => last = Some(failure),
                    Err(error) => {
                        last = Some(Failure::new(Exit::Unknown, format!("greeting broke: {error}")));
                    }
                },
                heard = async { finder.as_mut().expect("it is searching").next().await }, if is_searching => match heard {
                    Some(Heard::Peers { peers, .. }) => {
                        let peers = peers.into_iter().map(|(peer, _)| peer);
                        waiting.extend(peers.filter(|peer| known.insert(*peer)));
                    }
                    Some(_) => {}
                    None => is_searching = false,
                },
            }
        };
        if let Some(finder) = finder {
            finder.end().await?;
        }
        match (answered, last) {
            (Some(answered), _) => Ok(answered),
            (None, Some(failure)) if known.len() == 1 => Err(failure),
            (None, last) => {
                let mut message = format!("{}: none of {} peers answered", swarm.name, known.len());
                if let Some(last) = last {
                    message += &format!("; the last of them, {}", last.message);
                }
                Err(Failure::new(Exit::Timeout, message))
            }
        }
    }
}

/// How to greet.
#[derive(Clone, Copy, Debug)]
struct How {
    transports: Transports,
    encryption: Encryption,
}

/// What a peer said.
#[derive(Debug)]
struct Said {
    handshake: Handshake,
    transport: Transport,
    /// How it is sent what we say, if that is obfuscated.
    obfuscation: Option<Method>,
    extended: Option<ExtendedHandshake>,
    pieces: Option<Pieces>,
    /// How many the torrent has, if that is known here.
    piece_count: Option<u32>,
}

/// How many pieces a peer has.
#[derive(Clone, Copy, Debug)]
enum Pieces {
    All,
    Count(u32),
}

/// Greets a peer, obfuscated or not as is wanted; where that is preferred and fails, once more without.
async fn greet(outside: &Outside, peer: SocketAddr, swarm: &Swarm, how: How) -> Result<Said, Failure> {
    let How { transports, encryption } = how;
    let methods = (encryption.outgoing != Policy::Off).then_some(encryption.methods);
    match greet_once(outside, peer, swarm, transports, methods).await {
        Err(Unmet::Obfuscation(_)) if encryption.outgoing == Policy::Prefer => {
            greet_once(outside, peer, swarm, transports, None).await
        }
        met => met,
    }
    .map_err(|(Unmet::Obfuscation(failure) | Unmet::Other(failure))| failure)
}

/// Why a peer was not met.
enum Unmet {
    /// An obfuscated connection did not come about.
    Obfuscation(Failure),
    Other(Failure),
}

impl From<Failure> for Unmet {
    fn from(failure: Failure) -> Self {
        Self::Other(failure)
    }
}

/// Opens a connection by what is wanted; by both, uTP follows a little later, and the first that comes about is taken.
async fn open(
    outside: &Outside,
    peer: SocketAddr,
    transports: Transports,
    seed: [u8; 32],
) -> io::Result<(Box<dyn Line>, Transport)> {
    let by_tcp = async {
        let stream = outside.net.connect(peer).await?;
        Ok((Box::new(stream) as Box<dyn Line>, Transport::Tcp))
    };
    let by_utp = async {
        if transports.tcp {
            sleep(HEAD_START).await;
        }
        Ok((Box::new(utp::connect(outside, peer, seed).await?) as Box<dyn Line>, Transport::Utp))
    };
    // The answers of a peer that a proxy looked up bear an address that is known there alone.
    match (transports.tcp, transports.utp && !stands_for_name(peer.ip())) {
        (true, false) => return by_tcp.await,
        (false, true) => return by_utp.await,
        (false, false) => {
            let why = "by uTP alone no peer is reached of which the proxy looks up the name";
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        }
        (true, true) => {}
    }
    let (mut by_tcp, mut by_utp) = (pin!(by_tcp), pin!(by_utp));
    tokio::select! {
        biased;
        opened = &mut by_tcp => match opened {
            Ok(opened) => Ok(opened),
            Err(error) if net_error(&error) == NetError::Proxy => Err(error),
            // What TCP met says more than silence.
            Err(error) => match timeout(UTP_LIMIT, by_utp).await {
                Ok(Ok(opened)) => Ok(opened),
                _ => Err(error),
            },
        },
        opened = &mut by_utp => match opened {
            Ok(opened) => Ok(opened),
            Err(_) => by_tcp.await,
        },
    }
}

/// A connection, whatever carries it.
trait Line: AsyncRead + AsyncWrite + Debug + Unpin {}

impl<T: AsyncRead + AsyncWrite + Debug + Unpin> Line for T {}

async fn greet_once(
    outside: &Outside,
    peer: SocketAddr,
    swarm: &Swarm,
    transports: Transports,
    methods: Option<Methods>,
) -> Result<Said, Unmet> {
    let failed = |error: &io::Error| Failure::io(Exit::Network, peer, error);
    let stream = timeout(CONNECT_LIMIT, open(outside, peer, transports, random_seed()?)).await;
    let (stream, transport) =
        stream.map_err(|_| late(peer, "no connection", CONNECT_LIMIT))?.map_err(|error| failed(&error))?;
    let end = Instant::now() + HANDSHAKE_LIMIT;
    let mut talk = Talk { stream, peer, decoder: Decoder::new(), input: BytesMut::new(), ciphers: None };
    let piece_count = swarm.torrent.as_ref().map(|torrent| torrent.lengths().piece_count());
    talk.decoder.set_piece_count(piece_count);

    let reserved = Reserved::NONE.with_extended().with_fast();
    let ours = Handshake { reserved, info_hash: swarm.info_hash, peer_id: peer_id()? };
    let mut greeting = BytesMut::new();
    wire::encode_handshake(&ours, &mut greeting);
    let mut obfuscation = None;
    match methods {
        None => talk.send(&greeting).await?,
        Some(methods) => {
            let agreed = timeout(OBFUSCATION_LIMIT, talk.obfuscate(&greeting, ours.info_hash, methods)).await;
            let agreed =
                agreed.unwrap_or_else(|_| Err(late(peer, "no obfuscated handshake", OBFUSCATION_LIMIT)));
            obfuscation = Some(agreed.map_err(Unmet::Obfuscation)?);
        }
    }
    let theirs = timeout_at(end, async {
        match talk.next().await? {
            Some(Frame::Handshake(theirs)) => Ok(theirs),
            _ => Err(Failure::new(
                Exit::Network,
                format!("{peer}: closed the connection instead of answering; it may not have this torrent"),
            )),
        }
    });
    let theirs = theirs.await.map_err(|_| late(peer, "no handshake", HANDSHAKE_LIMIT))??;
    if theirs.peer_id == ours.peer_id {
        return Err(talk.breach(Offence::OwnPeerId).into());
    }
    if theirs.info_hash != ours.info_hash {
        let message = format!("{peer}: answered for another torrent, {}", theirs.info_hash);
        return Err(Failure::new(Exit::Network, message).into());
    }
    let mut said =
        Said { handshake: theirs, transport, obfuscation, extended: None, pieces: None, piece_count };
    // Whoever has nothing may say nothing about it, so this can be all that comes.
    match timeout_at(end.min(Instant::now() + REST_LIMIT), said.hear_out(&mut talk)).await {
        Ok(result) => Ok(result.map(|()| said)?),
        Err(_) => Ok(said),
    }
}

impl Said {
    /// Listens until the peer has said all that is asked for here.
    async fn hear_out(&mut self, talk: &mut Talk) -> Result<(), Failure> {
        let (extended, fast) = (self.handshake.reserved.extended(), self.handshake.reserved.fast());
        let mut greeting = BytesMut::new();
        if fast {
            wire::encode(&Message::HaveNone, &mut greeting);
        }
        if extended {
            let ours = ExtendedHandshake {
                client: Some(Config::default().client),
                ids: ExtensionIds::NONE,
                ..ExtendedHandshake::default()
            };
            let payload = ours.encode().into();
            wire::encode(&Message::Extended { id: 0, payload }, &mut greeting);
        }
        talk.send(&greeting).await?;
        let mut knows_pieces = false;
        while (extended && self.extended.is_none()) || !knows_pieces {
            // A peer that hangs up after its handshake has said enough.
            let Some(frame) = talk.next().await? else { return Ok(()) };
            knows_pieces |= self.take(frame).map_err(|offence| talk.breach(offence))?;
        }
        Ok(())
    }

    /// Notes what a message says; whether it settles which pieces the peer has.
    fn take(&mut self, frame: Frame) -> Result<bool, Offence> {
        let message = match frame {
            Frame::Message(message) => message,
            Frame::PieceHead { .. } => return Err(Offence::BlockNotRequested),
            Frame::Handshake(_) => unreachable!("a decoder reads one handshake"),
        };
        match message {
            Message::Bitfield(bits) => {
                let bits = match self.piece_count {
                    Some(count) => Bitfield::from_wire(&bits, count).ok_or(Offence::BadBitfield)?.ones(),
                    None => bits.iter().map(|byte| byte.count_ones()).sum(),
                };
                self.pieces = Some(Pieces::Count(bits));
            }
            Message::Extended { id: 0, payload } => {
                self.extended = Some(ExtendedHandshake::parse(&payload)?);
                return Ok(false);
            }
            Message::HaveAll => self.pieces = Some(Pieces::All),
            Message::HaveNone => self.pieces = Some(Pieces::Count(0)),
            Message::Extended { .. } | Message::KeepAlive | Message::Port(_) => return Ok(false),
            // BEP 3: the bitfield is the first message, if it comes at all.
            _ => {}
        }
        Ok(true)
    }

    fn extensions(&self) -> Vec<&'static str> {
        let reserved = self.handshake.reserved;
        let bits = [
            (reserved.extended(), "extended"),
            (reserved.fast(), "fast"),
            (reserved.dht(), "dht"),
            (reserved.v2(), "v2"),
        ];
        let ids = self.extended.as_ref().map_or(ExtensionIds::NONE, |extended| extended.ids);
        let with_messages = Extension::ALL.into_iter().filter(|extension| ids.id(*extension).is_some());
        let bits = bits.into_iter().filter(|(set, _)| *set).map(|(_, name)| name);
        bits.chain(with_messages.map(Extension::name)).collect()
    }

    fn show(&self, peer: SocketAddr, out: &mut Output) -> Result<(), Failure> {
        out.field("Peer", peer)?;
        out.field("Peer ID", self.handshake.peer_id)?;
        if let Some(client) = self.client().or_else(|| wire::client_name(&self.handshake.peer_id)) {
            out.field("Client", client)?;
        }
        out.field("Transport", self.transport)?;
        match self.obfuscation {
            Some(Method::Plain) => out.field("Encryption", "handshake")?,
            Some(Method::Rc4) => out.field("Encryption", "RC4")?,
            None => out.field("Encryption", "none")?,
        }
        out.field("Reserved", hex(&self.handshake.reserved.0))?;
        out.field("Extensions", self.extensions().join(" "))?;
        if let Some(said) = &self.extended {
            if let Some(requests) = said.request_queue {
                out.field("Request Queue", requests)?;
            }
            if let Some(port) = said.port {
                out.field("Listen Port", port)?;
            }
            if let Some(len) = said.metadata_size {
                out.field("Metadata Size", size(len.into()))?;
            }
            if let Some(ip) = said.your_ip {
                out.field("Your IP", ip)?;
            }
            if let Some(upload_only) = said.upload_only {
                out.field("Upload Only", if upload_only { "yes" } else { "no" })?;
            }
            if let Some(encryption) = said.encryption {
                out.field("Prefers Encryption", if encryption { "yes" } else { "no" })?;
            }
        }
        let of = self.piece_count.map_or_else(String::new, |count| format!(" of {count}"));
        match self.pieces {
            Some(Pieces::All) => out.field("Pieces", format_args!("all{of}")),
            Some(Pieces::Count(count)) => out.field("Pieces", format_args!("{count}{of}")),
            None => out.field("Pieces", "it did not say"),
        }
    }

    fn to_json(&self, peer: SocketAddr) -> Value {
        let said = self.extended.clone().unwrap_or_default();
        json!({
            "address": peer,
            "peer_id": self.handshake.peer_id.to_string(),
            "client": self.client(),
            "client_by_id": wire::client_name(&self.handshake.peer_id),
            "transport": match self.transport {
                Transport::Tcp => "tcp",
                Transport::Utp => "utp",
            },
            "encryption": match self.obfuscation {
                Some(Method::Plain) => "handshake",
                Some(Method::Rc4) => "rc4",
                None => "none",
            },
            "reserved": hex(&self.handshake.reserved.0),
            "extensions": self.extensions(),
            "request_queue": said.request_queue,
            "port": said.port,
            "metadata_size": said.metadata_size,
            "your_ip": said.your_ip,
            "upload_only": said.upload_only,
            "prefers_encryption": said.encryption,
            "pieces": self.pieces.and_then(|pieces| match pieces {
                Pieces::All => self.piece_count,
                Pieces::Count(count) => Some(count),
            }),
            "piece_count": self.piece_count,
            "complete": self.pieces.and_then(|pieces| match pieces {
                Pieces::All => Some(true),
                Pieces::Count(count) => self.piece_count.map(|all| count == all),
            }),
        })
    }

    /// What the peer calls its program.
    fn client(&self) -> Option<String> {
        self.extended.as_ref()?.client.clone()
    }
}

/// The connection, and what has come over it.
#[derive(Debug)]
struct Talk {
    stream: Box<dyn Line>,
    peer: SocketAddr,
    decoder: Decoder,
    input: BytesMut,
    /// What is sent and received goes through these.
    ciphers: Option<[Rc4; 2]>,
}

impl Talk {
    async fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let mut bytes = bytes.to_vec();
        if let Some([encipher, _]) = &mut self.ciphers {
            encipher.apply(&mut bytes);
        }
        self.stream.write_all(&bytes).await.map_err(|error| Failure::io(Exit::Network, self.peer, &error))
    }

    /// Makes the connection an obfuscated one; the greeting is told along with that.
    async fn obfuscate(
        &mut self,
        greeting: &[u8],
        torrent: InfoHash,
        methods: Methods,
    ) -> Result<Method, Failure> {
        let failed = |why: &dyn Display| {
            Failure::new(Exit::Network, format!("{}: no encrypted connection: {why}", self.peer))
        };
        let (rng, mut words) = (Rng::new(random_seed()?), vec![]);
        let greeting = Bytes::copy_from_slice(greeting);
        let mut initiator = Initiator::new(torrent, methods, greeting, rng, &mut words);
        loop {
            self.stream.write_all(&words).await.map_err(|error| failed(&error))?;
            words.clear();
            match self.stream.read_buf(&mut self.input).await {
                Ok(0) => return Err(failed(&"the peer closed it")),
                Ok(_) => {}
                Err(error) => return Err(failed(&error)),
            }
            if self.input.starts_with(HANDSHAKE_START) {
                return Err(failed(&"the peer does not encrypt"));
            }
            let agreed =
                initiator.handle_bytes(&mut self.input, &mut words).map_err(|error| failed(&error))?;
            let Some(Agreed { method, decipher, encipher, .. }) = agreed else { continue };
            self.ciphers = encipher.zip(decipher).map(|(encipher, mut decipher)| {
                decipher.apply(&mut self.input);
                [encipher, decipher]
            });
            return Ok(method);
        }
    }

    /// The next frame; nothing at the end of the stream.
    async fn next(&mut self) -> Result<Option<Frame>, Failure> {
        loop {
            if let Some(frame) =
                self.decoder.decode(&mut self.input).map_err(|offence| self.breach(offence))?
            {
                return Ok(Some(frame));
            }
            let before = self.input.len();
            match self.stream.read_buf(&mut self.input).await {
                Ok(0) => return Ok(None),
                Ok(_) => {
                    if let Some([_, decipher]) = &mut self.ciphers {
                        decipher.apply(&mut self.input[before..]);
                    }
                }
                // So ends a stream on whose other side something is left unread.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(Failure::io(Exit::Network, self.peer, &error)),
            }
        }
    }

    fn breach(&self, offence: Offence) -> Failure {
        Failure::new(Exit::Network, format!("{}: {offence}", self.peer))
    }
}

fn late(peer: SocketAddr, what: &str, limit: Duration) -> Failure {
    Failure::new(Exit::Timeout, format!("{peer}: {what} within {} s", limit.as_secs()))
}

/// How long TCP has before uTP is tried too.
const HEAD_START: Duration = Duration::from_millis(250);

/// How long uTP may take once TCP has failed.
const UTP_LIMIT: Duration = Duration::from_secs(2);

/// Peers that are greeted at a time.
const MAX_GREETINGS: usize = 20;

/// What trackers are told: nobody listens there, and they are told of the leave at once.
const UNUSED_PORT: u16 = 6881;

const TRACKER_PATIENCE: Duration = Duration::from_secs(15);

/// How long connecting may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// How long a peer may take to answer the handshake.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// How long a peer may take to agree to an encrypted connection.
const OBFUSCATION_LIMIT: Duration = Duration::from_secs(5);

/// How long what follows the handshake may take.
const REST_LIMIT: Duration = Duration::from_secs(3);
