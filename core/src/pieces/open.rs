//! One piece of which some blocks are requested or received.

use crate::id::ConnId;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Deref;

/// The most peers that one block may be requested from at a time, and that only in endgame.
pub const MAX_REQUESTERS: usize = 3;

/// The peers that one block is requested from, in the order in which they were asked.
#[derive(Clone, Copy)]
pub struct Requesters {
    conns: [ConnId; MAX_REQUESTERS],
    len: usize,
}

impl Requesters {
    pub(super) const fn none() -> Self {
        Self { conns: [ConnId(0); MAX_REQUESTERS], len: 0 }
    }

    pub(super) fn without(self, conn: ConnId) -> Self {
        let mut rest = Self::none();
        self.iter().filter(|other| **other != conn).for_each(|other| rest.push(*other));
        rest
    }

    fn push(&mut self, conn: ConnId) {
        self.conns[self.len] = conn;
        self.len += 1;
    }
}

impl Deref for Requesters {
    type Target = [ConnId];

    fn deref(&self) -> &[ConnId] {
        &self.conns[..self.len]
    }
}

impl fmt::Debug for Requesters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl PartialEq for Requesters {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Requesters {}

/// The blocks of a piece that was begun, and who works on it.
#[derive(Clone, Debug)]
pub(super) struct OpenPiece {
    /// The number of pieces opened before this one.
    age: u64,
    blocks: Vec<State>,
    free: u32,
    received: u32,
    /// No block below this one is free.
    first_free: u32,
    /// Requesters of a block beyond the first, in the order in which they were asked.
    extra: Vec<(u32, ConnId)>,
    workers: Vec<Worker>,
}

/// What is known of a block.
///
/// ```text
///         request           receive
///  Free ──────────▶ Requested ──────▶ Received
///   ▲ │                 │                ▲
///   │ └─────────────────│── receive ─────┘   (late: its request was given up)
///   └──── release ──────┘
/// ```
#[derive(Clone, Copy, Debug)]
enum State {
    Free,
    Received { from: ConnId },
    Requested { by: ConnId },
}

/// A peer that owes blocks of the piece.
#[derive(Clone, Copy, Debug)]
struct Worker {
    conn: ConnId,
    owes: u32,
    alone: bool,
}

impl OpenPiece {
    pub(super) fn new(age: u64, blocks: u32) -> Self {
        Self {
            age,
            blocks: vec![State::Free; blocks as usize],
            free: blocks,
            received: 0,
            first_free: 0,
            extra: Vec::new(),
            workers: Vec::new(),
        }
    }

    pub(super) const fn age(&self) -> u64 {
        self.age
    }

    pub(super) fn len(&self) -> u32 {
        self.blocks.len() as u32
    }

    pub(super) const fn free(&self) -> u32 {
        self.free
    }

    pub(super) const fn received(&self) -> u32 {
        self.received
    }

    /// Whether some peer that works on the piece wants it for itself.
    pub(super) fn is_held(&self) -> bool {
        self.workers.iter().any(|worker| worker.alone)
    }

    /// The peers that owe blocks of it.
    pub(super) fn workers(&self) -> impl Iterator<Item = ConnId> + '_ {
        self.workers.iter().map(|worker| worker.conn)
    }

    pub(super) fn works(&self, conn: ConnId) -> bool {
        self.workers().any(|worker| worker == conn)
    }

    pub(super) fn is_received(&self, number: u32) -> bool {
        matches!(self.blocks[number as usize], State::Received { .. })
    }

    pub(super) fn requesters(&self, number: u32) -> Requesters {
        let mut all = Requesters::none();
        if let State::Requested { by } = self.blocks[number as usize] {
            all.push(by);
            self.extra.iter().filter(|(at, _)| *at == number).for_each(|(_, conn)| all.push(*conn));
        }
        all
    }

    /// The blocks that are requested.
    pub(super) fn requested(&self) -> impl Iterator<Item = u32> + '_ {
        (0..)
            .zip(&self.blocks)
            .filter(|(_, state)| matches!(state, State::Requested { .. }))
            .map(|(at, _)| at)
    }

    /// Which peer each received block came from.
    pub(super) fn contributors(&self) -> impl Iterator<Item = (u32, ConnId)> + '_ {
        (0..).zip(&self.blocks).filter_map(|(number, state)| match state {
            State::Received { from } => Some((number, *from)),
            State::Free | State::Requested { .. } => None,
        })
    }

    /// Notes that the lowest free block is requested from `conn`; returns its number.
    pub(super) fn request_free(&mut self, conn: ConnId, alone: bool) -> Option<u32> {
        let from = self.blocks.get(self.first_free as usize..)?;
        let ahead = from.iter().position(|state| matches!(state, State::Free))?;
        let number = self.first_free + ahead as u32;
        self.blocks[number as usize] = State::Requested { by: conn };
        self.free -= 1;
        self.first_free = number + 1;
        self.owe(conn, alone);
        Some(number)
    }

    /// Notes that block `number`, which others owe, is requested from `conn` too.
    pub(super) fn request_too(&mut self, number: u32, conn: ConnId, alone: bool) {
        let asked = self.requesters(number);
        assert!(!asked.is_empty(), "only a requested block is requested twice");
        assert!(
            asked.len() < MAX_REQUESTERS && !asked.contains(&conn),
            "a block has few requesters, once each"
        );
        self.extra.push((number, conn));
        self.owe(conn, alone);
    }

    /// Notes that block `number` came from `from`; returns whom it was requested from, or nothing if it was here.
    pub(super) fn receive(&mut self, number: u32, from: ConnId) -> Option<Requesters> {
        if self.is_received(number) {
            return None;
        }
        let asked = self.requesters(number);
        asked.iter().for_each(|conn| self.settle(*conn));
        self.extra.retain(|(at, _)| *at != number);
        self.free -= u32::from(asked.is_empty());
        self.received += 1;
        self.blocks[number as usize] = State::Received { from };
        Some(asked)
    }

    /// Notes that `conn` owes block `number` no more; returns whether it did.
    pub(super) fn release(&mut self, number: u32, conn: ConnId) -> bool {
        let asked = self.requesters(number);
        if !asked.contains(&conn) {
            return false;
        }
        self.settle(conn);
        let rest = asked.without(conn);
        self.extra.retain(|(at, _)| *at != number);
        self.extra.extend(rest.iter().skip(1).map(|conn| (number, *conn)));
        self.blocks[number as usize] = match rest.first() {
            Some(by) => State::Requested { by: *by },
            None => State::Free,
        };
        if rest.is_empty() {
            self.free += 1;
            self.first_free = self.first_free.min(number);
        }
        true
    }

    /// One block more is owed by `conn`.
    fn owe(&mut self, conn: ConnId, alone: bool) {
        match self.workers.iter_mut().find(|worker| worker.conn == conn) {
            Some(worker) => {
                worker.owes += 1;
                worker.alone = alone;
            }
            None => self.workers.push(Worker { conn, owes: 1, alone }),
        }
    }

    /// One block fewer is owed by `conn`.
    fn settle(&mut self, conn: ConnId) {
        let at = self.workers.iter().position(|worker| worker.conn == conn).expect("who owes a block works");
        self.workers[at].owes -= 1;
        if self.workers[at].owes == 0 {
            self.workers.remove(at);
        }
    }

    /// Panics unless the counts agree with a recount.
    pub(super) fn check_invariants(&self) {
        let count = |f: fn(&State) -> bool| self.blocks.iter().filter(|state| f(state)).count() as u32;
        assert_eq!(self.free, count(|state| matches!(state, State::Free)));
        assert_eq!(self.received, count(|state| matches!(state, State::Received { .. })));
        assert!(self.free < self.len(), "a piece of which nothing is requested or received is not open");
        let below = &self.blocks[..self.first_free as usize];
        assert!(!below.iter().any(|state| matches!(state, State::Free)));
        let mut owed = 0;
        for number in 0..self.len() {
            let asked = self.requesters(number);
            assert!((1..asked.len()).all(|at| !asked[..at].contains(&asked[at])), "asked once each");
            owed += asked.len();
        }
        for worker in &self.workers {
            let owes =
                (0..self.len()).filter(|number| self.requesters(*number).contains(&worker.conn)).count();
            assert_eq!(worker.owes as usize, owes);
        }
        assert_eq!(self.workers.iter().map(|worker| worker.owes as usize).sum::<usize>(), owed);
        assert!(self.workers.iter().all(|worker| worker.owes > 0), "who owes nothing does not work");
    }
}
