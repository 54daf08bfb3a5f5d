use super::*;
use alloc::format;
use alloc::string::ToString as _;
use alloc::vec;
use proptest::prelude::*;

fn hex<const N: usize>(text: &str) -> [u8; N] {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b' ').collect();
    let bytes: Vec<u8> =
        digits.chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect();
    bytes.try_into().unwrap()
}

/// The key of BEP 44.
fn key() -> SecretKey {
    SecretKey::from_expanded(&hex("e06d3183d14159228433ed599221b80bd0a5ce8352e4bdf0262f76786ef1c74d \
         b7e7a9fea2c0eb269d61e3b38e450a22e754941ac78479d6c54e1faf6037881d"))
}

const PUBLIC: &str = "77ff84905a91936367c01360803104f92432fcd904a43511876df5cdf3e7e548";

const VALUE: &[u8] = b"12:Hello World!";

#[test]
fn the_vectors_of_bep_44() {
    assert_eq!(key().public(), hex(PUBLIC));
    for (salt, signed, target, signature) in [
        (
            &b""[..],
            &b"3:seqi1e1:v12:Hello World!"[..],
            "4a533d47ec9c7d95b1ad75f576cffc641853b750",
            "305ac8aeb6c9c151fa120f120ea2cfb923564e11552d06a5d856091e5e853cff \
             1260d3f39e4999684aa92eb73ffd136e6f4f3ecbfda0ce53a1608ecd7ae21f01",
        ),
        (
            b"foobar",
            b"4:salt6:foobar3:seqi1e1:v12:Hello World!",
            "411eba73b6f087ca51a3795d9c8c938d365e32c1",
            "6834284b6b24c3204eb2fea824d82f88883a3d95e8b4a21b8c0ded553d17d17d \
             df9a8a7104b1258f30bed3787e6cb896fca78c58f8e03b5f18f14951a87d9a08",
        ),
    ] {
        let (target, signature) = (NodeId(hex(target)), hex(signature));
        assert_eq!(signed_bytes(salt, 1, VALUE), signed);
        let item = Item::sign(&key(), salt, 1, VALUE).unwrap();
        assert_eq!(item.target(), target);
        let put = item.put(b"t", Some(7));
        let expected = Signed { cas: Some(7), key: &hex(PUBLIC), salt, seq: 1, signature: &signature };
        assert_eq!(put, Put { signed: Some(expected), token: b"t", value: VALUE });
        assert_eq!(Item::from_put(&put).as_ref(), Ok(&item));
        assert_eq!(Item::from_reply(target, salt, &item.part(None)), Ok(item));
    }
    let item = Item::immutable(VALUE).unwrap();
    assert_eq!(item.target(), NodeId(hex("e5f96f6f38320f0f33959cb4d3d656452117aadb")));
    assert_eq!(Item::from_put(&item.put(b"t", None)).as_ref(), Ok(&item));
    assert_eq!(Item::from_reply(item.target(), b"", &item.part(None)), Ok(item));
}

/// RFC 8032, 7.1, the second test: a seed, and one byte that is signed.
#[test]
fn a_seed_is_expanded_first() {
    let key = SecretKey::from_seed(&hex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"));
    assert_eq!(key.public(), hex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"));
    let signature = hex("92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da \
         085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00");
    assert_eq!(key.sign(b"r"), signature);
    assert!(key::is_signed(&key.public(), &signature, b"r"));
    assert_eq!(format!("{key:?}"), "SecretKey");
}

#[test]
fn the_vectors_of_bep_46() {
    let key = "8543d3e6115f0f98c944077a4493dcd543e49c739fd998550a1f614ab36ed63e";
    let plain = format!("magnet:?xs=urn:btpk:{key}");
    let salted = format!("{plain}&s=6e");
    for (link, target) in [
        (&plain, "cc3f9d90b572172053626f9980ce261a850d050b"),
        (&salted, "59ee7c2cb9b4f7eb1986ee2d18fd2fdb8a56554f"),
    ] {
        let parsed = MutableLink::parse(link).unwrap();
        assert_eq!(parsed.target(), NodeId(hex(target)));
        assert_eq!(parsed.to_string(), *link);
    }
    let loud = format!("MAGNET:?dn=x&s=6E&xs=URN:BTPK:{}&xs=urn:btih:00", key.to_uppercase());
    assert_eq!(MutableLink::parse(&loud), MutableLink::parse(&salted));
    let long_salt = format!("{plain}&s={}", "00".repeat(65));
    let (odd_salt, no_hex) = (format!("{plain}&s=6"), format!("{plain}&s=zz"));
    let short_key = &plain[..plain.len() - 2];
    for no_link in
        ["", "magnet:?", "magnet:?xs=urn:btih:00", &plain[1..], short_key, &long_salt, &odd_salt, &no_hex]
    {
        assert_eq!(MutableLink::parse(no_link), None, "{no_link}");
    }
}

#[test]
fn an_item_points_to_a_torrent_by_its_ih() {
    let points = |value: &[u8]| Item::immutable(value).unwrap().info_hash();
    assert_eq!(points(b"d2:ih20:abcdefghij0123456789e"), Some(InfoHash(*b"abcdefghij0123456789")));
    assert_eq!(points(b"d1:a0:2:ih20:abcdefghij01234567891:z0:e"), Some(InfoHash(*b"abcdefghij0123456789")));
    for other in [&b"d2:ih3:abce"[..], b"d2:ihi1ee", b"de", b"20:abcdefghij0123456789"] {
        assert_eq!(points(other), None, "{}", other.escape_ascii());
    }
}

/// D-07.
#[test]
fn what_is_wrong_with_an_item_is_told_by_a_number() {
    let (public, signature) = (
        hex(PUBLIC),
        hex("305ac8aeb6c9c151fa120f120ea2cfb923564e11552d06a5d856091e5e853cff \
         1260d3f39e4999684aa92eb73ffd136e6f4f3ecbfda0ce53a1608ecd7ae21f01"),
    );
    let good = Signed { cas: None, key: &public, salt: b"", seq: 1, signature: &signature };
    let zeros = [0; 32];
    let fits = [b"996:", &[b'x'; 996][..]].concat();
    let big = [b"997:", &[b'x'; 997][..]].concat();
    for (signed, value, expected) in [
        (Some(good), VALUE, None),
        (None, VALUE, None),
        (None, &fits, None),
        (None, &big, Some((ItemError::ValueTooBig, 205))),
        (Some(good), &big, Some((ItemError::ValueTooBig, 205))),
        (Some(good), b"12:Hello World?", Some((ItemError::BadSignature, 206))),
        (Some(Signed { seq: 2, ..good }), VALUE, Some((ItemError::BadSignature, 206))),
        (Some(Signed { salt: b"foobar", ..good }), VALUE, Some((ItemError::BadSignature, 206))),
        (Some(Signed { key: &zeros, ..good }), VALUE, Some((ItemError::BadSignature, 206))),
        (Some(Signed { signature: &[0xff; 64], ..good }), VALUE, Some((ItemError::BadSignature, 206))),
        (Some(Signed { salt: &[b's'; 65], ..good }), VALUE, Some((ItemError::SaltTooBig, 207))),
        (Some(Signed { seq: -1, ..good }), VALUE, Some((ItemError::NegativeSeq, 203))),
        (None, b"12:Hello World!!", Some((ItemError::NotBencode, 203))),
        (None, b"", Some((ItemError::NotBencode, 203))),
    ] {
        let got = Item::from_put(&Put { signed, token: b"", value });
        assert_eq!(got.map_err(|error| (error, error.code().0)).err(), expected);
    }
    assert!(Item::sign(&key(), &[b's'; 64], i64::MAX, &fits).is_ok());
    assert_eq!(Item::sign(&key(), &[b's'; 65], 1, VALUE), Err(ItemError::SaltTooBig));
    assert_eq!(Item::sign(&key(), b"", -1, VALUE), Err(ItemError::NegativeSeq));
    assert_eq!(ItemError::ValueTooBig.to_string(), "the value is longer than 1000 bytes");
}

#[test]
fn an_answer_is_checked_against_what_was_asked_for() {
    let item = Item::sign(&key(), b"foobar", 4, VALUE).unwrap();
    let (target, part) = (item.target(), item.part(None));
    assert_eq!(Item::from_reply(target, b"foobar", &part).as_ref(), Ok(&item));
    let other = SecretKey::from_seed(&[1; 32]).public();
    for (target, salt, part, expected) in [
        (target, &b""[..], part, ItemError::WrongTarget),
        (NodeId([0; 20]), b"foobar", part, ItemError::WrongTarget),
        (target, b"foobar", ItemPart { key: Some(&other), ..part }, ItemError::WrongTarget),
        (target, b"foobar", ItemPart { key: None, ..part }, ItemError::WrongTarget),
        (target, b"foobar", ItemPart { value: None, ..part }, ItemError::Incomplete),
        (target, b"foobar", ItemPart { seq: None, ..part }, ItemError::Incomplete),
        (target, b"foobar", ItemPart { signature: None, ..part }, ItemError::Incomplete),
        (target, b"foobar", ItemPart { seq: Some(5), ..part }, ItemError::BadSignature),
        (target, b"foobar", ItemPart { value: Some(b"0:"), ..part }, ItemError::BadSignature),
    ] {
        assert_eq!(Item::from_reply(target, salt, &part), Err(expected));
    }
    // Only what is newer is wanted.
    assert_eq!(item.part(Some(3)), item.part(None));
    let known = ItemPart { seq: Some(4), ..ItemPart::default() };
    assert_eq!((item.part(Some(4)), item.part(Some(5))), (known, known));
    assert_eq!(format!("{item}"), "item target=411eba73 len=15 seq=4");
    assert_eq!((item.key(), item.salt(), item.seq()), (Some(&hex(PUBLIC)), &b"foobar"[..], Some(4)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn what_is_signed_is_verified_and_nothing_else(
        seed: [u8; 32],
        salt in prop::collection::vec(any::<u8>(), 0..=64),
        seq in 0..=i64::MAX,
        text in prop::collection::vec(any::<u8>(), 0..40),
        bit in 0..512_usize,
    ) {
        let value = [format!("{}:", text.len()).as_bytes(), &text].concat();
        let item = Item::sign(&SecretKey::from_seed(&seed), &salt, seq, &value).unwrap();
        let put = item.put(b"", None);
        prop_assert_eq!(Item::from_put(&put), Ok(item.clone()));
        let signed = put.signed.unwrap();
        let mut signature = *signed.signature;
        signature[bit / 8] ^= 1 << (bit % 8);
        let forged = Put { signed: Some(Signed { signature: &signature, ..signed }), ..put };
        prop_assert_eq!(Item::from_put(&forged), Err(ItemError::BadSignature));
    }

    #[test]
    fn no_value_panics(value in prop::collection::vec(any::<u8>(), 0..30)) {
        if let Ok(item) = Item::immutable(&value) {
            prop_assert_eq!(item.value(), &value);
            let _: (Option<InfoHash>, Vec<u8>) = (item.info_hash(), vec![]);
        }
    }
}
