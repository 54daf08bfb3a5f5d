//! Obfuscated connections (message stream encryption, MSE/PE; there is no BEP).
//!
//! What both ends send looks like noise, so that routers which slow BitTorrent down don't know it. It proves nothing and
//! keeps no secret from whoever is on the way and knows the infohash.
//!
//! [`Initiator`] and [`Responder`] are the two ends of a connection until they agree. They take bytes as they come and
//! leave those that are behind the handshake; from then on [`Agreed`] has the ciphers of both directions.
//!
//! ```text
//!  initiator                                              responder
//!      │ ── key, padding ───────────────────────────────────▶ │
//!      │ ◀─────────────────────────────────── key, padding ── │
//!      │ ── mark, torrent, E(methods, padding, first words) ▶ │
//!      │ ◀──────────────────────────── E(method, padding) ── │
//! ```

mod handshake;
mod keys;
mod rc4;
#[cfg(test)]
mod tests;

pub use handshake::{Agreed, Error, Initiator, MAX_INITIATION, Responder};
pub use keys::torrent_mark;
pub use rc4::Rc4;

use core::fmt;
use core::ops::BitAnd;

/// How the bytes behind the handshake are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// As they are.
    Plain,
    /// By [`Rc4`].
    Rc4,
}

/// Some of the methods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Methods(pub u32);

impl Methods {
    /// [`Method::Plain`] alone.
    pub const PLAIN: Self = Self(1);
    /// [`Method::Rc4`] alone.
    pub const RC4: Self = Self(2);
    /// Both.
    pub const ALL: Self = Self(3);

    /// Whether `method` is among them.
    pub const fn has(self, method: Method) -> bool {
        self.0 & Self::only(method).0 != 0
    }

    const fn only(method: Method) -> Self {
        match method {
            Method::Plain => Self::PLAIN,
            Method::Rc4 => Self::RC4,
        }
    }

    /// The one that this is; none if it is none that we know, or several.
    const fn sole(self) -> Option<Method> {
        match self {
            Self::PLAIN => Some(Method::Plain),
            Self::RC4 => Some(Method::Rc4),
            _ => None,
        }
    }
}

/// Those that are in both.
impl BitAnd for Methods {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "plain",
            Self::Rc4 => "RC4",
        })
    }
}
