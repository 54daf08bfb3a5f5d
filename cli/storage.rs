//! Where a torrent's files go, and which of them are wanted.

use crate::exit::{Exit, Failure};
use fast_peer_core::metainfo::Metainfo;
use fast_peer_core::pieces::Priority;
use fast_peer_core::session::NewContent;
use fast_peer_io::disk::{FileSpec, StorageSpec};
use globset::{Glob, GlobSet, GlobSetBuilder};
use std::path::{Path, PathBuf};

/// Which files of a torrent are wanted.
#[derive(Clone, Debug, Default, clap::Args)]
#[group(skip)]
pub(crate) struct Selection {
    /// Files to download, by their numbers in `info --files`: 1,3-5
    #[arg(long, value_name = "LIST", value_parser = Numbers::parse)]
    files: Option<Numbers>,
    /// Download only files whose path matches; may be repeated
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,
    /// Don't download files whose path matches; may be repeated
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
}

impl Selection {
    /// The torrent's content with what the user wants of it. A choice of the user's takes the place of one that the content
    /// came with.
    pub(crate) fn choose(&self, content: NewContent) -> Result<NewContent, Failure> {
        let mut priorities = self.priorities(&content.metainfo)?;
        let is_choice = self.files.is_some() || !self.include.is_empty() || !self.exclude.is_empty();
        if !is_choice {
            for (ours, theirs) in priorities.iter_mut().zip(&content.priorities) {
                *ours = (*ours).min(*theirs);
            }
        }
        Ok(NewContent { priorities, ..content })
    }

    /// What each file is worth, pads included. What the user left out is skipped, and so is what has no bytes to fetch
    /// but is something else than an empty file.
    pub(crate) fn priorities(&self, torrent: &Metainfo) -> Result<Vec<Priority>, Failure> {
        let (include, exclude) = (globs(&self.include)?, globs(&self.exclude)?);
        let mut number = 0;
        let priorities: Vec<Priority> = torrent
            .files()
            .iter()
            .map(|file| {
                if file.attributes.pad {
                    return Priority::Skip;
                }
                number += 1;
                let path = file.path.as_str();
                let wanted = !file.attributes.symlink
                    && self.files.as_ref().is_none_or(|numbers| numbers.has(number))
                    && (self.include.is_empty() || include.is_match(path))
                    && !exclude.is_match(path);
                if wanted { Priority::Normal } else { Priority::Skip }
            })
            .collect();
        if let Some(numbers) = &self.files
            && let Some(high) = numbers.highest().filter(|high| *high > number)
        {
            let message = format!("there is no file {high}: the torrent has {number}");
            return Err(Failure::new(Exit::Option, message));
        }
        if number > 0 && priorities.iter().all(|priority| *priority == Priority::Skip) {
            return Err(Failure::new(Exit::Option, "none of the torrent's files is selected"));
        }
        Ok(priorities)
    }
}

/// The files of `torrent` below `root`. `name` takes the place of the torrent's own: of the file, or of the folder of
/// a torrent of several.
pub(crate) fn storage(
    torrent: &Metainfo,
    root: &Path,
    name: Option<&str>,
    priorities: &[Priority],
) -> StorageSpec {
    let files = torrent.files().iter().zip(priorities).map(|(file, priority)| {
        let mut own = file.path.components();
        let first = own.next();
        let path: PathBuf = name.or(first).into_iter().chain(own).collect();
        FileSpec { path, len: file.len, pad: file.attributes.pad, wanted: *priority != Priority::Skip }
    });
    StorageSpec::new(root.to_path_buf(), name.unwrap_or(torrent.name()), files.collect())
}

/// The files of `torrent` in `data`: the file or folder itself, or the folder that holds it.
pub(crate) fn existing(
    torrent: &Metainfo,
    data: &Path,
    priorities: &[Priority],
) -> Result<StorageSpec, Failure> {
    let several = torrent.files().iter().any(|file| file.path.components().nth(1).is_some());
    let inside = data.join(torrent.name());
    if data.is_dir() && (!several || inside.is_dir()) {
        return Ok(storage(torrent, data, None, priorities));
    }
    if !data.exists() {
        let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
        return Err(Failure::io(Exit::Open, data.display(), &missing));
    }
    let name = data.file_name().and_then(|name| name.to_str());
    let Some(name) = name else {
        let message = format!("{}: name the file or folder of the torrent", data.display());
        return Err(Failure::new(Exit::Option, message));
    };
    let root = data.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(storage(torrent, root, Some(name), priorities))
}

fn globs(patterns: &[String]) -> Result<GlobSet, Failure> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let glob = Glob::new(pattern).map_err(|error| Failure::new(Exit::Option, format!("{error}")))?;
        set.add(glob);
    }
    set.build().map_err(|error| Failure::new(Exit::Option, format!("{error}")))
}

/// A list of numbers and ranges, from 1.
#[derive(Clone, Debug)]
struct Numbers(Vec<(u32, u32)>);

impl Numbers {
    fn parse(text: &str) -> Result<Self, String> {
        let number = |text: &str| match text.trim().parse::<u32>() {
            Ok(0) | Err(_) => Err(format!("{text} is no number of a file; they count from 1")),
            Ok(number) => Ok(number),
        };
        let range = |part: &str| match part.split_once('-') {
            None => number(part).map(|only| (only, only)),
            Some((first, last)) => {
                let (first, last) = (number(first)?, number(last)?);
                if first > last { Err(format!("{first} is above {last}")) } else { Ok((first, last)) }
            }
        };
        text.split(',').map(range).collect::<Result<_, _>>().map(Self)
    }

    fn has(&self, number: u32) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&number))
    }

    fn highest(&self) -> Option<u32> {
        self.0.iter().map(|(_, last)| *last).max()
    }
}

#[cfg(test)]
mod tests {
    use super::Numbers;

    #[test]
    fn lists_hold_numbers_and_ranges() {
        let numbers = Numbers::parse("1,3-5, 9").unwrap();
        let held: Vec<u32> = (1..=10).filter(|number| numbers.has(*number)).collect();
        assert_eq!((held, numbers.highest()), (vec![1, 3, 4, 5, 9], Some(9)));
        for text in ["", "0", "a", "5-3", "1,,2", "1-"] {
            assert!(Numbers::parse(text).is_err(), "{text}");
        }
    }
}
