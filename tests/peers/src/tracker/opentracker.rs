//! The tracker of Debian's package `opentracker`: HTTP and UDP, IPv4 only.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{PORT, Tracker};
use crate::content::Torrent;
use crate::http::{self, escape};
use crate::namespace::{Family, Host};
use crate::process::{Process, tool};

/// Runs opentracker. Its answers hold the asker too, and ask for half an hour of patience, so that who comes
/// first never hears of who comes later.
#[derive(Debug)]
pub struct OpenTracker {
    process: Process,
    host: Host,
    infohash: [u8; 20],
}

impl OpenTracker {
    /// Where it is to be found on `host`, by HTTP.
    pub fn http_url(host: &Host) -> String {
        format!("http://{}/announce", host.port(Family::V4, PORT))
    }

    /// Where it is to be found on `host`, by UDP.
    pub fn udp_url(host: &Host) -> String {
        format!("udp://{}/announce", host.port(Family::V4, PORT))
    }

    /// Starts it for one torrent.
    pub fn start(host: Host, home: &Path, torrent: &Torrent) -> Result<Self> {
        // Debian's build serves nothing but what its whitelist names.
        fs::write(home.join("whitelist"), format!("{}\n", torrent.hex()))?;
        let (address, port) = (host.address(Family::V4).to_string(), PORT.to_string());
        let process = Process::start_as_nobody(&host, home, &tool("opentracker")?, |command| {
            command.args(["-i", &address, "-p", &port, "-P", &port, "-w", "whitelist"]);
        })?;
        let mut tracker = Self { process, host, infohash: torrent.infohash };
        // A client that finds no tracker tries again after a minute or more.
        let end = Instant::now() + START;
        while tracker.scrape().is_err() {
            tracker.process.expect_running()?;
            ensure!(Instant::now() < end, "opentracker does not answer");
            thread::sleep(PAUSE);
        }
        Ok(tracker)
    }

    fn scrape(&self) -> Result<String> {
        let path = format!("/scrape?info_hash={}", escape(&self.infohash));
        let response = http::get(self.host.port(Family::V4, PORT), &path)?;
        ensure!(response.status == 200, "opentracker answers {}", response.head);
        Ok(String::from_utf8_lossy(&response.body).into_owned())
    }
}

impl Tracker for OpenTracker {
    fn seeds(&mut self) -> Result<usize> {
        self.process.expect_running()?;
        let text = self.scrape()?;
        let Some((_, rest)) = text.split_once("8:completei") else { return Ok(0) };
        let (count, _) = rest.split_once('e').context("a scrape without an end")?;
        Ok(count.parse()?)
    }

    fn tail(&self) -> String {
        self.process.tail()
    }
}

const PAUSE: Duration = Duration::from_millis(20);
const START: Duration = Duration::from_secs(5);
