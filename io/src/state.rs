//! The file with the nodes of the DHT that the next run begins with.

use fast_peer_core::dht::Saved;
use fast_peer_core::dht::saved::{MAX_LEN, Unreadable};
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

/// Reads the file; nothing if there is none. A damaged one is an error, after which one starts without.
pub fn load(path: &Path) -> io::Result<Option<Saved>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut bytes = Vec::new();
    file.take(MAX_LEN as u64 + 1).read_to_end(&mut bytes)?;
    let invalid = |why: Unreadable| io::Error::new(io::ErrorKind::InvalidData, why.to_string());
    Saved::decode(&bytes).map(Some).map_err(invalid)
}

/// Replaces the file, whose folder is made if there is none: whatever happens meanwhile, it is whole afterwards, with
/// the old nodes or the ones given here.
pub fn save(path: &Path, nodes: &Saved) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    // Two programs that save at once don't write into each other's.
    name.push(format!(".{}.tmp", std::process::id()));
    let beside = path.with_file_name(name);
    let written = File::create(&beside).and_then(|mut file| {
        file.write_all(&nodes.encode())?;
        file.sync_all()
    });
    let renamed = written.and_then(|()| fs::rename(&beside, path));
    if renamed.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_file(&beside);
    }
    renamed
}

#[cfg(test)]
mod tests {
    use super::{Saved, load, save};
    use crate::scratch::Scratch;
    use fast_peer_core::dht::message::Contact;
    use fast_peer_core::dht::node_id::NodeId;
    use std::fs;
    use std::io::ErrorKind;

    #[test]
    fn what_is_saved_is_loaded_and_nothing_else_stays() {
        let scratch = Scratch::new();
        let path = scratch.path().join("cache/dht");
        assert_eq!(load(&path).unwrap(), None);
        save(&path, &Saved::default()).unwrap();
        save(&path, &nodes()).unwrap();
        assert_eq!(load(&path).unwrap(), Some(nodes()));
        assert_eq!(fs::read_dir(scratch.path().join("cache")).unwrap().count(), 1);
    }

    #[test]
    fn a_damaged_file_is_an_error_and_is_replaced() {
        let scratch = Scratch::new();
        let path = scratch.path().join("dht");
        let mut bytes = nodes().encode();
        bytes[30] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert_eq!(load(&path).unwrap_err().kind(), ErrorKind::InvalidData);
        save(&path, &nodes()).unwrap();
        assert_eq!(load(&path).unwrap(), Some(nodes()));
    }

    fn nodes() -> Saved {
        let contact = Contact { id: NodeId([7; 20]), addr: "192.0.2.1:6881".parse().unwrap() };
        Saved { id4: Some(NodeId([1; 20])), id6: None, contacts: vec![contact] }
    }
}
