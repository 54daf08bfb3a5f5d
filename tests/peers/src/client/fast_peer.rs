use std::{env, fs};

use anyhow::{Result, ensure};

use super::{Client, Job, PORT, Role};
use crate::process::{Process, profile_folder};

/// Runs the binary that `FAST_PEER` names, or else the one that was built beside the tests.
pub(super) struct FastPeer {
    process: Process,
    role: Role,
}

impl FastPeer {
    pub(super) fn start(job: &Job<'_>) -> Result<Self> {
        let program = match env::var_os("FAST_PEER") {
            Some(path) => fs::canonicalize(path)?,
            None => profile_folder()?.join("fast-peer"),
        };
        ensure!(program.is_file(), "{} is missing: run cargo build first", program.display());
        let process = Process::start(job.host, job.home, &program, |command| {
            let port = PORT.to_string();
            match job.role {
                Role::Leech => {
                    command.args(["download", "--port", &port, "-d"]).arg(job.folder);
                    for peer in job.peers {
                        command.args(["--peer", &peer.to_string()]);
                    }
                    command.arg(job.source.argument());
                }
                Role::Seed => {
                    command.args(["seed", "--port", &port, job.source.argument()]);
                    command.arg(job.folder.join(job.name));
                }
            }
        })?;
        Ok(Self { process, role: job.role })
    }
}

impl Client for FastPeer {
    fn is_complete(&mut self) -> Result<bool> {
        match self.role {
            Role::Leech => match self.process.exit_status()? {
                Some(status) => {
                    ensure!(status.success(), "fast-peer download: {status}");
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
