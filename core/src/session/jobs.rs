//! Work that a driver does for trackers, and its answers.

use super::{Action, Due, HttpAnswer, HttpError, NetError, Notice, Policy, Session};
use crate::id::{JobId, TorrentId};
use crate::machine::{Machine as _, Timestamp};
use crate::torrent::Work;
use crate::torrent::known_peers::Source;
use crate::tracker::{
    self, Announce, AnnounceId, AnnounceRequest, AnnouncerAction, AnnouncerEvent, Answer, AskId, Question,
    Scheme, TrackerError, TrackerUrl, UdpAction, UdpEvent, UdpReply,
};
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

/// What a job is for.
#[derive(Debug)]
pub(super) enum Job {
    Disk {
        torrent: TorrentId,
        work: Work,
    },
    Http {
        ask: u64,
    },
    Resolve {
        ask: u64,
    },
    ResolveNode {
        port: u16,
    },
    ResolvePeer {
        torrent: TorrentId,
        port: u16,
    },
    /// By the name that the port mapper gave it.
    Upnp(u64),
}

/// An announce under way.
#[derive(Debug)]
pub(super) struct Ask {
    torrent: TorrentId,
    id: AnnounceId,
    url: TrackerUrl,
    request: AnnounceRequest,
    until: Timestamp,
    /// Whether an address answered; the others may follow.
    answered: bool,
}

impl Session {
    pub(super) fn on_announcer(&mut self, now: Timestamp, torrent: TorrentId, action: AnnouncerAction) {
        match action {
            AnnouncerAction::Announce { id, url, request, patience } => {
                let ask = self.next_ask;
                self.next_ask += 1;
                let until = now + patience;
                let udp = url.scheme() == Scheme::Udp;
                let entry = Ask { torrent, id, url, request, until, answered: false };
                self.due.insert((until, Due::Patience(ask)));
                self.asks.insert(ask, entry);
                if udp { self.look_up(now, ask) } else { self.ask_http(ask) }
            }
            AnnouncerAction::Cancel { id } => {
                let of_it = |ask: &Ask| ask.torrent == torrent && ask.id == id;
                if let Some(ask) = self.asks.iter().find(|(_, ask)| of_it(ask)).map(|(number, _)| *number) {
                    self.end_ask(ask);
                    self.tell_udp(now, UdpEvent::Cancel { id: AskId(ask) });
                }
            }
        }
    }

    fn ask_http(&mut self, ask: u64) {
        let Some(entry) = self.asks.get(&ask) else { return };
        let Some(announce) = self.announce(entry) else { return };
        let url = tracker::announce_url(&entry.url, &announce);
        let job = self.mint_job(Job::Http { ask });
        self.actions.push_back(Action::Http { job, url });
    }

    /// Asks for the addresses of a UDP tracker, unless its host is one.
    fn look_up(&mut self, now: Timestamp, ask: u64) {
        let Some(entry) = self.asks.get(&ask) else { return };
        if let Some(ip) = entry.url.ip() {
            return self.ask_udp(now, ask, &[ip]);
        }
        let host = String::from(entry.url.host());
        let job = self.mint_job(Job::Resolve { ask });
        self.actions.push_back(Action::Resolve { job, host });
    }

    fn ask_udp(&mut self, now: Timestamp, ask: u64, ips: &[IpAddr]) {
        let Some(entry) = self.asks.get(&ask) else { return };
        let Some(announce) = self.announce(entry) else { return };
        // One address of each family: a tracker names peers of the family that it was asked over (BEP 15).
        let first = |v4: bool| ips.iter().copied().find(|ip| ip.is_ipv4() == v4);
        let to = [first(true), first(false)].into_iter().flatten();
        let to = to.map(|ip| SocketAddr::new(ip, entry.url.port())).collect();
        let path_and_query = String::from(entry.url.path_and_query());
        let question = Question::Announce { announce, path_and_query };
        let patience = entry.until.since(now);
        self.tell_udp(now, UdpEvent::Ask { id: AskId(ask), to, question, patience });
    }

    pub(super) fn on_resolved(&mut self, now: Timestamp, job: JobId, result: Result<Vec<IpAddr>, NetError>) {
        match (self.jobs.remove(&job), result) {
            (Some(Job::Resolve { ask }), Ok(ips)) => self.ask_udp(now, ask, &ips),
            (Some(Job::Resolve { ask }), Err(error)) => {
                self.fail_ask(now, ask, TrackerError::Unreachable(error.to_string()));
            }
            (Some(Job::ResolveNode { port }), result) => self.on_node_resolved(now, port, result),
            (Some(Job::ResolvePeer { torrent, port }), Ok(ips)) => {
                let peers = ips.into_iter().map(|ip| SocketAddr::new(ip, port));
                self.with_torrent(now, torrent, |torrent, _| torrent.add_peers(now, peers, Source::Manual));
            }
            (_, _) => {}
        }
    }

    pub(super) fn on_http(&mut self, now: Timestamp, job: JobId, result: Result<HttpAnswer, HttpError>) {
        let Some(Job::Http { ask }) = self.jobs.remove(&job) else { return };
        let answer = match result {
            Ok(answer) => tracker::parse_announce(answer.status, &answer.body),
            Err(error) => Err(TrackerError::Unreachable(error.to_string())),
        };
        match answer {
            Ok(answer) => {
                self.answer_ask(now, ask, answer);
                self.end_ask(ask);
            }
            Err(error) => self.fail_ask(now, ask, error),
        }
    }

    pub(super) fn on_patience(&mut self, now: Timestamp, ask: u64) {
        self.tell_udp(now, UdpEvent::Cancel { id: AskId(ask) });
        if self.asks.get(&ask).is_some_and(|entry| entry.answered) {
            self.end_ask(ask);
        } else {
            self.fail_ask(now, ask, TrackerError::TimedOut);
        }
    }

    pub(super) fn tell_udp(&mut self, now: Timestamp, event: UdpEvent) {
        self.udp.handle_event(now, event, &mut self.pending.udp);
        self.drain_udp(now);
    }

    pub(super) fn drain_udp(&mut self, now: Timestamp) {
        while let Some(action) = self.pending.udp.pop_front() {
            match action {
                UdpAction::Answered { id, reply: UdpReply::Announced(answer), .. } => {
                    self.answer_ask(now, id.0, answer);
                }
                UdpAction::Answered { .. } => {}
                UdpAction::Done { id, error: Some(error) } => self.fail_ask(now, id.0, error),
                UdpAction::Done { id, error: None } => self.end_ask(id.0),
                UdpAction::Send { to, data } => self.queue_datagram(to, data),
            }
        }
    }

    fn announce(&self, ask: &Ask) -> Option<Announce> {
        let torrent = &self.torrents.get(&ask.torrent)?.torrent;
        let (uploaded, downloaded, left) = torrent.announce_totals();
        Some(Announce {
            info_hash: torrent.info_hash(),
            peer_id: self.common.peer_id,
            port: self.announced_port(),
            uploaded,
            downloaded,
            left,
            encryption: self.config.encryption.incoming != Policy::Off,
            request: ask.request.clone(),
        })
    }

    fn answer_ask(&mut self, now: Timestamp, ask: u64, answer: Answer) {
        let Some(entry) = self.asks.get_mut(&ask) else { return };
        let (torrent, id, first) = (entry.torrent, entry.id, !entry.answered);
        entry.answered = true;
        let tracker = entry.url.to_string();
        let peers = answer.peers.clone();
        self.actions.push_back(Action::Notice(Notice::TrackerAnswered {
            torrent,
            tracker,
            peers: peers.len() as u32,
            warning: answer.warning.clone(),
        }));
        self.with_torrent(now, torrent, |torrent, out| {
            torrent.on_peers_found(now, peers, Source::Tracker, None, out);
            if first {
                torrent.handle_tracker(now, AnnouncerEvent::Answered { id, answer }, out);
            }
        });
    }

    fn fail_ask(&mut self, now: Timestamp, ask: u64, error: TrackerError) {
        let Some(entry) = self.asks.get(&ask) else { return };
        let (torrent, id, tracker) = (entry.torrent, entry.id, entry.url.to_string());
        self.end_ask(ask);
        let why = error.to_string();
        self.actions.push_back(Action::Notice(Notice::TrackerFailed { torrent, tracker, why }));
        self.with_torrent(now, torrent, |torrent, out| {
            torrent.handle_tracker(now, AnnouncerEvent::Failed { id, error }, out);
        });
    }

    fn end_ask(&mut self, ask: u64) {
        if let Some(entry) = self.asks.remove(&ask) {
            self.due.remove(&(entry.until, Due::Patience(ask)));
        }
    }
}
