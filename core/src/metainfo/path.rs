//! Paths of files, made harmless: no component leaves the folder it lies in.
//!
//! The outcome is what libtorrent makes on Linux, so that data downloaded with other clients is found again.

use alloc::boxed::Box;
use alloc::string::String;
use core::fmt;

/// The path of a file below the folder of downloads: one or more harmless components.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FilePath(Box<str>);

impl FilePath {
    /// Harmless components with slashes in between; none of them holds a slash.
    pub(super) fn new(joined: impl Into<Box<str>>) -> Self {
        Self(joined.into())
    }

    /// The components with slashes in between, on every system.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The components in order, at least one.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }

    /// The directory that the file lies in and its name there.
    pub fn split(&self) -> (Option<&str>, &str) {
        self.0.rsplit_once('/').map_or((None, &self.0), |(directory, name)| (Some(directory), name))
    }
}

impl fmt::Display for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A name or path component as it can stand on a disk; `None` if nothing is left of it, as of `..`.
///
/// Separators, NUL and characters that hide or reorder others are dropped; control characters and bytes that are not
/// UTF-8 become `_`; what is long is cut, keeping a short extension.
pub fn sanitise(raw: &[u8]) -> Option<String> {
    let mut clean = String::with_capacity(raw.len());
    for chunk in raw.utf8_chunks() {
        let kept = chunk.valid().chars().filter(|c| !is_dropped(*c));
        clean.extend(kept.map(|c| if c.is_control() { '_' } else { c }));
        if !chunk.invalid().is_empty() {
            clean.push('_');
        }
    }
    (!matches!(&*clean, "" | "." | "..")).then(|| cut(clean))
}

/// The same for a component that must be there, whatever it was called.
pub fn sanitise_or_underscore(raw: &[u8]) -> String {
    sanitise(raw).unwrap_or_else(|| "_".into())
}

/// Cuts what is longer than [`CUT_LEN`] behind the character that reaches it, and puts a short extension back.
fn cut(mut name: String) -> String {
    if name.len() <= CUT_LEN {
        return name;
    }
    let end = boundary_above(&name, CUT_LEN);
    let tail = boundary_above(&name, name.len() - MAX_EXTENSION_LEN).max(end);
    let extension = name[tail..].rfind('.').map(|dot| String::from(&name[tail + dot..]));
    name.truncate(end);
    name.push_str(extension.as_deref().unwrap_or_default());
    name
}

fn boundary_above(text: &str, at: usize) -> usize {
    (at..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len())
}

/// Separators of any system, NUL, and characters of no width or that turn the direction of writing: these make one
/// name look like another.
fn is_dropped(c: char) -> bool {
    matches!(
        c,
        '\0' | '/' | '\\'
            | '\u{061c}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{2064}'
            | '\u{2066}'..='\u{2069}'
            | '\u{feff}'
    )
}

/// Where long names are cut.
const CUT_LEN: usize = 240;
/// The longest extension that a cut name keeps, its dot counted.
const MAX_EXTENSION_LEN: usize = 9;

#[cfg(test)]
mod tests {
    use super::{FilePath, sanitise, sanitise_or_underscore};
    use proptest::prelude::*;

    #[test]
    fn what_could_leave_the_folder_is_taken_out() {
        for (raw, clean) in [
            ("plain.txt", Some("plain.txt")),
            ("", None),
            (".", None),
            ("..", None),
            ("/", None),
            ("\\", None),
            ("./.", None),
            ("...", Some("...")),
            (".hidden", Some(".hidden")),
            ("trailing ", Some("trailing ")),
            ("/foobar", Some("foobar")),
            ("abc/../../def", Some("abc....def")),
            ("C:\\windows", Some("C:windows")),
            ("nul\0byte", Some("nulbyte")),
            ("\0\0\0\0", None),
            ("tab\tand\u{7f}and\u{85}", Some("tab_and_and_")),
            ("evil\u{202e}gpj.exe", Some("evilgpj.exe")),
            ("\u{feff}bom", Some("bom")),
            ("別の世界f1.txt", Some("別の世界f1.txt")),
        ] {
            assert_eq!(sanitise(raw.as_bytes()).as_deref(), clean, "{raw:?}");
        }
        assert_eq!(sanitise(b"\x82est/MB").as_deref(), Some("_estMB"));
        assert_eq!(sanitise(b"\xed\xa0\x80.txt").as_deref(), Some("___.txt"), "a lone surrogate");
        assert_eq!(sanitise_or_underscore(b".."), "_");
    }

    #[test]
    fn long_names_are_cut_and_keep_a_short_extension() {
        let long = "x".repeat(300);
        assert_eq!(sanitise(long.as_bytes()).unwrap(), "x".repeat(240));
        assert_eq!(sanitise((long.clone() + ".torrent").as_bytes()).unwrap(), "x".repeat(240) + ".torrent");
        assert_eq!(sanitise((long + ".toolongtokeep").as_bytes()).unwrap(), "x".repeat(240));
        let wide = "世".repeat(100);
        assert_eq!(sanitise(wide.as_bytes()).unwrap(), "世".repeat(80));
    }

    #[test]
    fn a_path_knows_its_parts() {
        let path = FilePath::new("a/b/c");
        assert!(path.components().eq(["a", "b", "c"]));
        assert_eq!((path.split(), FilePath::new("a").split()), ((Some("a/b"), "c"), (None, "a")));
    }

    proptest! {
        #[test]
        fn a_component_stays_in_its_folder(raw in prop::collection::vec(any::<u8>(), 0..400)) {
            let clean = sanitise_or_underscore(&raw);
            prop_assert!(!clean.is_empty() && clean != "." && clean != "..");
            prop_assert!(!clean.contains(['/', '\\', '\0']));
            prop_assert!(clean.len() <= 252);
            prop_assert_eq!(sanitise_or_underscore(clean.as_bytes()), clean.clone(), "it is not changed again");
        }

        #[test]
        fn hard_components_stay_in_their_folder(raw in "[./\\\\a\u{202e}\u{200b}世\u{0}]{0,12}") {
            let clean = sanitise_or_underscore(raw.as_bytes());
            prop_assert!(!matches!(&*clean, "" | "." | ".."));
            let found = clean.find(['/', '\\', '\0', '\u{202e}', '\u{200b}']);
            prop_assert_eq!(found, None);
        }
    }
}
