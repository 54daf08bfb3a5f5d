//! A home router: a firewall and address translation of the kernel, which miniupnpd opens on request.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::client::{Client, Discovery, Job, Kind, Link, PORT, Role, Source, Want, fast_peer_program};
use crate::content::{Content, Payload, Torrent};
use crate::namespace::{Family, Host, Network, in_new_network};
use crate::process::{Process, target_folder, tool};

/// What the router can be asked by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// NAT-PMP: questions of PCP get lost.
    NatPmp,
    /// PCP.
    Pcp,
    /// UPnP.
    Upnp,
}

impl Speaks {
    /// What fast-peer calls it.
    fn name(self) -> &'static str {
        match self {
            Self::NatPmp => "NAT-PMP",
            Self::Pcp => "PCP",
            Self::Upnp => "UPnP",
        }
    }
}

/// Lets a seeder behind a router be found from outside: the mapping is made, used by a client of others, held beyond
/// the time that it was granted for, made again when the router has forgotten it, and taken back at the end.
pub fn seed_behind(speaks: Speaks) -> Result<()> {
    let home = target_folder()?.join("peers/routers").join(speaks.name());
    if home.exists() {
        fs::remove_dir_all(&home).with_context(|| format!("cannot clear {}", home.display()))?;
    }
    fs::create_dir_all(&home)?;
    in_new_network(|network| {
        let mut house = House::build(network, home.clone(), speaks)?;
        house.live().map_err(|error| anyhow::anyhow!("{error:#}\n{}", house.tails()))
    })?;
    Ok(fs::remove_dir_all(&home)?)
}

/// A router, and a seeder behind it.
struct House<'a> {
    network: &'a Network,
    home: PathBuf,
    speaks: Speaks,
    router: Host,
    daemon: Option<Process>,
    inside: Host,
    seeder: Option<Process>,
    payload: Payload,
    torrent: Torrent,
    visitors: u32,
}

impl<'a> House<'a> {
    fn build(network: &'a Network, home: PathBuf, speaks: Speaks) -> Result<Self> {
        let router = network.host()?;
        let inside = network.host_behind(&router)?;
        let payload = Content::Single.payload();
        let torrent = payload.torrent(None);
        fs::write(home.join("test.torrent"), &torrent.bytes)?;
        let (daemon, seeder, visitors) = (None, None, 0);
        let house =
            Self { network, home, speaks, router, daemon, inside, seeder, payload, torrent, visitors };
        house.nft(&["-f", &house.write("rules", &rules(speaks))?])?;
        Ok(house)
    }

    fn live(&mut self) -> Result<()> {
        self.start_daemon()?;
        let outside = self.router.port(Family::V4, PORT);
        self.visit_in_vain(outside)?;
        self.start_seeder()?;
        let line = format!("({}, ", self.speaks.name());
        self.wait("the seeder says that both ports are mapped", |house| {
            let output = house.seeder.as_ref().map(Process::output).unwrap_or_default();
            Ok(["TCP", "UDP"].iter().all(|protocol| {
                let said = format!("lets peers in by {protocol} port {PORT} of {OUTSIDE} {line}");
                output.contains(&said)
            }))
        })?;
        ensure!(self.mapped()? == 2, "the router has {} mappings", self.mapped()?);
        self.visit(Kind::Libtorrent, outside)?;
        if self.speaks == Speaks::Pcp {
            // The router grants so little that without renewals nothing would be left.
            thread::sleep(Duration::from_secs(2 * GRANT_S));
            ensure!(self.mapped()? == 2, "the mappings were not renewed");
            self.visit(Kind::Qbittorrent, outside)?;
        }
        if self.speaks != Speaks::Upnp {
            self.reboot()?;
            self.wait("the router that forgot has the mappings again", |house| Ok(house.mapped()? == 2))?;
            self.visit(Kind::FastPeer, outside)?;
        }
        if self.speaks == Speaks::Pcp {
            self.inside.change_address()?;
            let target = format!("to {}:{PORT}", self.inside.address(Family::V4));
            self.wait("the router lets peers in to the new address", |house| {
                Ok(house.chain()?.matches(&target).count() == 2)
            })?;
            // The port of before is still kept for the old address.
            let chain = self.chain()?;
            let rule = chain.lines().find(|line| line.contains(&target)).context("it was there")?;
            let port = rule.split("dport ").nth(1).and_then(|rest| rest.split(' ').next());
            let port = port.context("a rule has a port")?.parse()?;
            self.visit(Kind::Libtorrent, SocketAddr::new(outside.ip(), port))?;
        }
        let seeder = self.seeder.as_mut().context("it was started")?;
        seeder.terminate()?;
        self.wait("the seeder has ended", |house| {
            Ok(house.seeder.as_mut().context("it was started")?.exit_status()?.is_some())
        })?;
        // What an address that is gone had mapped, the router lets go by itself.
        let ours = format!("to {}:{PORT}", self.inside.address(Family::V4));
        ensure!(!self.chain()?.contains(&ours), "mappings are left: {}", self.chain()?);
        Ok(())
    }

    fn start_daemon(&mut self) -> Result<()> {
        let config = self.write("miniupnpd.conf", &config(self.speaks, &self.home.join("leases")))?;
        let pid = self.home.join("miniupnpd.pid");
        // It may not be there yet; neither may the leases.
        let _ = fs::remove_file(&pid);
        let daemon = Process::start(&self.router, &self.home, &tool("miniupnpd")?, |command| {
            command.args(["-d", "-f", &config, "-P"]).arg(&pid);
        })?;
        self.daemon = Some(daemon);
        self.wait("the router answers", |house| {
            let daemon = house.daemon.as_mut().context("it was started")?;
            daemon.expect_running()?;
            let upnp = house.speaks == Speaks::Upnp;
            let ready = if upnp { "HTTP listening on port" } else { "Listening for NAT-PMP/PCP traffic" };
            Ok(daemon.output().contains(ready))
        })
    }

    /// Ends miniupnpd without a warning, and forgets what it has mapped.
    fn reboot(&mut self) -> Result<()> {
        self.daemon = None;
        let _ = fs::remove_file(self.home.join("leases"));
        for chain in ["forwarded", "mapped", "hairpin"] {
            self.nft(&["flush", "chain", "inet", "router", chain])?;
        }
        ensure!(self.mapped()? == 0, "the router has not forgotten");
        self.start_daemon()
    }

    fn start_seeder(&mut self) -> Result<()> {
        let folder = self.home.join("seeder");
        self.payload.write(&folder)?;
        let mode = if self.speaks == Speaks::Upnp { "upnp" } else { "auto" };
        let program = fast_peer_program()?;
        let seeder = Process::start(&self.inside, &self.home, &program, |command| {
            command.args(["-v", "seed", "test.torrent"]).arg(folder.join(self.payload.name()));
            command.args(["--port", &PORT.to_string(), "--port-map", mode, "--no-dht", "--no-lsd"]);
        })?;
        self.seeder = Some(seeder);
        Ok(())
    }

    /// Has a client outside fetch the payload, of which it knows nothing but the router's address.
    fn visit(&mut self, kind: Kind, outside: SocketAddr) -> Result<()> {
        let (mut client, folder) = self.start_visitor(kind, outside)?;
        self.wait("what is inside came out", |_| client.is_complete())
            .map_err(|error| anyhow::anyhow!("{error:#}\n{}", client.process().tail()))?;
        self.payload.compare(&folder)
    }

    /// Without a mapping nobody comes in.
    fn visit_in_vain(&mut self, outside: SocketAddr) -> Result<()> {
        let visitor = self.network.host()?;
        let result = visitor
            .within(|| std::net::TcpStream::connect_timeout(&outside, Duration::from_secs(1)).map(drop))?;
        ensure!(result.is_err(), "the router lets everybody in");
        Ok(())
    }

    fn start_visitor(&mut self, kind: Kind, outside: SocketAddr) -> Result<(Box<dyn Client>, PathBuf)> {
        self.visitors += 1;
        let host = self.network.host()?;
        let home = self.home.join(format!("visitor{}", self.visitors));
        let folder = home.join("payload");
        fs::create_dir_all(&folder)?;
        let client = kind.start(&Job {
            host: &host,
            home: &home,
            folder: &folder,
            name: self.payload.name(),
            infohash: &self.torrent.hex(),
            role: Role::Leech,
            source: &Source::File(self.home.join("test.torrent")),
            link: Link::Tcp,
            peers: &[outside],
            discovery: Discovery::default(),
            rate: None,
            want: Want::Payload,
        })?;
        Ok((client, folder))
    }

    /// How many ports the kernel translates.
    fn mapped(&self) -> Result<usize> {
        Ok(self.chain()?.lines().filter(|line| line.contains("dnat")).count())
    }

    fn chain(&self) -> Result<String> {
        self.nft(&["list", "chain", "inet", "router", "mapped"])
    }

    fn nft(&self, args: &[&str]) -> Result<String> {
        let nft = tool("nft")?;
        let output = self.router.within(|| Command::new(nft).args(args).output())??;
        ensure!(output.status.success(), "nft: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }

    fn write(&self, name: &str, text: &str) -> Result<String> {
        let path = self.home.join(name);
        fs::write(&path, text)?;
        path.into_os_string().into_string().ok().context("the tests' own paths are UTF-8")
    }

    fn wait(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> Result<bool>) -> Result<()> {
        let end = Instant::now() + LIMIT;
        while !done(self).with_context(|| format!("before {what}"))? {
            ensure!(Instant::now() < end, "after {} s it is still not true that {what}", LIMIT.as_secs());
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn tails(&self) -> String {
        [&self.daemon, &self.seeder].into_iter().flatten().map(Process::tail).collect()
    }
}

/// What a home router does: whoever is inside gets out, and nobody gets in. miniupnpd fills three of the chains.
fn rules(speaks: Speaks) -> String {
    // The first byte after the head of UDP is the version.
    let deaf = if speaks == Speaks::NatPmp { "udp dport 5351 @th,64,8 2 drop;" } else { "" };
    format!(
        "table inet router {{
            chain input {{ type filter hook input priority 0; {deaf} }}
            chain forward {{
                type filter hook forward priority 0; policy drop;
                ct state established,related accept;
                iifname inside accept;
                jump forwarded;
            }}
            chain forwarded {{ }}
            chain prerouting {{ type nat hook prerouting priority -100; jump mapped; }}
            chain mapped {{ }}
            chain postrouting {{ type nat hook postrouting priority 100; jump hairpin; oifname eth0 masquerade; }}
            chain hairpin {{ }}
        }}
        "
    )
}

fn config(speaks: Speaks, leases: &std::path::Path) -> String {
    let (upnp, others) = if speaks == Speaks::Upnp { ("yes", "no") } else { ("no", "yes") };
    format!(
        "ext_ifname=eth0
ext_ip={OUTSIDE}
listening_ip=inside
port=5000
enable_upnp={upnp}
enable_natpmp={others}
secure_mode=yes
min_lifetime=2
max_lifetime={GRANT_S}
uuid=6f1a3ab4-1c0e-4b43-8c4b-0f63a4c0a3c1
lease_file={}
upnp_table_name=router
upnp_nat_table_name=router
upnp_forward_chain=forwarded
upnp_nat_chain=mapped
upnp_nat_postrouting_chain=hairpin
allow 1024-65535 10.0.0.0/8 1024-65535
",
        leases.display()
    )
}

/// miniupnpd maps nothing where its own address outside is a private one, as on the switch; so it tells another.
const OUTSIDE: &str = "11.0.0.1";

/// The seconds for which PCP grants a mapping here.
const GRANT_S: u64 = 12;

const LIMIT: Duration = Duration::from_secs(60);
