use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{CONTROL_PORT, Client, Job, Link, PORT, Role};
use crate::http;
use crate::namespace::Family;
use crate::process::{Process, tool};

/// Runs aria2c, and asks it by JSON-RPC.
pub(super) struct Aria2 {
    process: Process,
    control: SocketAddr,
    role: Role,
}

impl Aria2 {
    pub(super) fn start(job: &Job<'_>) -> Result<Self> {
        ensure!(job.peers.is_empty(), "aria2 takes no peer's address");
        let process = Process::start(job.host, job.home, &tool("aria2c")?, |command| {
            command.args(OPTIONS);
            command.arg(format!("--listen-port={PORT}")).arg(format!("--rpc-listen-port={CONTROL_PORT}"));
            match job.link {
                Link::Encrypted | Link::Plaintext => command.arg("--bt-require-crypto=true"),
                Link::Rc4 => command.args(["--bt-require-crypto=true", "--bt-min-crypto-level=arc4"]),
                Link::Tcp | Link::Utp => command,
            };
            if let Some(node) = job.discovery.node() {
                command.arg(format!("--dht-entry-point={node}")).arg(format!("--dht-listen-port={PORT}"));
            }
            command.arg(format!("--bt-enable-lpd={}", job.discovery.lsd));
            command.arg(format!("--enable-peer-exchange={}", job.discovery.pex));
            match job.role {
                Role::Leech => command.arg("--seed-time=0"),
                // It writes over what it finds unless told to look. With its remote control it would never end.
                Role::Seed => {
                    command.args(["--check-integrity=true", "--seed-ratio=0.0", "--enable-rpc=true"])
                }
            };
            command.arg("--dir").arg(job.folder).arg(job.source.argument());
        })?;
        Ok(Self { process, control: job.host.port(Family::V4, CONTROL_PORT), role: job.role })
    }

    fn call(&self, method: &str, arguments: Value) -> Option<Value> {
        let request = json!({ "jsonrpc": "2.0", "id": "1", "method": method, "params": arguments });
        // Before it listens there is no answer, and after that no fault but in the request.
        let response = http::post(self.control, "/jsonrpc", "", &request.to_string()).ok()?;
        serde_json::from_slice(&response.body).ok()
    }
}

impl Client for Aria2 {
    fn is_complete(&mut self) -> Result<bool> {
        if self.role == Role::Leech {
            // While it runs, its control file lies beside the payload.
            return Ok(match self.process.exit_status()? {
                Some(status) => {
                    ensure!(status.success(), "aria2c: {status}");
                    true
                }
                None => false,
            });
        }
        self.process.expect_running()?;
        let Some(answer) = self.call("aria2.tellActive", json!([["seeder", "status"]])) else {
            return Ok(false);
        };
        let downloads = answer["result"].as_array().context("aria2 lists no downloads")?;
        Ok(downloads.iter().any(|download| download["seeder"] == "true"))
    }

    fn process(&self) -> &Process {
        &self.process
    }
}

// Without DHT it speaks to no UDP tracker.
const OPTIONS: [&str; 11] = [
    "--no-conf",
    "--allow-overwrite=true",
    "--bt-save-metadata=false",
    "--console-log-level=info",
    "--disk-cache=0",
    "--enable-color=false",
    "--enable-dht=true",
    "--enable-dht6=false",
    "--follow-torrent=mem",
    "--rpc-listen-all=true",
    "--summary-interval=0",
];
