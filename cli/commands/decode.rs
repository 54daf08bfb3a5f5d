//! `decode`: bencode as JSON, byte for byte.

use super::read_input;
use crate::exit::{Exit, Failure};
use crate::output::{Output, json_string};
use crate::view::hex;
use fast_peer_core::bencode::{Document, Limits, Quirks, Value};
use std::ffi::OsString;
use std::path::Path;

/// Print bencode as JSON
///
/// Byte strings that are not UTF-8 are printed as "hex:" and their digits, as are those that start with "hex:"
/// themselves, so that no two inputs print alike.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// File, bencoded text, or - for standard input
    input: OsString,
    /// Accept what is not canonical: unsorted or repeated keys, leading zeros, bytes behind the end
    #[arg(long, overrides_with = "strict")]
    lenient: bool,
    /// Undo an earlier --lenient
    #[arg(long, overrides_with = "lenient", hide = true)]
    strict: bool,
}

impl Args {
    pub(crate) fn run(self, out: &mut Output) -> Result<(), Failure> {
        let input = if self.input == "-" || Path::new(&self.input).is_file() {
            read_input(&self.input, u64::MAX)?
        } else {
            self.input.into_encoded_bytes()
        };
        let document = Document::parse(&input, Limits::FILE)
            .map_err(|error| Failure::new(Exit::Bencode, error.to_string()))?;
        for complaint in complaints(&document, input.len()) {
            if self.strict || !self.lenient {
                return Err(Failure::new(
                    Exit::Bencode,
                    format!("not canonical: {complaint}; --lenient accepts it"),
                ));
            }
            eprintln!("fast-peer: not canonical: {complaint}");
        }
        out.line(as_json(document.root()))
    }
}

/// What keeps `document` from being canonical and all of its input.
fn complaints(document: &Document<'_>, input_len: usize) -> impl Iterator<Item = String> {
    let quirks = document.quirks();
    let quirks = (quirks != Quirks::default()).then(|| quirks.to_string());
    let end = document.end();
    let trailing = (end < input_len).then(|| format!("something follows the value at byte {end}"));
    quirks.into_iter().chain(trailing)
}

/// A value as JSON, as the help of the command says.
pub(super) fn as_json(value: Value<'_>) -> String {
    let mut text = String::new();
    write(value, &mut text);
    text
}

/// Not by way of a JSON object, which would merge repeated keys. The reader has bounded the depth.
fn write(value: Value<'_>, to: &mut String) {
    match value {
        Value::Int(int) => to.push_str(&int.to_string()),
        Value::Bytes(bytes) => to.push_str(&bytes_as_json(bytes)),
        Value::List(list) => {
            to.push('[');
            for (i, item) in list.iter().enumerate() {
                to.push_str(if i > 0 { "," } else { "" });
                write(item, to);
            }
            to.push(']');
        }
        Value::Dict(dict) => {
            to.push('{');
            for (i, (key, value)) in dict.iter().enumerate() {
                to.push_str(if i > 0 { "," } else { "" });
                to.push_str(&bytes_as_json(key));
                to.push(':');
                write(value, to);
            }
            to.push('}');
        }
    }
}

fn bytes_as_json(bytes: &[u8]) -> String {
    match str::from_utf8(bytes) {
        Ok(text) if !text.starts_with(HEX) => json_string(text),
        _ => json_string(&format!("{HEX}{}", hex(bytes))),
    }
}

const HEX: &str = "hex:";

#[cfg(test)]
mod tests {
    use super::{as_json, complaints};
    use fast_peer_core::bencode::{Document, Limits};

    fn decode(input: &[u8]) -> String {
        as_json(Document::parse(input, Limits::FILE).unwrap().root())
    }

    #[test]
    fn every_kind_prints_as_json() {
        assert_eq!(
            decode(b"d3:bar4:spam3:fooi-52e4:listl0:leee"),
            r#"{"bar":"spam","foo":-52,"list":["",[]]}"#
        );
        assert_eq!(decode("3:別".as_bytes()), "\"別\"");
        assert_eq!(decode(b"d1:ai1e1:ai2ee"), r#"{"a":1,"a":2}"#, "repeated keys are shown");
    }

    #[test]
    fn bytes_that_are_not_text_stay_apart_from_text() {
        assert_eq!(decode(b"2:\xff\x00"), r#""hex:ff00""#);
        assert_eq!(decode(b"8:hex:ff00"), r#""hex:6865783a66663030""#);
        assert_eq!(decode(b"d2:\xff\x00i1ee"), r#"{"hex:ff00":1}"#);
    }

    #[test]
    fn what_is_not_canonical_is_named() {
        let complain = |input: &[u8]| {
            complaints(&Document::parse(input, Limits::FILE).unwrap(), input.len())
                .collect::<Vec<_>>()
                .join("; ")
        };
        assert_eq!(complain(b"i5e"), "");
        assert_eq!(complain(b"i03ejunk"), "leading zeros; something follows the value at byte 4");
    }
}
