//! Values in the DHT (BEP 44), and torrents that change (BEP 46).

use super::{Asker, Asking, silent};
use crate::commands::{decode, read_input, unhex};
use crate::engine;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::view::hex;
use bytes::Bytes;
use fast_peer_core::bencode::{Document, Limits, Writer};
use fast_peer_core::dht::item::{Item, ItemError, MutableLink, SecretKey, mutable_target};
use fast_peer_core::dht::node_id::NodeId;
use fast_peer_core::dht::{Summary, Task};
use fast_peer_core::session::Found;
use serde_json::json;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Arguments of `dht get`.
#[derive(Debug, clap::Args)]
pub(super) struct Get {
    /// Where the value is: its place (40 hexadecimal digits), the public key of who put it (64), or a link to a torrent
    /// that changes (magnet:?xs=urn:btpk:...)
    #[arg(value_parser = Target::parse)]
    target: Target,
    /// What tells apart the values of one key
    #[arg(long, value_name = "TEXT")]
    salt: Option<String>,
    #[command(flatten)]
    asking: Asking,
}

/// Arguments of `dht put`.
#[derive(Debug, clap::Args)]
pub(super) struct Put {
    /// The value, a text of 1000 bytes at most with its length
    value: String,
    /// The value is bencode already
    #[arg(long)]
    bencode: bool,
    /// Put it under the key in this file, so that it can be replaced: an Ed25519 seed of 32 bytes, raw or as 64
    /// hexadecimal digits
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Make a new key, write it to this file, and put the value under it
    #[arg(long, value_name = "FILE", conflicts_with = "key_file")]
    generate_key: Option<PathBuf>,
    /// What tells apart the values of one key
    #[arg(long, value_name = "TEXT")]
    salt: Option<String>,
    /// The value's number, which replaces lower ones [default: one more than is there]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i64).range(0..))]
    seq: Option<i64>,
    /// Replace only the value with this number
    #[arg(long, value_name = "NUMBER")]
    cas: Option<i64>,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Clone, Debug)]
enum Target {
    Key([u8; 32]),
    Link(MutableLink),
    Place(NodeId),
}

impl Target {
    fn parse(text: &str) -> Result<Self, String> {
        if let Some(link) = MutableLink::parse(text) {
            return Ok(Self::Link(link));
        }
        match unhex(text) {
            Some(key) => Ok(Self::Key(key)),
            None => super::place(text).map(Self::Place).map_err(|_| {
                format!("{text} is no place: write 40 hexadecimal digits, or 64 of a public key")
            }),
        }
    }
}

impl Get {
    pub(super) async fn run(self, out: &mut Output) -> Result<(), Failure> {
        let mut salt = self.salt.unwrap_or_default().into_bytes();
        let target = match self.target {
            Target::Key(key) => mutable_target(&key, &salt),
            Target::Link(link) => {
                if salt.is_empty() {
                    salt.clone_from(&link.salt);
                }
                mutable_target(&link.key, &salt)
            }
            Target::Place(place) => place,
        };
        let mut asker = self.asking.start(&self.asking.way.open()?).await?;
        let found = get(&mut asker, target, salt).await;
        let (item, summary) = asker.end(found).await?;
        let Some(item) = item else {
            if summary.answered == 0 {
                return Err(silent(summary.asked));
            }
            return Err(Failure::new(
                Exit::Timeout,
                format!("{target}: none of {} nodes has it", summary.answered),
            ));
        };
        show(&item, out)
    }
}

impl Put {
    pub(super) async fn run(self, out: &mut Output) -> Result<(), Failure> {
        let value = if self.bencode {
            self.value.clone().into_bytes()
        } else {
            let mut value = Writer::with_capacity(self.value.len() + 5);
            value.bytes(self.value.as_bytes());
            value.finish()
        };
        let seed = self.seed()?;
        let key = seed.as_ref().map(SecretKey::from_seed);
        if key.is_none() && (self.salt.is_some() || self.seq.is_some() || self.cas.is_some()) {
            let message = "--salt, --seq and --cas are for values under a key: name one by --key-file";
            return Err(Failure::new(Exit::Option, message));
        }
        let salt = self.salt.clone().unwrap_or_default().into_bytes();
        // Whatever is wrong with it is told before anybody is asked.
        let checked = match &key {
            Some(key) => Item::sign(key, &salt, self.seq.unwrap_or_default(), &value),
            None => Item::immutable(&value),
        };
        let mut item = checked.map_err(|error| refused(&error))?;
        if let (Some(path), Some(seed)) = (&self.generate_key, seed) {
            write_secret(path, &format!("{}\n", hex(&seed)))?;
        }
        let mut asker = self.asking.start(&self.asking.way.open()?).await?;
        let put = async {
            if let (Some(key), None) = (&key, self.seq) {
                let (last, _) = get(&mut asker, item.target(), salt.clone()).await?;
                let seq = last.and_then(|last| last.seq()).map_or(1, |seq| seq.saturating_add(1));
                item = Item::sign(key, &salt, seq, &value).map_err(|error| refused(&error))?;
            }
            let task = Task::Put { item: item.clone(), cas: self.cas };
            asker.look_up(task, |_| Ok(())).await
        };
        let put = put.await;
        let summary = asker.end(put).await?;
        if summary.answered == 0 {
            return Err(silent(summary.asked));
        }
        if summary.stored == 0 {
            let message = format!("{}: none of {} nodes took the value", item.target(), summary.answered);
            return Err(Failure::new(Exit::Network, message));
        }
        show(&item, out)?;
        if out.is_json() {
            return out.json(&json!({ "stored": summary.stored }));
        }
        out.line(format_args!("# stored at {} nodes", summary.stored))
    }

    /// What the key is made from under which the value is put, if it is put under one.
    fn seed(&self) -> Result<Option<[u8; 32]>, Failure> {
        if self.generate_key.is_some() {
            return Ok(Some(engine::random_seed()?));
        }
        let Some(path) = &self.key_file else { return Ok(None) };
        let bytes = read_input(path.as_os_str(), MAX_KEY_FILE)?;
        let raw = <[u8; 32]>::try_from(&bytes[..]).ok();
        let seed = raw.or_else(|| unhex(str::from_utf8(&bytes).ok()?.trim()));
        let seed = seed.ok_or_else(|| {
            let message =
                format!("{}: not a key: it takes 32 bytes, or 64 hexadecimal digits", path.display());
            Failure::new(Exit::Option, message)
        })?;
        Ok(Some(seed))
    }
}

/// The newest item at a place, if there is one.
async fn get(asker: &mut Asker, target: NodeId, salt: Vec<u8>) -> Result<(Option<Item>, Summary), Failure> {
    let mut newest = None;
    let task = Task::GetItem { target, salt: Bytes::from(salt), seq: None };
    let asked = asker.look_up(task, |found| {
        if let Found::Item { item, .. } = found {
            newest = Some(item);
        }
        Ok(())
    });
    let summary = asked.await?;
    Ok((newest, summary))
}

fn show(item: &Item, out: &mut Output) -> Result<(), Failure> {
    let document = Document::parse(item.value(), Limits::FILE);
    let document = document.map_err(|error| Failure::new(Exit::Bencode, error.to_string()))?;
    let value = decode::as_json(document.root());
    let (target, key) = (item.target().to_string(), item.key().map(|key| hex(key)));
    let (salt, torrent) =
        (String::from_utf8_lossy(item.salt()), item.info_hash().map(|hash| hash.to_string()));
    if out.is_json() {
        // What is a number too large for others is still a text.
        let value = serde_json::from_str(&value).unwrap_or(serde_json::Value::String(value));
        return out.json(&json!({
            "target": target,
            "key": key,
            "salt": key.is_some().then_some(salt),
            "seq": item.seq(),
            "info_hash": torrent,
            "value": value,
            "bencode": hex(item.value()),
        }));
    }
    out.field("Target", target)?;
    if let Some(key) = key {
        out.field("Key", key)?;
    }
    if !salt.is_empty() {
        out.field("Salt", salt)?;
    }
    if let Some(seq) = item.seq() {
        out.field("Number", seq)?;
    }
    if let Some(torrent) = torrent {
        out.field("Torrent", torrent)?;
    }
    out.field("Value", value)
}

fn refused(error: &ItemError) -> Failure {
    Failure::new(Exit::Option, format!("the value can't be put: {error}"))
}

/// Writes what nobody else may read, and never over a file that is there.
fn write_secret(path: &Path, text: &str) -> Result<(), Failure> {
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| Failure::io(Exit::Create, path.display(), &error))
}

/// Enough for a key in any of its forms, and to see that something else is none.
const MAX_KEY_FILE: u64 = 1 << 10;
