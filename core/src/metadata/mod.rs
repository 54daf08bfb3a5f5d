//! The info dictionary of a torrent: from peers, and to peers (BEP 9).
//!
//! ```text
//!            ┌──── the hash is wrong ────┐
//!            ▼                           │
//! wanted ─ drafts ──all pieces are here─ judged ──the hash is right──► known, and served
//! ```
//!
//! Nothing is believed before its hash was looked at, which a driver does, and nothing else is ever served.

mod draft;
mod fetch;
mod serve;
#[cfg(test)]
mod tests;

use crate::id::{ConnId, InfoHashes};
use crate::machine::{Deadline, Machine, Outbox, Timestamp};
use crate::metainfo::{Assembled, Assembly, AssemblyError, Metainfo};
use crate::wire::{METADATA_PIECE_LEN, Offence, metadata_piece_count, metadata_piece_len};
use alloc::sync::Arc;
use bytes::Bytes;
use fetch::Fetch;
use serve::Server;

/// The metadata of one torrent.
#[derive(Debug)]
pub struct Metadata {
    state: State,
    server: Server,
}

#[derive(Debug)]
enum State {
    Known(Arc<Metainfo>),
    /// What the hash names describes no torrent.
    Useless,
    Wanted(Fetch),
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A peer sent a piece.
    Data {
        /// Who.
        peer: ConnId,
        /// Which.
        piece: u32,
        /// Its bytes.
        data: Bytes,
    },
    /// A peer left, or takes no more requests.
    Gone {
        /// Who.
        peer: ConnId,
    },
    /// The metadata came from elsewhere.
    Known(Arc<Metainfo>),
    /// A peer has the metadata, and says how long it is.
    Offer {
        /// Who.
        peer: ConnId,
        /// Its length, 1 to [`MAX_METADATA_LEN`](crate::wire::MAX_METADATA_LEN).
        len: u32,
    },
    /// The answer to [`Action::Read`]; nothing if there is none.
    Read {
        /// As given.
        job: u32,
        /// What came of it.
        result: Option<Assembled>,
    },
    /// A peer does not give a piece.
    Rejected {
        /// Who.
        peer: ConnId,
        /// Which.
        piece: u32,
    },
    /// A peer wants a piece.
    Requested {
        /// Who.
        peer: ConnId,
        /// Which.
        piece: u32,
    },
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A peer broke the protocol.
    Accuse {
        /// Who.
        peer: ConnId,
        /// How.
        offence: Offence,
    },
    /// Ask a peer for a piece.
    Ask {
        /// Whom.
        peer: ConnId,
        /// For which.
        piece: u32,
    },
    /// The metadata is there.
    Known(Arc<Metainfo>),
    /// A peer, which may have left, sent something else than the metadata.
    Liar(ConnId),
    /// Put these pieces together and look at them: a job for a driver.
    Read {
        /// To be named in the answer.
        job: u32,
        /// The pieces.
        assembly: Assembly,
    },
    /// Refuse a piece to a peer.
    Refuse {
        /// To whom.
        peer: ConnId,
        /// Which.
        piece: u32,
    },
    /// Give a piece to a peer.
    Serve {
        /// To whom.
        peer: ConnId,
        /// Which.
        piece: u32,
        /// The length of all.
        total_len: u32,
        /// The piece.
        data: Bytes,
    },
    /// What the hash names is no torrent.
    Useless(AssemblyError),
}

/// How far the metadata is from being known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Peers that say they have it.
    pub sources: u32,
    /// Its pieces that are here.
    pub pieces_have: u32,
    /// How many there are, by what peers say; zero before any did.
    pub pieces: u32,
}

impl Metadata {
    /// The metadata is known from the start.
    pub fn known(metainfo: Arc<Metainfo>) -> Self {
        Self { state: State::Known(metainfo), server: Server::default() }
    }

    /// The metadata has to come from peers.
    pub fn wanted(hashes: InfoHashes) -> Self {
        Self { state: State::Wanted(Fetch::new(hashes)), server: Server::default() }
    }

    /// What the torrent is, once that is proved.
    pub fn metainfo(&self) -> Option<&Arc<Metainfo>> {
        match &self.state {
            State::Known(metainfo) => Some(metainfo),
            State::Useless | State::Wanted(_) => None,
        }
    }

    /// The length of the info dictionary, once it is proved.
    pub fn info_len(&self) -> Option<u32> {
        self.metainfo().map(|metainfo| len_of(metainfo))
    }

    /// Whether what the hash names turned out to be no torrent.
    pub fn is_useless(&self) -> bool {
        matches!(self.state, State::Useless)
    }

    /// How far it is, as long as it is wanted.
    pub fn progress(&self) -> Option<Progress> {
        let State::Wanted(fetch) = &self.state else { return None };
        let (pieces_have, pieces) = fetch.progress().unwrap_or_default();
        Some(Progress { sources: fetch.sources() as u32, pieces_have, pieces })
    }

    /// The bytes of unproved metadata in memory (P-20).
    pub fn unproved_bytes(&self) -> u32 {
        if let State::Wanted(fetch) = &self.state { fetch.held() } else { 0 }
    }

    fn on_read(&mut self, now: Timestamp, job: u32, result: Option<Assembled>, out: &mut Outbox<Action>) {
        let State::Wanted(fetch) = &mut self.state else { return };
        let Some(Assembled { metainfo, digests }) = result else { return fetch.on_lost(now, job, out) };
        match metainfo {
            Ok(metainfo) => {
                let liars = fetch.liars(metainfo.info().len(), &digests);
                out.extend(liars.into_iter().map(Action::Liar));
                self.state = State::Known(Arc::clone(&metainfo));
                out.push_back(Action::Known(metainfo));
            }
            Err(AssemblyError::WrongHash) => fetch.on_wrong(now, job, &digests, out),
            Err(error) => {
                self.state = State::Useless;
                out.push_back(Action::Useless(error));
            }
        }
    }

    fn on_requested(&mut self, now: Timestamp, peer: ConnId, piece: u32, out: &mut Outbox<Action>) {
        let State::Known(metainfo) = &self.state else {
            return out.push_back(Action::Refuse { peer, piece });
        };
        let total_len = len_of(metainfo);
        match metadata_piece_len(total_len, piece) {
            Some(len) if self.server.serves(now, peer, metadata_piece_count(total_len)) => {
                let from = (piece * METADATA_PIECE_LEN) as usize;
                let data = metainfo.info().slice(from..from + len as usize);
                out.push_back(Action::Serve { peer, piece, total_len, data });
            }
            _ => out.push_back(Action::Refuse { peer, piece }),
        }
    }
}

impl Machine for Metadata {
    type Event = Event;
    type Action = Action;

    fn handle_event(&mut self, now: Timestamp, event: Event, out: &mut Outbox<Action>) {
        match (event, &mut self.state) {
            (Event::Requested { peer, piece }, _) => self.on_requested(now, peer, piece, out),
            (Event::Read { job, result }, _) => self.on_read(now, job, result, out),
            (Event::Known(metainfo), State::Wanted(_)) => {
                self.state = State::Known(Arc::clone(&metainfo));
                out.push_back(Action::Known(metainfo));
            }
            (Event::Gone { peer }, state) => {
                self.server.forget(peer);
                if let State::Wanted(fetch) = state {
                    fetch.on_gone(now, peer, out);
                }
            }
            (Event::Data { peer, piece, data }, State::Wanted(fetch)) => {
                fetch.on_data(now, peer, piece, &data, out);
            }
            (Event::Offer { peer, len }, State::Wanted(fetch)) => fetch.on_offer(now, peer, len, out),
            (Event::Rejected { peer, piece }, State::Wanted(fetch)) => {
                fetch.on_rejected(now, peer, piece, out);
            }
            // What was asked for before it was known.
            (Event::Data { .. } | Event::Known(_) | Event::Offer { .. } | Event::Rejected { .. }, _) => {}
        }
    }

    fn handle_timeout(&mut self, now: Timestamp, out: &mut Outbox<Action>) {
        if let State::Wanted(fetch) = &mut self.state {
            fetch.handle_timeout(now, out);
        }
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        if let State::Wanted(fetch) = &self.state { fetch.poll_timeout() } else { None }
    }
}

fn len_of(metainfo: &Metainfo) -> u32 {
    u32::try_from(metainfo.info().len()).expect("an info dictionary has at most 16 MiB")
}
