//! What a torrent or a magnet link says, for people and as JSON.

use crate::exit::Failure;
use crate::output::{Output, date, one_line, size};
use fast_peer_core::magnet::{Magnet, show_ranges};
use fast_peer_core::metainfo::{File, Metainfo, show_endpoint};
use serde_json::{Value, json};

/// The keys that `info --json` prints for a torrent. `length` counts no padding.
pub(crate) fn torrent_json(torrent: &Metainfo) -> Value {
    json!({
        "name": torrent.name(),
        "info_hash": torrent.info_hash().map(|hash| hash.to_string()),
        "info_hash_v2": torrent.info_hash_v2().map(|hash| hash.to_string()),
        "piece_length": torrent.lengths().piece_len_max(),
        "piece_count": torrent.lengths().piece_count(),
        "length": torrent.len_without_padding(),
        "private": torrent.is_private(),
        "files": torrent.files().iter().map(file_json).collect::<Vec<_>>(),
        "trackers": torrent.trackers(),
        "web_seeds": torrent.web_seeds(),
        "nodes": torrent.nodes(),
        "comment": torrent.comment(),
        "created_by": torrent.created_by(),
        "creation_date": torrent.creation_date(),
    })
}

/// The same keys for a magnet link, as far as it has them, and those that only a link has.
pub(crate) fn magnet_json(magnet: &Magnet) -> Value {
    json!({
        "name": magnet.name,
        "info_hash": magnet.info_hash.map(|hash| hash.to_string()),
        "info_hash_v2": magnet.info_hash_v2.map(|hash| hash.to_string()),
        "trackers": magnet.trackers.iter().map(|url| [url]).collect::<Vec<_>>(),
        "web_seeds": magnet.web_seeds,
        "nodes": magnet.nodes,
        "peers": magnet.peers,
        "select_only": (!magnet.select_only.is_empty()).then(|| show_ranges(&magnet.select_only)),
        "magnet": magnet.to_string(),
    })
}

/// The hashes of all pieces: SHA-1 for v1, else the SHA-256 roots of v2, null where a piece layer is missing.
pub(crate) fn piece_hashes(torrent: &Metainfo) -> Vec<Option<String>> {
    let hash = |piece| match torrent.piece_hash(piece) {
        Some(hash) => Some(hex(&hash)),
        None => torrent.piece_root(piece).map(|root| hex(&root.hash)),
    };
    torrent.lengths().pieces().map(hash).collect()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn show_torrent(torrent: &Metainfo, out: &mut Output) -> Result<(), Failure> {
    out.field("Name", torrent.name())?;
    for url in torrent.trackers().iter().flatten() {
        out.field("Tracker URL", url)?;
    }
    out.field("Length", size(torrent.len_without_padding()))?;
    if let Some(hash) = torrent.info_hash() {
        out.field("Info Hash", hash)?;
    }
    if let Some(hash) = torrent.info_hash_v2() {
        out.field("Info Hash v2", hash)?;
    }
    out.field("Piece Length", size(torrent.lengths().piece_len_max().into()))?;
    out.field("Pieces", torrent.lengths().piece_count())?;
    out.field("Files", torrent.files().iter().filter(|file| !file.attributes.pad).count())?;
    out.field("Private", if torrent.is_private() { "yes" } else { "no" })?;
    show_hints(torrent.web_seeds(), torrent.nodes(), out)?;
    if let Some(comment) = torrent.comment() {
        out.field("Comment", comment)?;
    }
    if let Some(created_by) = torrent.created_by() {
        out.field("Created By", created_by)?;
    }
    if let Some(seconds) = torrent.creation_date() {
        out.field("Created", date(seconds))?;
    }
    Ok(())
}

pub(crate) fn show_files(torrent: &Metainfo, out: &mut Output) -> Result<(), Failure> {
    let shown = torrent.files().iter().filter(|file| !file.attributes.pad);
    for file in shown {
        let path = one_line(file.path.as_str());
        match &file.symlink {
            Some(target) => {
                let target = one_line(target.as_str());
                out.line(format_args!("{:>14}  {path} -> {target}", "link"))?;
            }
            None => out.line(format_args!("{:>14}  {path}", file.len))?,
        }
    }
    Ok(())
}

pub(crate) fn show_magnet(magnet: &Magnet, out: &mut Output) -> Result<(), Failure> {
    if let Some(name) = &magnet.name {
        out.field("Name", name)?;
    }
    for url in &magnet.trackers {
        out.field("Tracker URL", url)?;
    }
    if let Some(hash) = magnet.info_hash {
        out.field("Info Hash", hash)?;
    }
    if let Some(hash) = magnet.info_hash_v2 {
        out.field("Info Hash v2", hash)?;
    }
    show_hints(&magnet.web_seeds, &magnet.nodes, out)?;
    for (host, port) in &magnet.peers {
        out.field("Peer", show_endpoint(host, *port))?;
    }
    if !magnet.select_only.is_empty() {
        out.field("Selected Files", show_ranges(&magnet.select_only))?;
    }
    Ok(())
}

fn show_hints(web_seeds: &[String], nodes: &[(String, u16)], out: &mut Output) -> Result<(), Failure> {
    for url in web_seeds {
        out.field("Web Seed", url)?;
    }
    for (host, port) in nodes {
        out.field("DHT Node", show_endpoint(host, *port))?;
    }
    Ok(())
}

fn file_json(file: &File) -> Value {
    let flags = file.attributes;
    let letters = [(flags.executable, 'x'), (flags.hidden, 'h'), (flags.pad, 'p'), (flags.symlink, 'l')];
    let attr: String = letters.into_iter().filter(|(set, _)| *set).map(|(_, letter)| letter).collect();
    let mut json = json!({ "path": file.path.as_str(), "length": file.len, "attr": attr });
    if let Some(target) = &file.symlink {
        json["symlink"] = target.as_str().into();
    }
    if let Some(root) = &file.pieces_root {
        json["pieces_root"] = hex(root).into();
    }
    json
}
