use std::path::PathBuf;
use std::process::Command;
use std::{env, fs};

use anyhow::{Result, ensure};

use super::{Client, Job, Link, PORT, Role, Want};
use crate::process::{Process, profile_folder};

/// Runs the binary that `FAST_PEER` names, or else the one that was built beside the tests.
pub(super) struct FastPeer {
    process: Process,
    role: Role,
}

impl FastPeer {
    pub(super) fn start(job: &Job<'_>) -> Result<Self> {
        let process = Process::start(job.host, job.home, &program()?, |command| {
            match (job.role, job.want) {
                (Role::Leech, Want::Lookup) => command.args(["dht", "get-peers", job.infohash]),
                (Role::Leech, Want::Metadata) => {
                    let file = job.folder.join(METADATA);
                    command.args(["metadata", job.source.argument(), "-o"]).arg(file)
                }
                (Role::Leech, Want::Payload) => {
                    command.args(["download", job.source.argument(), "-d"]).arg(job.folder)
                }
                (Role::Leech, Want::Peers) => {
                    command.args(["peers", "--source", "dht", job.source.argument()])
                }
                (Role::Seed, _) => {
                    command.args(["seed", job.source.argument()]).arg(job.folder.join(job.name))
                }
            };
            if job.role == Role::Seed || job.want == Want::Payload {
                command.args(["--port", &PORT.to_string()]);
                if let Some(rate) = job.rate {
                    command.args(["--limit-down", &rate.to_string(), "--limit-up", &rate.to_string()]);
                }
            }
            match job.link {
                Link::Encrypted | Link::Plaintext => command.env("FAST_PEER_ENCRYPTION", "require"),
                Link::Rc4 => {
                    command.env("FAST_PEER_ENCRYPTION", "require").env("FAST_PEER_ENCRYPTION_METHOD", "rc4")
                }
                Link::Tcp => command,
                Link::Utp => command.env("FAST_PEER_TRANSPORT", "utp"),
            };
            // Says of each connection how it is sent.
            command.env("RUST_LOG", "fast_peer_core::session::link=debug");
            discover(job, command);
        })?;
        Ok(Self { process, role: job.role })
    }
}

/// Tells it how it may find peers.
fn discover(job: &Job<'_>, command: &mut Command) {
    for peer in job.peers {
        command.args(["--peer", &peer.to_string()]);
    }
    let discovery = job.discovery;
    if let Some(node) = discovery.node() {
        command.args(["--dht-bootstrap", &node.to_string()]);
    }
    command.env("FAST_PEER_PORT_MAP", "off");
    // By the environment, since not every command has all of these options.
    let off = [("DHT", discovery.dht.is_empty()), ("LSD", !discovery.lsd), ("PEX", !discovery.pex)];
    for (name, _) in off.iter().filter(|(_, off)| *off) {
        command.env(format!("FAST_PEER_NO_{name}"), "true");
    }
}

/// Where the binary lies.
pub fn program() -> Result<PathBuf> {
    let program = match env::var_os("FAST_PEER") {
        Some(path) => fs::canonicalize(path)?,
        None => profile_folder()?.join("fast-peer"),
    };
    ensure!(program.is_file(), "{} is missing: run cargo build first", program.display());
    Ok(program)
}

impl Client for FastPeer {
    fn is_complete(&mut self) -> Result<bool> {
        match self.role {
            Role::Leech => match self.process.exit_status()? {
                Some(status) => {
                    ensure!(status.success(), "fast-peer: {status}");
                    Ok(true)
                }
                None => Ok(false),
            },
            Role::Seed => {
                self.process.expect_running()?;
                Ok(self.process.output().contains("seeding"))
            }
        }
    }

    fn process(&self) -> &Process {
        &self.process
    }
}

/// The torrent file that it is to write.
pub(crate) const METADATA: &str = "metadata.torrent";
