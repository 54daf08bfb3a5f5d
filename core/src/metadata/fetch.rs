//! Getting the metadata from peers that may lie.

use super::Action;
use super::draft::Draft;
use crate::id::{ConnId, InfoHashes};
use crate::machine::{Deadline, Outbox, Timestamp};
use crate::metainfo::Assembly;
use crate::wire::{MAX_METADATA_LEN, Offence};
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use bytes::Bytes;
use core::time::Duration;

/// What is being done to get the metadata.
///
/// How long it is, each peer says for itself, and only the hash of the whole shows who is right. So there is a
/// [`Draft`] for each length that peers claim, and different pieces of it come from different peers. A claim costs
/// nothing; when all that came is more than one draft may have, the one that lacks most gives way, and before all others
/// one that nobody goes on with. When one that several peers had a part in turns out wrong, nobody knows yet which of
/// them lied: from then on each draft comes from one peer alone, and who fails alone is a liar. When the right one is
/// there, the digests of the wrong ones show who else was.
#[derive(Debug)]
pub(super) struct Fetch {
    hashes: InfoHashes,
    sources: BTreeMap<ConnId, Source>,
    /// In the order in which they were begun.
    drafts: Vec<Draft>,
    /// Those that are whole, by the job that looks at them.
    judged: BTreeMap<u32, Judged>,
    next_job: u32,
    /// Whether each draft must come from one peer.
    alone: bool,
    evidence: Vec<Evidence>,
    /// How often the draft was begun before that waits for another to end.
    waiting: Option<u32>,
    /// When a peer that has nothing to do may be asked for what others owe.
    ask_again_at: Option<Timestamp>,
}

/// A peer that says it has the metadata.
#[derive(Debug)]
struct Source {
    len: u32,
    /// What it owes, oldest first, and when it was asked.
    asked: VecDeque<(u32, Timestamp)>,
    /// What it owed when it was given up, and may still send as often: late, not hostile.
    late: BTreeMap<u32, u32>,
    heard_at: Timestamp,
    /// Until then it is not asked.
    paused_until: Option<Timestamp>,
    /// How often a draft with it took too long, or too much memory.
    tries: u32,
    /// How often it was given up while it owed something.
    slow: u32,
    /// Whether it had a part in a draft that was wrong.
    suspect: bool,
    /// Pieces that came without being asked for.
    unasked: u32,
}

/// A draft whose hash is being looked at.
#[derive(Debug)]
struct Judged {
    len: u32,
    only: Option<ConnId>,
    senders: Vec<ConnId>,
}

/// A piece of a draft that was wrong.
#[derive(Debug)]
struct Evidence {
    sender: ConnId,
    len: u32,
    piece: usize,
    digest: [u8; 20],
}

/// A draft that could be begun; the lowest comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    tries: u32,
    len: u32,
    suspect: bool,
    only: Option<ConnId>,
}

impl Fetch {
    pub(super) fn new(hashes: InfoHashes) -> Self {
        Self {
            hashes,
            sources: BTreeMap::new(),
            drafts: Vec::new(),
            judged: BTreeMap::new(),
            next_job: 0,
            alone: false,
            evidence: Vec::new(),
            waiting: None,
            ask_again_at: None,
        }
    }

    /// How many peers say that they have it.
    pub(super) fn sources(&self) -> usize {
        self.sources.len()
    }

    /// How many pieces of the draft that is nearest to its end are here, and how many there are.
    pub(super) fn progress(&self) -> Option<(u32, u32)> {
        let judged =
            self.judged.values().map(|judged| (judged.senders.len() as u32, judged.senders.len() as u32));
        let drafts = self.drafts.iter().map(Draft::progress).chain(judged);
        drafts.max_by_key(|(here, of)| u64::from(*here) * u64::from(MAX_METADATA_LEN) / u64::from(*of))
    }

    /// The bytes of all drafts in memory.
    pub(super) fn held(&self) -> u32 {
        let judged: u32 = self.judged.values().map(|judged| judged.len).sum();
        self.drafts.iter().map(Draft::held).sum::<u32>() + judged
    }

    pub(super) fn on_offer(&mut self, now: Timestamp, peer: ConnId, len: u32, out: &mut Outbox<Action>) {
        if self.sources.get(&peer).is_some_and(|source| source.len == len) {
            return;
        }
        // What it said before counts no more, and each change would cost us another draft: it can wait.
        let before = self.remove(peer);
        let mut source = Source::new(now, len);
        if let Some(before) = before {
            source.paused_until = Some(now + PAUSE);
            source.unasked = before.unasked;
            (source.tries, source.slow, source.suspect) = (before.tries, before.slow, before.suspect);
        }
        self.sources.insert(peer, source);
        self.advance(now, out);
    }

    pub(super) fn on_gone(&mut self, now: Timestamp, peer: ConnId, out: &mut Outbox<Action>) {
        self.remove(peer);
        // Nobody else may go on with it.
        self.drafts.retain(|draft| draft.only != Some(peer));
        self.advance(now, out);
    }

    pub(super) fn on_data(
        &mut self,
        now: Timestamp,
        peer: ConnId,
        piece: u32,
        data: &Bytes,
        out: &mut Outbox<Action>,
    ) {
        let Some(source) = self.sources.get_mut(&peer) else { return };
        let owed = source.end_ask(piece);
        if !owed && !source.end_late(piece) {
            source.unasked += 1;
            if source.unasked > MAX_UNASKED {
                out.push_back(Action::Accuse { peer, offence: Offence::MetadataNotRequested });
            }
            return;
        }
        source.heard_at = now;
        self.make_room(now, data.len());
        let Some(at) = self.draft_of(peer) else { return self.advance(now, out) };
        let draft = &mut self.drafts[at];
        let fits = draft.put(piece, peer, data);
        if owed {
            draft.release(piece);
        }
        if !fits {
            out.push_back(Action::Accuse { peer, offence: Offence::BadMetadata });
            return;
        }
        if draft.is_whole() {
            let draft = self.drafts.remove(at);
            self.judge(draft, out);
        }
        self.advance(now, out);
    }

    pub(super) fn on_rejected(&mut self, now: Timestamp, peer: ConnId, piece: u32, out: &mut Outbox<Action>) {
        if self.sources.get(&peer).is_some_and(|source| source.owes(piece)) {
            self.pause(now, peer);
            self.advance(now, out);
        }
    }

    /// A draft was looked at, and is not what the hash names.
    pub(super) fn on_wrong(
        &mut self,
        now: Timestamp,
        job: u32,
        digests: &[[u8; 20]],
        out: &mut Outbox<Action>,
    ) {
        let Some(judged) = self.judged.remove(&job) else { return };
        let senders: BTreeSet<ConnId> = judged.senders.iter().copied().collect();
        if let Some(liar) = senders.first().copied().filter(|_| senders.len() == 1) {
            self.remove(liar);
            out.push_back(Action::Liar(liar));
        } else {
            self.alone = true;
            for sender in &senders {
                if let Some(source) = self.sources.get_mut(sender) {
                    source.suspect = true;
                }
            }
            let pieces = judged.senders.iter().zip(digests).enumerate();
            self.evidence.extend(pieces.map(|(piece, (sender, digest))| Evidence {
                sender: *sender,
                len: judged.len,
                piece,
                digest: *digest,
            }));
        }
        self.advance(now, out);
    }

    /// A job that looks at a draft ended without an answer: what it held is lost.
    pub(super) fn on_lost(&mut self, now: Timestamp, job: u32, out: &mut Outbox<Action>) {
        if self.judged.remove(&job).is_some() {
            self.advance(now, out);
        }
    }

    /// Who sent pieces that are not those of the right metadata, of which these are length and digests.
    pub(super) fn liars(&self, len: usize, digests: &[[u8; 20]]) -> BTreeSet<ConnId> {
        let wrong =
            |sent: &&Evidence| sent.len as usize != len || digests.get(sent.piece) != Some(&sent.digest);
        self.evidence.iter().filter(wrong).map(|sent| sent.sender).collect()
    }

    pub(super) fn handle_timeout(&mut self, now: Timestamp, out: &mut Outbox<Action>) {
        if self.poll_timeout().is_none_or(|due| due.at > now) {
            return;
        }
        for source in self.sources.values_mut() {
            source.paused_until = source.paused_until.filter(|until| *until > now);
        }
        let silent = self.sources.iter().filter(|(_, source)| source.silent_at().is_some_and(|at| at <= now));
        for peer in silent.map(|(peer, _)| *peer).collect::<Vec<_>>() {
            self.pause(now, peer);
        }
        self.advance(now, out);
    }

    pub(super) fn poll_timeout(&self) -> Option<Deadline> {
        let sources = || self.sources.values();
        let silent = sources().filter_map(Source::silent_at).min();
        let paused = sources().filter_map(|source| source.paused_until).min();
        let late = self.waiting.and_then(|tries| {
            let drafts = self.drafts.iter().filter(|draft| self.tries(draft) >= tries);
            drafts.map(|draft| self.patience_ends(draft)).min()
        });
        let due = |at: Option<Timestamp>, why| at.map(|at| Deadline { at, why });
        let mut next = due(silent, "metadata timeout");
        next = Deadline::earlier(next, due(paused, "metadata pause"));
        next = Deadline::earlier(next, due(late, "metadata patience"));
        Deadline::earlier(next, due(self.ask_again_at, "metadata again"))
    }

    /// Begins drafts and asks for pieces, as far as there is something to begin and somebody to ask.
    fn advance(&mut self, now: Timestamp, out: &mut Outbox<Action>) {
        self.begin_drafts(now);
        let mut peers: Vec<(u32, ConnId)> =
            self.sources.iter().map(|(peer, source)| (source.slow, *peer)).collect();
        // Those first that have always answered.
        peers.sort_unstable();
        for (_, peer) in peers {
            self.ask(now, peer, out);
        }
        let idle = |draft: &&Draft| {
            self.sources.iter().any(|(peer, source)| {
                draft.takes(*peer, source) && source.is_active() && source.asked.is_empty()
            })
        };
        self.ask_again_at = self.drafts.iter().filter(idle).filter_map(Draft::ask_again_at).min();
    }

    fn begin_drafts(&mut self, now: Timestamp) {
        self.waiting = None;
        while let Some(candidate) = self.best_candidate() {
            if self.drafts.len() >= MAX_DRAFTS {
                let may_end = |draft: &Draft| self.may_end(now, draft, candidate.tries);
                let Some(at) = self.drafts.iter().position(may_end) else {
                    self.waiting = Some(candidate.tries);
                    return;
                };
                let late = self.patience_ends(&self.drafts[at]) <= now;
                self.give_up(at, late);
            }
            self.drafts.push(Draft::new(now, candidate.len, candidate.only));
        }
    }

    fn best_candidate(&self) -> Option<Candidate> {
        let is_new = |peer: ConnId, source: &Source| {
            let judged = self.judged.values().any(|judged| match judged.only {
                Some(only) => only == peer,
                None => judged.len == source.len,
            });
            !judged && !self.drafts.iter().any(|draft| draft.takes(peer, source))
        };
        let sources = self.sources.iter().filter(|(_, source)| source.is_active());
        let candidates =
            sources.filter(|(peer, source)| is_new(**peer, source)).map(|(peer, source)| Candidate {
                tries: source.tries,
                len: source.len,
                suspect: source.suspect,
                only: self.alone.then_some(*peer),
            });
        candidates.min()
    }

    /// Lets drafts go until there is memory for another piece (limit L4). Who sent so much is left alone for a while, lest
    /// each of its pieces lead to more requests than one.
    fn make_room(&mut self, now: Timestamp, len: usize) {
        while self.held() as usize + len > MAX_METADATA_LEN as usize {
            let drafts = self.drafts.iter().enumerate().filter(|(_, draft)| draft.held() > 0);
            let most = drafts.max_by_key(|(_, draft)| (self.is_stuck(now, draft), draft.len - draft.held()));
            let Some(at) = most.map(|(at, _)| at) else { return };
            let until = now + PAUSE;
            let draft = self.give_up(at, true);
            let sources = self.sources.iter_mut().filter(|(peer, source)| draft.takes(**peer, source));
            sources.for_each(|(_, source)| source.paused_until = Some(until));
        }
    }

    /// Whether nobody goes on with a draft.
    fn is_stuck(&self, now: Timestamp, draft: &Draft) -> bool {
        let goes_on = |source: &Source| source.is_active() && now.since(source.heard_at) < STUCK_AFTER;
        !self.sources_of(draft).any(goes_on)
    }

    /// Whether a draft may give way to one that was begun `tries` times before: nobody can be asked for it, or it takes
    /// too long and had its turn as often.
    fn may_end(&self, now: Timestamp, draft: &Draft, tries: u32) -> bool {
        let late = self.patience_ends(draft) <= now && self.tries(draft) >= tries;
        late || !self.sources_of(draft).any(Source::is_active)
    }

    fn patience_ends(&self, draft: &Draft) -> Timestamp {
        draft.since + PATIENCE * (1 << self.tries(draft).min(MAX_DOUBLINGS))
    }

    /// How often a draft was begun before.
    fn tries(&self, draft: &Draft) -> u32 {
        self.sources_of(draft).map(|source| source.tries).min().unwrap_or(0)
    }

    fn sources_of<'a>(&'a self, draft: &'a Draft) -> impl Iterator<Item = &'a Source> {
        let takes = |(peer, source): &(&ConnId, &Source)| draft.takes(**peer, source);
        self.sources.iter().filter(takes).map(|(_, source)| source)
    }

    /// Ends a draft; whether because it took too much.
    fn give_up(&mut self, at: usize, too_much: bool) -> Draft {
        let draft = self.drafts.remove(at);
        for (peer, source) in &mut self.sources {
            if draft.takes(*peer, source) {
                source.tries += u32::from(too_much);
                source.slow += u32::from(!source.asked.is_empty());
                source.give_up();
            }
        }
        draft
    }

    /// Asks a peer for as many pieces as it may owe.
    fn ask(&mut self, now: Timestamp, peer: ConnId, out: &mut Outbox<Action>) {
        let Some(at) = self.draft_of(peer) else { return };
        let (Some(source), draft) = (self.sources.get_mut(&peer), &mut self.drafts[at]) else { return };
        if !source.is_active() {
            return;
        }
        let idle = source.asked.is_empty();
        while source.asked.len() < MAX_ASKED
            && let Some(piece) = draft.ask(now, idle)
        {
            if source.asked.is_empty() {
                source.heard_at = now;
            }
            source.asked.push_back((piece, now));
            out.push_back(Action::Ask { peer, piece });
        }
    }

    fn draft_of(&self, peer: ConnId) -> Option<usize> {
        let source = self.sources.get(&peer)?;
        self.drafts.iter().position(|draft| draft.takes(peer, source))
    }

    fn judge(&mut self, draft: Draft, out: &mut Outbox<Action>) {
        for (peer, source) in &mut self.sources {
            if draft.takes(*peer, source) {
                source.give_up();
            }
        }
        let (len, only) = (draft.len, draft.only);
        let (senders, parts) = draft.into_parts();
        let job = self.next_job;
        self.next_job = self.next_job.wrapping_add(1);
        self.judged.insert(job, Judged { len, only, senders });
        out.push_back(Action::Read { job, assembly: Assembly::new(parts, self.hashes) });
    }

    /// Leaves a peer alone for a while; what it owes is asked of others.
    fn pause(&mut self, now: Timestamp, peer: ConnId) {
        let draft = self.draft_of(peer);
        let Some(source) = self.sources.get_mut(&peer) else { return };
        source.paused_until = Some(now + PAUSE);
        source.slow += u32::from(!source.asked.is_empty());
        let owed = source.give_up();
        if let Some(at) = draft {
            owed.into_iter().for_each(|piece| self.drafts[at].release(piece));
        }
    }

    fn remove(&mut self, peer: ConnId) -> Option<Source> {
        let draft = self.draft_of(peer);
        let mut source = self.sources.remove(&peer)?;
        if let Some(at) = draft {
            source.give_up().into_iter().for_each(|piece| self.drafts[at].release(piece));
        }
        Some(source)
    }
}

impl Source {
    fn new(now: Timestamp, len: u32) -> Self {
        Self {
            len,
            asked: VecDeque::new(),
            late: BTreeMap::new(),
            heard_at: now,
            paused_until: None,
            tries: 0,
            slow: 0,
            suspect: false,
            unasked: 0,
        }
    }

    fn is_active(&self) -> bool {
        self.paused_until.is_none()
    }

    fn owes(&self, piece: u32) -> bool {
        self.asked.iter().any(|(owed, _)| *owed == piece)
    }

    /// It answered; whether it was asked.
    fn end_ask(&mut self, piece: u32) -> bool {
        let at = self.asked.iter().position(|(owed, _)| *owed == piece);
        at.is_some_and(|at| self.asked.remove(at).is_some())
    }

    /// Waits no longer for what it owes; returns that.
    fn give_up(&mut self) -> Vec<u32> {
        let owed: Vec<u32> = self.asked.drain(..).map(|(piece, _)| piece).collect();
        for piece in &owed {
            *self.late.entry(*piece).or_default() += 1;
        }
        owed
    }

    /// It sent something late; whether it ever was asked.
    fn end_late(&mut self, piece: u32) -> bool {
        let Some(times) = self.late.get_mut(&piece) else { return false };
        *times -= 1;
        if *times == 0 {
            self.late.remove(&piece);
        }
        true
    }

    /// When it has been silent for too long.
    fn silent_at(&self) -> Option<Timestamp> {
        let (_, asked_at) = self.asked.front()?;
        Some((*asked_at).max(self.heard_at) + SILENCE)
    }
}

impl Draft {
    /// Whether its pieces may come from `peer`.
    fn takes(&self, peer: ConnId, source: &Source) -> bool {
        self.len == source.len && self.only.is_none_or(|only| only == peer)
    }
}

/// How many drafts there may be at a time.
const MAX_DRAFTS: usize = 8;

/// Requests to one peer at a time: as many as the most careful of the usual clients takes.
const MAX_ASKED: usize = 64;

/// How long a peer that refused, kept silent, sent too much, or changed its mind is not asked again (BEP 9 leaves it open).
const PAUSE: Duration = Duration::from_secs(60);

/// How long a peer may owe something and say nothing.
const SILENCE: Duration = Duration::from_secs(10);

/// How long a draft holds on to memory that another needs while none of its peers says anything.
const STUCK_AFTER: Duration = Duration::from_secs(3);

/// How long a draft may take if another waits for its place; twice as long after each that took too long.
const PATIENCE: Duration = Duration::from_secs(20);
const MAX_DOUBLINGS: u32 = 6;

/// Pieces nobody asked for, before the peer is sent away.
const MAX_UNASKED: u32 = 16;
