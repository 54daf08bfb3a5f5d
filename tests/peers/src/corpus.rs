//! Files of others, outside of this repository: in `../shared`, or where `FAST_PEER_SHARED` points.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// The folder that holds `corpus`. Panics if there is none.
pub fn shared() -> PathBuf {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let folder = env::var_os("FAST_PEER_SHARED").map_or_else(beside, PathBuf::from);
    assert!(folder.join("corpus").is_dir(), "{}: no corpus there; set FAST_PEER_SHARED", folder.display());
    folder
}

/// The JSON in a file. Panics if there is none.
pub fn read_json(path: &Path) -> Value {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
