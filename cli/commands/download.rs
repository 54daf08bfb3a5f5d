//! `download`: fetch what torrents name, and end.

use super::{link, progress::Progress};
use crate::engine::{self, Engine, interrupted};
use crate::exit::{Exit, Failure};
use crate::network::Network;
use crate::output::{Output, one_line, size};
use crate::port_map;
use crate::storage::{self, Selection};
use fast_peer_core::id::{InfoHash, TorrentId};
use fast_peer_core::metainfo::Metainfo;
use fast_peer_core::pieces::Order;
use fast_peer_core::session::{NewContent, NewTorrent, Notice, Status};
use fast_peer_core::store::op::DiskError;
use fast_peer_io::disk::StorageSpec;
use serde_json::json;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, interval, sleep_until};

/// Download torrents, check every byte, and end
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Torrent files, http(s) URLs of some, magnet links, or infohashes
    #[arg(required_unless_present = "input", value_name = "SOURCE")]
    sources: Vec<OsString>,
    /// Read sources from a file, one a line; - is standard input
    #[arg(short, long, value_name = "LIST")]
    input: Option<OsString>,
    /// Folder to download into
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Name of the file, or of the folder of a torrent of several; - writes a single file to standard output, in order
    #[arg(short, long, value_name = "NAME")]
    out: Option<String>,
    /// Torrents to download at once
    #[arg(short = 'j', long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    jobs: u16,
    #[command(flatten)]
    selection: Selection,
    /// A peer to connect to; may be repeated
    #[arg(long, value_name = "HOST:PORT", value_parser = peer)]
    peer: Vec<SocketAddr>,
    /// A tracker to ask besides the torrent's own; may be repeated
    #[arg(long, value_name = "URL")]
    tracker: Vec<String>,
    /// Say how much of what is there is good, before the rest is fetched. It is checked in any case
    #[arg(long)]
    check: bool,
    /// Fetch pieces in order
    #[arg(long)]
    sequential: bool,
    /// Fetch the first and the last piece of each file first
    #[arg(long)]
    first_last: bool,
    /// Go on seeding until so many times the size is uploaded
    #[arg(long, value_name = "RATIO", value_parser = ratio)]
    seed_ratio: Option<f64>,
    /// Go on seeding for so many minutes
    #[arg(long, value_name = "MINUTES")]
    seed_time: Option<u64>,
    /// Give up when nothing has come for so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    stop_timeout: Option<u64>,
    /// Command to run when a torrent is complete, with its folder and name in FAST_PEER_DIR and FAST_PEER_NAME
    #[arg(long, value_name = "COMMAND")]
    on_done: Option<OsString>,
    #[command(flatten)]
    network: Network,
    #[command(flatten)]
    progress: super::progress::Args,
}

/// A torrent on its way.
struct Job {
    source: String,
    id: TorrentId,
    /// By what the swarm knows it.
    info_hash: InfoHash,
    /// What it holds; nothing until peers have told.
    torrent: Option<Arc<Metainfo>>,
    dir: PathBuf,
    name: String,
    completed: Option<Instant>,
    last_bytes: u64,
    /// Pieces of the metadata.
    last_pieces: u32,
    last_progress: Instant,
}

impl Args {
    pub(crate) fn run(self, out: &mut Output) -> Result<(), Failure> {
        engine::refuse_proxy()?;
        let sources = self.all_sources()?;
        if sources.len() > 1 && self.out.is_some() {
            return Err(Failure::new(Exit::Option, "--out names one download, but there are several"));
        }
        engine::block_on(async {
            if self.out.as_deref() == Some("-") {
                return self.stream(&sources[0], out).await;
            }
            Run::start(&self, out).await?.finish(sources).await
        })
    }

    fn all_sources(&self) -> Result<VecDeque<OsString>, Failure> {
        let mut sources: VecDeque<OsString> = self.sources.iter().cloned().collect();
        if let Some(list) = &self.input {
            let bytes = super::read_input(list, MAX_LIST)?;
            let text = String::from_utf8(bytes).map_err(|_| {
                Failure::new(Exit::Option, format!("{}: not a list in UTF-8", list.display()))
            })?;
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
            sources.extend(lines.map(OsString::from));
        }
        if sources.is_empty() {
            return Err(Failure::new(Exit::Option, "there is nothing to download in the list"));
        }
        Ok(sources)
    }

    /// The torrent with the peers and trackers that the user names, and where it goes if it is known what it holds.
    async fn prepare(&self, source: &OsString) -> Result<(NewTorrent, Option<StorageSpec>), Failure> {
        let mut new = self.find(source).await?;
        let storage = match new.content.take() {
            None => None,
            Some(content) => {
                let (content, storage) = self.choose(content)?;
                new.content = Some(content);
                Some(storage)
            }
        };
        Ok((new, storage))
    }

    async fn find(&self, source: &OsString) -> Result<NewTorrent, Failure> {
        let mut new = link::find(source).await?;
        new.peers.extend(&self.peer);
        new.trackers.extend(self.tracker.iter().map(|url| vec![url.clone()]));
        Ok(new)
    }

    /// What the user wants of a torrent, and where that goes.
    fn choose(&self, content: NewContent) -> Result<(NewContent, StorageSpec), Failure> {
        let content = self.selection.choose(content)?;
        let storage =
            storage::storage(&content.metainfo, &self.dir, self.out.as_deref(), &content.priorities);
        let order = if self.sequential { Order::Sequential } else { Order::Rarest };
        Ok((NewContent { order, first_last: self.first_last, ..content }, storage))
    }

    async fn stream(&self, source: &OsString, out: &mut Output) -> Result<(), Failure> {
        let choose = |content| {
            let content = self.selection.choose(content)?;
            Ok(NewContent { order: Order::Sequential, first_last: self.first_last, ..content })
        };
        let setup = super::stream::Setup {
            new: self.find(source).await?,
            choose: &choose,
            stop_after: self.stop_timeout.map(Duration::from_secs),
            network: &self.network,
            progress: &self.progress,
        };
        super::stream::run(setup, out).await
    }
}

/// A run of the command: the session, and the torrents in it.
struct Run<'a> {
    args: &'a Args,
    out: &'a mut Output,
    engine: Engine,
    jobs: Vec<Job>,
    progress: Progress,
    failure: Option<Failure>,
}

impl<'a> Run<'a> {
    async fn start(args: &'a Args, out: &'a mut Output) -> Result<Self, Failure> {
        let (engine, port) = args.network.start().await?;
        tracing::info!(?port, "listening");
        let progress = Progress::new(&args.progress);
        Ok(Self { args, out, engine, jobs: vec![], progress, failure: None })
    }

    /// Works through all sources; the last failure decides how the run ended.
    async fn finish(mut self, mut waiting: VecDeque<OsString>) -> Result<(), Failure> {
        let mut tick = interval(TICK);
        let mut stop = std::pin::pin!(interrupted());
        let stopped = loop {
            while self.active() < usize::from(self.args.jobs)
                && let Some(source) = waiting.pop_front()
            {
                self.add(&source).await;
            }
            if self.jobs.is_empty() {
                break false;
            }
            let next = self.next_end();
            tokio::select! {
                biased;
                _ = &mut stop => break true,
                notice = self.engine.notice() => match notice {
                    Some(notice) => self.on_notice(notice)?,
                    None => break true,
                },
                () = sleep_until(next) => {}
                _ = tick.tick() => self.on_tick(),
            }
            self.end_jobs()?;
        };
        let left = stopped && (self.active() > 0 || !waiting.is_empty());
        self.progress.end();
        for job in std::mem::take(&mut self.jobs) {
            self.report(&job)?;
        }
        self.engine.stop().await?;
        match self.failure {
            Some(failure) => Err(failure),
            None if left => {
                Err(Failure::new(Exit::Unfinished, "stopped; the same command again goes on from here"))
            }
            None => Ok(()),
        }
    }

    /// Torrents that are not complete.
    fn active(&self) -> usize {
        self.jobs.iter().filter(|job| job.completed.is_none()).count()
    }

    async fn add(&mut self, source: &OsString) {
        match self.args.prepare(source).await {
            Ok((new, storage)) => {
                let info_hash = new.hashes.swarm();
                let torrent = new.content.as_ref().map(|content| Arc::clone(&content.metainfo));
                let own = torrent.as_ref().map_or_else(|| info_hash.to_string(), |it| it.name().to_owned());
                let name = self.args.out.clone().unwrap_or(own);
                if self.jobs.iter().any(|job| job.info_hash == info_hash) {
                    let message =
                        format!("{}: the same torrent is being downloaded already", source.display());
                    return self.fail(Failure::new(Exit::DuplicateTorrent, message));
                }
                let id = match storage {
                    Some(storage) => self.engine.add(new, storage),
                    None => self.engine.add_link(new),
                };
                self.jobs.push(Job {
                    source: source.display().to_string(),
                    id,
                    info_hash,
                    torrent,
                    dir: self.args.dir.clone(),
                    name,
                    completed: None,
                    last_bytes: 0,
                    last_pieces: 0,
                    last_progress: Instant::now(),
                });
            }
            Err(failure) => self.fail(failure),
        }
    }

    fn fail(&mut self, failure: Failure) {
        if let Some(earlier) = self.failure.replace(failure) {
            self.progress.say(&format!("fast-peer: {}", one_line(&earlier.message)));
        }
    }

    fn on_notice(&mut self, notice: Notice) -> Result<(), Failure> {
        match &notice {
            Notice::Completed { torrent } => {
                if let Some(job) = self.jobs.iter_mut().find(|job| job.id == *torrent) {
                    job.completed = Some(Instant::now());
                    let (dir, name) = (job.dir.clone(), job.name.clone());
                    self.run_hook(&dir, &name);
                }
            }
            Notice::Checked { torrent, pieces } if self.args.check => {
                let job = self.jobs.iter().find(|job| job.id == *torrent);
                if let Some(torrent) = job.and_then(|job| job.torrent.as_ref()) {
                    self.out.checked(torrent.name(), *pieces, torrent.lengths().piece_count())?;
                }
            }
            Notice::Metadata { torrent, content } => {
                if let Err(failure) = self.on_metadata(*torrent, content) {
                    self.give_up(*torrent, failure);
                }
            }
            Notice::MetadataUseless { torrent, error } => {
                self.give_up(*torrent, Failure::new(Exit::Torrent, error.to_string()));
            }
            Notice::DiskTrouble { torrent, error } => {
                let exit = match error {
                    DiskError::Full => Exit::DiskFull,
                    DiskError::Denied => Exit::Create,
                    DiskError::Missing | DiskError::Io(_) => Exit::Io,
                };
                self.give_up(*torrent, Failure::new(exit, format!("{error}; what there is has been kept")));
            }
            Notice::TrackerFailed { .. } | Notice::Banned { .. } | Notice::HashFailed { .. } => {
                self.progress.say(&format!("fast-peer: {}", one_line(&notice.to_string())));
            }
            Notice::TrackerAnswered { warning: Some(_), .. } => {
                self.progress.say(&format!("fast-peer: {}", one_line(&notice.to_string())));
            }
            _ => port_map::tell(&notice, self.out)?,
        }
        Ok(())
    }

    /// Peers told what a torrent holds: says what is wanted of it, and keeps what they told for the next time.
    fn on_metadata(&mut self, id: TorrentId, content: &NewContent) -> Result<(), Failure> {
        let Some(job) = self.jobs.iter_mut().find(|job| job.id == id) else { return Ok(()) };
        super::refuse_without_hashes(&job.source, &content.metainfo)?;
        let (content, storage) = self.args.choose(content.clone())?;
        let torrent = Arc::clone(&content.metainfo);
        link::keep(&torrent);
        if self.args.out.is_none() {
            torrent.name().clone_into(&mut job.name);
        }
        job.torrent = Some(torrent);
        job.last_progress = Instant::now();
        self.engine.set_content(id, content, storage);
        Ok(())
    }

    /// Ends one torrent; the others go on.
    fn give_up(&mut self, id: TorrentId, failure: Failure) {
        let Some(at) = self.jobs.iter().position(|job| job.id == id) else { return };
        let job = self.jobs.remove(at);
        let message = format!("{}: {}", job.dir.join(&job.name).display(), failure.message);
        self.fail(Failure::new(failure.exit, message));
        self.engine.remove(id);
    }

    /// When the next torrent has seeded for long enough, or has waited too long.
    fn next_end(&self) -> Instant {
        let seeded = self.jobs.iter().filter_map(|job| self.seeded_at(job));
        let waited = self.jobs.iter().filter_map(|job| {
            Some(job.last_progress + Duration::from_secs(self.args.stop_timeout?))
                .filter(|_| job.completed.is_none())
        });
        let later = Instant::now() + Duration::from_secs(3600);
        seeded.chain(waited).min().unwrap_or(later)
    }

    /// When a complete torrent has seeded for as long as it was to; at once, if it was not to.
    fn seeded_at(&self, job: &Job) -> Option<Instant> {
        let completed = job.completed?;
        match (self.args.seed_time, self.args.seed_ratio) {
            (Some(minutes), _) => Some(completed + Duration::from_secs(60 * minutes)),
            (None, Some(_)) => None,
            (None, None) => Some(completed),
        }
    }

    fn has_ratio(&self, job: &Job) -> bool {
        let Some(ratio) = self.args.seed_ratio.filter(|_| job.completed.is_some()) else { return false };
        let up = self.engine.status(job.id).map_or(0, |status| status.up_bytes);
        let size = job.torrent.as_ref().map_or(0, |torrent| torrent.lengths().total());
        up as f64 >= ratio * size as f64
    }

    /// Ends the torrents that have done what they were to do, and those for which nothing comes.
    fn end_jobs(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        let mut at = 0;
        while at < self.jobs.len() {
            let job = &self.jobs[at];
            let done = self.seeded_at(job).is_some_and(|end| end <= now) || self.has_ratio(job);
            let patience = self.args.stop_timeout.map(Duration::from_secs);
            let stuck = job.completed.is_none()
                && patience.is_some_and(|patience| now >= job.last_progress + patience);
            if !done && !stuck {
                at += 1;
                continue;
            }
            if stuck && self.progressed(at) {
                continue;
            }
            let job = self.jobs.remove(at);
            if stuck {
                let why = self.engine.status(job.id).and_then(|status| status.waiting);
                let why = why.map_or_else(|| String::from("no reason known"), |waiting| waiting.to_string());
                let seconds = patience.unwrap_or_default().as_secs();
                let message = format!("{}: nothing came for {seconds} s: {why}", job.source);
                self.fail(Failure::new(Exit::Timeout, message));
            } else {
                self.report(&job)?;
            }
            // The session stays: other torrents use it, and its end tells the trackers.
            if !self.jobs.is_empty() {
                self.engine.remove(job.id);
            }
        }
        Ok(())
    }

    /// Notes whether a torrent has more than when it was looked at last.
    fn progressed(&mut self, at: usize) -> bool {
        let Some(status) = self.engine.status(self.jobs[at].id) else { return false };
        let job = &mut self.jobs[at];
        let pieces = status.metadata.map_or(0, |metadata| metadata.pieces_have);
        let more = status.down_bytes > job.last_bytes || pieces > job.last_pieces;
        if more {
            (job.last_bytes, job.last_pieces, job.last_progress) =
                (status.down_bytes, pieces, Instant::now());
        }
        more
    }

    fn on_tick(&mut self) {
        for at in 0..self.jobs.len() {
            self.progressed(at);
        }
        let statuses: Vec<(String, Status)> = self
            .jobs
            .iter()
            .filter_map(|job| Some((job.name.clone(), self.engine.status(job.id)?)))
            .collect();
        self.progress.show(&statuses);
    }

    fn report(&mut self, job: &Job) -> Result<(), Failure> {
        let Some(status) = self.engine.status(job.id).filter(|_| job.completed.is_some()) else {
            return Ok(());
        };
        let path = job.dir.join(&job.name);
        if self.out.is_json() {
            let payload = self.engine.counters();
            return self.out.json(&json!({
                "event": "complete",
                "name": job.name,
                "path": path.display().to_string(),
                "info_hash": job.info_hash.to_string(),
                "bytes": status.bytes_have,
                "downloaded": status.down_bytes,
                "uploaded": status.up_bytes,
                "wasted": status.wasted_bytes,
                // Of all torrents of the session: what was read as blocks, and what of that had to be copied.
                "payload": { "bytes": payload.payload_bytes, "copied": payload.copied_payload_bytes },
            }));
        }
        self.out.line(one_line(&format!("{}: complete, {}", path.display(), size(status.bytes_have))))?;
        if self.args.seed_time.is_none()
            && self.args.seed_ratio.is_none()
            && let Some(command) = seed_command(job, &path)
        {
            self.progress.say(&format!("It is not seeded on. To give back: {command}"));
        }
        self.out.flush()
    }

    /// The names go by the environment, so that nothing in them can become part of a command.
    fn run_hook(&mut self, dir: &Path, name: &str) {
        let Some(command) = &self.args.on_done else { return };
        let spawned = tokio::process::Command::new("/bin/sh")
            .arg("-c")
            .arg(command)
            .env("FAST_PEER_DIR", dir)
            .env("FAST_PEER_NAME", name)
            .stdin(std::process::Stdio::null())
            .spawn();
        if let Err(error) = spawned {
            self.fail(Failure::io(Exit::Unknown, "--on-done", &error));
        }
    }
}

/// What to type to seed a torrent on, if that works: what a link names has to be kept for it, and standard input is read.
fn seed_command(job: &Job, path: &Path) -> Option<String> {
    let source = job.source.as_str();
    let is_named = Path::new(source).exists() || super::is_web_address(source.as_ref());
    let is_there = source != "-" && (is_named || link::is_kept(job.info_hash));
    let words = [quoted(source)?, quoted(path.to_str()?)?];
    is_there.then(|| format!("fast-peer seed {}", words.join(" ")))
}

/// A word as shells take it; nothing where it would be an option, or has something that can't be shown in a line.
fn quoted(word: &str) -> Option<String> {
    if word.starts_with('-') || one_line(word).to_string() != word {
        return None;
    }
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:,@%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return Some(word.to_owned());
    }
    Some(format!("'{}'", word.replace('\'', r"'\''")))
}

/// An address; names of peers are looked up at once.
pub(super) fn peer(text: &str) -> Result<SocketAddr, String> {
    use std::net::ToSocketAddrs as _;
    if let Ok(addr) = text.parse() {
        return Ok(addr);
    }
    let mut addrs = text.to_socket_addrs().map_err(|error| format!("{text}: {error}; write HOST:PORT"))?;
    addrs.next().ok_or_else(|| format!("{text} has no address"))
}

fn ratio(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(ratio) if ratio.is_finite() && ratio >= 0.0 => Ok(ratio),
        _ => Err(format!("{text} is no ratio: write a number like 1.5")),
    }
}

/// How often progress is looked at.
const TICK: Duration = Duration::from_millis(500);

/// How long a list of sources may be.
const MAX_LIST: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn words_are_quoted_where_a_shell_would_change_them() {
        for (word, says) in [
            ("a/b-c.torrent", "a/b-c.torrent"),
            ("a b", "'a b'"),
            ("magnet:?xt=a&dn=b", "'magnet:?xt=a&dn=b'"),
            ("it's", r"'it'\''s'"),
            ("$(x)", "'$(x)'"),
            ("~", "'~'"),
            ("", "''"),
        ] {
            assert_eq!(quoted(word).as_deref(), Some(says), "{word}");
        }
        assert_eq!((quoted("a\nb"), quoted("-x")), (None, None));
    }
}
