//! A DHT of a dozen nodes, apart from the clients that use it.

use std::fmt::{self, Display};
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::bencode::Value;
use crate::client::{PORT, fast_peer_program, libtorrent_python};
use crate::namespace::{Family, Host, Network};
use crate::process::{Process, profile_folder};

/// A program that is a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Node {
    /// `fast-peer dht node`.
    FastPeer,
    /// libtorrent-rasterbar.
    Libtorrent,
    /// The crate `mainline`.
    Mainline,
}

/// Who the nodes of a DHT are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Nodes {
    /// The one by which all others join, and clients too.
    pub first: Node,
    /// All others.
    pub others: Node,
}

impl Nodes {
    /// All of one kind.
    pub fn all(kind: Node) -> Self {
        Self { first: kind, others: kind }
    }
}

impl Display for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |node| match node {
            Node::FastPeer => "fast-peer",
            Node::Libtorrent => "libtorrent",
            Node::Mainline => "mainline",
        };
        f.write_str(name(self.first))?;
        if self.first != self.others { write!(f, "+{}", name(self.others)) } else { Ok(()) }
    }
}

/// Nodes at work. Dropping it ends them.
#[derive(Debug)]
pub struct Dht {
    nodes: Vec<SocketAddr>,
    processes: Vec<Process>,
    socket: UdpSocket,
    asked: Option<Instant>,
}

impl Dht {
    /// Starts the nodes, and waits until they say that they are ready.
    pub fn start(nodes: Nodes, network: &Network, home: &Path) -> Result<Self> {
        let socket = UdpSocket::bind(SocketAddr::new(network.address(Family::V4), 0))?;
        socket.set_nonblocking(true)?;
        let mut dht = Self { nodes: Vec::new(), processes: Vec::new(), socket, asked: None };
        if nodes.first == nodes.others {
            dht.start_some(nodes.first, SIZE, network, home)?;
        } else {
            dht.start_some(nodes.first, 1, network, home)?;
            dht.start_some(nodes.others, SIZE - 1, network, home)?;
        }
        Ok(dht)
    }

    /// The nodes; by the first of them clients are to join.
    pub fn nodes(&self) -> &[SocketAddr] {
        &self.nodes
    }

    /// Whether any node has been told that this peer has the torrent. Asks all of them at most once in a while, and
    /// doesn't wait for them, so that only later calls see what they say.
    pub fn knows(&mut self, infohash: [u8; 20], peer: SocketAddr) -> Result<bool> {
        for process in &mut self.processes {
            process.expect_running()?;
        }
        if self.asked.is_none_or(|asked| asked.elapsed() >= BETWEEN_QUESTIONS) {
            self.asked = Some(Instant::now());
            let question = get_peers(infohash);
            for node in &self.nodes {
                self.socket.send_to(&question, node)?;
            }
        }
        let peer = compact(peer)?;
        let mut buffer = [0; 2048];
        while let Ok(length) = self.socket.recv(&mut buffer) {
            if lists(&buffer[..length], &peer) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What the nodes logged, for the report of a failure.
    pub fn tail(&self) -> String {
        self.processes.iter().map(Process::tail).collect()
    }

    fn start_some(&mut self, kind: Node, count: u8, network: &Network, home: &Path) -> Result<()> {
        // fast-peer's node is a process with a host of its own, the others share both.
        let (processes, each) = if kind == Node::FastPeer { (count, 1) } else { (1, count) };
        for _ in 0..processes {
            let host = network.host_with(each)?;
            let home = home.join(format!("node-{}", self.processes.len()));
            fs::create_dir_all(&home)?;
            let addresses: Vec<_> =
                host.addresses(Family::V4).map(|address| SocketAddr::new(address, PORT)).collect();
            let mut process = start(kind, &host, &home, &addresses, self.nodes.first())?;
            // The first has to answer before another joins by it.
            let end = Instant::now() + START;
            while !process.output().contains("listening") {
                process.expect_running()?;
                ensure!(Instant::now() < end, "no node is listening\n{}", process.tail());
                thread::sleep(PAUSE);
            }
            self.nodes.extend(addresses);
            self.processes.push(process);
        }
        Ok(())
    }
}

fn start(
    kind: Node,
    host: &Host,
    home: &Path,
    addresses: &[SocketAddr],
    first: Option<&SocketAddr>,
) -> Result<Process> {
    let program = match kind {
        Node::FastPeer => fast_peer_program()?,
        Node::Libtorrent => libtorrent_python()?,
        Node::Mainline => profile_folder()?.join("mainline_nodes"),
    };
    ensure!(program.exists(), "{} is missing: cargo builds it with the tests", program.display());
    Process::start(host, home, &program, |command| {
        match kind {
            Node::FastPeer => {
                command.args(["dht", "node", "--port", &PORT.to_string()]);
                command.args(first.map(|node| format!("--dht-bootstrap={node}")));
            }
            Node::Libtorrent | Node::Mainline => {
                command.args((kind == Node::Libtorrent).then_some(SCRIPT));
                command.args(first.map(|node| format!("--bootstrap={node}")));
                command.args(addresses.iter().map(ToString::to_string));
            }
        };
    })
}

/// A question (BEP 5) of one who doesn't want to be taken in as a node (BEP 43).
fn get_peers(infohash: [u8; 20]) -> Vec<u8> {
    let arguments =
        Value::dictionary([("id", Value::bytes([0xee; 20])), ("info_hash", Value::bytes(infohash))]);
    Value::dictionary([
        ("a", arguments),
        ("q", Value::bytes("get_peers")),
        ("ro", Value::Integer(1)),
        ("t", Value::bytes("test")),
        ("y", Value::bytes("q")),
    ])
    .encode()
}

/// Whether the peers of an answer have this one among them.
fn lists(answer: &[u8], peer: &[u8; 6]) -> bool {
    let entry = [b"6:", &peer[..]].concat();
    let values = answer.windows(VALUES.len()).position(|bytes| bytes == VALUES);
    values.is_some_and(|at| answer[at..].windows(entry.len()).any(|bytes| bytes == entry))
}

/// A peer or node in six bytes (BEP 5).
pub(crate) fn compact(peer: SocketAddr) -> Result<[u8; 6]> {
    let SocketAddr::V4(peer) = peer else { bail!("{peer}: the DHT of the tests speaks IPv4") };
    let mut bytes = [0; 6];
    bytes[..4].copy_from_slice(&peer.ip().octets());
    bytes[4..].copy_from_slice(&peer.port().to_be_bytes());
    Ok(bytes)
}

/// The key of a list of peers, and the beginning of that list.
const VALUES: &[u8] = b"6:valuesl";
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/python/libtorrent_nodes.py");
/// Transmission calls a DHT of eight nodes or fewer broken, and doesn't announce itself there.
const SIZE: u8 = 12;
/// libtorrent shuts out who asks more than five times a second.
const BETWEEN_QUESTIONS: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(20);
/// How long nodes may take to find each other.
const START: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_by_hand() {
        let question = get_peers(*b"mnopqrstuvwxyz123456");
        let id = [0xee; 20];
        let wanted = [
            b"d1:ad2:id20:",
            &id[..],
            b"9:info_hash20:mnopqrstuvwxyz123456e1:q9:get_peers2:roi1e1:t4:test1:y1:qe",
        ];
        assert_eq!(question, wanted.concat());
    }

    #[test]
    fn a_peer_in_an_answer() -> Result<()> {
        let answer =
            b"d1:rd2:id20:abcdefghij01234567895:token8:aoeusnth6:valuesl6:axje.u6:idhtnmee1:t2:aa1:y1:re";
        assert!(lists(answer, b"idhtnm"));
        assert!(!lists(answer, b"idhtnn"));
        assert!(!lists(b"d1:rd2:id20:abcdefghij01234567895:nodes6:idhtnme1:t2:aa1:y1:re", b"idhtnm"));
        assert_eq!(compact("105.100.104.116:28269".parse()?)?, *b"idhtnm");
        Ok(())
    }
}
