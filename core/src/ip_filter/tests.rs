use super::line::Line;
use super::{Builder, IpFilter, LineError, MAX_LINE, MAX_RANGES, Range};
use crate::address::{is_local, stands_for_name};
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use proptest::prelude::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// What a line blocks, as `first-last`.
fn read(line: &str) -> Result<Option<String>, LineError> {
    Line::parse(line.as_bytes()).map(|line| match line {
        Line::Blocks(range) => Some(format!("{}-{}", range.first(), range.last())),
        Line::Allows | Line::Nothing => None,
    })
}

#[track_caller]
fn blocks(line: &str, range: &str) {
    assert_eq!(read(line), Ok(Some(range.to_string())), "{line}");
}

fn filter(lines: &[&str]) -> IpFilter {
    let mut builder = Builder::new();
    lines.iter().for_each(|line| builder.line(line.as_bytes()).unwrap());
    builder.build()
}

#[test]
fn lines_of_emule() {
    blocks("000.000.000.000 - 255.255.255.255 , 000 , all, of it", "0.0.0.0-255.255.255.255");
    blocks("1.2.4.0 - 1.2.4.255 , 127 , x\r\n", "1.2.4.0-1.2.4.255");
    blocks("1.2.4.0-1.2.4.255,0,x", "1.2.4.0-1.2.4.255");
    blocks("010.020.030.040 - 010.020.030.041 , 100 ,", "10.20.30.40-10.20.30.41");
    blocks("1.2.4.0 - 1.2.4.255", "1.2.4.0-1.2.4.255");
    blocks("1.2.4.0 - 1.2.4.255 , no level", "1.2.4.0-1.2.4.255");
    blocks("2001:db8:: - 2001:db8::ff , 000 , six", "2001:db8::-2001:db8::ff");
    for line in ["1.2.4.0 - 1.2.4.255 , 128 , x", "1.2.4.0 - 1.2.4.255 , 200 , x", "1.2.4.9 , 255"] {
        assert_eq!(Line::parse(line.as_bytes()), Ok(Line::Allows), "{line}");
    }
}

#[test]
fn lines_of_peerguardian() {
    blocks("Some one, Inc. (a-b):1.2.3.4-1.2.3.5", "1.2.3.4-1.2.3.5");
    blocks("a:b:c::001.002.003.004-001.002.003.005", "1.2.3.4-1.2.3.5");
    blocks(":1.2.3.4-1.2.3.5", "1.2.3.4-1.2.3.5");
    blocks("a::1.2.3.4-1.2.3.5", "1.2.3.4-1.2.3.5");
    blocks("name:2001:db8::1-2001:db8::2", "2001:db8::1-2001:db8::2");
    blocks("name: 1.2.3.4 - 1.2.3.5 ", "1.2.3.4-1.2.3.5");
    let latin = b"caf\xe9:1.2.3.4-1.2.3.5";
    assert!(matches!(Line::parse(latin), Ok(Line::Blocks(_))));
}

#[test]
fn plain_lines() {
    blocks("1.2.3.4", "1.2.3.4-1.2.3.4");
    blocks("1.2.3.99/24", "1.2.3.0-1.2.3.255");
    blocks("1.2.3.4/0", "0.0.0.0-255.255.255.255");
    blocks("1.2.3.4/32", "1.2.3.4-1.2.3.4");
    blocks("1.10.16.0/20 ; SBL256894", "1.10.16.0-1.10.31.255");
    blocks("1.2.3.4 # x", "1.2.3.4-1.2.3.4");
    blocks("1.2.3.4-1.2.3.9 # x", "1.2.3.4-1.2.3.9");
    blocks("2001:db8::/32", "2001:db8::-2001:db8:ffff:ffff:ffff:ffff:ffff:ffff");
    blocks("::/0", "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
    blocks("::/80", "::-::ffff:255.255.255.255");
    blocks("2001:db8::1", "2001:db8::1-2001:db8::1");
    blocks("::ffff:1.2.3.0/120", "1.2.3.0-1.2.3.255");
    blocks("\u{feff}1.2.3.4", "1.2.3.4-1.2.3.4");
}

#[test]
fn lines_that_say_nothing() {
    for line in ["", "  \r\n", "# 1.2.3.4", "; 1.2.3.4", "// 1.2.3.4", "  # x"] {
        assert_eq!(read(line), Ok(None), "{line:?}");
    }
}

#[test]
fn lines_that_cannot_be_read() {
    for line in [
        "x",
        "1.2.3",
        "1.2.3.4.5",
        "1.2.3.256",
        "1.2.3.0004",
        "1.2.3.-4",
        "1.2.3.4/33",
        "1.2.3.4/x",
        "::/129",
        "1.2.3.4-",
        "-1.2.3.4",
        "1.2.3.4-5",
        "name:1.2.3.4-x",
        "1..3.4",
        "+1.2.3.4",
        "a,b,c",
        ":",
        "0x1.2.3.4",
        "1.2.3.4-2001:db8::",
    ] {
        assert_eq!(read(line), Err(LineError::NoRange), "{line}");
    }
    for line in ["1.2.3.5-1.2.3.4", "x:1.2.3.5-1.2.3.4", "::2-::1", "1.2.3.5 - 1.2.3.4 , 0 , x"] {
        assert_eq!(read(line), Err(LineError::Backwards), "{line}");
    }
}

#[test]
fn a_line_has_a_limit() {
    let name = "n".repeat(MAX_LINE - 16);
    blocks(&format!("{name}:1.2.3.4-1.2.3.5"), "1.2.3.4-1.2.3.5");
    assert_eq!(read(&format!("{name}n:1.2.3.4-1.2.3.5")), Err(LineError::TooLong));
    // Any number of colons costs no more than a few attempts.
    assert_eq!(read(&"x:".repeat(MAX_LINE / 2)), Err(LineError::NoRange));
}

#[test]
fn ranges_have_a_limit() {
    let mut builder = Builder::new();
    let range = Range::new(ip("1.2.3.4"), ip("1.2.3.4")).unwrap();
    (0..MAX_RANGES).for_each(|_| builder.add(range).unwrap());
    assert_eq!(builder.add(range), Err(LineError::TooMany));
    assert_eq!(builder.line(b"1.2.3.4"), Err(LineError::TooMany));
    assert_eq!(builder.line(b"# still no range"), Ok(()));
    assert_eq!(builder.build().len(), 1);
}

#[test]
fn ranges_that_overlap_or_touch_are_one() {
    let all = filter(&[
        "1.0.0.0-1.0.0.9",
        "1.0.0.10-1.0.0.20",
        "1.0.0.5-1.0.0.6",
        "1.0.0.22",
        "::5-::9",
        "::7-::b",
    ]);
    let shown: Vec<String> =
        all.ranges().map(|range| format!("{}-{}", range.first(), range.last())).collect();
    assert_eq!(shown, ["1.0.0.0-1.0.0.20", "1.0.0.22-1.0.0.22", "::5-::b"]);
    let whole = filter(&["128.0.0.0/1", "0.0.0.0/1", "255.255.255.255", "::/0", "ffff::/16"]);
    assert_eq!(whole.len(), 2);
    assert!(filter(&[]).is_empty());
}

#[test]
fn local_addresses_are_never_blocked() {
    let all = filter(&["0.0.0.0/0", "::/0"]);
    for text in
        ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.1.1", "::1", "fe80::1", "fd00::1"]
    {
        assert!(!all.blocks(ip(text)), "{text}");
    }
    for text in ["8.8.8.8", "172.32.0.1", "100.64.0.1", "2a00::1", "::ffff:8.8.8.8"] {
        assert!(all.blocks(ip(text)), "{text}");
    }
}

#[test]
fn families_are_apart() {
    let six = filter(&["::/0"]);
    assert!(six.blocks(ip("2a00::1")) && !six.blocks(ip("8.8.8.8")) && !six.blocks(ip("::ffff:8.8.8.8")));
    let four = filter(&["::ffff:8.8.8.0/120"]);
    assert!(four.blocks(ip("8.8.8.8")) && four.blocks(ip("::ffff:8.8.8.8")) && !four.blocks(ip("2a00::1")));
}

/// A range in a small space, so that many meet.
fn small_range() -> impl Strategy<Value = (bool, u8, u8)> {
    (any::<bool>(), any::<u8>(), 0..20_u8)
        .prop_map(|(six, first, len)| (six, first, first.saturating_add(len)))
}

/// An address of a space of 256 at both ends of a family, where sums could wrap.
fn place(six: bool, n: u8) -> IpAddr {
    match (six, n < 128) {
        (false, true) => Ipv4Addr::from_bits(u32::from(n)).into(),
        (false, false) => Ipv4Addr::from_bits(u32::MAX - u32::from(255 - n)).into(),
        (true, true) => Ipv6Addr::from_bits(u128::from(n) << 96 | 1 << 125).into(),
        (true, false) => Ipv6Addr::from_bits(u128::MAX - u128::from(255 - n)).into(),
    }
}

proptest! {
    #[test]
    fn it_blocks_what_a_plain_list_blocks(ranges in prop::collection::vec(small_range(), 0..40)) {
        let mut builder = Builder::new();
        for (six, first, last) in &ranges {
            builder.add(Range::new(place(*six, *first), place(*six, *last)).unwrap()).unwrap();
        }
        let filter = builder.build();
        for six in [false, true] {
            for n in 0..=255 {
                let address = place(six, n);
                let listed = ranges.iter().any(|(family, first, last)| {
                    *family == six && place(six, *first) <= address && address <= place(six, *last)
                });
                prop_assert_eq!(filter.blocks(address), listed && !is_local(address) && !stands_for_name(address), "{}", address);
            }
        }
        // No two ranges could be one, and they are in order.
        let kept: Vec<Range> = filter.ranges().collect();
        for pair in kept.windows(2).filter(|pair| pair[0].first().is_ipv4() == pair[1].first().is_ipv4()) {
            prop_assert!(bits(pair[0].last()) + 1 < bits(pair[1].first()));
        }
    }

    #[test]
    fn every_way_to_write_a_range_means_the_same(
        first in any::<u32>(), len in any::<u16>(), level in 0..128_u32, name in "[ -~]{0,20}",
    ) {
        let (first, last) = (Ipv4Addr::from_bits(first), Ipv4Addr::from_bits(first.saturating_add(len.into())));
        let padded = |ip: Ipv4Addr| {
            let [a, b, c, d] = ip.octets();
            format!("{a:03}.{b:03}.{c:03}.{d:03}")
        };
        let expected = Ok(Line::Blocks(Range::new(first.into(), last.into()).unwrap()));
        for line in [
            format!("{first}-{last}"),
            format!("{} - {} , {level:03} , {name}", padded(first), padded(last)),
            format!("x {name}:{first}-{last}"),
            format!("{}-{} # {name}", padded(first), padded(last)),
        ] {
            prop_assert_eq!(Line::parse(line.as_bytes()), expected, "{}", line);
        }
    }

    #[test]
    fn any_bytes_are_a_line(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Line::parse(&bytes);
    }
}

fn bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(v4) => v4.to_bits().into(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

#[test]
fn half_a_million_ranges_are_small() {
    let mut builder = Builder::new();
    for n in 0..500_000_u32 {
        let first = n.wrapping_mul(2_654_435_761) & !0xff;
        builder
            .line(
                format!("name {n}:{}-{}", Ipv4Addr::from_bits(first), Ipv4Addr::from_bits(first | 9))
                    .as_bytes(),
            )
            .unwrap();
    }
    let filter = builder.build();
    assert_eq!(vec![0_u8; 8].len() * filter.len(), size_of_val(&*filter.v4.0));
    assert!(size_of_val(&*filter.v4.0) <= 4_000_000);
}
