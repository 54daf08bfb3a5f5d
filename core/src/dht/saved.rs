//! What our nodes remember from one run to the next, as the bytes of a file.
//!
//! The file is ours alone, but disks and people damage files: whatever is not exactly what was written is refused as a
//! whole (row D-09), and then the nodes start as if there were none.

use super::Saved;
use super::message::{Contact, Family, compact, read_addr};
use super::node_id::NodeId;
use alloc::vec::Vec;
use sha1::{Digest as _, Sha1};

/// Why bytes are not what [`Saved::encode`] wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Bytes were lost, added or changed.
    #[error("the file is damaged")]
    Damaged,
    /// It is something else.
    #[error("the file holds no DHT nodes")]
    Foreign,
    /// A program that knows another form wrote it.
    #[error("the file has version {0}, which is not known")]
    Version(u8),
}

impl Saved {
    /// The bytes of a file:
    ///
    /// ```text
    /// "FP-DHT" 0  version  (has_id  [id: 20]  count: u16  count × (id: 20, ip: 4 or 16, port: u16)) × 2  SHA-1: 20
    /// ```
    ///
    /// with IPv4 before IPv6, numbers big endian, and the hash over everything before it. Nodes beyond
    /// [`MAX_CONTACTS`] are left out.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::from(MAGIC);
        bytes.push(VERSION);
        for family in [Family::V4, Family::V6] {
            let id = self.id(family);
            bytes.push(u8::from(id.is_some()));
            bytes.extend(id.iter().flat_map(|id| id.0));
            let contacts = self.contacts.iter().filter(|contact| Family::of(contact.addr.ip()) == family);
            let contacts: Vec<_> = contacts.take(MAX_CONTACTS).collect();
            bytes.extend((contacts.len() as u16).to_be_bytes());
            for contact in contacts {
                bytes.extend(contact.id.0);
                bytes.extend(compact(contact.addr, &mut [0; 18]));
            }
        }
        let hash = Sha1::digest(&bytes);
        bytes.extend(hash);
        bytes
    }

    /// Reads what [`encode`](Self::encode) wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        let Some((&version, _)) = bytes.strip_prefix(&MAGIC).and_then(<[u8]>::split_first) else {
            return Err(Unreadable::Foreign);
        };
        if version != VERSION {
            return Err(Unreadable::Version(version));
        }
        if bytes.len() > MAX_LEN {
            return Err(Unreadable::Damaged);
        }
        let (body, hash) = bytes.split_last_chunk::<20>().ok_or(Unreadable::Damaged)?;
        if Sha1::digest(body)[..] != hash[..] {
            return Err(Unreadable::Damaged);
        }
        Self::parse(body.get(MAGIC.len() + 1..).unwrap_or_default()).ok_or(Unreadable::Damaged)
    }

    fn parse(mut rest: &[u8]) -> Option<Self> {
        let (id4, mut contacts) = parse_family(&mut rest, Family::V4)?;
        let (id6, contacts6) = parse_family(&mut rest, Family::V6)?;
        contacts.extend(contacts6);
        rest.is_empty().then_some(Self { id4, id6, contacts })
    }
}

fn parse_family(rest: &mut &[u8], family: Family) -> Option<(Option<NodeId>, Vec<Contact>)> {
    let id = match take(rest, 1)? {
        [0] => None,
        [1] => Some(NodeId(take(rest, 20)?.try_into().ok()?)),
        _ => return None,
    };
    let count = usize::from(u16::from_be_bytes(take(rest, 2)?.try_into().ok()?));
    if count > MAX_CONTACTS {
        return None;
    }
    let entries = take(rest, count * family.contact_len())?.chunks_exact(family.contact_len());
    let contacts = entries.map(|entry| {
        let (id, addr) = entry.split_first_chunk()?;
        let addr = read_addr(addr)?;
        (Family::of(addr.ip()) == family).then_some(Contact { id: NodeId(*id), addr })
    });
    Some((id, contacts.collect::<Option<_>>()?))
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(len)?;
    *rest = left;
    Some(taken)
}

/// Nodes of one family. A full table has fewer.
pub const MAX_CONTACTS: usize = 1024;

/// The length of the longest file.
pub const MAX_LEN: usize = MAGIC.len() + 1 + 2 * (1 + 20 + 2) + MAX_CONTACTS * (26 + 38) + 20;

const MAGIC: [u8; 7] = *b"FP-DHT\0";

const VERSION: u8 = 1;

#[cfg(test)]
mod tests {
    use super::{MAX_CONTACTS, MAX_LEN, Saved, Unreadable};
    use crate::dht::message::Contact;
    use crate::dht::node_id::NodeId;
    use alloc::vec;
    use alloc::vec::Vec;
    use core::net::{Ipv4Addr, SocketAddr};
    use proptest::prelude::*;
    use sha1::{Digest as _, Sha1};

    #[test]
    fn the_bytes_are_these() {
        let mut expected = b"FP-DHT\0\x01\x01".to_vec();
        expected.extend([b'i'; 20]);
        expected.extend([0, 1]);
        expected.extend([b'a'; 20]);
        expected.extend([192, 0, 2, 1, 0x1a, 0xe1]);
        expected.push(0);
        expected.extend([0, 1]);
        expected.extend([b'b'; 20]);
        expected.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 80]);
        let hash = Sha1::digest(&expected);
        expected.extend(hash);
        assert_eq!(sample().encode(), expected);
        assert_eq!(Saved::decode(&expected), Ok(sample()));
    }

    #[test]
    fn any_damage_is_seen() {
        let bytes = sample().encode();
        for at in 8..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(Saved::decode(&damaged), Err(Unreadable::Damaged), "at {at}");
        }
        for len in 8..bytes.len() {
            assert_eq!(Saved::decode(&bytes[..len]), Err(Unreadable::Damaged), "cut to {len}");
        }
        assert_eq!(Saved::decode(&[&bytes[..], b"x"].concat()), Err(Unreadable::Damaged));
    }

    #[test]
    fn other_files_are_told_apart() {
        assert_eq!(Saved::decode(b""), Err(Unreadable::Foreign));
        assert_eq!(Saved::decode(b"d2:idi1ee"), Err(Unreadable::Foreign));
        assert_eq!(Saved::decode(b"FP-DHT\0\x02and more"), Err(Unreadable::Version(2)));
    }

    #[test]
    fn a_hash_that_fits_does_not_make_nonsense_right() {
        let with_hash = |body: &[u8]| [body, &Sha1::digest(body)[..]].concat();
        let start = b"FP-DHT\0\x01";
        for rest in
            [&b""[..], b"\0\0\0", b"\x02\0\0\0\0\0", b"\0\0\x01\0\0\0", b"\0\xff\xff\0\0\0", b"\0\0\0\0\0\0!"]
        {
            let bytes = with_hash(&[&start[..], rest].concat());
            assert_eq!(Saved::decode(&bytes), Err(Unreadable::Damaged), "{rest:?}");
        }
        assert_eq!(Saved::decode(&with_hash(b"FP-DHT\0\x01\0\0\0\0\0\0")), Ok(Saved::default()));
    }

    #[test]
    fn no_more_is_written_than_is_read() {
        let contact = |n: u32| contact(n as u8, SocketAddr::from((Ipv4Addr::from_bits(n), 1)));
        let contacts: Vec<_> = (0..MAX_CONTACTS as u32 + 9).map(contact).collect();
        let saved = Saved { contacts: contacts.clone(), ..Saved::default() };
        let bytes = saved.encode();
        assert!(bytes.len() <= MAX_LEN);
        assert_eq!(Saved::decode(&bytes).unwrap().contacts, contacts[..MAX_CONTACTS]);
        let beyond = [&bytes[..], &[0; MAX_LEN]].concat();
        assert_eq!(Saved::decode(&beyond), Err(Unreadable::Damaged), "limit: the longest file");
    }

    proptest! {
        #[test]
        fn what_can_be_read_is_written_alike(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut body = b"FP-DHT\0\x01".to_vec();
            body.extend(bytes);
            let file = [&body[..], &Sha1::digest(&body)[..]].concat();
            if let Ok(saved) = Saved::decode(&file) {
                prop_assert_eq!(saved.encode(), file);
            }
        }
    }

    fn sample() -> Saved {
        let v4 = contact(b'a', "192.0.2.1:6881".parse().unwrap());
        let v6 = contact(b'b', "[2001:db8::1]:80".parse().unwrap());
        Saved { id4: Some(NodeId([b'i'; 20])), id6: None, contacts: vec![v4, v6] }
    }

    fn contact(id: u8, addr: SocketAddr) -> Contact {
        Contact { id: NodeId([id; 20]), addr }
    }
}
