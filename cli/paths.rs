//! Where things are kept between runs.

use std::env::var_os;
use std::path::{Path, PathBuf};

/// The folder for what can be had again from the network; none where the user has no place for such.
pub(crate) fn cache() -> Option<PathBuf> {
    let absolute = |name| var_os(name).map(PathBuf::from).filter(|path: &PathBuf| path.is_absolute());
    let base = absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("LOCALAPPDATA").filter(|_| cfg!(windows)))
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))?;
    Some(base.join("fast-peer"))
}

/// The file with the nodes of the DHT to begin with.
pub(crate) fn nodes() -> Option<PathBuf> {
    Some(cache()?.join("dht"))
}

/// Writes a file of the cache, whole or not at all. A crash of the machine can still spoil it: whoever reads it has to
/// see that, and nobody has to wait for the disk here.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write as _;
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.persist(path)?;
    Ok(())
}
