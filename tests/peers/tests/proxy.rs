//! fast-peer where it may use one interface alone, or a proxy alone: no packet takes any other way (INV-S-31). The proxy is
//! Dante, which relays datagrams.

use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use peers::client::{PORT, fast_peer_program};
use peers::content::{Content, Payload};
use peers::dht::{Dht, Node, Nodes};
use peers::namespace::{Family, Host, Network, in_new_network};
use peers::process::{Process, target_folder, tool};
use peers::tracker::{OpenTracker, Tracker as _};

#[test]
fn on_an_interface_everything_stays() -> Result<()> {
    run("interface", |swarm| {
        let host = swarm.network.host()?;
        host.tempt()?;
        let names = Names::serve(swarm.network, swarm.hosts())?;
        // Without the option most goes astray: that is what the capture has to see.
        let astray = Capture::start(&host, &swarm.home("astray")?)?;
        let mut lost = swarm.start(
            &host,
            "astray",
            Some(&names),
            &["scrape", "--tracker", UDP, "TORRENT", "--timeout", "2"],
        )?;
        swarm.ends(&mut lost, false)?;
        ensure!(
            astray.stop()?.iter().any(|packet| packet.interface == "eth1"),
            "there was nothing to resist"
        );

        let address = host.address(Family::V4).to_string();
        for (name, interface) in [("by name", "eth0"), ("by address", &*address)] {
            let capture = Capture::start(&host, &swarm.home(name)?)?;
            swarm.ask_everybody(&host, name, Some(&names), &["--interface", interface])?;
            swarm.download(&host, name, Some(&names), &["--interface", interface], |_| Ok(()))?;
            let packets = capture.stop()?;
            let stray: Vec<_> = packets.iter().filter(|packet| packet.interface != "eth0").collect();
            ensure!(stray.is_empty(), "{name}: {stray:?}");
            ensure!(packets.iter().any(|packet| packet.to.port() == 53), "{name}: no name was asked for");
        }

        // An interface that goes away takes everything with it.
        let capture = Capture::start(&host, &swarm.home("gone")?)?;
        let mut leecher = swarm.leecher(&host, "gone", Some(&names), &["--interface", "eth0"])?;
        swarm.until("half is there", || Ok(progress(&leecher) > swarm.payload.length() / 3))?;
        host.unplug()?;
        let (before, _) = (capture.count()?, thread::sleep(QUIET));
        let packets = capture.stop()?;
        let stray: Vec<_> = packets[before..].iter().filter(|packet| packet.interface == "eth1").collect();
        ensure!(stray.is_empty(), "after eth0 went away: {stray:?}");
        leecher.expect_running()
    })
}

/// As the interface of a VPN is, which comes and goes.
#[test]
fn who_listens_on_an_interface_is_reached_when_it_was_made_anew() -> Result<()> {
    run("anew", |swarm| {
        let (host, other) = (swarm.network.host()?, swarm.network.host()?);
        let home = swarm.home("seeding")?;
        swarm.payload.write(&home)?;
        let data = home.to_str().context("the tests' own paths are UTF-8")?;
        let options = ["--port", "7000", "--interface", "eth0", "--port-map", "off", "--no-dht", "--no-lsd"];
        let mut seeding =
            swarm.start(&host, "seeding", None, &[&["seed", "TORRENT", data], &options[..]].concat())?;
        let address = host.port(Family::V4, 7000).to_string();
        let is_reached = |transport: &str| -> Result<bool> {
            let args = ["handshake", "TORRENT", &address, "--transport", transport];
            let mut asking = swarm.start(&other, &format!("asking {transport}"), None, &args)?;
            loop {
                match asking.exit_status()? {
                    Some(status) => return Ok(status.success()),
                    None => thread::sleep(PAUSE),
                }
            }
        };
        swarm.until("it is reached", || Ok(is_reached("tcp")? && is_reached("utp")?))?;
        host.unplug()?;
        swarm.network.plug(&host)?;
        let again = swarm.until("it is reached again", || Ok(is_reached("tcp")? && is_reached("utp")?));
        again.with_context(|| seeding.tail())?;
        seeding.expect_running()
    })
}

#[test]
fn by_a_proxy_everything_goes() -> Result<()> {
    run("proxy", |swarm| {
        let (host, proxy) = (swarm.network.host()?, swarm.network.host()?);
        let mut dante = Some(Dante::start(swarm, &proxy)?);
        let url = format!("socks5h://{}", proxy.port(Family::V4, SOCKS));
        let capture = Capture::start(&host, &swarm.home("capture")?)?;
        swarm.ask_everybody(&host, "asking", None, &["--proxy", &url])?;
        let mut quiet = 0;
        swarm.download(&host, "download", None, &["--proxy", &url], |leecher| {
            dante.take();
            swarm.until("it says why it waits", || {
                leecher.expect_running()?;
                Ok(leecher.output().contains("can't be used"))
            })?;
            // It tells its progress once a second, or a little more rarely.
            thread::sleep(QUIET);
            let before = progress(leecher);
            thread::sleep(QUIET);
            quiet = progress(leecher) - before;
            leecher.expect_running()?;
            dante = Some(Dante::start(swarm, &proxy)?);
            Ok(())
        })?;
        ensure!(quiet == 0, "{quiet} bytes came while there was no proxy");
        let packets = capture.stop()?;
        let proxied = proxy.address(Family::V4);
        let stray: Vec<_> = packets.iter().filter(|packet| packet.to.ip() != proxied).collect();
        ensure!(stray.is_empty(), "past the proxy: {stray:?}");
        ensure!(packets.iter().any(|packet| packet.is_udp), "no datagram took the relay");
        ensure!(packets.iter().all(|packet| packet.to.port() != 53), "a name was looked up here");
        drop(dante);
        Ok(())
    })
}

/// A seeder, a tracker and a DHT, on hosts of their own.
struct Swarm<'a> {
    network: &'a Network,
    folder: PathBuf,
    payload: Payload,
    _tracker: OpenTracker,
    tracker_ip: IpAddr,
    seeder: Host,
    dht: Dht,
    _seeding: Process,
}

fn run(name: &str, test: impl FnOnce(&Swarm<'_>) -> Result<()> + Send) -> Result<()> {
    let folder = target_folder()?.join("peers/proxy").join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    in_new_network(|network| test(&Swarm::set_up(network, folder.clone())?))?;
    fs::remove_dir_all(&folder)?;
    Ok(())
}

impl<'a> Swarm<'a> {
    fn set_up(network: &'a Network, folder: PathBuf) -> Result<Self> {
        let payload = Content::Single.payload();
        let (host, seeder) = (network.host()?, network.host()?);
        let torrent = payload.torrent(Some(&OpenTracker::http_url(&host)));
        fs::write(folder.join("test.torrent"), &torrent.bytes)?;
        let tracker_ip = host.address(Family::V4);
        let mut tracker = OpenTracker::start(host, &folder, &torrent)?;
        let dht = Dht::start(Nodes::all(Node::Libtorrent), network, &folder)?;
        let home = folder.join("seeder");
        fs::create_dir_all(&home)?;
        payload.write(&home)?;
        let file = folder.join("test.torrent");
        let mut seeding = Process::start(&seeder, &home, &fast_peer_program()?, |command| {
            command.arg("seed").arg(file).arg(&home).args(["--port", &PORT.to_string(), "--no-lsd"]);
            command.args(["--limit-up", "1M", "--dht-bootstrap", &dht.nodes()[0].to_string()]);
        })?;
        let end = Instant::now() + LIMIT;
        let address = seeder.port(Family::V4, PORT);
        let mut dht = dht;
        while tracker.seeds()? == 0 || !dht.knows(torrent.infohash, address)? {
            seeding.expect_running()?;
            ensure!(Instant::now() < end, "nobody hears of the seeder\n{}", seeding.tail());
            thread::sleep(PAUSE);
        }
        Ok(Self { network, folder, payload, _tracker: tracker, tracker_ip, seeder, dht, _seeding: seeding })
    }

    /// What names lead to, where somebody looks them up.
    fn hosts(&self) -> Vec<(&'static str, IpAddr)> {
        let seeder = self.seeder.address(Family::V4);
        vec![
            ("tracker.test", self.tracker_ip),
            ("router.test", self.dht.nodes()[0].ip()),
            ("seeder.test", seeder),
        ]
    }

    fn home(&self, name: &str) -> Result<PathBuf> {
        let home = self.folder.join(name.replace(' ', "-"));
        fs::create_dir_all(&home)?;
        Ok(home)
    }

    /// Starts a command on a host, with its own name server if it may have one.
    fn start(&self, host: &Host, name: &str, names: Option<&Names>, args: &[&str]) -> Result<Process> {
        let home = self.home(name)?;
        let resolv = home.join("resolv.conf");
        // Where nothing is to be looked up there is a server that is somebody else's.
        let server = names.map_or_else(|| String::from("192.0.2.53"), |names| names.address.to_string());
        fs::write(&resolv, format!("nameserver {server}\n"))?;
        let program = fast_peer_program()?;
        let torrent = self.folder.join("test.torrent");
        Process::start(host, &home, &tool("unshare")?, |command: &mut Command| {
            let script = "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";
            command.args(["--mount", "--", "sh", "-c", script]).arg(&resolv).arg(program);
            for arg in args {
                if *arg == "TORRENT" {
                    command.arg(&torrent)
                } else {
                    command.arg(arg)
                };
            }
        })
    }

    fn ends(&self, process: &mut Process, well: bool) -> Result<String> {
        let end = Instant::now() + LIMIT;
        loop {
            if let Some(status) = process.exit_status()? {
                ensure!(status.success() == well, "{status}\n{}", process.tail());
                return Ok(process.output());
            }
            ensure!(Instant::now() < end, "it does not end\n{}", process.tail());
            thread::sleep(PAUSE);
        }
    }

    fn until(&self, what: &str, mut met: impl FnMut() -> Result<bool>) -> Result<()> {
        let end = Instant::now() + LIMIT;
        while !met()? {
            ensure!(Instant::now() < end, "it is not so that {what}");
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Every command that asks somebody: trackers over HTTP and UDP, nodes and peers, all of them by name.
    fn ask_everybody(&self, host: &Host, name: &str, names: Option<&Names>, way: &[&str]) -> Result<()> {
        let seeder = self.seeder.port(Family::V4, PORT).to_string();
        for (args, expected) in [
            (&["scrape", "--tracker", UDP, "TORRENT"][..], ["udp://tracker.test:6969: ", " seeders, "]),
            (&["scrape", "--tracker", HTTP, "TORRENT"], ["http://tracker.test:6969: ", " seeders, "]),
            (&["handshake", "TORRENT", "seeder.test:6881"], ["fast-peer", ""]),
            (&["peers", "--source", "dht", "--dht-bootstrap", ROUTER, "TORRENT"], [&seeder, ""]),
            (&["dht", "ping", ROUTER, "--dht-bootstrap", ROUTER], [" ms", ""]),
        ] {
            let mut asking =
                self.start(host, &format!("{name} {}", args[0]), names, &[args, way].concat())?;
            let output = self.ends(&mut asking, true)?;
            let says = |line: &str| expected.iter().all(|part| line.contains(part));
            ensure!(output.lines().any(says), "{args:?}: {output}");
        }
        Ok(())
    }

    fn leecher(&self, host: &Host, name: &str, names: Option<&Names>, way: &[&str]) -> Result<Process> {
        let folder = self.home(&format!("{name} payload"))?;
        let folder = folder.to_str().context("the tests' own paths are UTF-8")?;
        let args = [
            "download",
            "TORRENT",
            "-d",
            folder,
            "--limit-down",
            "1M",
            "--progress",
            "json",
            "--tracker",
            UDP,
        ];
        self.start(host, name, names, &[&args[..], way, &["--dht-bootstrap", ROUTER]].concat())
    }

    /// A whole download, in the midst of which something is done.
    fn download(
        &self,
        host: &Host,
        name: &str,
        names: Option<&Names>,
        way: &[&str],
        midway: impl FnOnce(&mut Process) -> Result<()>,
    ) -> Result<()> {
        let mut leecher = self.leecher(host, name, names, way)?;
        let result = self
            .until("half is there", || {
                ensure!(leecher.exit_status()?.is_none(), "it ended early");
                Ok(progress(&leecher) > self.payload.length() / 3)
            })
            .and_then(|()| midway(&mut leecher))
            .and_then(|()| self.ends(&mut leecher, true));
        result.with_context(|| leecher.tail())?;
        self.payload.compare(&self.home(&format!("{name} payload"))?)
    }
}

/// How many bytes a download says it has.
fn progress(leecher: &Process) -> usize {
    let output = leecher.output();
    let last = output.rsplit("\"have\":").next().filter(|rest| rest.len() < output.len());
    let digits = |rest: &str| rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok();
    last.and_then(digits).unwrap_or(0)
}

/// A SOCKS5 proxy that relays datagrams.
struct Dante {
    /// What is left of the shell that started it: the first process of a world of its own, which ends with that.
    shell: Process,
}

impl Drop for Dante {
    fn drop(&mut self) {
        // It changes its user, and so no signal reaches it when its parent dies.
        for child in self.shell.children() {
            let killed = Command::new("kill").args(["-KILL", &child]).status();
            assert!(killed.is_ok_and(|status| status.success()), "Dante goes on");
        }
    }
}

impl Dante {
    fn start(swarm: &Swarm<'_>, host: &Host) -> Result<Self> {
        let home = swarm.home("dante")?;
        let (config, names) = (home.join("danted.conf"), home.join("hosts"));
        let hosts: String = swarm.hosts().iter().map(|(name, ip)| format!("{ip} {name}\n")).collect();
        fs::write(&names, hosts)?;
        let ip = host.address(Family::V4);
        let text = format!(
            "logoutput: stderr\ninternal: {ip} port = {SOCKS}\nexternal: {ip}\n\
             clientmethod: none\nsocksmethod: none\nuser.privileged: root\nuser.unprivileged: nobody\n\
             client pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}\n\
             socks pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 command: connect udpassociate udpreply }}\n"
        );
        fs::write(&config, text)?;
        let program = tool("danted")?;
        // Its children would outlive it, and go on relaying.
        let mut process = Process::start(host, &home, &tool("unshare")?, |command| {
            let script = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
            command.args(["--mount", "--pid", "--fork", "--", "sh", "-c", script]).arg(&names);
            command.arg(program).arg("-f").arg(&config);
        })?;
        let listens = || host.within(|| std::net::TcpStream::connect((ip, SOCKS)).is_ok());
        let end = Instant::now() + LIMIT;
        while !listens()? {
            process.expect_running()?;
            ensure!(Instant::now() < end, "Dante does not listen\n{}", process.tail());
            thread::sleep(PAUSE);
        }
        Ok(Self { shell: process })
    }
}

/// A packet that left a host, or wanted to.
#[derive(Debug)]
struct Packet {
    interface: String,
    to: SocketAddr,
    is_udp: bool,
}

/// Everything of TCP and UDP that leaves a host, on whichever interface.
struct Capture(Process);

impl Capture {
    fn start(host: &Host, home: &Path) -> Result<Self> {
        let mut process = Process::start(host, home, &tool("tcpdump")?, |command| {
            command.args(["-i", "any", "-Q", "out", "-nn", "-l", "-tt", "--immediate-mode", "tcp or udp"]);
        })?;
        let end = Instant::now() + LIMIT;
        while !process.output().contains("listening on") {
            process.expect_running()?;
            ensure!(Instant::now() < end, "tcpdump does not listen");
            thread::sleep(PAUSE);
        }
        Ok(Self(process))
    }

    fn count(&self) -> Result<usize> {
        Ok(self.packets()?.len())
    }

    fn packets(&self) -> Result<Vec<Packet>> {
        // The last line may be on its way.
        let output = self.0.output();
        let whole = output.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().filter(|line| line.contains(" Out ")).map(packet).collect()
    }

    fn stop(self) -> Result<Vec<Packet>> {
        // What was sent last is written by then.
        thread::sleep(Duration::from_millis(300));
        self.packets()
    }
}

/// `1700000000.0 eth0  Out IP 10.77.2.1.40000 > 10.77.3.1.6881: Flags [S], …`
fn packet(line: &str) -> Result<Packet> {
    let read = || {
        let mut words = line.split_whitespace().skip(1);
        let interface = words.next()?.to_owned();
        let (_, rest) = line.split_once(" > ")?;
        let (to, rest) = rest.split_once(": ")?;
        let (ip, port) = to.rsplit_once('.')?;
        let to = SocketAddr::new(ip.parse().ok()?, port.parse().ok()?);
        Some(Packet { interface, to, is_udp: !rest.starts_with("Flags") })
    };
    read().with_context(|| format!("tcpdump says {line}"))
}

/// A name server on the switch.
struct Names {
    address: IpAddr,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Names {
    fn serve(network: &Network, hosts: Vec<(&'static str, IpAddr)>) -> Result<Self> {
        let address = network.address(Family::V4);
        let socket = UdpSocket::bind((address, 53))?;
        socket.set_read_timeout(Some(PAUSE))?;
        let stopped = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&stopped);
        let thread = thread::spawn(move || {
            let mut buffer = [0; 512];
            while !ends.load(Ordering::Relaxed) {
                if let Ok((len, from)) = socket.recv_from(&mut buffer)
                    && let Ok(answer) = answer(&buffer[..len], &hosts)
                {
                    // Whoever asked asks again.
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Ok(Self { address, stopped, thread: Some(thread) })
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The answer to one question (RFC 1035 section 4): the address of a host that is known, if it is asked for.
fn answer(query: &[u8], hosts: &[(&str, IpAddr)]) -> Result<Vec<u8>> {
    let (mut at, mut labels) = (12, Vec::new());
    while let Some(&len @ 1..) = query.get(at) {
        let label = query.get(at + 1..at + 1 + usize::from(len)).context("a label is cut short")?;
        labels.push(String::from_utf8_lossy(label).to_lowercase());
        at += 1 + usize::from(len);
    }
    let question = query.get(12..at + 5).context("no question")?;
    let name = labels.join(".");
    let found = hosts.iter().find(|(known, _)| *known == name);
    let is_a = question.ends_with(&[0, 1, 0, 1]);
    // Of a name that is there but has no such address, none is told.
    let code = if found.is_some() { 0 } else { 3 };
    let address = found.filter(|_| is_a).map(|(_, ip)| *ip);
    let mut out = query[..2].to_vec();
    out.extend([0x81, 0x80 | code, 0, 1, 0, u8::from(address.is_some()), 0, 0, 0, 0]);
    out.extend(question);
    match address {
        Some(IpAddr::V4(ip)) => {
            out.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
            out.extend(ip.octets());
        }
        Some(IpAddr::V6(ip)) => bail!("{ip} is no IPv4"),
        None => {}
    }
    Ok(out)
}

const HTTP: &str = "http://tracker.test:6969/announce";
const UDP: &str = "udp://tracker.test:6969/announce";
const ROUTER: &str = "router.test:6881";
const SOCKS: u16 = 1080;
const PAUSE: Duration = Duration::from_millis(50);
/// How long nothing may happen, to be sure of it.
const QUIET: Duration = Duration::from_secs(4);
const LIMIT: Duration = Duration::from_secs(120);
