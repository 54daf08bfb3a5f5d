//! Names of files, made harmless: no component leaves the folder it lies in, and no two files share a path.
//!
//! The outcome is what libtorrent makes on Linux, so that data downloaded with other clients is found again.

use super::Error;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// How many suffixes may be tried in one torrent before it counts as hostile (limit L7).
pub const MAX_RENAMES: u32 = 500;

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

/// Gives each path that an earlier file or a directory already has, upper and lower case alike, a number in front of
/// its extension. `None` stands for a file that is not stored and may share its name.
pub(super) fn rename_duplicates<'a>(
    paths: impl Iterator<Item = Option<&'a mut Vec<String>>>,
) -> Result<(), Error> {
    let mut paths: Vec<_> = paths.flatten().collect();
    let mut taken = BTreeSet::new();
    for path in &paths {
        let mut directory = String::new();
        for component in &path[..path.len() - 1] {
            directory.push_str(&component.to_lowercase());
            taken.insert(directory.clone());
            directory.push('/');
        }
    }
    let mut tries = 0;
    for path in &mut paths {
        if taken.insert(path.join("/").to_lowercase()) {
            continue;
        }
        let original = path.pop().expect("a path has a component");
        for number in 1.. {
            path.push(numbered(&original, number));
            if taken.insert(path.join("/").to_lowercase()) {
                break;
            }
            tries += 1;
            if tries > MAX_RENAMES {
                return Err(Error::TooManyRenames);
            }
            path.pop();
        }
    }
    Ok(())
}

/// `name.1.txt` of `name.txt`, short enough for every file system.
fn numbered(name: &str, number: u32) -> String {
    let (stem, extension) = name.rfind('.').map_or((name, ""), |dot| name.split_at(dot));
    let suffix = format!(".{number}{extension}");
    let room = MAX_COMPONENT_LEN.saturating_sub(suffix.len());
    format!("{}{suffix}", &stem[..boundary_below(stem, room)])
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

fn boundary_below(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rfind(|at| text.is_char_boundary(*at)).unwrap_or(0)
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
/// What common file systems take, in bytes.
const MAX_COMPONENT_LEN: usize = 255;

#[cfg(test)]
mod tests {
    use super::{numbered, rename_duplicates, sanitise, sanitise_or_underscore};
    use crate::metainfo::Error;
    use alloc::collections::BTreeSet;
    use alloc::string::String;
    use alloc::vec::Vec;
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

    fn renamed(paths: &[&str]) -> Result<Vec<String>, Error> {
        let mut paths: Vec<Vec<String>> =
            paths.iter().map(|path| path.split('/').map(String::from).collect()).collect();
        rename_duplicates(paths.iter_mut().map(Some))?;
        Ok(paths.iter().map(|path| path.join("/")).collect())
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
            "a directory keeps its name"
        );
        assert_eq!(numbered(&"x".repeat(252), 10).len(), 255);
    }

    #[test]
    fn too_many_duplicates_are_hostile() {
        // The nth duplicate finds n - 1 numbers taken: 32 of them make 496 tries, 33 make 528.
        assert_eq!(renamed(&["t/a"; 33]).unwrap()[32], "t/a.32");
        assert_eq!(renamed(&["t/a"; 34]), Err(Error::TooManyRenames));
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

        #[test]
        fn renamed_paths_differ_even_without_case(
            paths in prop::collection::vec(prop::collection::vec("[aAbB.]{1,2}", 1..3), 0..12),
        ) {
            let mut paths: Vec<Vec<String>> = paths
                .iter()
                .map(|path| path.iter().map(|part| sanitise_or_underscore(part.as_bytes())).collect())
                .collect();
            if rename_duplicates(paths.iter_mut().map(Some)).is_ok() {
                let names: Vec<String> = paths.iter().map(|path| path.join("/").to_lowercase()).collect();
                let seen: BTreeSet<&str> = names.iter().map(|name| &name[..]).collect();
                prop_assert_eq!(seen.len(), names.len());
                for name in &names {
                    let mut directories = name.match_indices('/').map(|(slash, _)| &name[..slash]);
                    prop_assert!(directories.all(|directory| !seen.contains(directory)));
                }
            }
        }
    }
}
