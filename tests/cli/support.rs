//! Running the command, content to share, and a tracker to ask.

use fast_peer_core::id::InfoHash;
use fast_peer_core::machine::Timestamp;
use fast_peer_core::rng::Rng;
use fast_peer_core::tracker::{ScrapeCounts, TrackerServer};
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// What a run left behind.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Ran {
    /// Fails the test unless the run ended with `code`.
    #[track_caller]
    pub(crate) fn ends_with(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}{}", self.text(), self.stderr);
        self
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard output, which has to be one JSON value.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        let text = self.text();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let code = output.status.code().expect("no signal ended it");
        Self { code, stdout: output.stdout, stderr: String::from_utf8_lossy(&output.stderr).into_owned() }
    }
}

/// The command, deaf to whatever the environment of the tests asks for. It keeps nothing between runs, and without a wish
/// it uses neither the DHT nor the local network.
pub(crate) fn command<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fast-peer"));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy().to_ascii_uppercase();
        if text.starts_with("FAST_PEER_") || text.ends_with("_PROXY") || text == "RUST_LOG" {
            command.env_remove(name);
        }
    }
    // What is no absolute path is no place for a cache.
    command.env("XDG_CACHE_HOME", "none").env("HOME", "none");
    command.env("FAST_PEER_NO_DHT", "true").env("FAST_PEER_NO_LSD", "true");
    command.args(args).stdin(Stdio::null());
    command
}

/// Runs the command to its end.
pub(crate) fn run<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Ran {
    command(args).output().expect("it starts").into()
}

/// `args!["download", path, "-d", other]`: arguments of several types.
macro_rules! args {
    ($($arg:expr),* $(,)?) => { [$(std::ffi::OsString::from($arg)),*] };
}
pub(crate) use args;

/// Files, a torrent of them, and room for copies.
pub(crate) struct Content {
    folder: TempDir,
    pub(crate) torrent: PathBuf,
    name: &'static str,
}

impl Content {
    /// Files of these names and lengths in a folder, in pieces of 32 KiB.
    pub(crate) fn folder(files: &[(&str, usize)]) -> Self {
        Self::new("content", files, false)
    }

    /// One file.
    pub(crate) fn file(len: usize) -> Self {
        Self::new("file.bin", &[("", len)], false)
    }

    /// One file, of a private torrent.
    pub(crate) fn private(len: usize) -> Self {
        Self::new("file.bin", &[("", len)], true)
    }

    fn new(name: &'static str, files: &[(&str, usize)], private: bool) -> Self {
        let folder = tempfile::tempdir().expect("there is room");
        let mut rng = Rng::from_number(7);
        for (path, len) in files {
            let mut bytes = vec![0; *len];
            rng.fill(&mut bytes);
            let path =
                if path.is_empty() { folder.path().join(name) } else { folder.path().join(name).join(path) };
            fs::create_dir_all(path.parent().expect("it is below the folder")).expect("there is room");
            fs::write(path, bytes).expect("there is room");
        }
        let torrent = folder.path().join("a.torrent");
        let create = args!["create", folder.path().join(name), "-s", "32K", "-o", &torrent];
        run(create.iter().chain(private.then_some(&"-p".into()))).ends_with(0);
        Self { folder, torrent, name }
    }

    /// The folder that holds the original.
    pub(crate) fn root(&self) -> &Path {
        self.folder.path()
    }

    /// The original.
    pub(crate) fn original(&self) -> PathBuf {
        self.root().join(self.name)
    }

    /// A folder for a copy, not yet there.
    pub(crate) fn place(&self) -> PathBuf {
        self.root().join("copies")
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        fs::read(self.original()).expect("the original is a file")
    }

    pub(crate) fn info_hash(&self) -> String {
        let info = run(args!["--json", "info", &self.torrent]).ends_with(0).json();
        info["info_hash"].as_str().expect("it has one").to_owned()
    }

    /// Fails the test unless the copy has all the files of the original with the same bytes, and no others.
    #[track_caller]
    pub(crate) fn assert_copied(&self) {
        let copy = self.place().join(self.name);
        let same = if copy.is_dir() {
            files(&copy) == files(&self.original())
        } else {
            fs::read(&copy).expect("the copy is there") == self.bytes()
        };
        assert!(same, "{} differs from {}", copy.display(), self.original().display());
    }
}

/// The paths and bytes of everything below `folder`, in order.
pub(crate) fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = vec![];
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).unwrap_or_else(|error| panic!("{}: {error}", next.display())) {
            let path = entry.expect("it can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let relative = path.strip_prefix(folder).expect("it is below").to_owned();
                found.push((relative, fs::read(&path).expect("it can be read")));
            }
        }
    }
    found.sort();
    found
}

/// The first line that a child says, which has to be JSON, and what else it says.
fn first_line(child: &mut Child) -> (Value, BufReader<ChildStdout>) {
    let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut line = String::new();
    stdout.read_line(&mut line).expect("it speaks UTF-8");
    (serde_json::from_str(&line).expect("it speaks JSON"), stdout)
}

/// Nodes of the DHT, each a process of its own, until they are dropped.
pub(crate) struct Nodes {
    nodes: Vec<(Child, BufReader<ChildStdout>)>,
    addrs: Vec<String>,
}

impl Nodes {
    /// So many, each of which begins with the first, and knows it.
    pub(crate) fn start(count: usize) -> Self {
        let mut nodes = Self { nodes: vec![], addrs: vec![] };
        while nodes.nodes.len() < count {
            let first = nodes.addrs.first().map_or(NOBODY, String::as_str);
            let args = args!["--json", "dht", "node", "--bind", "127.0.0.1", "--port", "0"];
            let more = args!["--dht-bootstrap", first];
            let node = command(args.iter().chain(&more)).stdout(Stdio::piped()).spawn();
            let mut node = node.expect("it starts");
            let (said, stdout) = first_line(&mut node);
            assert_eq!(said["event"], "listening");
            nodes.addrs.push(said["addresses"][0].as_str().expect("it listens").to_owned());
            nodes.nodes.push((node, stdout));
        }
        // Who is found by others is in the network.
        for addr in &nodes.addrs {
            let is_known = |_| nodes.run(args!["dht", "find-node", "00".repeat(20)]).text().contains(addr);
            assert!((0..200).any(is_known), "{addr} is not known to the others");
        }
        nodes
    }

    /// Where the first is.
    pub(crate) fn first(&self) -> String {
        self.addrs[0].clone()
    }

    /// The command, with the first as the way into the DHT.
    pub(crate) fn command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = command(args);
        command.env_remove("FAST_PEER_NO_DHT").env("FAST_PEER_DHT_BOOTSTRAP", self.first());
        command
    }

    /// Runs it to its end.
    pub(crate) fn run<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Ran {
        self.command(args).output().expect("it starts").into()
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for (node, _) in &mut self.nodes {
            node.kill().and_then(|()| node.wait()).expect("it runs until here");
        }
    }
}

/// A seeder in a process of its own, until it is dropped.
pub(crate) struct Seeder {
    child: Child,
    pub(crate) port: u64,
    /// Kept open for what else it says.
    _stdout: BufReader<ChildStdout>,
}

impl Seeder {
    pub(crate) fn start(content: &Content) -> Self {
        Self::with(content, &args![])
    }

    /// Waits until it seeds.
    pub(crate) fn with(content: &Content, more: &[std::ffi::OsString]) -> Self {
        Self::spawn(command(Self::args(content).iter().chain(more)))
    }

    /// The same, and it takes part in the DHT.
    pub(crate) fn with_nodes(content: &Content, nodes: &Nodes) -> Self {
        Self::spawn(nodes.command(Self::args(content)))
    }

    fn args(content: &Content) -> [std::ffi::OsString; 8] {
        args!["--json", "seed", &content.torrent, content.root(), "--bind", "127.0.0.1", "--port", "0"]
    }

    /// Waits until the command seeds.
    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
        let (said, stdout) = first_line(&mut child);
        assert_eq!(said["event"], "seeding");
        let port = said["port"].as_u64().expect("it listens");
        Self { child, port, _stdout: stdout }
    }

    pub(crate) fn addr(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Seeder {
    fn drop(&mut self) {
        self.child.kill().and_then(|()| self.child.wait()).expect("it runs until here");
    }
}

/// `download` into the place for copies, from one peer. Nothing to wait for ends the run, and so the test.
pub(crate) fn download(content: &Content, seeder: &Seeder) -> Command {
    command(args![
        "--json",
        "download",
        &content.torrent,
        "-d",
        content.place(),
        "--peer",
        seeder.addr(),
        "--bind",
        "127.0.0.1",
        "--port",
        "0",
        "--stop-timeout",
        "20",
    ])
}

/// A tracker on ports of its own, over HTTP and UDP, that lives as long as the tests.
#[derive(Clone)]
pub(crate) struct Tracker {
    state: Arc<(Mutex<TrackerServer>, Condvar)>,
    http: SocketAddr,
    udp: SocketAddr,
}

impl Tracker {
    pub(crate) fn start() -> Self {
        let server = TrackerServer::new(Duration::from_secs(1800), Rng::from_number(3));
        let http = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let udp = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
        let tracker = Self {
            state: Arc::new((Mutex::new(server), Condvar::new())),
            http: http.local_addr().expect("it is bound"),
            udp: udp.local_addr().expect("it is bound"),
        };
        let (over_http, over_udp) = (tracker.clone(), tracker.clone());
        let spawned = thread::Builder::new().spawn(move || {
            for stream in http.incoming() {
                over_http.answer_http(stream.expect("somebody connects"));
            }
        });
        spawned.expect("there is room for a thread");
        let spawned = thread::Builder::new().spawn(move || {
            let mut packet = [0; 2048];
            loop {
                let (len, from) = udp.recv_from(&mut packet).expect("somebody asks");
                let answer =
                    over_udp.handle(|server| server.handle_udp(Timestamp::ZERO, &packet[..len], from));
                if let Some(answer) = answer {
                    udp.send_to(&answer, from).expect("there is a way back");
                }
            }
        });
        spawned.expect("there is room for a thread");
        tracker
    }

    pub(crate) fn http(&self) -> String {
        format!("http://{}/announce", self.http)
    }

    pub(crate) fn udp(&self) -> String {
        format!("udp://{}/announce", self.udp)
    }

    /// Waits until the tracker counts what is awaited.
    pub(crate) fn wait_for(&self, info_hash: &str, awaited: impl Fn(ScrapeCounts) -> bool) {
        let bytes: Vec<u8> = (0..20)
            .map(|at| u8::from_str_radix(&info_hash[2 * at..2 * at + 2], 16).expect("hexadecimal digits"))
            .collect();
        let info_hash = InfoHash(bytes.try_into().expect("twenty bytes"));
        let (server, changed) = &*self.state;
        let mut server = server.lock().expect("no thread panicked");
        while !awaited(server.counts(Timestamp::ZERO, info_hash).unwrap_or_default()) {
            let (again, timed_out) =
                changed.wait_timeout(server, Duration::from_secs(20)).expect("no thread panicked");
            assert!(!timed_out.timed_out(), "the tracker heard nothing of it");
            server = again;
        }
    }

    fn handle<R>(&self, handle: impl FnOnce(&mut TrackerServer) -> R) -> R {
        let (server, changed) = &*self.state;
        let answer = handle(&mut server.lock().expect("no thread panicked"));
        changed.notify_all();
        answer
    }

    fn answer_http(&self, mut stream: TcpStream) {
        let mut request = vec![];
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("a request has an end");
            request.extend(byte);
        }
        let request = String::from_utf8(request).expect("a request is ASCII");
        let target = request.split(' ').nth(1).expect("a request has a target");
        let remote = stream.peer_addr().expect("it is connected").ip();
        let body = self.handle(|server| server.handle_http(Timestamp::ZERO, target, remote));
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        // Whoever does not wait for the answer does not want it.
        let _: std::io::Result<()> = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
    }
}

/// Where nobody listens: the port is kept for a service that is not in use any more.
pub(crate) const NOBODY: &str = "127.0.0.1:1";
