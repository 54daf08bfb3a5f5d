//! What the operating system does with files below a folder. Nothing in here follows a symbolic link below the folder:
//! whoever can plant one there must not lead writes elsewhere.
//!
//! What stands in the way (a link, a folder where a file should be, a file where a folder should be, a pipe) is
//! [`PermissionDenied`](std::io::ErrorKind::PermissionDenied).

use std::fs::File;
use std::io::{self, ErrorKind, IoSlice};

#[cfg(not(unix))]
pub(super) use portable::{make_root, open, pwritev, read_exact_at, rename, sync_folder};
#[cfg(unix)]
pub(super) use unix::{make_root, open, pwritev, read_exact_at, rename, sync_folder};

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// It is made, and the folders above it, if they are not there.
    Create,
    Read,
    Write,
}

/// Writes all of `bufs`, one after another, from `offset` on.
pub(super) fn write_all_at(file: &File, mut bufs: &mut [IoSlice<'_>], mut offset: u64) -> io::Result<()> {
    // Empty ones would look like a write that did nothing.
    IoSlice::advance_slices(&mut bufs, 0);
    while !bufs.is_empty() {
        match pwritev(file, bufs, offset) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => {
                offset += count as u64;
                IoSlice::advance_slices(&mut bufs, count);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn in_the_way() -> io::Error {
    ErrorKind::PermissionDenied.into()
}

#[cfg(unix)]
mod unix {
    use super::{Access, in_the_way};
    use rustix::fs::{self, CWD, Mode, OFlags, RenameFlags};
    use rustix::io::Errno;
    use std::ffi::OsStr;
    use std::fs::File;
    use std::io::{self, ErrorKind, IoSlice};
    use std::os::fd::OwnedFd;
    use std::os::unix::fs::FileExt as _;
    use std::path::Path;

    /// Makes the folder itself. Above it, links are the user's business.
    pub(in crate::disk) fn make_root(root: &Path) -> io::Result<()> {
        std::fs::create_dir_all(root)
    }

    /// Opens the file at `path` below `root`.
    pub(in crate::disk) fn open(root: &Path, path: &Path, access: Access) -> io::Result<File> {
        let (folder, name) = walk(root, path, access == Access::Create)?;
        let flags = match access {
            Access::Create => OFlags::RDWR | OFlags::CREATE,
            Access::Read => OFlags::RDONLY,
            Access::Write => OFlags::RDWR,
        };
        // Without blocking, a planted pipe cannot hold up the thread.
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let file = File::from(fs::openat(folder, name, flags, Mode::from_raw_mode(0o666)).map_err(blocked)?);
        if file.metadata()?.is_file() { Ok(file) } else { Err(in_the_way()) }
    }

    /// Renames within a folder; fails if the new name is taken.
    pub(in crate::disk) fn rename(root: &Path, from: &Path, to: &Path) -> io::Result<()> {
        let (folder, from) = walk(root, from, false)?;
        let to = to.file_name().ok_or_else(in_the_way)?;
        match rename_once(&folder, from, to) {
            // The file system cannot do it in one step.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                match fs::statat(&folder, to, fs::AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(_) => Err(ErrorKind::AlreadyExists.into()),
                    Err(Errno::NOENT) => Ok(fs::renameat(&folder, from, &folder, to)?),
                    Err(error) => Err(error.into()),
                }
            }
            result => Ok(result?),
        }
    }

    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    fn rename_once(folder: &OwnedFd, from: &OsStr, to: &OsStr) -> Result<(), Errno> {
        fs::renameat_with(folder, from, folder, to, RenameFlags::NOREPLACE)
    }

    #[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
    fn rename_once(_: &OwnedFd, _: &OsStr, _: &OsStr) -> Result<(), Errno> {
        Err(Errno::NOSYS)
    }

    /// Makes the names in the folder of `path` durable.
    pub(in crate::disk) fn sync_folder(root: &Path, path: &Path) -> io::Result<()> {
        let (folder, _) = walk(root, &path.join("-"), false)?;
        // One that was opened for its path alone cannot be synced.
        let folder =
            fs::openat(folder, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(fs::fsync(folder)?)
    }

    pub(in crate::disk) fn pwritev(file: &File, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        Ok(rustix::io::pwritev(file, bufs, offset)?)
    }

    pub(in crate::disk) fn read_exact_at(file: &File, buf: &mut [u8], offset: u64) -> io::Result<()> {
        file.read_exact_at(buf, offset)
    }

    /// The folder that `path` lies in, reached without links below `root`, and the name in it.
    fn walk<'p>(root: &Path, path: &'p Path, create: bool) -> io::Result<(OwnedFd, &'p OsStr)> {
        let mut folder = fs::openat(CWD, root, FOLDER, Mode::empty())?;
        let mut names = path.components().map(|component| match component {
            std::path::Component::Normal(name) => Ok(name),
            _ => Err(in_the_way()),
        });
        let mut name = names.next().ok_or_else(in_the_way)??;
        for next in names {
            folder = match fs::openat(&folder, name, FOLDER | OFlags::NOFOLLOW, Mode::empty()) {
                Err(Errno::NOENT) if create => {
                    match fs::mkdirat(&folder, name, Mode::from_raw_mode(0o777)) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(error) => return Err(error.into()),
                    }
                    fs::openat(&folder, name, FOLDER | OFlags::NOFOLLOW, Mode::empty())
                }
                found => found,
            }
            .map_err(blocked)?;
            name = next?;
        }
        Ok((folder, name))
    }

    fn blocked(error: Errno) -> io::Error {
        match error {
            Errno::LOOP | Errno::NOTDIR | Errno::ISDIR | Errno::NXIO => in_the_way(),
            error => error.into(),
        }
    }

    /// A folder may be passed through without being readable, where the system knows that difference.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
}

/// The same with what every system has. Between the look at a folder and the step into it a link can be planted, but
/// only by somebody who can write there already.
#[cfg(not(unix))]
mod portable {
    use super::{Access, in_the_way};
    use std::fs::{self, File, OpenOptions};
    use std::io::{self, ErrorKind, IoSlice};
    use std::os::windows::fs::FileExt as _;
    use std::path::{Component, Path, PathBuf};

    pub(in crate::disk) fn make_root(root: &Path) -> io::Result<()> {
        fs::create_dir_all(root)
    }

    pub(in crate::disk) fn open(root: &Path, path: &Path, access: Access) -> io::Result<File> {
        let full = walk(root, path, access == Access::Create)?;
        if fs::symlink_metadata(&full).is_ok_and(|found| !found.is_file()) {
            return Err(in_the_way());
        }
        OpenOptions::new()
            .read(true)
            .write(access != Access::Read)
            .create(access == Access::Create)
            .truncate(false)
            .open(full)
    }

    pub(in crate::disk) fn rename(root: &Path, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (walk(root, from, false)?, walk(root, to, false)?);
        if fs::symlink_metadata(&to).is_ok() {
            Err(ErrorKind::AlreadyExists.into())
        } else {
            fs::rename(from, to)
        }
    }

    /// The file system sees to it by itself.
    pub(in crate::disk) fn sync_folder(_: &Path, _: &Path) -> io::Result<()> {
        Ok(())
    }

    pub(in crate::disk) fn pwritev(file: &File, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        file.seek_write(bufs.first().map_or(&[], |buf| buf), offset)
    }

    pub(in crate::disk) fn read_exact_at(file: &File, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buf.is_empty() {
            match file.seek_read(buf, offset) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    offset += count as u64;
                    buf = &mut buf[count..];
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn walk(root: &Path, path: &Path, create: bool) -> io::Result<PathBuf> {
        let mut full = root.to_owned();
        let mut names = path.components().peekable();
        while let Some(name) = names.next() {
            let Component::Normal(name) = name else { return Err(in_the_way()) };
            full.push(name);
            if names.peek().is_none() {
                return Ok(full);
            }
            match fs::symlink_metadata(&full) {
                Ok(found) if found.is_dir() => {}
                Ok(_) => return Err(in_the_way()),
                Err(error) if error.kind() == ErrorKind::NotFound && create => fs::create_dir(&full)?,
                Err(error) => return Err(error),
            }
        }
        Err(in_the_way())
    }
}
