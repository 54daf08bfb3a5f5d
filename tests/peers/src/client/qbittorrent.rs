use std::fs;
use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{CONTROL_PORT, Client, Job, Link, PORT};
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
}

impl Qbittorrent {
    pub(super) fn start(job: &Job<'_>) -> Result<Self> {
        let settings = job.home.join("qBittorrent/config");
        fs::create_dir_all(&settings)?;
        let protocol = if job.link == Link::Utp { "UTP" } else { "TCP" };
        let encryption = i32::from(job.link == Link::Encrypted);
        // Its own port is drawn by chance, and its remote control asks for a password, unless told otherwise.
        let text = format!(
            "[LegalNotice]\nAccepted=true\n\
             [BitTorrent]\n\
             Session\\AddExtensionToIncompleteFiles=false\n\
             Session\\BTProtocol={protocol}\n\
             Session\\DHTEnabled=false\n\
             Session\\Encryption={encryption}\n\
             Session\\LSDEnabled=false\n\
             Session\\Port={PORT}\n\
             Session\\RefreshInterval=100\n\
             [Network]\nPortForwardingEnabled=false\n\
             [Preferences]\n\
             WebUI\\Address=0.0.0.0\n\
             WebUI\\AuthSubnetWhitelist=10.77.0.0/24\n\
             WebUI\\AuthSubnetWhitelistEnabled=true\n\
             WebUI\\CSRFProtection=false\n\
             WebUI\\HostHeaderValidation=false\n\
             WebUI\\Port={CONTROL_PORT}\n\
             WebUI\\UseUPnP=false\n"
        );
        fs::write(settings.join("qBittorrent.conf"), text)?;
        let process = Process::start(job.host, job.home, &tool("qbittorrent-nox")?, |command| {
            command.env("LANG", "C.UTF-8").env("XDG_RUNTIME_DIR", job.home);
            command.arg(format!("--profile={}", job.home.display()));
            command.arg(format!("--save-path={}", job.folder.display()));
            command.arg("--skip-dialog=true").arg(job.source.argument());
        })?;
        let control = job.host.port(Family::V4, CONTROL_PORT);
        Ok(Self { process, control, infohash: job.infohash.to_owned(), peers: job.peers.to_owned() })
    }

    fn add_peers(&mut self) -> Result<()> {
        let peers: Vec<_> = self.peers.drain(..).map(|peer| peer.to_string()).collect();
        let body = format!("hashes={}&peers={}", self.infohash, escape(peers.join("|").as_bytes()));
        let headers = "Content-Type: application/x-www-form-urlencoded\r\n";
        let response = http::post(self.control, "/api/v2/torrents/addPeers", headers, &body)?;
        let text = String::from_utf8_lossy(&response.body);
        ensure!(response.status == 200, "qBittorrent takes no peers: {} {text}", response.status);
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
        Ok(torrents.iter().any(|torrent| {
            SEEDING.iter().any(|state| torrent["state"] == *state) && torrent["amount_left"] == 0
        }))
    }

    fn process(&self) -> &Process {
        &self.process
    }
}

const SEEDING: [&str; 3] = ["forcedUP", "stalledUP", "uploading"];
