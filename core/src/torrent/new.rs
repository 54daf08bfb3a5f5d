//! A torrent to be added, and what the user wants of it.

use crate::id::InfoHashes;
use crate::lengths::PieceIndex;
use crate::magnet::Magnet;
use crate::metainfo::Metainfo;
use crate::pieces::{Order, Priority};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

/// A torrent to add to a session.
#[derive(Clone, Debug)]
pub struct NewTorrent {
    /// What it is known by.
    pub hashes: InfoHashes,
    /// What it holds and what is wanted of that; nothing if peers have to be asked for the metadata first.
    pub content: Option<NewContent>,
    /// The numbers of the files to download when peers have told what files there are (BEP 53): first and last of each
    /// range. Without any, all files.
    pub select_only: Vec<(u32, u32)>,
    /// Peers that the user or the magnet link names.
    pub peers: Vec<SocketAddr>,
    /// Peers that an earlier run [met](super::Torrent::met). A private torrent takes none of them.
    pub met: Vec<SocketAddr>,
    /// Peers of which the host's name has to be looked up first.
    pub peer_names: Vec<(String, u16)>,
    /// Hosts and ports of nodes of the DHT that the torrent names (BEP 5).
    pub nodes: Vec<(String, u16)>,
    /// The trackers to ask, in tiers: the torrent's, and those that the user adds.
    pub trackers: Vec<Vec<String>>,
    /// Bytes a second that may be read from its peers; nothing means no limit.
    pub down_bytes_per_s: Option<u64>,
    /// Bytes a second that may be written to its peers; nothing means no limit.
    pub up_bytes_per_s: Option<u64>,
    /// Whether to do no more than check what is there: no peers, no trackers.
    pub check_only: bool,
    /// Whether its files are only read: what is missing of them is not fetched, since whoever changed them may have meant
    /// it.
    pub seed_only: bool,
    /// Whether peers may be looked for besides by trackers and by hand. Of a private torrent they never are.
    pub discover: bool,
}

impl NewTorrent {
    /// Everything that `metainfo` names, from its trackers, rarest pieces first.
    pub fn new(metainfo: Arc<Metainfo>) -> Self {
        NewContent::new(metainfo).into()
    }

    fn known_by(hashes: InfoHashes) -> Self {
        Self {
            hashes,
            content: None,
            select_only: Vec::new(),
            peers: Vec::new(),
            met: Vec::new(),
            peer_names: Vec::new(),
            nodes: Vec::new(),
            trackers: Vec::new(),
            down_bytes_per_s: None,
            up_bytes_per_s: None,
            check_only: false,
            seed_only: false,
            discover: true,
        }
    }
}

/// What is wanted, from the torrent's own trackers and nodes.
impl From<NewContent> for NewTorrent {
    fn from(content: NewContent) -> Self {
        let trackers = content.metainfo.trackers().to_vec();
        let nodes = content.metainfo.nodes().to_vec();
        Self { trackers, nodes, content: Some(content.clone()), ..Self::known_by(content.metainfo.hashes()) }
    }
}

/// What the link tells: peers have to be asked for the rest.
impl TryFrom<&Magnet> for NewTorrent {
    type Error = crate::magnet::Error;

    fn try_from(magnet: &Magnet) -> Result<Self, Self::Error> {
        let hashes = magnet.hashes().ok_or(crate::magnet::Error::MissingHash)?;
        let mut new = Self::known_by(hashes);
        for (host, port) in &magnet.peers {
            match host.parse::<IpAddr>() {
                Ok(ip) => new.peers.push(SocketAddr::new(ip, *port)),
                Err(_) => new.peer_names.push((host.clone(), *port)),
            }
        }
        new.trackers = magnet.trackers.iter().map(|tracker| vec![tracker.clone()]).collect();
        new.nodes.clone_from(&magnet.nodes);
        new.select_only.clone_from(&magnet.select_only);
        Ok(new)
    }
}

/// What a torrent holds, and what the user wants of that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewContent {
    /// What the torrent file says, or what peers told. The hashes of all pieces are there.
    pub metainfo: Arc<Metainfo>,
    /// How much each file is wanted, pads included; fewer entries mean [`Priority::Normal`] for the rest.
    pub priorities: Vec<Priority>,
    /// Only these pieces, whatever files they belong to: then no file is completed. Nothing means all that the files
    /// want.
    pub pieces: Option<Vec<PieceIndex>>,
    /// Which piece is begun first.
    pub order: Order,
    /// Whether the first and last piece of each wanted file come before the rest.
    pub first_last: bool,
}

impl NewContent {
    /// Everything that `metainfo` names, rarest pieces first.
    pub fn new(metainfo: Arc<Metainfo>) -> Self {
        Self { metainfo, priorities: Vec::new(), pieces: None, order: Order::Rarest, first_last: false }
    }

    /// Only the files with these numbers (BEP 53): ranges of which both ends count, as magnet links have them. Numbers
    /// beyond the last file mean nothing. In hybrids and v1 torrents padding is counted.
    pub fn select(&mut self, ranges: &[(u32, u32)]) {
        let chosen = |file: u32| ranges.iter().any(|(first, last)| (*first..=*last).contains(&file));
        let files = 0..self.metainfo.files().len() as u32;
        self.priorities =
            files.map(|file| if chosen(file) { Priority::Normal } else { Priority::Skip }).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::{NewContent, NewTorrent};
    use crate::id::{InfoHash, InfoHashes};
    use crate::magnet::{self, Magnet};
    use crate::metainfo::Metainfo;
    use crate::pieces::Priority;
    use alloc::string::String;
    use alloc::sync::Arc;
    use bytes::Bytes;

    #[test]
    fn a_link_gives_all_but_the_content() {
        let link = "magnet:?xt=urn:btih:6161616161616161616161616161616161616161&dn=x&tr=udp://a:1&tr=http://b\
            &x.pe=203.0.113.5:6881&x.pe=[2001:db8::1]:1&x.pe=peer.example:2&dht=node.example:3&so=1,3-4";
        let new = NewTorrent::try_from(&Magnet::parse(link).unwrap()).unwrap();
        assert_eq!(new.hashes, InfoHashes::V1(InfoHash([0x61; 20])));
        assert_eq!(new.content, None);
        assert_eq!(new.trackers, [["udp://a:1"], ["http://b"]]);
        assert_eq!(new.peers, ["203.0.113.5:6881", "[2001:db8::1]:1"].map(|peer| peer.parse().unwrap()));
        assert_eq!(new.peer_names, [(String::from("peer.example"), 2)]);
        assert_eq!(new.nodes, [(String::from("node.example"), 3)]);
        assert_eq!(new.select_only, [(1, 1), (3, 4)]);
        let error = NewTorrent::try_from(&Magnet::default()).unwrap_err();
        assert_eq!(error, magnet::Error::MissingHash);
    }

    #[test]
    fn only_files_that_exist_are_selected() {
        let info =
            b"d5:filesld6:lengthi1e4:pathl1:aeed6:lengthi1e4:pathl1:beed6:lengthi1e4:pathl1:ceee4:name1:n\
            12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaae";
        let mut content = NewContent::new(Arc::new(Metainfo::from_info(Bytes::from_static(info)).unwrap()));
        assert_eq!(content.priorities, [], "everything");
        content.select(&[(0, 0), (2, 900_000)]);
        assert_eq!(content.priorities, [Priority::Normal, Priority::Skip, Priority::Normal]);
    }
}
