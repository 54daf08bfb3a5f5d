//! `create`: a torrent of a file or folder.

use crate::exit::{Exit, Failure};
use crate::output::Output;
use fast_peer_core::lengths::{BLOCK_LEN, FileMap, MAX_PIECE_LEN, PieceIndex};
use fast_peer_core::metainfo::create::{Content, Create, default_piece_len};
use fast_peer_core::metainfo::{MAX_DEPTH, MAX_FILES, Metainfo, sanitise, tracker_url, web_seed_url};
use serde_json::json;
use sha1::{Digest as _, Sha1};
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

/// Make a torrent of a file or folder
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The file or folder; links are followed
    path: PathBuf,
    /// The torrent file to write, - for standard output [default: NAME.torrent]
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Replace the torrent file if it is there already
    #[arg(short, long)]
    force: bool,
    #[command(flatten)]
    options: Options,
}

/// What the torrent is to say.
#[derive(Debug, Default, clap::Args)]
#[group(skip)]
pub(super) struct Options {
    /// Let peers come from the trackers only
    #[arg(short, long)]
    private: bool,
    /// Length of the pieces, a power of two, such as 256K or 4M [default: for 1000 to 2000 pieces]
    #[arg(short = 's', long, value_name = "SIZE", value_parser = piece_size)]
    pub(super) piece_size: Option<u32>,
    /// URL of a tracker; may be given more than once, each time or with a comma in between for one tier
    #[arg(short, long, value_name = "URL,…", value_parser = tier)]
    pub(super) tracker: Vec<Tier>,
    /// URL of a web seed; may be given more than once
    #[arg(short, long, value_name = "URL", value_parser = web_seed)]
    web_seed: Vec<String>,
    /// What to say about the torrent
    #[arg(short, long, value_name = "TEXT")]
    comment: Option<String>,
    /// A word that gives the torrent an infohash of its own at one tracker
    #[arg(short = 'r', long, value_name = "TEXT")]
    source: Option<String>,
}

impl Args {
    pub(crate) fn run(self, out: &mut Output) -> Result<(), Failure> {
        let found = Found::at(&self.path)?;
        let target = self.out.unwrap_or_else(|| format!("{}.torrent", found.name).into());
        if target.as_os_str() != "-" && !self.force {
            refuse_to_replace(&target)?;
        }
        let bytes = found.describe(self.options)?;
        if target.as_os_str() == "-" {
            return out.bytes(&bytes);
        }
        write(&target, &bytes, self.force)?;
        report(&target, &bytes, out)
    }
}

/// A torrent file of what is at `path`.
pub(super) fn torrent_of(path: &Path, options: Options) -> Result<Vec<u8>, Failure> {
    Found::at(path)?.describe(options)
}

/// The trackers of one tier.
#[derive(Clone, Debug)]
pub(super) struct Tier(pub(super) Vec<String>);

fn tier(text: &str) -> Result<Tier, String> {
    let url = |url: &str| tracker_url(url.as_bytes()).ok_or_else(|| format!("'{url}' is no tracker's URL"));
    text.split(',').map(url).collect::<Result<_, _>>().map(Tier)
}

fn web_seed(text: &str) -> Result<String, String> {
    let url = web_seed_url(text.as_bytes(), false).filter(|url| url.contains("://"));
    url.ok_or_else(|| format!("'{text}' is no URL"))
}

fn piece_size(text: &str) -> Result<u32, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let shift = match &text[digits.len()..] {
        "" => 0,
        "k" | "K" | "Ki" | "KiB" => 10,
        "m" | "M" | "Mi" | "MiB" => 20,
        other => return Err(format!("unknown unit '{other}'; K and M are known")),
    };
    let bytes = digits.parse().ok().and_then(|number: u32| number.checked_mul(1 << shift));
    bytes
        .filter(|bytes| bytes.is_power_of_two() && (BLOCK_LEN..=MAX_PIECE_LEN).contains(bytes))
        .ok_or_else(|| "not a power of two from 16K to 256M".into())
}

/// What the torrent is to hold.
struct Found {
    name: String,
    is_folder: bool,
    /// Where each file is, the components of its path in the torrent, and its length.
    files: Vec<(PathBuf, Vec<String>, u64)>,
}

impl Found {
    fn at(path: &Path) -> Result<Self, Failure> {
        // `.` and `..` have no name of their own.
        let open = |error: io::Error| Failure::io(Exit::Open, path.display(), &error);
        let path = fs::canonicalize(path).map_err(open)?;
        let name = name_of(&path)?;
        let metadata = fs::metadata(&path).map_err(open)?;
        if !metadata.is_dir() {
            let files = vec![(path, vec![], metadata.len())];
            return Ok(Self { name, is_folder: false, files });
        }
        let mut files = vec![];
        collect(&path, &mut vec![], &mut files)?;
        Ok(Self { name, is_folder: true, files })
    }

    /// Hashes everything, and writes down what a torrent says of it.
    fn describe(self, options: Options) -> Result<Vec<u8>, Failure> {
        let total = self.files.iter().map(|(_, _, len)| len).sum();
        let piece_len = options.piece_size.unwrap_or_else(|| default_piece_len(total));
        let lens: Vec<_> = self.files.iter().map(|(_, _, len)| (*len, false)).collect();
        let map = FileMap::contiguous(&lens, piece_len.into()).map_err(|error| {
            Failure::new(Exit::Option, format!("{error}; --piece-size sets another length"))
        })?;
        let piece_hashes = hash_all(&map, &self.files)?;
        let content = if self.is_folder {
            Content::Folder(self.files.into_iter().map(|(_, path, len)| (path, len)).collect())
        } else {
            Content::File(total)
        };
        let name = self.name.clone();
        let torrent = Create {
            name: self.name,
            content,
            piece_len,
            piece_hashes,
            trackers: options.tracker.into_iter().map(|tier| tier.0).collect(),
            web_seeds: options.web_seed,
            comment: options.comment,
            created_by: Some(concat!("fast-peer/", env!("CARGO_PKG_VERSION")).into()),
            creation_date: now(),
            private: options.private,
            source: options.source,
        };
        torrent.encode().map_err(|error| Failure::new(Exit::Option, format!("{name}: {error}")))
    }
}

/// Adds the files below `folder` in the order of their names.
fn collect(
    folder: &Path,
    components: &mut Vec<String>,
    files: &mut Vec<(PathBuf, Vec<String>, u64)>,
) -> Result<(), Failure> {
    let open = |path: &Path, error: &io::Error| Failure::io(Exit::Open, path.display(), error);
    // A link to a folder around it leads here.
    if components.len() > MAX_DEPTH || files.len() > MAX_FILES {
        let message = format!("{}: too many files, or folders within folders", folder.display());
        return Err(Failure::new(Exit::Option, message));
    }
    let entries = fs::read_dir(folder).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
    let mut paths: Vec<PathBuf> =
        entries.map_err(|error| open(folder, &error))?.into_iter().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let metadata = fs::metadata(&path).map_err(|error| open(&path, &error))?;
        components.push(name_of(&path)?);
        if metadata.is_dir() {
            collect(&path, components, files)?;
        } else if metadata.is_file() {
            files.push((path, components.clone(), metadata.len()));
        }
        components.pop();
    }
    Ok(())
}

/// The name at the end of `path`, if every client will call the file so.
fn name_of(path: &Path) -> Result<String, Failure> {
    let name = path.file_name().and_then(|name| name.to_str());
    name.filter(|name| sanitise(name.as_bytes()).as_deref() == Some(name)).map(String::from).ok_or_else(
        || {
            let message =
                format!("{}: other clients would change this name; rename it first", path.display());
            Failure::new(Exit::Option, message)
        },
    )
}

/// The SHA-1 of every piece, end to end, hashed on all cores.
fn hash_all(map: &FileMap, files: &[(PathBuf, Vec<String>, u64)]) -> Result<Vec<u8>, Failure> {
    let pieces: Vec<PieceIndex> = map.lengths().pieces().collect();
    // Several pieces at once, so that the reads of a thread follow each other.
    let run = (RUN_LEN / map.lengths().piece_len_max()).max(1);
    let next = AtomicU32::new(0);
    let work = || {
        let mut reader = Reader { files, open: None, buffer: vec![0; 256 << 10] };
        let mut done = vec![];
        loop {
            let first = next.fetch_add(run, Ordering::Relaxed) as usize;
            let Some(rest) = pieces.get(first..).filter(|rest| !rest.is_empty()) else { return Ok(done) };
            for piece in &rest[..rest.len().min(run as usize)] {
                done.push((*piece, reader.hash(map, *piece)?));
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let finished: Result<Vec<_>, Failure> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().expect("a worker does not panic")).collect()
    });
    let mut hashes = vec![0; pieces.len() * 20];
    for (piece, hash) in finished?.into_iter().flatten() {
        hashes[piece.as_usize() * 20..][..20].copy_from_slice(&hash);
    }
    Ok(hashes)
}

struct Reader<'a> {
    files: &'a [(PathBuf, Vec<String>, u64)],
    open: Option<(usize, File)>,
    buffer: Vec<u8>,
}

impl Reader<'_> {
    fn hash(&mut self, map: &FileMap, piece: PieceIndex) -> Result<[u8; 20], Failure> {
        let mut hasher = Sha1::new();
        for span in map.spans(piece, 0, map.lengths().piece_len(piece)) {
            let index = span.file.as_usize();
            let path = &self.files[index].0;
            let failed = |exit, error: io::Error| Failure::io(exit, path.display(), &error);
            if self.open.as_ref().is_none_or(|(open, _)| *open != index) {
                self.open = Some((index, File::open(path).map_err(|error| failed(Exit::Open, error))?));
            }
            let (_, file) = self.open.as_mut().expect("it was opened above");
            file.seek(SeekFrom::Start(span.offset)).map_err(|error| failed(Exit::Io, error))?;
            let mut left = span.len as usize;
            while left > 0 {
                let part = left.min(self.buffer.len());
                let buffer = &mut self.buffer[..part];
                file.read_exact(buffer).map_err(|error| failed(Exit::Io, error))?;
                hasher.update(buffer);
                left -= part;
            }
        }
        Ok(hasher.finalize().into())
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that dates a torrent; no simulation runs it")]
fn now() -> Option<u64> {
    SystemTime::now().duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs())
}

/// Fails if there is something at `target`.
pub(super) fn refuse_to_replace(target: &Path) -> Result<(), Failure> {
    if target.exists() {
        let message = format!("{}: is there already; --force replaces it", target.display());
        return Err(Failure::new(Exit::FileExists, message));
    }
    Ok(())
}

/// Makes the file at `target`, and replaces what is there only if it may.
pub(super) fn write(target: &Path, bytes: &[u8], replace: bool) -> Result<(), Failure> {
    let mut options = File::options();
    options.write(true);
    if replace {
        options.create(true).truncate(true);
    } else {
        options.create_new(true);
    }
    let failed = |exit, error: io::Error| Failure::io(exit, target.display(), &error);
    let mut file = options.open(target).map_err(|error| failed(Exit::Create, error))?;
    file.write_all(bytes).map_err(|error| failed(Exit::Io, error))
}

fn report(target: &Path, bytes: &[u8], out: &mut Output) -> Result<(), Failure> {
    let torrent = Metainfo::parse(bytes).expect("what was written is a torrent");
    if out.is_json() {
        return out.json(&json!({
            "out": target.display().to_string(),
            "name": torrent.name(),
            "info_hash": torrent.swarm_hash().to_string(),
            "piece_length": torrent.lengths().piece_len_max(),
            "piece_count": torrent.lengths().piece_count(),
            "length": torrent.len_without_padding(),
        }));
    }
    out.field("Torrent", target.display())?;
    out.field("Info Hash", torrent.swarm_hash())
}

/// How much a thread takes on at a time, in bytes.
const RUN_LEN: u32 = 8 << 20;

#[cfg(test)]
mod tests {
    use super::{piece_size, tier, web_seed};

    #[test]
    fn piece_sizes_have_units() {
        assert_eq!(
            (piece_size("16384"), piece_size("256K"), piece_size("4MiB")),
            (Ok(16384), Ok(1 << 18), Ok(1 << 22))
        );
        for wrong in ["", "K", "256", "100K", "8K", "512M", "1G", "9999999999M"] {
            assert!(piece_size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn urls_are_checked_before_anything_is_hashed() {
        assert_eq!(tier("http://a/x,udp://b:1").unwrap().0, ["http://a/x", "udp://b:1"]);
        assert!(tier("http://a/x,nonsense").is_err());
        assert!(web_seed("http://w/").is_ok() && web_seed("w").is_err());
    }
}
