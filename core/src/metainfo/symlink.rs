//! Where the symbolic links of a torrent lead (BEP 47): to a file or directory of the same torrent, or nowhere.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

/// What the links are resolved against.
pub(super) struct Tree<'a> {
    directories: BTreeSet<&'a [String]>,
    /// Files, and for links the path that they give.
    entries: BTreeMap<&'a [String], Option<Link<'a>>>,
}

/// A link as the torrent gives it, sanitised.
#[derive(Clone, Copy)]
pub(super) struct Link<'a> {
    /// The components, seen from the folder of the torrent, or by older tools from the folder of the link.
    pub(super) target: &'a [String],
    /// How many components of every path are the torrent's own folder.
    pub(super) root: usize,
}

impl<'a> Tree<'a> {
    pub(super) fn new(files: impl Iterator<Item = (&'a [String], Option<Link<'a>>)>) -> Self {
        let mut tree = Self { directories: BTreeSet::new(), entries: BTreeMap::new() };
        for (path, link) in files {
            tree.directories.extend((1..path.len()).map(|depth| &path[..depth]));
            // Of two with one path the first keeps it.
            tree.entries.entry(path).or_insert(link);
        }
        tree
    }

    /// The path that the link at `path` shows, if following it ends at a file or directory of the torrent.
    pub(super) fn resolve(&self, path: &[String], link: Link<'_>) -> Option<Vec<String>> {
        let target = self.target(path, link);
        self.leads_somewhere(target.clone()).then_some(target)
    }

    /// From the folder of the torrent, unless only from the folder of the link something is there.
    fn target(&self, path: &[String], link: Link<'_>) -> Vec<String> {
        let from_root = [&path[..link.root], link.target].concat();
        if self.has(&from_root) {
            return from_root;
        }
        let from_link = [&path[..path.len() - 1], link.target].concat();
        if self.has(&from_link) { from_link } else { from_root }
    }

    fn has(&self, path: &[String]) -> bool {
        self.directories.contains(path) || self.entries.contains_key(path)
    }

    /// Walks down `path`, replacing each link on the way by what it shows.
    fn leads_somewhere(&self, mut path: Vec<String>) -> bool {
        let (mut depth, mut hops) = (1, 0);
        while depth <= path.len() {
            let (walked, rest) = path.split_at(depth);
            if self.directories.contains(walked) {
                depth += 1;
                continue;
            }
            match self.entries.get(walked) {
                None => return false,
                Some(None) => return rest.is_empty(),
                Some(Some(link)) => {
                    hops += 1;
                    if hops > MAX_HOPS {
                        return false;
                    }
                    path = [&self.target(walked, *link)[..], rest].concat();
                    if path.len() > super::MAX_DEPTH {
                        return false;
                    }
                    depth = 1;
                }
            }
        }
        depth > 1
    }
}

/// How many links may lie on the way to a target; as many as Linux follows.
const MAX_HOPS: u32 = 40;

#[cfg(test)]
mod tests {
    use super::{Link, Tree};
    use alloc::string::String;
    use alloc::vec::Vec;

    fn split(path: &str) -> Vec<String> {
        path.split('/').filter(|part| !part.is_empty()).map(String::from).collect()
    }

    fn link(target: &[String]) -> Link<'_> {
        Link { target, root: 1 }
    }

    /// Where the first of `files`, a link, leads; a link is written `path > target`.
    fn resolve(files: &[&str]) -> Option<String> {
        let files: Vec<(Vec<String>, Option<Vec<String>>)> = files
            .iter()
            .map(|file| match file.split_once(" > ") {
                Some((path, target)) => (split(path), Some(split(target))),
                None => (split(file), None),
            })
            .collect();
        let tree = Tree::new(files.iter().map(|(path, target)| (&path[..], target.as_deref().map(link))));
        let target = files[0].1.as_deref().expect("the first file is a link");
        tree.resolve(&files[0].0, link(target)).map(|path| path.join("/"))
    }

    #[test]
    fn a_link_shows_a_file_or_directory_of_the_torrent() {
        assert_eq!(resolve(&["t/l > a/f", "t/a/f"]).as_deref(), Some("t/a/f"));
        assert_eq!(resolve(&["t/l > a", "t/a/b/f"]).as_deref(), Some("t/a"));
        assert_eq!(resolve(&["t/a/l > f", "t/a/f"]).as_deref(), Some("t/a/f"), "seen from the link");
    }

    #[test]
    fn a_link_may_lead_through_other_links() {
        let files = ["t/l > v/current/f", "t/v/current > v/a", "t/v/a/f"];
        assert_eq!(resolve(&files).as_deref(), Some("t/v/current/f"), "the path itself is kept");
        assert_eq!(resolve(&["t/l > m", "t/m > f", "t/f"]).as_deref(), Some("t/m"));
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
            assert_eq!(resolve(files), None, "{files:?}");
        }
    }
}
