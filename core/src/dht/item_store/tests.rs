use super::super::item::{MAX_SALT_LEN, MAX_VALUE_LEN, SecretKey};
use super::*;
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use proptest::prelude::*;

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// An item that its own hash names.
fn item(number: u32) -> Item {
    Item::immutable(format!("i{number}e").as_bytes()).unwrap()
}

fn signed(seq: i64, value: &str) -> Item {
    Item::sign(&SecretKey::from_seed(&[7; 32]), b"", seq, value.as_bytes()).unwrap()
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_micros(seconds * 1_000_000)
}

/// From a subnet of its own.
fn nth(subnet: u32) -> SocketAddr {
    let [_, a, b, c] = subnet.to_be_bytes();
    SocketAddr::from(([20 + a, b, c, 1], 1))
}

/// D-07, in order upon one place.
#[test]
fn numbers_only_rise() {
    let (mut store, from) = (ItemStore::new(10), addr("8.8.8.8:1"));
    for (i, (seq, value, cas, expected)) in [
        (2, "1:a", Some(9), None),
        (2, "1:a", None, None),
        (2, "1:a", Some(2), None),
        (2, "1:b", None, Some(302)),
        (2, "1:b", Some(2), Some(302)),
        (1, "1:a", None, Some(302)),
        (3, "1:b", Some(1), Some(301)),
        (1, "1:b", Some(1), Some(301)),
        (3, "1:b", Some(2), None),
        (7, "1:a", None, None),
    ]
    .into_iter()
    .enumerate()
    {
        let got = store.put(at(0), from, signed(seq, value), cas);
        assert_eq!(got.err().map(|error| error.code().0), expected, "put {i}");
        store.check_invariants(at(0));
    }
    assert_eq!(store.get(at(0), signed(0, "0:").target()), Some(&signed(7, "1:a")));
    assert_eq!(store.len(), 1);
    // When it has expired, its number means nothing any more.
    assert_eq!(store.put(at(7200), from, signed(1, "1:c"), Some(3)), Ok(()));
    assert_eq!(store.get(at(7200), signed(0, "0:").target()), Some(&signed(1, "1:c")));
}

/// INV-S-35.
#[test]
fn an_item_is_kept_for_two_hours_after_the_last_put() {
    let (mut store, from) = (ItemStore::new(10), addr("8.8.8.8:1"));
    assert_eq!(store.poll_timeout(), None);
    store.put(at(100), from, item(1), None).unwrap();
    store.put(at(3700), from, item(1), None).unwrap();
    store.put(at(3800), from, item(2), None).unwrap();
    let has = |store: &ItemStore, second| [1, 2].map(|n| store.get(at(second), item(n).target()).is_some());
    assert_eq!(has(&store, 3700 + 7199), [true, true]);
    assert_eq!(has(&store, 3700 + 7200), [false, true]);
    assert_eq!(store.poll_timeout().unwrap().at, at(400));
    store.handle_timeout(at(399));
    assert_eq!(store.poll_timeout().unwrap().at, at(400), "too early");
    store.handle_timeout(at(3700 + 7200));
    assert_eq!((store.len(), store.poll_timeout().unwrap().at), (1, at(3700 + 7500)));
    store.handle_timeout(at(20_000));
    assert_eq!((store.len(), store.poll_timeout()), (0, None));
    store.check_invariants(at(20_000));
}

/// D-06.
#[test]
fn a_flood_from_one_subnet_drives_out_itself_alone() {
    let mut store = ItemStore::new(100);
    for n in 0..60 {
        store.put(at(n.into()), nth(n), item(n), None).unwrap();
    }
    for n in 0..1000 {
        let host = (n % 250) as u8;
        store.put(at(100), SocketAddr::from(([9, 9, 9, host], 1)), item(1000 + n), None).unwrap();
        store.check_invariants(at(100));
    }
    assert_eq!(store.len(), 100);
    assert!((0..60).all(|n| store.get(at(100), item(n).target()).is_some()));
    // Others still get in, at the cost of who has most.
    for n in 60..99 {
        store.put(at(100), nth(n), item(n), None).unwrap();
    }
    assert!((0..99).all(|n| store.get(at(100), item(n).target()).is_some()));
    // When all have one, the oldest goes.
    store.put(at(100), nth(99), item(99), None).unwrap();
    store.put(at(100), nth(100), item(100), None).unwrap();
    let lost: Vec<u32> = (0..=100).filter(|n| store.get(at(100), item(*n).target()).is_none()).collect();
    assert_eq!(lost, [0, 1]);
}

#[test]
fn what_others_put_too_does_not_go_with_who_put_it_first() {
    let (mut store, flood) = (ItemStore::new(10), addr("9.9.9.9:1"));
    for n in 0..10 {
        store.put(at(n.into()), flood, item(n), None).unwrap();
    }
    store.put(at(20), addr("8.8.8.8:1"), item(0), None).unwrap();
    for n in 10..30 {
        store.put(at(30), flood, item(n), None).unwrap();
    }
    assert!(store.get(at(30), item(0).target()).is_some());
    store.check_invariants(at(30));
}

#[test]
fn a_full_store_has_less_than_a_mebibyte() {
    let mut store = ItemStore::new(MAX_ITEMS);
    let (key, text) = (SecretKey::from_seed(&[7; 32]), vec![b'x'; MAX_VALUE_LEN - 4]);
    let value = [b"996:", &text[..]].concat();
    for n in 0..MAX_ITEMS as u32 + 10 {
        let mut salt = [0; MAX_SALT_LEN];
        salt[..4].copy_from_slice(&n.to_be_bytes());
        store.put(at(0), nth(n), Item::sign(&key, &salt, 1, &value).unwrap(), None).unwrap();
    }
    assert_eq!(store.len(), MAX_ITEMS);
    assert!(store.bytes() <= 1 << 20, "{}", store.bytes());
    let mut none = ItemStore::new(0);
    assert_eq!(none.put(at(0), nth(1), item(1), None), Ok(()));
    assert_eq!((none.len(), none.bytes()), (0, 0));
}

proptest! {
    /// A model without limits nor owners: what it says is so, unless an item was driven out.
    #[test]
    fn a_store_is_like_a_map(
        max in 1..10_usize,
        puts in prop::collection::vec((0..2000_u64, 0..4_u32, 0..8_u32, prop::bool::ANY), 0..60),
    ) {
        let mut store = ItemStore::new(max);
        let mut model: Vec<Option<u64>> = vec![None; 8];
        let mut now = 0;
        for (wait, subnet, number, sweep) in puts {
            now += wait;
            if sweep {
                store.handle_timeout(at(now));
            }
            prop_assert_eq!(store.put(at(now), nth(subnet), item(number), None), Ok(()));
            model[number as usize] = Some(now);
            store.check_invariants(at(now));
            prop_assert!(store.get(at(now), item(number).target()).is_some(), "the last one is there");
            let alive = |number: &usize| model[*number].is_some_and(|put| now < put + 7200);
            for number in 0..8 {
                let there = store.get(at(now), item(number as u32).target()).is_some();
                prop_assert!(!there || alive(&number));
            }
            let expected = (0..8).filter(alive).count();
            let there = (0..8).filter(|n| store.get(at(now), item(*n).target()).is_some()).count();
            prop_assert!(there <= expected.min(max));
            prop_assert!(max < 8 || there == expected);
        }
    }
}
