//! One line of a block list.

use super::{MAX_LINE, Range};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why a line of a list was not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// The range ends before it begins.
    #[error("a range that ends before it begins")]
    Backwards,
    /// Nothing in it is an address.
    #[error("no range of addresses")]
    NoRange,
    /// It is longer than [`MAX_LINE`].
    #[error("a line of more than {MAX_LINE} bytes")]
    TooLong,
    /// There are [`MAX_RANGES`](super::MAX_RANGES) already. Then what there is must not be used: it blocks less than
    /// the user thinks.
    #[error("more than {} ranges", super::MAX_RANGES)]
    TooMany,
}

/// What a line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A range that eMule's levels of access let through.
    Allows,
    Blocks(Range),
    /// A comment, or nothing at all.
    Nothing,
}

impl Line {
    pub(super) fn parse(line: &[u8]) -> Result<Self, LineError> {
        if line.len() > MAX_LINE {
            return Err(LineError::TooLong);
        }
        let line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line).trim_ascii();
        if line.is_empty() || [b"#".as_slice(), b";", b"//"].iter().any(|mark| line.starts_with(mark)) {
            return Ok(Self::Nothing);
        }
        match range(line) {
            Err(LineError::NoRange) => {}
            found => return found.map(Self::Blocks),
        }
        if let Some((range_text, rest)) = split(line, b',') {
            match range(range_text) {
                Err(LineError::NoRange) => {}
                found => {
                    return found.map(|range| if lets_in(rest) { Self::Allows } else { Self::Blocks(range) });
                }
            }
        }
        if let Some(end) = line.iter().position(|byte| matches!(byte, b'#' | b';' | b' ' | b'\t'))
            && line[end..].trim_ascii_start().first().is_some_and(|byte| matches!(byte, b'#' | b';'))
        {
            match range(&line[..end]) {
                Err(LineError::NoRange) => {}
                found => return found.map(Self::Blocks),
            }
        }
        named_range(line).map(Self::Blocks)
    }
}

/// The range behind a name and a colon, always with both of its ends. As the name can have colons, and IPv6 has, the longest that is a range counts.
fn named_range(line: &[u8]) -> Result<Range, LineError> {
    let colons = line.iter().enumerate().rev().filter(|(_, byte)| **byte == b':').take(MAX_COLONS);
    let mut found = Err(LineError::NoRange);
    let rests = colons.map(|(colon, _)| &line[colon + 1..]);
    for rest in rests.filter(|rest| rest.contains(&b'-')) {
        match range(rest) {
            Ok(range) => found = Ok(range),
            Err(error) if error != LineError::NoRange && found.is_err() => found = Err(error),
            Err(_) => {}
        }
    }
    found
}

/// `1.2.3.4`, `1.2.3.0/24` or `1.2.3.4-1.2.3.9`.
fn range(text: &[u8]) -> Result<Range, LineError> {
    if let Some((first, last)) = split(text, b'-') {
        let first = address(first).ok_or(LineError::NoRange)?;
        // A name that ends like an IPv6 address can stand before a range of IPv4.
        let last =
            address(last).filter(|last| last.is_ipv4() == first.is_ipv4()).ok_or(LineError::NoRange)?;
        return Range::new(first, last).ok_or(LineError::Backwards);
    }
    let range = match split(text, b'/') {
        Some((ip, bits)) => {
            let bits = number(bits.trim_ascii()).and_then(|bits| u8::try_from(bits).ok());
            address(ip).zip(bits).and_then(|(ip, bits)| Range::of_network(ip, bits))
        }
        None => address(text).and_then(|ip| Range::new(ip, ip)),
    };
    range.ok_or(LineError::NoRange)
}

fn address(text: &[u8]) -> Option<IpAddr> {
    let text = text.trim_ascii();
    // Most lines are of IPv4.
    v4(text).map(IpAddr::V4).or_else(|| {
        let text = core::str::from_utf8(text).ok().filter(|text| text.contains(':'))?;
        text.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
    })
}

/// Four decimal numbers, with zeros in front of them or not.
fn v4(text: &[u8]) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    let mut parts = text.split(|byte| *byte == b'.');
    for octet in &mut octets {
        *octet = u8::try_from(number(parts.next().filter(|part| part.len() <= 3)?)?).ok()?;
    }
    parts.next().is_none().then(|| octets.into())
}

/// A number of up to nine digits.
fn number(digits: &[u8]) -> Option<u32> {
    let is_number = !digits.is_empty() && digits.len() <= 9 && digits.iter().all(u8::is_ascii_digit);
    is_number.then(|| digits.iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0')))
}

/// Whether what follows the range in a line of eMule's begins with a level of access that lets peers in. Without one
/// the range is there because it is to be blocked.
fn lets_in(rest: &[u8]) -> bool {
    let level = rest.split(|byte| *byte == b',').next().unwrap_or_default();
    number(level.trim_ascii()).is_some_and(|level| level >= FIRST_ALLOWED)
}

fn split(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let index = text.iter().position(|byte| *byte == at)?;
    Some((&text[..index], &text[index + 1..]))
}

/// eMule: the lowest level of access that is not blocked.
const FIRST_ALLOWED: u32 = 128;

/// The colons of two IPv6 addresses, and the one behind the name.
const MAX_COLONS: usize = 15;

/// What some editors put in front of a file.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
