//! Where the symbolic links of a torrent lead (BEP 47): to a file or directory of the same torrent, or nowhere.

use super::names::Names;
use super::{File, FilePath};
use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// The targets that a torrent gives, by the numbers of the links: harmless components with slashes in between.
pub(super) type Targets = BTreeMap<u32, String>;

/// Gives each link the path it shows, if following it ends at a file or directory of the torrent. `folder` is the
/// torrent's own, if it has several files.
pub(super) fn resolve(files: &mut [File], targets: &Targets, folder: Option<&str>) {
    if targets.is_empty() {
        return;
    }
    let stored = files.iter().zip(0..).filter(|(file, _)| !file.attributes.pad);
    let names = Names::new(stored.map(|(file, number)| (Cow::Borrowed(file.path.as_str()), number)));
    let links = Links { files, names, targets, folder };
    let resolved: Vec<_> = targets.keys().map(|link| (*link, links.resolve(*link))).collect();
    for (link, path) in resolved {
        files[link as usize].symlink = path;
    }
}

struct Links<'a> {
    files: &'a [File],
    names: Names<'a>,
    targets: &'a Targets,
    folder: Option<&'a str>,
}

impl Links<'_> {
    fn resolve(&self, link: u32) -> Option<FilePath> {
        let path = self.target(link)?;
        self.leads_somewhere(&path).then(|| FilePath::new(path))
    }

    /// The path that a link gives, seen from the torrent's folder, or by older tools from the folder of the link.
    fn target(&self, link: u32) -> Option<String> {
        let target = self.targets.get(&link)?;
        let below = |folder: Option<&str>| match folder {
            Some(folder) => format!("{folder}/{target}"),
            None => target.clone(),
        };
        let from_torrent = below(self.folder);
        if self.is_there(&from_torrent) {
            return Some(from_torrent);
        }
        let from_link = below(self.files[link as usize].path.split().0);
        Some(if self.is_there(&from_link) { from_link } else { from_torrent })
    }

    fn is_there(&self, path: &str) -> bool {
        self.names.files(path).next().is_some() || self.names.is_directory(path)
    }

    /// Follows `path`, replacing each link on the way by what it shows.
    fn leads_somewhere(&self, path: &str) -> bool {
        let mut path = String::from(path);
        for _ in 0..=MAX_HOPS {
            if self.names.is_directory(&path) {
                return true;
            }
            // What lies above a directory is a directory, so the first component that is none can be searched for.
            let ends: Vec<usize> =
                path.match_indices('/').map(|(slash, _)| slash).chain([path.len()]).collect();
            let end = ends[ends.partition_point(|end| self.names.is_directory(&path[..*end]))];
            let (walked, rest) = path.split_at(end);
            let Some(file) = self.names.files(walked).next() else { return false };
            match self.target(file) {
                None => return rest.is_empty(),
                Some(target) => path = target + rest,
            }
            if path.len() > MAX_PATH_LEN {
                return false;
            }
        }
        false
    }
}

/// How many links may lie on the way to a target. Two or three do in practice.
const MAX_HOPS: u32 = 8;
/// How long a path may grow on the way; as much as systems take.
const MAX_PATH_LEN: usize = 4096;

#[cfg(test)]
mod tests {
    use super::{Targets, resolve};
    use crate::metainfo::{Attributes, File, FilePath};
    use alloc::string::{String, ToString};
    use alloc::vec::Vec;
    use alloc::{format, vec};

    /// Where the first of `files`, a link, leads; a link is written `path > target`.
    fn first(files: &[&str]) -> Option<String> {
        let mut targets = Targets::new();
        let mut read: Vec<File> = vec![];
        for file in files {
            let (path, target) =
                file.split_once(" > ").map_or((*file, None), |(path, target)| (path, Some(target)));
            targets.extend(target.map(|target| (read.len() as u32, target.to_string())));
            let attributes = Attributes { symlink: target.is_some(), ..Attributes::default() };
            read.push(File {
                path: FilePath::new(path),
                len: 0,
                attributes,
                symlink: None,
                pieces_root: None,
            });
        }
        resolve(&mut read, &targets, Some("t"));
        read[0].symlink.as_ref().map(FilePath::to_string)
    }

    #[test]
    fn a_link_shows_a_file_or_directory_of_the_torrent() {
        assert_eq!(first(&["t/l > a/f", "t/a/f"]).as_deref(), Some("t/a/f"));
        assert_eq!(first(&["t/l > a", "t/a/b/f"]).as_deref(), Some("t/a"));
        assert_eq!(first(&["t/a/l > f", "t/a/f"]).as_deref(), Some("t/a/f"), "seen from the link");
    }

    #[test]
    fn a_link_may_lead_through_other_links() {
        let files = ["t/l > v/current/f", "t/v/current > v/a", "t/v/a/f"];
        assert_eq!(first(&files).as_deref(), Some("t/v/current/f"), "the path itself is kept");
        assert_eq!(first(&["t/l > m", "t/m > f", "t/f"]).as_deref(), Some("t/m"));
        assert_eq!(first(&["t/l > m/b", "t/m > a", "t/a/b/f"]).as_deref(), Some("t/m/b"));
    }

    #[test]
    fn a_link_to_nothing_leads_nowhere() {
        for files in [
            &["t/l > missing", "t/f"][..],
            &["t/l > f/deeper", "t/f"],
            &["t/l > l", "t/f"],
            &["t/l > m", "t/m > l"],
            &["t/l > m/x", "t/m > m/x"],
        ] {
            assert_eq!(first(files), None, "{files:?}");
        }
        let chain: Vec<String> =
            (0..20).map(|i| format!("t/{i} > {}", i + 1)).chain(["t/20".into()]).collect();
        let chain: Vec<&str> = chain.iter().map(|link| &link[..]).collect();
        assert_eq!(first(&chain), None, "too long a chain");
        assert_eq!(first(&chain[15..]).as_deref(), Some("t/16"));
    }
}
