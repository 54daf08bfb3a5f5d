//! All paths of a torrent at once: which are files, which are directories, and which are there twice.

use super::{Error, File, FilePath};
use alloc::borrow::Cow;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Ordering;

/// How many suffixes may be tried in one torrent before it counts as hostile (limit L7).
pub const MAX_RENAMES: u32 = 500;

/// Paths in order. Directories are found among the paths of their files: written down, those of deep paths would be
/// many times as long as the torrent.
pub(super) struct Names<'a>(Vec<(Cow<'a, str>, u32)>);

impl<'a> Names<'a> {
    /// From paths and the numbers of their files.
    pub(super) fn new(paths: impl Iterator<Item = (Cow<'a, str>, u32)>) -> Self {
        let mut sorted: Vec<_> = paths.collect();
        sorted.sort_unstable();
        Self(sorted)
    }

    /// The numbers of the files at `path`, lowest first.
    pub(super) fn files(&self, path: &str) -> impl Iterator<Item = u32> {
        let first = self.0.partition_point(|(name, _)| **name < *path);
        self.0[first..].iter().take_while(move |(name, _)| name == path).map(|(_, file)| *file)
    }

    /// Whether a file lies somewhere below `path`.
    pub(super) fn is_directory(&self, path: &str) -> bool {
        let is_before = |name: &str| {
            let (head, rest) = name.as_bytes().split_at(name.len().min(path.len()));
            match head.cmp(path.as_bytes()) {
                Ordering::Equal => rest.first().is_none_or(|next| *next < b'/'),
                order => order == Ordering::Less,
            }
        };
        let at = self.0.partition_point(|(name, _)| is_before(name));
        let below = self.0.get(at).and_then(|(name, _)| name.strip_prefix(path));
        below.is_some_and(|rest| rest.starts_with('/'))
    }

    /// The files whose path a directory or a file before them has.
    fn clashing(&self) -> BTreeSet<u32> {
        let groups = self.0.chunk_by(|(a, _), (b, _)| a == b);
        let clashing = groups.flat_map(|group| {
            let first = usize::from(!self.is_directory(&group[0].0));
            group[first..].iter().map(|(_, file)| *file)
        });
        clashing.collect()
    }
}

/// Gives each file whose path a directory or an earlier file has, upper and lower case alike, a number in front of its
/// extension. Padding is not stored, so it may share its path.
pub(super) fn rename_duplicates(files: &mut [File]) -> Result<(), Error> {
    let stored = files.iter().zip(0..).filter(|(file, _)| !file.attributes.pad);
    let names = Names::new(stored.map(|(file, number)| (fold(file.path.as_str()), number)));
    let mut clashing = names.clashing();
    let mut renamed = BTreeMap::new();
    let mut given = BTreeSet::new();
    let mut tries = 0;
    while let Some(file) = clashing.pop_first() {
        for number in 1.. {
            let path = numbered(&files[file as usize].path, number);
            let folded = fold(path.as_str()).into_owned();
            let is_free = !names.is_directory(&folded) && names.files(&folded).all(|other| other > file);
            if is_free && !given.contains(&folded) {
                // A later file that is called so has to give way.
                clashing.extend(names.files(&folded));
                given.insert(folded);
                renamed.insert(file, path);
                break;
            }
            tries += 1;
            if tries > MAX_RENAMES {
                return Err(Error::TooManyRenames);
            }
        }
    }
    drop(names);
    for (file, path) in renamed {
        files[file as usize].path = path;
    }
    Ok(())
}

/// The path as a file system sees it that takes upper for lower case.
fn fold(path: &str) -> Cow<'_, str> {
    let is_lower = path.chars().all(|c| c.to_lowercase().eq([c]));
    if is_lower { Cow::Borrowed(path) } else { Cow::Owned(path.to_lowercase()) }
}

/// `a/name.1.txt` of `a/name.txt`, short enough for every file system.
fn numbered(path: &FilePath, number: u32) -> FilePath {
    let (directory, name) = path.split();
    let (stem, extension) = name.rfind('.').map_or((name, ""), |dot| name.split_at(dot));
    let suffix = format!(".{number}{extension}");
    let room = MAX_COMPONENT_LEN.saturating_sub(suffix.len()).min(stem.len());
    let end = (0..=room).rfind(|end| stem.is_char_boundary(*end)).unwrap_or(0);
    let mut joined = String::from(directory.unwrap_or_default());
    joined.push_str(if directory.is_some() { "/" } else { "" });
    joined.push_str(&stem[..end]);
    joined.push_str(&suffix);
    FilePath::new(joined)
}

/// What common file systems take, in bytes.
const MAX_COMPONENT_LEN: usize = 255;

#[cfg(test)]
mod tests {
    use super::{MAX_RENAMES, numbered, rename_duplicates};
    use crate::metainfo::{Attributes, Error, File, FilePath};
    use alloc::collections::BTreeSet;
    use alloc::string::{String, ToString};
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn renamed(paths: &[&str]) -> Result<Vec<String>, Error> {
        let file = |path: &&str| File {
            path: FilePath::new(*path),
            len: 0,
            attributes: Attributes::default(),
            symlink: None,
            pieces_root: None,
        };
        let mut files: Vec<File> = paths.iter().map(file).collect();
        rename_duplicates(&mut files)?;
        Ok(files.iter().map(|file| file.path.to_string()).collect())
    }

    #[test]
    fn duplicates_are_numbered_in_front_of_their_extension() {
        assert_eq!(
            renamed(&["t/a.txt", "t/a.txt", "t/A.TXT", "t/a.1.txt", "t/b", "t/b"]).unwrap(),
            ["t/a.txt", "t/a.1.txt", "t/A.2.TXT", "t/a.1.1.txt", "t/b", "t/b.1"]
        );
        assert_eq!(
            renamed(&["t/dir", "t/dir/a"]).unwrap(),
            ["t/dir.1", "t/dir/a"],
            "directories keep their names"
        );
        assert_eq!(renamed(&["t/dir", "t/dir-2", "t/dir/a"]).unwrap()[0], "t/dir.1");
        assert_eq!(renamed(&["one"]).unwrap(), ["one"]);
        assert_eq!(numbered(&FilePath::new("x".repeat(252)), 10).as_str().len(), 255);
    }

    #[test]
    fn too_many_duplicates_are_hostile() {
        // The nth duplicate finds n - 1 numbers taken: 32 of them make 496 tries, 33 make 528.
        assert_eq!(renamed(&["t/a"; 33]).unwrap()[32], "t/a.32");
        assert_eq!(renamed(&["t/a"; 34]), Err(Error::TooManyRenames));
    }

    /// All directories first, then file by file the first name that nothing has yet.
    fn naive(paths: &[&str]) -> Result<Vec<String>, Error> {
        let mut taken = BTreeSet::new();
        for path in paths {
            taken.extend(path.match_indices('/').map(|(slash, _)| path[..slash].to_lowercase()));
        }
        let mut tries = 0;
        let mut renamed = Vec::new();
        for path in paths {
            let mut name = path.to_string();
            let mut number = 0;
            while !taken.insert(name.to_lowercase()) {
                tries += u32::from(number > 0);
                if tries > MAX_RENAMES {
                    return Err(Error::TooManyRenames);
                }
                number += 1;
                name = numbered(&FilePath::new(*path), number).to_string();
            }
            renamed.push(name);
        }
        Ok(renamed)
    }

    proptest! {
        #[test]
        fn names_agree_with_a_set_of_all_of_them(
            paths in prop::collection::vec("[aAb](\\.1|-)?(/[aAb](\\.[1x])?){0,2}", 0..14),
        ) {
            let paths: Vec<&str> = paths.iter().map(|path| &path[..]).collect();
            prop_assert_eq!(renamed(&paths), naive(&paths));
        }
    }
}
