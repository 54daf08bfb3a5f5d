//! How a run can end. The numbers are aria2's where it has one for the case.

use serde_json::{Value, json};
use std::io;
use std::process::ExitCode;

/// Declares the exit codes with the names that `--json` gives and the sentences of the man page.
macro_rules! exits {
    ($($variant:ident = $code:literal, $name:literal, $meaning:literal;)*) => {
        /// How a run ended.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Exit {
            $(#[doc = $meaning] $variant = $code,)*
        }

        impl Exit {
            /// All of them in order, for the manual.
            pub(crate) const ALL: &[Self] = &[$(Self::$variant),*];

            pub(crate) const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            pub(crate) const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)* }
            }
        }
    };
}

exits! {
    Success = 0, "success", "Everything asked for is done.";
    Unknown = 1, "unknown", "Something went wrong that has no code of its own.";
    Timeout = 2, "timeout", "A peer, tracker or server did not answer in time.";
    Network = 6, "network", "The network cannot be used.";
    Unfinished = 7, "unfinished", "The run was stopped with work left; what there is has been kept.";
    DiskFull = 9, "disk_full", "There is no room left on the disk.";
    DuplicateTorrent = 12, "duplicate_torrent", "The same torrent is being downloaded already.";
    FileExists = 13, "file_exists", "A file is in the way.";
    Open = 15, "open", "A file cannot be opened.";
    Create = 16, "create", "A file cannot be created.";
    Io = 17, "io", "Reading or writing failed.";
    Directory = 18, "directory", "A directory cannot be created.";
    NameResolution = 19, "name_resolution", "A host name cannot be resolved.";
    Bencode = 25, "bencode", "The input is not bencode.";
    Torrent = 26, "torrent", "The input is bencode but not a usable torrent.";
    Magnet = 27, "magnet", "The input is not a usable magnet link.";
    Option = 28, "option", "The command line is wrong.";
    Checksum = 32, "checksum", "Data does not match its hash.";
}

impl Exit {
    pub(crate) const fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

/// Why a command did not do what was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// One sentence: what, where, and if it helps what to do.
    pub(crate) message: String,
    closed_pipe: bool,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), closed_pipe: false }
    }

    /// A failed operation on `what`. Some errors have a code of their own whatever was being done.
    pub(crate) fn io(usual: Exit, what: impl std::fmt::Display, error: &io::Error) -> Self {
        let exit = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Exit::DiskFull,
            io::ErrorKind::AlreadyExists => Exit::FileExists,
            _ => usual,
        };
        let closed_pipe = error.kind() == io::ErrorKind::BrokenPipe;
        Self { exit, message: format!("{what}: {error}"), closed_pipe }
    }

    pub(crate) const fn is_closed_pipe(&self) -> bool {
        self.closed_pipe
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({ "exit": { "code": self.exit.code(), "name": self.exit.name() }, "error": self.message })
    }
}

#[cfg(test)]
mod tests {
    use super::{Exit, Failure};
    use std::io;

    #[test]
    fn codes_and_names_are_unique() {
        for (i, exit) in Exit::ALL.iter().enumerate() {
            for other in &Exit::ALL[..i] {
                assert!(other.code() < exit.code() && other.name() != exit.name(), "{exit:?}");
            }
        }
    }

    #[test]
    fn a_full_disk_is_told_from_other_failures() {
        let full = Failure::io(Exit::Io, "a.torrent", &io::ErrorKind::StorageFull.into());
        assert_eq!(full.to_json()["exit"]["name"], "disk_full");
        let other = Failure::io(Exit::Io, "a.torrent", &io::ErrorKind::PermissionDenied.into());
        assert_eq!(other.to_json()["exit"]["code"], 17);
        assert!(Failure::io(Exit::Io, "standard output", &io::ErrorKind::BrokenPipe.into()).is_closed_pipe());
    }
}
