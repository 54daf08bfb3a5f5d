//! A tracker of a few lines over HTTP and IPv6, which Debian's opentracker can't speak.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{PORT, Tracker};
use crate::bencode::Value;
use crate::http::unescape;
use crate::namespace::{Family, Network};

/// Runs on a thread of the test, on the switch. It knows one swarm, and never tells an asker of himself.
#[derive(Debug)]
pub struct PlainTracker {
    address: SocketAddr,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

impl PlainTracker {
    /// Where it is to be found.
    pub fn url(network: &Network) -> String {
        format!("http://{}/announce", SocketAddr::new(network.address(Family::V6), PORT))
    }

    /// Starts it for the torrent with this infohash.
    pub fn start(network: &Network, infohash: [u8; 20]) -> Result<Self> {
        let address = SocketAddr::new(network.address(Family::V6), PORT);
        let listener = TcpListener::bind(address)?;
        let state = Arc::new(State { infohash, ..State::default() });
        let served = Arc::clone(&state);
        let thread =
            thread::Builder::new().name("tracker".to_owned()).spawn(move || served.serve(&listener))?;
        Ok(Self { address, state, thread: Some(thread) })
    }
}

impl Tracker for PlainTracker {
    fn seeds(&mut self) -> Result<usize> {
        let swarm = self.state.swarm.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(swarm.peers.values().filter(|left| **left == 0).count())
    }

    fn tail(&self) -> String {
        let swarm = self.state.swarm.lock().unwrap_or_else(PoisonError::into_inner);
        format!("--- plain tracker\n{}\n", swarm.log.join("\n"))
    }
}

impl Drop for PlainTracker {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::Relaxed);
        // Wakes the thread from its wait; if it is gone, there is nothing to wake.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[derive(Debug, Default)]
struct State {
    infohash: [u8; 20],
    stopped: AtomicBool,
    swarm: Mutex<Swarm>,
}

#[derive(Debug, Default)]
struct Swarm {
    /// What each peer still lacks.
    peers: BTreeMap<SocketAddr, u64>,
    log: Vec<String>,
}

impl State {
    fn serve(&self, listener: &TcpListener) {
        for stream in listener.incoming() {
            if self.stopped.load(Ordering::Relaxed) {
                return;
            }
            let result = stream.map_err(Into::into).and_then(|stream| self.answer(stream));
            if let Err(error) = result {
                self.swarm.lock().unwrap_or_else(PoisonError::into_inner).log.push(format!("{error:#}"));
            }
        }
    }

    fn answer(&self, mut stream: TcpStream) -> Result<()> {
        stream.set_read_timeout(Some(TIMEOUT))?;
        let asker = stream.peer_addr()?.ip();
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let request = lines.next().context("no request")??;
        // The rest of the head is read, since closing on unread bytes would reset the connection.
        for line in lines {
            if line?.is_empty() {
                break;
            }
        }
        let mut swarm = self.swarm.lock().unwrap_or_else(PoisonError::into_inner);
        swarm.log.push(format!("{asker} {request}"));
        let body = match swarm.announce(self.infohash, asker, &request) {
            Ok(answer) => answer,
            Err(error) => Value::dictionary([("failure reason", Value::bytes(format!("{error:#}")))]),
        };
        let body = body.encode();
        write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len())?;
        stream.write_all(&body)?;
        Ok(())
    }
}

impl Swarm {
    fn announce(&mut self, infohash: [u8; 20], asker: IpAddr, request: &str) -> Result<Value> {
        let target = request.split(' ').nth(1).context("no path")?;
        let (_, query) = target.split_once('?').context("no query")?;
        let arguments: BTreeMap<_, _> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
        let argument = |name: &'static str| arguments.get(name).copied().context(name);
        ensure!(unescape(argument("info_hash")?) == infohash, "unknown torrent");
        let asker = SocketAddr::new(asker, argument("port")?.parse()?);
        let left = argument("left")?.parse()?;
        if arguments.get("event") == Some(&"stopped") {
            self.peers.remove(&asker);
        } else {
            self.peers.insert(asker, left);
        }

        // BEP 7: compact IPv6 peers are 18 bytes each.
        let (mut peers, mut peers6) = (Vec::new(), Vec::new());
        for other in self.peers.keys().filter(|other| **other != asker) {
            let port = other.port().to_be_bytes();
            match other.ip() {
                IpAddr::V4(address) => peers.extend(address.octets().iter().chain(&port)),
                IpAddr::V6(address) => peers6.extend(address.octets().iter().chain(&port)),
            };
        }
        Ok(Value::dictionary([
            ("interval", Value::Integer(INTERVAL_S)),
            ("peers", Value::Bytes(peers)),
            ("peers6", Value::Bytes(peers6)),
        ]))
    }
}

const INTERVAL_S: i64 = 5;
const TIMEOUT: Duration = Duration::from_secs(5);
