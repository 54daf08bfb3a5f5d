//! A writer of bencode that shares nothing with fast-peer's own, so that a fault in that one can't hide itself.

use std::collections::BTreeMap;

/// A bencoded value (BEP 3).
#[derive(Clone, Debug)]
pub enum Value {
    /// A byte string.
    Bytes(Vec<u8>),
    /// A dictionary; its keys come out in the order of their bytes.
    Dictionary(BTreeMap<&'static str, Value>),
    /// An integer.
    Integer(i64),
    /// A list.
    List(Vec<Value>),
}

impl Value {
    /// A dictionary of these keys.
    pub fn dictionary<const N: usize>(entries: [(&'static str, Value); N]) -> Self {
        Self::Dictionary(BTreeMap::from(entries))
    }

    /// A byte string.
    pub fn bytes(bytes: impl AsRef<[u8]>) -> Self {
        Self::Bytes(bytes.as_ref().to_owned())
    }

    /// Its encoding.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Bytes(bytes) => {
                out.extend(format!("{}:", bytes.len()).bytes());
                out.extend(bytes);
            }
            Self::Dictionary(entries) => {
                out.push(b'd');
                for (key, value) in entries {
                    out.extend(format!("{}:{key}", key.len()).bytes());
                    value.write(out);
                }
                out.push(b'e');
            }
            Self::Integer(number) => out.extend(format!("i{number}e").bytes()),
            Self::List(values) => {
                out.push(b'l');
                values.iter().for_each(|value| value.write(out));
                out.push(b'e');
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_bep_3() {
        assert_eq!(Value::bytes("spam").encode(), b"4:spam");
        assert_eq!(Value::Integer(-3).encode(), b"i-3e");
        assert_eq!(Value::List(vec![Value::bytes("spam"), Value::bytes("eggs")]).encode(), b"l4:spam4:eggse");
        let dictionary =
            [("spam", Value::List(vec![Value::bytes("a"), Value::bytes("b")])), ("cow", Value::bytes("moo"))];
        assert_eq!(Value::dictionary(dictionary).encode(), b"d3:cow3:moo4:spaml1:a1:bee");
    }
}
