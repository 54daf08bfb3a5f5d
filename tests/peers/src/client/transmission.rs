use std::fs;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::{CONTROL_PORT, Client, Job, Link, PORT};
use crate::bencode;
use crate::dht::compact;
use crate::http;
use crate::namespace::Family;
use crate::process::{Process, tool};

/// Runs transmission-daemon, and talks to it by its RPC.
pub(super) struct Transmission {
    process: Process,
    control: SocketAddr,
}

impl Transmission {
    pub(super) fn start(job: &Job<'_>) -> Result<Self> {
        ensure!(job.peers.is_empty(), "Transmission takes no peer's address");
        let encryption = match job.link {
            Link::Encrypted | Link::Plaintext | Link::Rc4 => REQUIRED,
            Link::Tcp => PREFERRED,
            // Where its first try over uTP fails for the encryption, the second is over TCP.
            Link::Utp => ALLOWED,
        };
        let settings = json!({
            "cache-size-mb": 0,
            "dht-enabled": !job.discovery.dht.is_empty(),
            "download-dir": job.folder,
            "encryption": encryption,
            "lpd-enabled": job.discovery.lsd,
            "message-level": 3,
            "peer-port": PORT,
            "pex-enabled": job.discovery.pex,
            "port-forwarding-enabled": false,
            "rpc-bind-address": "0.0.0.0",
            "rpc-host-whitelist-enabled": false,
            "rpc-port": CONTROL_PORT,
            "rpc-whitelist-enabled": false,
            // Version 3.00 prefers it, and then takes more than 40 s to turn to a peer without it.
            "utp-enabled": job.link == Link::Utp,
        });
        fs::write(job.home.join("settings.json"), settings.to_string())?;
        // By one node, in a file `dht.bootstrap`, version 3.00 takes a minute until it calls a DHT good enough.
        let nodes =
            job.discovery.dht.iter().take(NODES).map(|node| compact(*node)).collect::<Result<Vec<_>>>()?;
        let saved = bencode::Value::dictionary([("nodes", bencode::Value::Bytes(nodes.concat()))]);
        fs::write(job.home.join("dht.dat"), saved.encode())?;
        let process = Process::start(job.host, job.home, &tool("transmission-daemon")?, |command| {
            command.env("TR_DHT_VERBOSE", "1");
            command.arg("--foreground").arg("--config-dir").arg(job.home);
        })?;
        let mut client = Self { process, control: job.host.port(Family::V4, CONTROL_PORT) };
        let add = json!({ "filename": job.source.argument(), "download-dir": job.folder });
        let end = Instant::now() + START;
        while client.call("torrent-add", &add)?.is_none() {
            client.process.expect_running()?;
            ensure!(Instant::now() < end, "transmission-daemon does not answer");
            thread::sleep(PAUSE);
        }
        Ok(client)
    }

    /// What it answers, or nothing if it isn't listening yet.
    fn call(&self, method: &str, arguments: &Value) -> Result<Option<Value>> {
        let body = json!({ "method": method, "arguments": arguments }).to_string();
        let mut session = String::new();
        // Its guard against forged requests: the first answer names an id for the second request.
        for _ in 0..2 {
            let Ok(response) = http::post(self.control, "/transmission/rpc", &session, &body) else {
                return Ok(None);
            };
            if response.status == 409 {
                let id = response.header("X-Transmission-Session-Id").context("no session id")?;
                session = format!("X-Transmission-Session-Id: {id}\r\n");
                continue;
            }
            let answer: Value = serde_json::from_slice(&response.body)?;
            ensure!(answer["result"] == "success", "{method}: {answer}");
            return Ok(Some(answer["arguments"].clone()));
        }
        bail!("transmission-daemon does not take its own session id")
    }
}

impl Client for Transmission {
    fn is_complete(&mut self) -> Result<bool> {
        self.process.expect_running()?;
        let fields = json!({ "fields": ["leftUntilDone", "metadataPercentComplete", "status"] });
        let Some(answer) = self.call("torrent-get", &fields)? else { return Ok(false) };
        let torrents = answer["torrents"].as_array().context("Transmission lists no torrents")?;
        Ok(torrents.iter().any(|torrent| torrent["status"] == SEEDING && torrent["leftUntilDone"] == 0))
    }

    fn process(&self) -> &Process {
        &self.process
    }
}

const ALLOWED: u32 = 0;
const PREFERRED: u32 = 1;
const REQUIRED: u32 = 2;

/// It asks so many old nodes every other second, and others every fifteen.
const NODES: usize = 6;
const PAUSE: Duration = Duration::from_millis(50);
const SEEDING: u32 = 6;
const START: Duration = Duration::from_secs(20);
