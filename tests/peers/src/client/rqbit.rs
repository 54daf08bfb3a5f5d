use anyhow::{Result, ensure};

use super::{Client, Job, Link, PORT};
use crate::process::{Process, profile_folder};

/// Runs `src/bin/rqbit_peer.rs`.
pub(super) struct Rqbit(Process);

impl Rqbit {
    pub(super) fn start(job: &Job<'_>) -> Result<Self> {
        let program = profile_folder()?.join("rqbit_peer");
        ensure!(program.exists(), "{} is missing: cargo builds it with the tests", program.display());
        let link = if job.link == Link::Utp { "utp" } else { "tcp" };
        let process = Process::start(job.host, job.home, &program, |command| {
            command.env("RUST_LOG", "librqbit=debug");
            if let Some(node) = job.discovery.node() {
                command.arg(format!("--dht={node}"));
            }
            // Exchanging peers can't be turned off.
            command.args(job.discovery.lsd.then_some("--lsd"));
            command.args([link, &PORT.to_string()]).arg(job.folder).arg(job.source.argument());
            command.args(job.peers.iter().map(ToString::to_string));
        })?;
        Ok(Self(process))
    }
}

impl Client for Rqbit {
    fn is_complete(&mut self) -> Result<bool> {
        self.0.expect_running()?;
        Ok(self.0.output().lines().any(|line| line == "complete"))
    }

    fn process(&self) -> &Process {
        &self.0
    }
}
