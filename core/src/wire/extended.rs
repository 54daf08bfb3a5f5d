//! The handshake of the extension protocol (BEP 10).

use super::offence::Offence;
use crate::bencode::{Dict, Document, Limits};
use crate::text;
use alloc::string::String;
use alloc::vec::Vec;
use bendy::encoding::{Encoder, Error};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How many requests a peer queues that does not say (BEP 10).
pub const DEFAULT_REQUEST_QUEUE: u32 = 250;

/// The most requests that a peer is believed to queue.
pub const MAX_REQUEST_QUEUE: u32 = 2000;

/// The longest info dictionary that is fetched from peers (limit L4).
pub const MAX_METADATA_LEN: u32 = 16 * 1024 * 1024;

/// The most bytes of a client's name that are kept.
pub const MAX_CLIENT_LEN: usize = 64;

/// An extension with messages of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Extension {
    /// Takes a `have` back (BEP 54).
    LtDonthave,
    /// Says that nothing is wanted any more (BEP 21).
    UploadOnly,
    /// Connects two peers through a third (BEP 55).
    UtHolepunch,
    /// Metadata from peers (BEP 9).
    UtMetadata,
    /// Peer exchange (BEP 11).
    UtPex,
}

impl Extension {
    /// Each of them.
    pub const ALL: [Self; 5] =
        [Self::LtDonthave, Self::UploadOnly, Self::UtHolepunch, Self::UtMetadata, Self::UtPex];

    /// Its name in the extended handshake.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LtDonthave => "lt_donthave",
            Self::UploadOnly => "upload_only",
            Self::UtHolepunch => "ut_holepunch",
            Self::UtMetadata => "ut_metadata",
            Self::UtPex => "ut_pex",
        }
    }

    /// The id by which we ask peers to call it in what they send us.
    pub const fn our_id(self) -> u8 {
        self as u8 + 1
    }

    /// The extension that a peer means when it sends us `id`.
    pub fn from_our_id(id: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|extension| extension.our_id() == id)
    }
}

/// How the sender of an extended handshake wants the extensions called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExtensionIds([Option<u8>; Extension::ALL.len()]);

impl ExtensionIds {
    /// No extension.
    pub const NONE: Self = Self([None; Extension::ALL.len()]);

    /// Our ids for `extensions`.
    pub fn ours(extensions: impl IntoIterator<Item = Extension>) -> Self {
        let mut ids = Self::NONE;
        extensions.into_iter().for_each(|extension| ids.set(extension, extension.our_id()));
        ids
    }

    /// The id under which `extension` can be sent, if it can.
    pub fn id(&self, extension: Extension) -> Option<u8> {
        self.0[extension as usize].filter(|id| *id != 0)
    }

    /// Calls `extension` by `id`; 0 switches it off.
    pub fn set(&mut self, extension: Extension, id: u8) {
        self.0[extension as usize] = Some(id);
    }

    fn named(&self) -> impl Iterator<Item = (Extension, u8)> + '_ {
        Extension::ALL.into_iter().zip(self.0).filter_map(|(extension, id)| Some((extension, id?)))
    }
}

/// What an extended handshake says; what it leaves out is `None`.
///
/// As read, it holds at most [`MAX_CLIENT_LEN`] bytes outside itself, however long the message was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtendedHandshake {
    /// `v`: the client's name and version.
    pub client: Option<String>,
    /// `e`: whether the sender would rather be connected to with encryption.
    pub encryption: Option<bool>,
    /// `m`: the extensions.
    pub ids: ExtensionIds,
    /// `ipv4`: where the sender can also be reached.
    pub ipv4: Option<Ipv4Addr>,
    /// `ipv6`: where the sender can also be reached.
    pub ipv6: Option<Ipv6Addr>,
    /// `metadata_size`: the length of the info dictionary, 1 to [`MAX_METADATA_LEN`].
    pub metadata_size: Option<u32>,
    /// `p`: the port on which the sender listens.
    pub port: Option<u16>,
    /// `reqq`: how many requests the sender queues, 1 to [`MAX_REQUEST_QUEUE`].
    pub request_queue: Option<u32>,
    /// `upload_only`: whether the sender wants nothing any more (BEP 21).
    pub upload_only: Option<bool>,
    /// `yourip`: the receiver's address as the sender sees it.
    pub your_ip: Option<IpAddr>,
}

impl ExtendedHandshake {
    /// Reads the payload of an extended message with id 0. A value that makes no sense counts as left out.
    pub fn parse(payload: &[u8]) -> Result<Self, Offence> {
        let document = Document::parse(payload, Limits::WIRE).map_err(|_| Offence::BadExtendedHandshake)?;
        let dict = document.root().as_dict().ok_or(Offence::BadExtendedHandshake)?;
        let flag = |key| int(dict, key).map(|value| value != 0);
        let bytes = |key: &[u8]| dict.get(key).and_then(|value| value.as_bytes());
        let ipv4 = |bytes| <[u8; 4]>::try_from(bytes).ok().map(Ipv4Addr::from);
        let ipv6 = |bytes| <[u8; 16]>::try_from(bytes).ok().map(Ipv6Addr::from);
        Ok(Self {
            client: bytes(b"v").map(|name| text::clean(name, MAX_CLIENT_LEN)),
            encryption: flag(b"e"),
            ids: dict.get(b"m").and_then(|m| m.as_dict()).map(ids).unwrap_or_default(),
            ipv4: bytes(b"ipv4").and_then(ipv4),
            ipv6: bytes(b"ipv6").and_then(ipv6),
            metadata_size: positive(dict, b"metadata_size").filter(|len| *len <= MAX_METADATA_LEN),
            port: positive(dict, b"p").and_then(|port| port.try_into().ok()),
            request_queue: positive(dict, b"reqq").map(|len| len.min(MAX_REQUEST_QUEUE)),
            upload_only: flag(b"upload_only"),
            your_ip: bytes(b"yourip").and_then(|bytes| {
                ipv4(bytes).map(IpAddr::V4).or_else(|| ipv6(bytes).map(|ip| IpAddr::V6(ip).to_canonical()))
            }),
        })
    }

    /// The payload of an extended message with id 0.
    pub fn encode(&self) -> Vec<u8> {
        self.try_encode().expect("the keys are written in order")
    }

    /// Takes over what a later handshake of the same peer says. What that leaves out stays as it was; an extension
    /// goes away only by id 0 (BEP 10).
    pub fn update(&mut self, later: Self) {
        fn put<T>(old: &mut Option<T>, new: Option<T>) {
            if new.is_some() {
                *old = new;
            }
        }
        put(&mut self.client, later.client);
        put(&mut self.encryption, later.encryption);
        later.ids.named().for_each(|(extension, id)| self.ids.set(extension, id));
        put(&mut self.ipv4, later.ipv4);
        put(&mut self.ipv6, later.ipv6);
        put(&mut self.metadata_size, later.metadata_size);
        put(&mut self.port, later.port);
        put(&mut self.request_queue, later.request_queue);
        put(&mut self.upload_only, later.upload_only);
        put(&mut self.your_ip, later.your_ip);
    }

    fn try_encode(&self) -> Result<Vec<u8>, Error> {
        let mut encoder = Encoder::new();
        encoder.emit_dict(|mut dict| {
            if let Some(encryption) = self.encryption {
                dict.emit_pair(b"e", u8::from(encryption))?;
            }
            if let Some(ip) = self.ipv4 {
                dict.emit_pair_with(b"ipv4", |to| to.emit_bytes(&ip.octets()))?;
            }
            if let Some(ip) = self.ipv6 {
                dict.emit_pair_with(b"ipv6", |to| to.emit_bytes(&ip.octets()))?;
            }
            dict.emit_pair_with(b"m", |to| {
                to.emit_dict(|mut m| {
                    self.ids
                        .named()
                        .try_for_each(|(extension, id)| m.emit_pair(extension.name().as_bytes(), id))
                })
            })?;
            if let Some(len) = self.metadata_size {
                dict.emit_pair(b"metadata_size", len)?;
            }
            if let Some(port) = self.port {
                dict.emit_pair(b"p", port)?;
            }
            if let Some(len) = self.request_queue {
                dict.emit_pair(b"reqq", len)?;
            }
            if let Some(upload_only) = self.upload_only {
                dict.emit_pair(b"upload_only", u8::from(upload_only))?;
            }
            if let Some(client) = &self.client {
                dict.emit_pair_with(b"v", |to| to.emit_bytes(client.as_bytes()))?;
            }
            match self.your_ip {
                Some(IpAddr::V4(ip)) => dict.emit_pair_with(b"yourip", |to| to.emit_bytes(&ip.octets())),
                Some(IpAddr::V6(ip)) => dict.emit_pair_with(b"yourip", |to| to.emit_bytes(&ip.octets())),
                None => Ok(()),
            }
        })?;
        encoder.get_output()
    }
}

fn int(dict: Dict<'_>, key: &[u8]) -> Option<i64> {
    dict.get(key)?.as_int()
}

fn positive(dict: Dict<'_>, key: &[u8]) -> Option<u32> {
    int(dict, key).filter(|value| *value > 0).map(|value| value.try_into().unwrap_or(u32::MAX))
}

fn ids(m: Dict<'_>) -> ExtensionIds {
    let mut ids = ExtensionIds::NONE;
    for extension in Extension::ALL {
        if let Some(id) = int(m, extension.name().as_bytes()).and_then(|id| id.try_into().ok()) {
            ids.set(extension, id);
        }
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::{
        ExtendedHandshake, Extension, ExtensionIds, MAX_CLIENT_LEN, MAX_METADATA_LEN, MAX_REQUEST_QUEUE,
    };
    use crate::wire::Offence;
    use alloc::format;
    use alloc::string::String;
    use alloc::vec;
    use alloc::vec::Vec;
    use core::net::{Ipv4Addr, Ipv6Addr};
    use proptest::prelude::*;

    #[test]
    fn a_handshake_is_read_and_written() {
        let hand = b"d1:ei1e4:ipv44:\x0a\x00\x00\x011:md11:lt_donthavei7e6:ut_pexi1ee13:metadata_sizei31235e\
            1:pi6881e4:reqqi500e11:upload_onlyi1e1:v6:X 1.026:yourip4:\xcb\x00\x71\x05e";
        let mut ids = ExtensionIds::NONE;
        ids.set(Extension::UtPex, 1);
        ids.set(Extension::LtDonthave, 7);
        let expected = ExtendedHandshake {
            client: Some(String::from("X 1.02")),
            encryption: Some(true),
            ids,
            ipv4: Some(Ipv4Addr::new(10, 0, 0, 1)),
            ipv6: None,
            metadata_size: Some(31235),
            port: Some(6881),
            request_queue: Some(500),
            upload_only: Some(true),
            your_ip: Some(Ipv4Addr::new(203, 0, 113, 5).into()),
        };
        assert_eq!(ExtendedHandshake::parse(hand).as_ref(), Ok(&expected));
        assert_eq!(expected.encode(), hand);
        assert_eq!(expected.ids.id(Extension::UtMetadata), None);
    }

    #[test]
    fn an_empty_handshake_says_nothing() {
        assert_eq!(ExtendedHandshake::parse(b"de"), Ok(ExtendedHandshake::default()));
        assert_eq!(ExtendedHandshake::default().encode(), b"d1:mdee");
    }

    #[test]
    fn what_is_no_dictionary_is_an_offence() {
        for payload in [&b""[..], b"le", b"i1e", b"d1:m", &[b'l'; 1000]] {
            assert_eq!(ExtendedHandshake::parse(payload), Err(Offence::BadExtendedHandshake));
        }
    }

    #[test]
    fn values_out_of_range_count_as_left_out() {
        for pairs in [
            "1:pi0e",
            "1:pi65536e",
            "1:pi-1e",
            "1:p4:6881",
            "4:reqqi0e",
            "4:reqqi-5e",
            "13:metadata_sizei0e",
            "13:metadata_sizei-1e",
            "13:metadata_sizei16777217e",
            "13:metadata_sizei4294967297e",
            "1:mi5e",
            "1:md6:ut_pexi256e11:ut_metadatai-1e4:nonei9ee",
            "6:yourip3:abc",
            "4:ipv416:aaaaaaaaaaaaaaaa",
            "1:vi5e",
        ] {
            let payload = format!("d{pairs}e");
            assert_eq!(
                ExtendedHandshake::parse(payload.as_bytes()),
                Ok(ExtendedHandshake::default()),
                "{pairs}"
            );
        }
        let huge = ExtendedHandshake::parse(b"d13:metadata_sizei16777216e4:reqqi99999999999ee").unwrap();
        assert_eq!(huge.metadata_size, Some(MAX_METADATA_LEN));
        assert_eq!(huge.request_queue, Some(MAX_REQUEST_QUEUE));
    }

    #[test]
    fn ids_add_up_until_zero_takes_one_away() {
        let read = |payload: &[u8]| ExtendedHandshake::parse(payload).unwrap();
        let mut known = read(b"d1:md11:ut_metadatai3e6:ut_pexi1ee1:pi6881ee");
        known.update(read(b"d1:md12:ut_holepunchi4e6:ut_pexi0eee"));
        assert_eq!(known.ids.id(Extension::UtMetadata), Some(3));
        assert_eq!(known.ids.id(Extension::UtHolepunch), Some(4));
        assert_eq!(known.ids.id(Extension::UtPex), None);
        assert_eq!(known.port, Some(6881));
        known.update(read(b"d1:md6:ut_pexi9ee11:upload_onlyi1ee"));
        assert_eq!((known.ids.id(Extension::UtPex), known.upload_only), (Some(9), Some(true)));
    }

    #[test]
    fn a_long_name_is_cut_between_characters() {
        let mut name = vec![b'a'; MAX_CLIENT_LEN - 1];
        name.extend("é and more".bytes());
        let read = |name: &[u8]| {
            let payload = [format!("d1:v{}:", name.len()).as_bytes(), name, b"e"].concat();
            ExtendedHandshake::parse(&payload).unwrap().client.unwrap()
        };
        assert_eq!(read(&name), "a".repeat(MAX_CLIENT_LEN - 1));
    }

    #[test]
    fn a_mapped_address_is_an_ipv4_address() {
        let payload = b"d6:yourip16:\0\0\0\0\0\0\0\0\0\0\xff\xff\x0a\x00\x00\x01e";
        let read = ExtendedHandshake::parse(payload).unwrap();
        assert_eq!(read.your_ip, Some(Ipv4Addr::new(10, 0, 0, 1).into()));
        let six = ExtendedHandshake::parse(b"d6:yourip16:aaaaaaaaaaaaaaaae").unwrap();
        assert_eq!(six.your_ip, Some(Ipv6Addr::from([b'a'; 16]).into()));
    }

    #[test]
    fn our_ids_lead_back_to_their_extension() {
        let ours = ExtensionIds::ours(Extension::ALL);
        for extension in Extension::ALL {
            let id = ours.id(extension).unwrap();
            assert_eq!(Extension::from_our_id(id), Some(extension));
        }
        assert_eq!((Extension::from_our_id(0), Extension::from_our_id(6)), (None, None));
    }

    fn handshakes() -> impl Strategy<Value = ExtendedHandshake> {
        let ids = any::<[Option<u8>; 5]>().prop_map(ExtensionIds);
        let rest = (any::<[Option<bool>; 2]>(), any::<Option<Ipv4Addr>>(), any::<Option<Ipv6Addr>>());
        let numbers = (
            prop::option::of(1..=MAX_METADATA_LEN),
            prop::option::of(1..=u16::MAX),
            prop::option::of(1..=MAX_REQUEST_QUEUE),
        );
        (prop::option::of("[ -~é]{0,16}"), ids, rest, numbers).prop_map(
            |(client, ids, ([encryption, upload_only], ipv4, ipv6), (metadata_size, port, request_queue))| {
                let your_ip = ipv4.map(Into::into);
                ExtendedHandshake {
                    client,
                    encryption,
                    ids,
                    ipv4,
                    ipv6,
                    metadata_size,
                    port,
                    request_queue,
                    upload_only,
                    your_ip,
                }
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(handshake in handshakes()) {
            prop_assert_eq!(ExtendedHandshake::parse(&handshake.encode()), Ok(handshake));
        }

        #[test]
        fn arbitrary_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(read) = ExtendedHandshake::parse(&[b"d1:v".as_slice(), &bytes, b"e"].concat()) {
                prop_assert!(read.client.is_none_or(|client| client.len() <= MAX_CLIENT_LEN));
            }
        }

        /// Names and ids in any number leave nothing behind but those that are known.
        #[test]
        fn unknown_extensions_are_ignored(names in prop::collection::vec("[a-z]{1,8}", 0..40)) {
            let pairs: Vec<String> = names.iter().map(|name| format!("{}:{name}i0e", name.len())).collect();
            let payload = format!("d1:md{}ee", pairs.concat());
            let read = ExtendedHandshake::parse(payload.as_bytes()).unwrap();
            prop_assert_eq!(read, ExtendedHandshake::default());
        }
    }
}
