use std::fs;
use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{CONTROL_PORT, Client, Discovery, Job, Link, PORT};
use crate::http::{self, escape};
use crate::namespace::Family;
use crate::process::{Process, tool};

/// Runs qbittorrent-nox, and talks to it by its Web API.
pub(super) struct Qbittorrent {
    process: Process,
    control: SocketAddr,
    infohash: String,
    /// Peers that it still has to be told of, once it knows the torrent.
    peers: Vec<SocketAddr>,
    /// Whether it has looked into the DHT in vain, because it began before it had joined.
    looked_too_early: bool,
}

impl Qbittorrent {
    pub(super) fn start(job: &Job<'_>) -> Result<Self> {
        let settings = job.home.join("qBittorrent/config");
        fs::create_dir_all(&settings)?;
        let protocol = if job.link == Link::Utp { "UTP" } else { "TCP" };
        let encryption = i32::from(matches!(job.link, Link::Encrypted | Link::Plaintext | Link::Rc4));
        let Discovery { lsd, pex, .. } = job.discovery;
        let node = job.discovery.node();
        // Its own port is drawn by chance, and its remote control asks for a password, unless told otherwise.
        let text = format!(
            "[LegalNotice]\nAccepted=true\n\
             [BitTorrent]\n\
             Session\\AddExtensionToIncompleteFiles=false\n\
             Session\\BTProtocol={protocol}\n\
             Session\\DHTEnabled={}\n\
             Session\\Encryption={encryption}\n\
             Session\\LSDEnabled={lsd}\n\
             Session\\PeXEnabled={pex}\n\
             Session\\Port={PORT}\n\
             Session\\RefreshInterval=100\n\
             [Network]\nPortForwardingEnabled=false\n\
             [Preferences]\n\
             WebUI\\Address=0.0.0.0\n\
             WebUI\\AuthSubnetWhitelist=10.77.0.0/16\n\
             WebUI\\AuthSubnetWhitelistEnabled=true\n\
             WebUI\\CSRFProtection=false\n\
             WebUI\\HostHeaderValidation=false\n\
             WebUI\\Port={CONTROL_PORT}\n\
             WebUI\\UseUPnP=false\n",
            node.is_some()
        );
        fs::write(settings.join("qBittorrent.conf"), text)?;
        // Version 4.5.2 joins the DHT by names that are built into it, all but the first at port 6881, and waits for
        // each of them.
        let names = job.home.join("hosts");
        let routers = node.map(|node| format!("{} {}\n", node.ip(), ROUTERS.join(" ")));
        fs::write(&names, format!("127.0.0.1 localhost\n{}", routers.unwrap_or_default()))?;
        let program = tool("qbittorrent-nox")?;
        let process = Process::start_with_names(&names, job.host, job.home, &program, |command| {
            command.env("LANG", "C.UTF-8").env("XDG_RUNTIME_DIR", job.home);
            command.arg(format!("--profile={}", job.home.display()));
            command.arg(format!("--save-path={}", job.folder.display()));
            command.arg("--skip-dialog=true").arg(job.source.argument());
        })?;
        let control = job.host.port(Family::V4, CONTROL_PORT);
        let (infohash, peers) = (job.infohash.to_owned(), job.peers.to_owned());
        Ok(Self { process, control, infohash, peers, looked_too_early: node.is_some() })
    }

    fn add_peers(&mut self) -> Result<()> {
        let peers: Vec<_> = self.peers.drain(..).map(|peer| peer.to_string()).collect();
        self.command("addPeers", &format!("&peers={}", escape(peers.join("|").as_bytes())))
    }

    /// Has it look again, which it would not do by itself for a quarter of an hour.
    fn look_into_dht(&mut self) -> Result<()> {
        let response = http::get(self.control, "/api/v2/transfer/info")?;
        let session: Value = serde_json::from_slice(&response.body)?;
        if session["dht_nodes"].as_u64().context("qBittorrent counts no nodes")? > 0 {
            self.looked_too_early = false;
            self.command("pause", "")?;
            self.command("resume", "")?;
        }
        Ok(())
    }

    fn command(&self, name: &str, arguments: &str) -> Result<()> {
        let body = format!("hashes={}{arguments}", self.infohash);
        let headers = "Content-Type: application/x-www-form-urlencoded\r\n";
        let response = http::post(self.control, &format!("/api/v2/torrents/{name}"), headers, &body)?;
        let text = String::from_utf8_lossy(&response.body);
        ensure!(response.status == 200, "qBittorrent's answer to {name}: {} {text}", response.status);
        Ok(())
    }
}

impl Client for Qbittorrent {
    fn is_complete(&mut self) -> Result<bool> {
        self.process.expect_running()?;
        let Ok(response) = http::get(self.control, "/api/v2/torrents/info") else {
            return Ok(false); // It isn't listening yet.
        };
        ensure!(response.status == 200, "qBittorrent answers {}", response.head);
        let torrents: Value = serde_json::from_slice(&response.body)?;
        let torrents = torrents.as_array().context("qBittorrent lists no torrents")?;
        if !torrents.is_empty() && !self.peers.is_empty() {
            self.add_peers()?;
        }
        if !torrents.is_empty() && self.looked_too_early {
            self.look_into_dht()?;
        }
        Ok(torrents.iter().any(|torrent| {
            SEEDING.iter().any(|state| torrent["state"] == *state) && torrent["amount_left"] == 0
        }))
    }

    fn process(&self) -> &Process {
        &self.process
    }
}

const ROUTERS: [&str; 5] = [
    "dht.libtorrent.org",
    "router.bittorrent.com",
    "router.utorrent.com",
    "dht.transmissionbt.com",
    "dht.aelitis.com",
];
const SEEDING: [&str; 3] = ["forcedUP", "stalledUP", "uploading"];
