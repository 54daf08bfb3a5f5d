//! Reading the `info` dictionary: v1 (BEP 3), v2 (BEP 52), and hybrids, whose halves have to agree.

use super::names::rename_duplicates;
use super::path::{FilePath, sanitise, sanitise_or_underscore};
use super::symlink::{self, Targets};
use super::{Attributes, Error, File, MAX_DEPTH, MAX_FILES};
use crate::bencode::{Dict, DictIter, List, Value};
use crate::id::{InfoHash, InfoHashV2};
use crate::lengths::{BLOCK_LEN, FileMap, MAX_PIECE_LEN};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use alloc::{format, vec};
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
        (Some(tree), true) => Some(Files::of_tree(tree, &shown_name, list.is_some())?),
        (None, true) => return Err(Error::MissingFileTree),
        (Some(_), false) => return Err(Error::MissingMetaVersion),
        (None, false) => None,
    };
    let flat = match (list, has_v1) {
        (Some(list), _) => Some(Files::of_list(list, &shown_name)?),
        (None, true) => Some(Files::of_single(info, name.ok_or(Error::MissingName)?)?),
        (None, false) => None,
    };
    let (Files { mut files, targets }, map) = match (flat, tree) {
        (Some(flat), None) => {
            let map = contiguous(&flat.files, piece_len)?;
            (flat, map)
        }
        (None, Some(tree)) => {
            let map = per_file(&tree.files, piece_len)?;
            (tree, map)
        }
        (Some(flat), Some(tree)) => merge(flat, &tree.files, piece_len)?,
        (None, None) => return Err(Error::MissingFileTree),
    };
    let first = files.first().ok_or(Error::NoFiles)?;
    let folder = first.path.split().0.is_some().then_some(&shown_name[..]);

    let pieces = if has_v1 { piece_hashes(info, &map)? } else { &[] };
    symlink::resolve(&mut files, &targets, folder);
    rename_duplicates(&mut files)?;
    Ok(Info { v1, v2, name: shown_name, files, map, pieces, private: is_private(info) })
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

/// Files, and where those that are links are to lead.
#[derive(Default)]
struct Files {
    files: Vec<File>,
    targets: Targets,
}

impl Files {
    fn of_single(info: Dict<'_>, name: String) -> Result<Self, Error> {
        let mut files = Self::default();
        files.push(info, name, attributes(info))?;
        Ok(files)
    }

    fn of_list(list: List<'_>, name: &str) -> Result<Self, Error> {
        let count = list.iter().count().min(MAX_FILES);
        let mut files = Self { files: Vec::with_capacity(count), targets: Targets::new() };
        for entry in list {
            let entry = entry.as_dict().ok_or(Error::InvalidPath)?;
            let mut attributes = attributes(entry);
            let path = path_of_entry(entry, name, attributes.pad)?;
            // BitComet marked its padding by name before BEP 47.
            attributes.pad |= path.contains("_____padding_file_");
            files.push(entry, path, attributes)?;
        }
        Ok(files)
    }

    /// Walks the tree of v2 depth first, in the order of its keys.
    fn of_tree(tree: Dict<'_>, name: &str, has_list: bool) -> Result<Self, Error> {
        let mut nodes = tree.iter();
        let is_single =
            !has_list && nodes.next().is_some_and(|(_, node)| leaf(node).is_some()) && nodes.next().is_none();
        let mut path = if is_single { String::new() } else { name.to_string() };
        // Each directory on the way with the length of its path.
        let mut open: Vec<(DictIter<'_>, usize)> = vec![(tree.iter(), path.len())];
        let mut files = Self::default();
        while let Some((directory, path_len)) = open.last_mut() {
            path.truncate(*path_len);
            let Some((key, node)) = directory.next() else {
                open.pop();
                continue;
            };
            let dict = node.as_dict().filter(|_| !key.is_empty()).ok_or(Error::InvalidFileTree)?;
            push_component(&mut path, &sanitise_or_underscore(key));
            if open.len() > MAX_DEPTH {
                return Err(Error::DirectoryTooDeep);
            }
            match leaf(node) {
                Some(properties) => files.push_of_tree(properties, path.clone())?,
                None => open.push((dict.iter(), path.len())),
            }
        }
        Ok(files)
    }

    fn push_of_tree(&mut self, properties: Value<'_>, path: String) -> Result<(), Error> {
        let dict = properties.as_dict().ok_or(Error::InvalidFileTree)?;
        let attributes = attributes(dict);
        if attributes.pad {
            return Err(Error::PadInTree);
        }
        let file = self.push(dict, path, attributes)?;
        if file.len > MAX_TREE_FILE_LEN {
            return Err(Error::InvalidLength);
        }
        if file.len > 0 {
            let root =
                dict.get(b"pieces root").and_then(Value::as_bytes).and_then(|root| root.try_into().ok());
            file.pieces_root = Some(root.filter(|root| *root != [0; 32]).ok_or(Error::MissingPiecesRoot)?);
        }
        Ok(())
    }

    /// Adds the file that an entry of the list of v1, the whole `info` of a single file, or a leaf of the tree is.
    fn push(&mut self, dict: Dict<'_>, path: String, mut attributes: Attributes) -> Result<&mut File, Error> {
        let number = self.files.len();
        if number >= MAX_FILES {
            return Err(Error::TooManyFiles);
        }
        // BEP 47: links have no length, whatever is written there.
        let len = if attributes.symlink { 0 } else { length(dict)? };
        if attributes.symlink {
            let target = dict.get(b"symlink path").and_then(Value::as_list).map(link_target).transpose()?;
            let target = target.filter(|target| !target.is_empty());
            attributes.symlink = target.is_some();
            self.targets.extend(target.map(|target| (number as u32, target)));
        }
        self.files.push(File {
            path: FilePath::new(path),
            len,
            attributes,
            symlink: None,
            pieces_root: None,
        });
        Ok(&mut self.files[number])
    }
}

fn path_of_entry(entry: Dict<'_>, name: &str, is_pad: bool) -> Result<String, Error> {
    let components = utf8_or_plain(entry, b"path.utf-8", b"path").and_then(Value::as_list);
    match components.filter(|list| list.iter().next().is_some()) {
        Some(components) => {
            let mut path = name.to_string();
            for (depth, component) in components.iter().enumerate() {
                if depth >= MAX_DEPTH {
                    return Err(Error::DirectoryTooDeep);
                }
                let component = component.as_bytes().ok_or(Error::InvalidPath)?;
                push_component(&mut path, &sanitise_or_underscore(component));
            }
            Ok(path)
        }
        None if is_pad => Ok(format!(".pad/{}", length(entry)?)),
        None => Err(Error::MissingName),
    }
}

fn link_target(components: List<'_>) -> Result<String, Error> {
    let mut target = String::new();
    for (depth, component) in components.iter().enumerate() {
        if depth >= MAX_DEPTH {
            return Err(Error::DirectoryTooDeep);
        }
        let component = component.as_bytes().ok_or(Error::InvalidPath)?;
        // BEP 47 forbids these; without them the rest is still seen from the torrent's folder.
        if !matches!(component, b"." | b"..") {
            push_component(&mut target, &sanitise_or_underscore(component));
        }
    }
    Ok(target)
}

fn push_component(path: &mut String, component: &str) {
    path.push_str(if path.is_empty() { "" } else { "/" });
    path.push_str(component);
}

/// The properties below a name, if it names a file: the only key there is empty.
fn leaf(node: Value<'_>) -> Option<Value<'_>> {
    let mut pairs = node.as_dict()?.iter();
    let (key, properties) = pairs.next()?;
    (key.is_empty() && pairs.next().is_none()).then_some(properties)
}

fn contiguous(files: &[File], piece_len: u64) -> Result<FileMap, Error> {
    let lens: Vec<_> = files.iter().map(|file| (file.len, file.attributes.pad)).collect();
    Ok(FileMap::contiguous(&lens, piece_len)?)
}

fn per_file(files: &[File], piece_len: u64) -> Result<FileMap, Error> {
    let lens: Vec<_> = files.iter().map(|file| file.len).collect();
    Ok(FileMap::per_file(&lens, piece_len)?)
}

/// The files of a hybrid: those of v1 with the roots of v2, if both name the same files and padding puts each of
/// them at the start of a piece. Empty files and links may differ, since no piece holds any of them.
fn merge(mut flat: Files, tree: &[File], piece_len: u64) -> Result<(Files, FileMap), Error> {
    let map = contiguous(&flat.files, piece_len)?;
    let mut twins = tree.iter().filter(|file| file.len > 0);
    let mut start = 0;
    for file in &mut flat.files {
        if file.len > 0 && !file.attributes.pad {
            let twin = twins.next().filter(|twin| twin.path == file.path && twin.len == file.len);
            let twin = twin.filter(|_| start % piece_len == 0).ok_or(Error::InconsistentFiles)?;
            file.pieces_root = twin.pieces_root;
        }
        // The map has added these up already without an overflow.
        start += file.len;
    }
    let pieces = per_file(tree, piece_len)?.lengths().piece_count();
    if twins.next().is_some() || pieces != map.lengths().piece_count() {
        return Err(Error::InconsistentFiles);
    }
    Ok((flat, map))
}

/// What libtorrent takes: the number of nodes in a file's tree stays within 31 bits.
const MAX_TREE_FILE_LEN: u64 = (1 << 44) - 16_385;
