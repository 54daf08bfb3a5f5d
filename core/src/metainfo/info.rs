//! Reading the `info` dictionary: v1 (BEP 3), v2 (BEP 52), and hybrids, whose halves have to agree.

use super::path::{rename_duplicates, sanitise, sanitise_or_underscore};
use super::symlink::{Link, Tree};
use super::{Attributes, Error, File, MAX_DEPTH, MAX_FILES};
use crate::bencode::{Dict, DictIter, List, Value};
use crate::id::{InfoHash, InfoHashV2};
use crate::lengths::{BLOCK_LEN, FileMap, MAX_PIECE_LEN};
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

/// What the dictionary says.
#[derive(Debug)]
pub(super) struct Info<'d> {
    pub(super) v1: Option<InfoHash>,
    pub(super) v2: Option<InfoHashV2>,
    pub(super) name: String,
    pub(super) files: Vec<File>,
    pub(super) map: FileMap,
    /// Twenty bytes a piece, nothing without v1.
    pub(super) pieces: &'d [u8],
    pub(super) private: bool,
}

pub(super) fn parse(info: Dict<'_>) -> Result<Info<'_>, Error> {
    let version = info.get(b"meta version").and_then(Value::as_int).unwrap_or(1);
    let is_v2 = version >= 2;
    if version > 2 {
        return Err(Error::UnknownVersion);
    }
    if is_v2 && !info.quirks().is_empty() {
        return Err(Error::NotCanonical(info.quirks()));
    }
    let has_v1 = !is_v2 || info.get(b"files").is_some() || info.get(b"length").is_some();
    let v1 = has_v1.then(|| InfoHash(Sha1::digest(info.raw()).into()));
    let v2 = is_v2.then(|| InfoHashV2(Sha256::digest(info.raw()).into()));
    let piece_len = piece_len(info, is_v2)?;

    let raw_name = utf8_or_plain(info, b"name.utf-8", b"name").and_then(Value::as_bytes);
    let name = sanitise(raw_name.ok_or(Error::MissingName)?);
    let list = info.get(b"files").and_then(Value::as_list);
    let shown_name = name.clone().unwrap_or_else(|| match (v1, v2) {
        (Some(hash), _) => hash.to_string(),
        (None, hash) => hash.map(|hash| hash.to_string()).unwrap_or_default(),
    });

    let tree = match (info.get(b"file tree").and_then(Value::as_dict), is_v2) {
        (Some(tree), true) => Some(files_of_tree(tree, &shown_name, list.is_some())?),
        (None, true) => return Err(Error::MissingFileTree),
        (Some(_), false) => return Err(Error::MissingMetaVersion),
        (None, false) => None,
    };
    let flat = match (list, has_v1) {
        (Some(list), _) => Some(files_of_list(list, &shown_name)?),
        (None, true) => Some(vec![single_file(info, name.ok_or(Error::MissingName)?)?]),
        (None, false) => None,
    };
    let (mut drafts, map) = match (flat, tree) {
        (Some(flat), None) => {
            let map = contiguous(&flat, piece_len)?;
            (flat, map)
        }
        (None, Some(tree)) => {
            let map = per_file(&tree, piece_len)?;
            (tree, map)
        }
        (Some(flat), Some(tree)) => merge(flat, tree, piece_len)?,
        (None, None) => return Err(Error::MissingFileTree),
    };
    if drafts.is_empty() {
        return Err(Error::NoFiles);
    }

    let pieces = if has_v1 { piece_hashes(info, &map)? } else { &[] };
    let root = usize::from(drafts.len() > 1 || drafts[0].file.path.len() > 1);
    resolve_links(&mut drafts, root);
    let mut files: Vec<File> = drafts.into_iter().map(|draft| draft.file).collect();
    rename_duplicates(files.iter_mut().map(|file| (!file.attributes.pad).then_some(&mut file.path)))?;
    Ok(Info { v1, v2, name: shown_name, files, map, pieces, private: is_private(info) })
}

/// A file whose link is not resolved yet.
struct Draft {
    file: File,
    /// What the torrent gives as the target of a link.
    target: Vec<String>,
}

fn piece_len(info: Dict<'_>, is_v2: bool) -> Result<u64, Error> {
    let len = info.get(b"piece length").and_then(Value::as_int).and_then(|len| u64::try_from(len).ok());
    // BEP 52: a power of two of at least 16 KiB.
    let fits_v2 = |len: u64| len.is_power_of_two() && len >= u64::from(BLOCK_LEN);
    len.filter(|len| (1..=u64::from(MAX_PIECE_LEN)).contains(len) && (!is_v2 || fits_v2(*len)))
        .ok_or(Error::PieceLength)
}

/// Only a number within `info` makes a torrent private (BEP 27).
fn is_private(info: Dict<'_>) -> bool {
    info.get(b"private").and_then(Value::as_int).is_some_and(|private| private != 0)
}

fn piece_hashes<'d>(info: Dict<'d>, map: &FileMap) -> Result<&'d [u8], Error> {
    let pieces = info.get(b"pieces").and_then(Value::as_bytes).ok_or(Error::MissingPieces)?;
    let expected = map.lengths().piece_count() as usize * 20;
    if pieces.len() == expected { Ok(pieces) } else { Err(Error::WrongPieceCount) }
}

/// Old torrents carry a second, well encoded form beside names in another encoding.
fn utf8_or_plain<'d>(dict: Dict<'d>, utf8: &[u8], plain: &[u8]) -> Option<Value<'d>> {
    dict.get(utf8).or_else(|| dict.get(plain))
}

fn attributes(dict: Dict<'_>) -> Attributes {
    let letters = dict.get(b"attr").and_then(Value::as_bytes).unwrap_or_default();
    Attributes {
        executable: letters.contains(&b'x'),
        hidden: letters.contains(&b'h'),
        pad: letters.contains(&b'p'),
        symlink: letters.contains(&b'l'),
    }
}

fn length(dict: Dict<'_>) -> Result<u64, Error> {
    let len = dict.get(b"length").and_then(Value::as_int).ok_or(Error::InvalidLength)?;
    u64::try_from(len).map_err(|_| Error::InvalidLength)
}

/// The file that an entry of the list of v1, the whole `info` of a single file, or a leaf of the tree describes.
fn draft(dict: Dict<'_>, path: Vec<String>, mut attributes: Attributes) -> Result<Draft, Error> {
    let target = match dict.get(b"symlink path").and_then(Value::as_list) {
        Some(target) if attributes.symlink => link_target(target)?,
        _ => vec![],
    };
    // BEP 47: links have no length, whatever is written there.
    let len = if attributes.symlink { 0 } else { length(dict)? };
    attributes.symlink = !target.is_empty();
    Ok(Draft { file: File { path, len, attributes, symlink: None, pieces_root: None }, target })
}

fn single_file(info: Dict<'_>, name: String) -> Result<Draft, Error> {
    draft(info, vec![name], attributes(info))
}

fn files_of_list(list: List<'_>, name: &str) -> Result<Vec<Draft>, Error> {
    let mut drafts = vec![];
    for entry in list {
        if drafts.len() >= MAX_FILES {
            return Err(Error::TooManyFiles);
        }
        drafts.push(file_of_list(entry.as_dict().ok_or(Error::InvalidPath)?, name)?);
    }
    Ok(drafts)
}

fn file_of_list(entry: Dict<'_>, name: &str) -> Result<Draft, Error> {
    let mut attributes = attributes(entry);
    let components = utf8_or_plain(entry, b"path.utf-8", b"path").and_then(Value::as_list);
    let path = match components.filter(|list| list.iter().next().is_some()) {
        Some(components) => {
            let mut path = vec![name.to_string()];
            for component in components {
                path.push(sanitise_or_underscore(component.as_bytes().ok_or(Error::InvalidPath)?));
                // The torrent's own folder does not count.
                if path.len() > MAX_DEPTH + 1 {
                    return Err(Error::DirectoryTooDeep);
                }
            }
            path
        }
        None if attributes.pad => vec![".pad".into(), length(entry)?.to_string()],
        None => return Err(Error::MissingName),
    };
    // BitComet marked its padding by name before BEP 47.
    attributes.pad |= path.iter().any(|component| component.contains("_____padding_file_"));
    draft(entry, path, attributes)
}

fn link_target(components: List<'_>) -> Result<Vec<String>, Error> {
    let mut target = vec![];
    for component in components {
        let component = component.as_bytes().ok_or(Error::InvalidPath)?;
        // BEP 47 forbids these; without them the rest is still seen from the torrent's folder.
        if !matches!(component, b"." | b"..") {
            target.push(sanitise_or_underscore(component));
        }
        if target.len() > MAX_DEPTH {
            return Err(Error::DirectoryTooDeep);
        }
    }
    Ok(target)
}

/// Walks the tree of v2 depth first, in the order of its keys.
fn files_of_tree(tree: Dict<'_>, name: &str, has_list: bool) -> Result<Vec<Draft>, Error> {
    let is_single =
        !has_list && tree.iter().count() == 1 && tree.iter().all(|(_, node)| leaf(node).is_some());
    let mut path: Vec<String> = if is_single { vec![] } else { vec![name.to_string()] };
    let mut open: Vec<DictIter<'_>> = vec![tree.iter()];
    let mut drafts = vec![];
    while let Some(directory) = open.last_mut() {
        let Some((key, node)) = directory.next() else {
            open.pop();
            path.pop();
            continue;
        };
        let dict = node.as_dict().filter(|_| !key.is_empty()).ok_or(Error::InvalidFileTree)?;
        path.push(sanitise_or_underscore(key));
        if path.len() > MAX_DEPTH + 1 {
            return Err(Error::DirectoryTooDeep);
        }
        match leaf(node) {
            Some(properties) => {
                if drafts.len() >= MAX_FILES {
                    return Err(Error::TooManyFiles);
                }
                drafts.push(file_of_tree(properties, path.clone())?);
                path.pop();
            }
            None => open.push(dict.iter()),
        }
    }
    Ok(drafts)
}

/// The properties below a name, if it names a file: the only key there is empty.
fn leaf(node: Value<'_>) -> Option<Value<'_>> {
    let mut pairs = node.as_dict()?.iter();
    let (key, properties) = pairs.next()?;
    (key.is_empty() && pairs.next().is_none()).then_some(properties)
}

fn file_of_tree(properties: Value<'_>, path: Vec<String>) -> Result<Draft, Error> {
    let dict = properties.as_dict().ok_or(Error::InvalidFileTree)?;
    let attributes = attributes(dict);
    if attributes.pad {
        return Err(Error::PadInTree);
    }
    let mut draft = draft(dict, path, attributes)?;
    if draft.file.len > MAX_TREE_FILE_LEN {
        return Err(Error::InvalidLength);
    }
    if draft.file.len > 0 {
        let root = dict.get(b"pieces root").and_then(Value::as_bytes).and_then(|root| root.try_into().ok());
        draft.file.pieces_root = Some(root.filter(|root| *root != [0; 32]).ok_or(Error::MissingPiecesRoot)?);
    }
    Ok(draft)
}

fn contiguous(drafts: &[Draft], piece_len: u64) -> Result<FileMap, Error> {
    let lens: Vec<_> = drafts.iter().map(|draft| (draft.file.len, draft.file.attributes.pad)).collect();
    Ok(FileMap::contiguous(&lens, piece_len)?)
}

fn per_file(drafts: &[Draft], piece_len: u64) -> Result<FileMap, Error> {
    let lens: Vec<_> = drafts.iter().map(|draft| draft.file.len).collect();
    Ok(FileMap::per_file(&lens, piece_len)?)
}

/// The files of a hybrid: those of v1 with the roots of v2, if both name the same files and padding puts each of
/// them at the start of a piece. Empty files and links may differ, since no piece holds any of them.
fn merge(mut flat: Vec<Draft>, tree: Vec<Draft>, piece_len: u64) -> Result<(Vec<Draft>, FileMap), Error> {
    let map = contiguous(&flat, piece_len)?;
    let mut roots = tree.iter().map(|draft| &draft.file).filter(|file| file.len > 0);
    let mut start = 0;
    for draft in &mut flat {
        let file = &mut draft.file;
        if file.len > 0 && !file.attributes.pad {
            let twin = roots.next().filter(|twin| twin.path == file.path && twin.len == file.len);
            let twin = twin.filter(|_| start % piece_len == 0).ok_or(Error::InconsistentFiles)?;
            file.pieces_root = twin.pieces_root;
        }
        // The map has added these up already without an overflow.
        start += file.len;
    }
    let pieces = per_file(&tree, piece_len)?.lengths().piece_count();
    if roots.next().is_some() || pieces != map.lengths().piece_count() {
        return Err(Error::InconsistentFiles);
    }
    Ok((flat, map))
}

fn resolve_links(drafts: &mut [Draft], root: usize) {
    let links: Vec<usize> = (0..drafts.len()).filter(|at| !drafts[*at].target.is_empty()).collect();
    if links.is_empty() {
        return;
    }
    fn link(draft: &Draft, root: usize) -> Option<Link<'_>> {
        (!draft.target.is_empty()).then_some(Link { target: &draft.target, root })
    }
    let stored = drafts.iter().filter(|draft| !draft.file.attributes.pad);
    let tree = Tree::new(stored.map(|draft| (&draft.file.path[..], link(draft, root))));
    let resolved: Vec<_> = links
        .into_iter()
        .map(|at| (at, link(&drafts[at], root).and_then(|link| tree.resolve(&drafts[at].file.path, link))))
        .collect();
    for (at, target) in resolved {
        drafts[at].file.symlink = target;
    }
}

/// What libtorrent takes: the number of nodes in a file's tree stays within 31 bits.
const MAX_TREE_FILE_LEN: u64 = (1 << 44) - 16_385;
