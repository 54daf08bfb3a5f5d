//! The life of what fetches metadata.

use super::{RECENT, Subject, garbage};
use crate::id::{ConnId, InfoHash, InfoHashes};
use crate::machine::{Machine, Outbox, Timestamp};
use crate::metadata::{self, Metadata};
use crate::metainfo::{Assembly, AssemblyError};
use crate::rng::Rng;
use crate::wire::MAX_METADATA_LEN;
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use core::fmt::Debug;
use sha1::{Digest as _, Sha1};

/// Metadata that peers offer, send, refuse and lie about.
#[derive(Debug)]
pub(super) struct Fetching {
    metadata: Metadata,
    info: Bytes,
    asked: Vec<(ConnId, u32)>,
    jobs: Vec<(u32, Assembly)>,
}

impl Subject for Fetching {
    type Input = metadata::Event;
    type Machine = Metadata;

    fn new(_now: Timestamp, rng: &mut Rng) -> Self {
        let ballast = rng.below(60_000) as usize;
        let info = format!(
            "d6:lengthi1e4:name1:n12:piece lengthi1e6:pieces20:hhhhhhhhhhhhhhhhhhhh1:x{ballast}:{}e",
            "x".repeat(ballast)
        );
        let hash = InfoHash(Sha1::digest(&info).into());
        let metadata = Metadata::wanted(InfoHashes::V1(hash));
        Self { metadata, info: info.into_bytes().into(), asked: vec![], jobs: vec![] }
    }

    fn machine(&mut self) -> &mut Metadata {
        &mut self.metadata
    }

    fn draw(&self, rng: &mut Rng) -> metadata::Event {
        let nth = |len: usize, rng: &mut Rng| rng.below(len as u64) as usize;
        let asked = self.asked.get(nth(self.asked.len(), rng)).copied();
        let (peer, piece) = asked.unwrap_or((ConnId(rng.below(6)), rng.below(6) as u32));
        match rng.below(64) {
            0 => metadata::Event::Rejected { peer, piece },
            1..=4 => metadata::Event::Gone { peer: ConnId(rng.below(6)) },
            5..=8 => metadata::Event::Requested { peer, piece },
            9..=20 => {
                let wrong = rng.chance(1, 3).then(|| 1 + rng.below(MAX_METADATA_LEN.into()) as u32);
                let len = wrong.unwrap_or(self.info.len() as u32);
                metadata::Event::Offer { peer: ConnId(rng.below(6)), len }
            }
            21..=30 => match self.jobs.get(nth(self.jobs.len(), rng)) {
                // One that is right ends it all, so that is rare.
                Some((job, assembly)) => {
                    let mut read = assembly.clone().read();
                    if rng.chance(3, 4) {
                        read.metainfo = Err(AssemblyError::WrongHash);
                    }
                    metadata::Event::Read { job: *job, result: rng.chance(7, 8).then_some(read) }
                }
                None => metadata::Event::Read { job: rng.next_u32(), result: None },
            },
            _ => {
                let from = (piece as usize * (1 << 14)).min(self.info.len());
                let to = (from + (1 << 14)).min(self.info.len());
                let right = rng.chance(15, 16);
                let data = if right { self.info.slice(from..to) } else { garbage(rng, 1 << 14) };
                metadata::Event::Data { peer, piece, data }
            }
        }
    }

    fn feed(&mut self, now: Timestamp, input: &metadata::Event, out: &mut Outbox<metadata::Action>) {
        if let metadata::Event::Read { job, .. } = input {
            self.jobs.retain(|(other, _)| other != job);
        }
        self.metadata.handle_event(now, input.clone(), out);
    }

    fn hear(&mut self, said: &metadata::Action) {
        match said {
            metadata::Action::Ask { peer, piece } => {
                self.asked.push((*peer, *piece));
                self.asked.drain(..self.asked.len().saturating_sub(RECENT));
            }
            metadata::Action::Read { job, assembly } => self.jobs.push((*job, assembly.clone())),
            _ => {}
        }
    }
}
