//! Two clients behind routers of the kernel that let nobody in, and a third that brings them together (BEP 55).

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use peers::client::{Client, Discovery, Job, Kind, Link, PORT, Role, Source, Want, fast_peer_program};
use peers::content::{Content, Payload, Torrent};
use peers::namespace::{Family, Host, Network, in_new_network};
use peers::process::{Process, target_folder, tool};

#[test]
fn to_libtorrent() -> Result<()> {
    run("to-libtorrent", |country| {
        let relay = country.fast_peer(&country.relay, "relay")?;
        // It hears of nobody, and so does not call the leecher by itself.
        let seeder = country.libtorrent_seeder()?;
        let leecher = country.fast_peer(&country.right, "leecher")?;
        country.download(leecher, &[seeder.process(), &relay])
    })
}

/// A relay on the switch, and two routers with a host behind each.
struct Country {
    home: PathBuf,
    relay: Host,
    left: Host,
    right: Host,
    /// They are there as long as somebody knows them.
    _routers: [Host; 2],
    payload: Payload,
    torrent: Torrent,
}

fn run(name: &str, test: impl FnOnce(&Country) -> Result<()> + Send) -> Result<()> {
    let home = target_folder()?.join("peers/holepunch").join(name);
    if home.exists() {
        fs::remove_dir_all(&home)?;
    }
    fs::create_dir_all(&home)?;
    in_new_network(|network| test(&Country::set_up(network, home.clone())?))?;
    Ok(fs::remove_dir_all(&home)?)
}

impl Country {
    fn set_up(network: &Network, home: PathBuf) -> Result<Self> {
        let payload = Content::Single.payload();
        let torrent = payload.torrent(None);
        fs::write(home.join("test.torrent"), &torrent.bytes)?;
        fs::write(home.join("rules"), RULES)?;
        let behind = |router: &Host| {
            let inside = network.host_behind(router)?;
            let nft = tool("nft")?;
            let output = router.within(|| Command::new(nft).arg("-f").arg(home.join("rules")).output())??;
            ensure!(output.status.success(), "nft: {}", String::from_utf8_lossy(&output.stderr));
            Ok(inside)
        };
        let (relay, routers) = (network.host()?, [network.host()?, network.host()?]);
        let (left, right) = (behind(&routers[0])?, behind(&routers[1])?);
        Ok(Self { home, relay, left, right, _routers: routers, payload, torrent })
    }

    fn folder(&self, name: &str, role: Role) -> Result<(PathBuf, PathBuf)> {
        let home = self.home.join(name);
        let folder = home.join("payload");
        fs::create_dir_all(&folder)?;
        if role == Role::Seed {
            self.payload.write(&folder)?;
        }
        Ok((home, folder))
    }

    /// All but the relay know its address, and nothing else. It passes next to nothing on.
    fn is_relay(&self, host: &Host) -> bool {
        host.address(Family::V4) == self.relay.address(Family::V4)
    }

    fn fast_peer(&self, host: &Host, name: &str) -> Result<Process> {
        let (home, folder) = self.folder(name, Role::Leech)?;
        Process::start(host, &home, &fast_peer_program()?, |command| {
            command.args(["-vv", "download"]).arg(self.home.join("test.torrent")).arg("-d").arg(folder);
            command.args(["--port", &PORT.to_string(), "--port-map", "off", "--no-dht", "--no-lsd"]);
            if self.is_relay(host) {
                command.args(["--limit-up", TRICKLE, "--limit-down", TRICKLE]);
            } else {
                command.args(["--peer", &self.relay.port(Family::V4, PORT).to_string()]);
            }
        })
    }

    fn libtorrent_seeder(&self) -> Result<Box<dyn Client>> {
        let (home, folder) = self.folder("seeder", Role::Seed)?;
        Kind::Libtorrent.start(&Job {
            host: &self.left,
            home: &home,
            folder: &folder,
            name: self.payload.name(),
            infohash: &self.torrent.hex(),
            role: Role::Seed,
            source: &Source::File(self.home.join("test.torrent")),
            link: Link::Utp,
            peers: &[self.relay.port(Family::V4, PORT)],
            discovery: Discovery::default(),
            rate: None,
            want: Want::Payload,
        })
    }

    /// Waits for the leecher to be done, which it would not be for long without a connection to the seeder.
    fn download(&self, mut leecher: Process, others: &[&Process]) -> Result<()> {
        let end = Instant::now() + LIMIT;
        while leecher.exit_status()?.is_none() {
            let tails = || others.iter().map(|other| other.tail()).collect::<String>();
            ensure!(Instant::now() < end, "nothing came\n{}{}", leecher.tail(), tails());
            thread::sleep(Duration::from_millis(50));
        }
        let opened = |process: &Process| process.output().contains("holepunch open ");
        let met = opened(&leecher) || others.iter().any(|other| opened(other));
        ensure!(met, "nobody was brought together\n{}", leecher.tail());
        self.payload.compare(&self.home.join("leecher/payload"))
    }
}

/// What a home router does: whoever is inside gets out, and nothing comes in but answers. A packet that is dropped before
/// it was let in leaves the port free for whoever is inside.
const RULES: &str = "table inet router {
    chain input {
        type filter hook input priority 0; policy accept;
        iifname eth0 ct state new drop;
    }
    chain forward {
        type filter hook forward priority 0; policy drop;
        ct state established,related accept;
        iifname inside accept;
    }
    chain postrouting {
        type nat hook postrouting priority 100;
        oifname eth0 masquerade;
    }
}
";

/// Bytes a second: the payload would take an hour and a half.
const TRICKLE: &str = "1000";

/// A call is given up after a quarter of a minute.
const LIMIT: Duration = Duration::from_secs(60);
