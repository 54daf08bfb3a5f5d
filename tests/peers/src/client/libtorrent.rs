use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use super::{Client, Job, Link, PORT};
use crate::process::{Process, target_folder};

/// Runs `python/libtorrent_peer.py`.
pub(super) struct Libtorrent(Process);

impl Libtorrent {
    pub(super) fn start(job: &Job<'_>) -> Result<Self> {
        let link = match job.link {
            Link::Encrypted => "encrypted",
            Link::Plaintext => "plaintext",
            Link::Rc4 => "rc4",
            Link::Tcp => "tcp",
            Link::Utp => "utp",
        };
        let discovery = job.discovery;
        let process = Process::start(job.host, job.home, &python()?, |command| {
            command.arg(SCRIPT).args(["--link", link, "--port", &PORT.to_string()]);
            if let Some(node) = discovery.node() {
                command.arg(format!("--dht={node}"));
            }
            if let Some(rate) = job.rate {
                command.arg(format!("--rate={rate}"));
            }
            command.args(discovery.lsd.then_some("--lsd")).args(discovery.pex.then_some("--pex"));
            command.arg("--folder").arg(job.folder).arg(job.source.argument());
            command.args(job.peers.iter().map(ToString::to_string));
        })?;
        Ok(Self(process))
    }
}

/// The interpreter that has libtorrent.
pub(crate) fn python() -> Result<PathBuf> {
    let python = target_folder()?.join("peers/venv/bin/python");
    ensure!(python.exists(), "{} is missing: run tests/peers/install", python.display());
    Ok(python)
}

impl Client for Libtorrent {
    fn is_complete(&mut self) -> Result<bool> {
        self.0.expect_running().context("libtorrent")?;
        Ok(self.0.output().lines().any(|line| line == "complete"))
    }

    fn process(&self) -> &Process {
        &self.0
    }
}

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/python/libtorrent_peer.py");
