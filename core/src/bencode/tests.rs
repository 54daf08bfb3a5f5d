use super::parser::MAX_DEPTH;
use super::{Document, Error, ErrorKind, Limits, Quirks, Raw, Value, Writer};
use alloc::collections::BTreeMap;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;
use alloc::{format, string::String};
use bendy::decoding::{Decoder, Object};
use bendy::encoding::{Encoder, SingleItemEncoder};
use proptest::prelude::*;

fn read(input: &[u8]) -> Document<'_> {
    Document::parse(input, Limits::FILE).unwrap()
}

fn error(input: &[u8]) -> (usize, ErrorKind) {
    let Error { offset, kind } = Document::parse(input, Limits::FILE).unwrap_err();
    (offset, kind)
}

#[test]
fn the_four_kinds_are_read() {
    let input = b"d1:ai-7e1:b3:foo1:cli1ei2ee1:dd1:x0:eeTAIL";
    let document = read(input);
    assert_eq!(document.end(), input.len() - 4);
    assert_eq!(document.raw(), &input[..input.len() - 4]);
    let root = document.root().as_dict().unwrap();
    assert_eq!(root.get(b"a").unwrap().as_int(), Some(-7));
    assert_eq!(root.get(b"b").unwrap().as_str(), Some("foo"));
    assert_eq!(root.get(b"c").unwrap().as_list().unwrap().raw(), b"li1ei2ee");
    assert_eq!(root.get(b"d").unwrap().as_dict().unwrap().get(b"x").unwrap().as_bytes(), Some(&b""[..]));
    assert_eq!(root.get_raw(b"a"), Some(&b"i-7e"[..]));
    assert_eq!((root.get(b"e").is_none(), root.get_raw(b"e")), (true, None));
    assert_eq!(format!("{document:?}"), r#"{"a": -7, "b": "foo", "c": [1, 2], "d": {"x": ""}}"#);
}

#[test]
fn integers_reach_both_ends_of_64_bits_and_no_further() {
    assert_eq!(read(b"i9223372036854775807e").root().as_int(), Some(i64::MAX));
    assert_eq!(read(b"i-9223372036854775808e").root().as_int(), Some(i64::MIN));
    for outside in ["i9223372036854775808e", "i-9223372036854775809e", "i184467440737095516154e"] {
        assert_eq!(error(outside.as_bytes()), (0, ErrorKind::IntegerRange), "{outside}");
    }
}

#[test]
fn quirks_are_tolerated_and_told() {
    let none = Quirks::default();
    for (input, quirks) in [
        (&b"d1:ai1e1:bi2ee"[..], none),
        (b"d1:bi1e1:ai2ee", Quirks { unsorted_keys: true, ..none }),
        (b"d1:ai1e1:ai2ee", Quirks { duplicate_keys: true, ..none }),
        (b"d1:ai1e1:bi1e1:ai2ee", Quirks { duplicate_keys: true, unsorted_keys: true, ..none }),
        (b"li0ei10e0:10:0123456789e", none),
        (b"i03e", Quirks { leading_zeros: true, ..none }),
        (b"i-03e", Quirks { leading_zeros: true, ..none }),
        (b"00003:abc", Quirks { leading_zeros: true, ..none }),
        (b"i-0e", Quirks { negative_zero: true, ..none }),
    ] {
        assert_eq!(read(input).quirks(), quirks, "{}", input.escape_ascii());
    }
    assert_eq!(read(b"d1:ai1e1:bi1e1:ai2ee").root().as_dict().unwrap().get(b"a").unwrap().as_int(), Some(1));
    assert_eq!(read(b"lli03eei-0ee").quirks().to_string(), "leading zeros, negative zero");
}

#[test]
fn errors_say_what_and_where() {
    for (input, offset, kind) in [
        (&b""[..], 0, ErrorKind::UnexpectedEnd),
        (b"e", 0, ErrorKind::UnexpectedByte(b'e')),
        (b"-10:foobar", 0, ErrorKind::UnexpectedByte(b'-')),
        (b"l2:..", 5, ErrorKind::UnexpectedEnd),
        (b"ie", 1, ErrorKind::IntegerSyntax),
        (b"i-e", 2, ErrorKind::IntegerSyntax),
        (b"i+3e", 1, ErrorKind::IntegerSyntax),
        (b"i35412-5633e", 6, ErrorKind::IntegerSyntax),
        (b"i10", 3, ErrorKind::UnexpectedEnd),
        (b"0o", 1, ErrorKind::StringSyntax),
        (b"d1000", 5, ErrorKind::UnexpectedEnd),
        (b"ld1000:..ee", 2, ErrorKind::StringPastEnd),
        (b"18446744073709551615:foobar", 0, ErrorKind::StringPastEnd),
        (b"d1:ai1e1:be", 10, ErrorKind::MissingValue),
        (b"di5e1:ae", 1, ErrorKind::KeyNotString),
        (b"df00:", 1, ErrorKind::KeyNotString),
    ] {
        assert_eq!(error(input), (offset, kind), "{}", input.escape_ascii());
    }
    let message = Document::parse(b"li5ex", Limits::FILE).unwrap_err().to_string();
    assert_eq!(message, "unexpected byte 0x78 at byte 4");
}

#[test]
fn limits_hold_and_deep_nesting_needs_no_stack() {
    let nested = |depth: usize| [vec![b'l'; depth], vec![b'e'; depth]].concat();
    let limits = Limits { depth: 3, tokens: 6 };
    assert!(Document::parse(&nested(3), limits).is_ok());
    let error = |input: &[u8]| Document::parse(input, limits).unwrap_err();
    assert_eq!(error(&nested(4)), Error { offset: 3, kind: ErrorKind::TooDeep(3) });
    assert_eq!(error(b"l0:0:0:0:0:e"), Error { offset: 11, kind: ErrorKind::TooManyTokens(6) });

    // However deep it goes, the stack stays as it is; and a value that opens nothing for long is no deeper.
    let unlimited = Limits { depth: u32::MAX, tokens: u32::MAX };
    let deepest = nested(MAX_DEPTH as usize);
    let document = Document::parse(&deepest, unlimited).unwrap();
    assert_eq!(document.end(), 2 * MAX_DEPTH as usize);
    assert!(document.quirks().is_empty());
    let deeper = Document::parse(&nested(1_000_000), unlimited).unwrap_err();
    assert_eq!(deeper, Error { offset: MAX_DEPTH as usize, kind: ErrorKind::TooDeep(MAX_DEPTH) });
    let wide = [b"l".to_vec(), b"de".repeat(100_000), b"e".to_vec()].concat();
    assert_eq!(Document::parse(&wide, Limits { depth: 2, tokens: u32::MAX }).unwrap().end(), wide.len());
}

#[test]
fn a_raw_value_is_what_the_document_says() {
    let input = b"d1:ai-7e1:b3:foo1:cli1e0:e1:dd1:x0:eeTAIL";
    let root = Raw::parse(input, Limits::WIRE).unwrap();
    assert_eq!(root.raw(), &input[..input.len() - 4]);
    let pairs: Vec<_> = root.pairs().unwrap().map(|(key, value)| (key, value.raw())).collect();
    let expected: [(&[u8], &[u8]); 4] =
        [(b"a", b"i-7e"), (b"b", b"3:foo"), (b"c", b"li1e0:e"), (b"d", b"d1:x0:e")];
    assert_eq!(pairs, expected);
    let value = |key: &[u8]| root.pairs().unwrap().find(|(name, _)| *name == key).unwrap().1;
    assert_eq!((value(b"a").as_int(), value(b"a").as_bytes()), (Some(-7), None));
    assert_eq!((value(b"b").as_int(), value(b"b").as_bytes()), (None, Some(&b"foo"[..])));
    assert_eq!(value(b"c").items().unwrap().map(Raw::raw).collect::<Vec<_>>(), [&b"i1e"[..], b"0:"]);
    assert!(value(b"b").items().is_none() && value(b"c").pairs().is_none() && root.items().is_none());
    assert_eq!(format!("{:?}", value(b"d")), "d1:x0:e");
}

#[test]
fn a_writer_writes_what_bendy_writes() {
    let mut writer = Writer::with_capacity(64);
    assert!(writer.is_empty());
    writer.dict();
    writer.bytes(b"a");
    writer.list();
    for int in [0, -1, 10, i64::MAX, i64::MIN] {
        writer.int(int);
    }
    writer.end();
    writer.bytes(b"b");
    writer.bytes(b"0123456789");
    writer.bytes(b"c");
    writer.raw(b"d1:x0:e");
    writer.end();
    let mut encoder = Encoder::new();
    encoder
        .emit_dict(|mut to| {
            to.emit_pair_with(b"a", |to| {
                to.emit_list(|to| [0, -1, 10, i64::MAX, i64::MIN].iter().try_for_each(|int| to.emit(int)))
            })?;
            to.emit_pair_with(b"b", |to| to.emit_bytes(b"0123456789"))?;
            to.emit_pair_with(b"c", |to| to.emit_dict(|mut to| to.emit_pair(b"x", "")))
        })
        .unwrap();
    assert_eq!(writer.len(), 87);
    assert_eq!(writer.finish(), encoder.get_output().unwrap());
}

fn assert_alike(raw: Raw<'_>, value: Value<'_>) {
    assert_eq!((raw.as_int(), raw.as_bytes()), (value.as_int(), value.as_bytes()));
    assert_eq!(
        (raw.items().is_some(), raw.pairs().is_some()),
        (value.as_list().is_some(), value.as_dict().is_some())
    );
    for (raw, value) in raw.items().into_iter().flatten().zip(value.as_list().into_iter().flatten()) {
        assert_alike(raw, value);
    }
    let pairs = raw.pairs().into_iter().flatten().zip(value.as_dict().into_iter().flatten());
    for ((raw_key, raw), (key, value)) in pairs {
        assert_eq!(raw_key, key);
        assert_alike(raw, value);
    }
}

/// A value apart from any input.
#[derive(Clone, Debug, PartialEq)]
enum Model {
    Int(i64),
    Bytes(Vec<u8>),
    List(Vec<Model>),
    Dict(BTreeMap<Vec<u8>, Model>),
}

fn models() -> impl Strategy<Value = Model> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(Model::Int),
        prop::collection::vec(any::<u8>(), 0..12).prop_map(Model::Bytes),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Model::List),
            prop::collection::btree_map(prop::collection::vec(any::<u8>(), 0..4), inner, 0..6)
                .prop_map(Model::Dict),
        ]
    })
}

fn encode(model: &Model, to: SingleItemEncoder<'_>) -> Result<(), bendy::encoding::Error> {
    match model {
        Model::Int(int) => to.emit_int(*int),
        Model::Bytes(bytes) => to.emit_bytes(bytes),
        Model::List(items) => {
            to.emit_list(|list| items.iter().try_for_each(|item| list.emit_with(|to| encode(item, to))))
        }
        Model::Dict(pairs) => to.emit_dict(|mut dict| {
            pairs.iter().try_for_each(|(key, value)| dict.emit_pair_with(key, |to| encode(value, to)))
        }),
    }
}

/// What bendy reads; `None` where it refuses, or where an integer is outside 64 bits, which it leaves to its caller.
fn decode(object: Object<'_, '_>) -> Option<Model> {
    Some(match object {
        Object::Integer(digits) => Model::Int(digits.parse().ok()?),
        Object::Bytes(bytes) => Model::Bytes(bytes.to_vec()),
        Object::List(mut list) => {
            let mut items = vec![];
            while let Some(item) = list.next_object().ok()? {
                items.push(decode(item)?);
            }
            Model::List(items)
        }
        Object::Dict(mut dict) => {
            let mut pairs = BTreeMap::new();
            while let Some((key, value)) = dict.next_pair().ok()? {
                let key = key.to_vec();
                pairs.insert(key, decode(value)?);
            }
            Model::Dict(pairs)
        }
    })
}

fn model_of(value: Value<'_>) -> Model {
    match value {
        Value::Int(int) => Model::Int(int),
        Value::Bytes(bytes) => Model::Bytes(bytes.to_vec()),
        Value::List(list) => Model::List(list.iter().map(model_of).collect()),
        Value::Dict(dict) => {
            let mut pairs = BTreeMap::new();
            for (key, value) in dict {
                pairs.entry(key.to_vec()).or_insert_with(|| model_of(value));
            }
            Model::Dict(pairs)
        }
    }
}

proptest! {
    #[test]
    fn what_bendy_writes_is_read_alike(model in models()) {
        let mut encoder = Encoder::new();
        encoder.emit_with(|to| encode(&model, to)).unwrap();
        let bytes = encoder.get_output().unwrap();
        let document = read(&bytes);
        assert_alike(Raw::parse(&bytes, Limits::FILE).unwrap(), document.root());
        prop_assert_eq!(model_of(document.root()), model);
        prop_assert_eq!(document.end(), bytes.len());
        prop_assert!(document.quirks().is_empty());
    }

    #[test]
    fn what_bendy_accepts_is_accepted(input in "[0-3ilde:-]{0,24}") {
        let mut decoder = Decoder::new(input.as_bytes());
        if let Some(model) = decoder.next_object().ok().flatten().and_then(decode) {
            let document = read(input.as_bytes());
            prop_assert_eq!(model_of(document.root()), model);
            prop_assert!(document.quirks().is_empty());
        }
    }

    /// Also in a canonical document with one byte changed, which gets further than bytes without order.
    #[test]
    fn no_bytes_panic(
        noise in prop::collection::vec(any::<u8>(), 0..64),
        model in models(),
        at in any::<prop::sample::Index>(),
        byte in prop::sample::select(&b"0129ilde:-"[..]),
    ) {
        let mut encoder = Encoder::new();
        encoder.emit_with(|to| encode(&model, to)).unwrap();
        let mut bytes = encoder.get_output().unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        for input in [noise, bytes] {
            let raw = Raw::parse(&input, Limits::WIRE);
            match Document::parse(&input, Limits::WIRE) {
                Ok(document) => {
                    assert_alike(raw.unwrap(), document.root());
                    let _: (String, Quirks) = (format!("{document:?}"), document.quirks());
                    prop_assert!(document.end() <= input.len());
                }
                Err(error) => {
                    prop_assert!(error.offset <= input.len());
                    prop_assert_eq!(raw, Err(error));
                }
            }
        }
    }
}
