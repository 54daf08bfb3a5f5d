//! What clients ask of the network besides peers: names, and trackers over HTTP and UDP.

use super::links::{Access, Datagram};
use super::trace::{Topic, Way};
use super::world::{HostId, Reach, Role, What, World};
use bytes::Bytes;
use core::time::Duration;
use fast_peer_core::id::{InfoHash, JobId};
use fast_peer_core::machine::Timestamp;
use fast_peer_core::portmap::UpnpError;
use fast_peer_core::session::{Event, HttpAnswer, HttpError, NetError};
use fast_peer_core::tracker::{ScrapeCounts, TrackerServer};

/// How a tracker behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrackerMood {
    /// It refuses connections, and drops datagrams.
    Down,
    /// It answers with something that no tracker says.
    Garbage,
    /// It answers.
    Normal,
    /// It takes requests and never answers.
    Silent,
    /// It answers after this time.
    Slow(Duration),
}

/// A host with a tracker.
#[derive(Debug)]
pub(super) struct Tracker {
    server: TrackerServer,
    mood: TrackerMood,
    announces: Vec<Announced>,
}

/// An announce that reached a tracker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announced {
    /// When.
    pub at: Timestamp,
    /// Who sent it.
    pub from: HostId,
    /// What happened, in the tracker's words: `started`, `completed`, `paused`, `stopped`, or nothing.
    pub event: String,
}

impl World {
    /// Adds a tracker, over HTTP and UDP, under a name.
    pub fn add_tracker(&mut self, name: &str, access: Access, interval: Duration) -> HostId {
        let rng = self.rng.fork("tracker").fork(name);
        let server = TrackerServer::new(interval, rng);
        let tracker = Tracker { server, mood: TrackerMood::Normal, announces: Vec::new() };
        let host = self.add_host(name, access, Role::Tracker(Box::new(tracker)));
        self.names.insert(name.to_owned(), host);
        host
    }

    /// Lets a host be found under a name.
    pub fn add_name(&mut self, name: &str, host: HostId) {
        self.names.insert(name.to_owned(), host);
    }

    /// Changes how a tracker behaves.
    pub fn set_mood(&mut self, host: HostId, mood: TrackerMood) {
        self.tracker_mut(host).mood = mood;
    }

    /// The announces that reached a tracker, in order.
    pub fn announces(&self, host: HostId) -> &[Announced] {
        match &self.host(host).role {
            Role::Tracker(tracker) => &tracker.announces,
            _ => panic!("only a tracker is announced to"),
        }
    }

    /// How many peers a tracker knows of a torrent.
    pub fn tracked(&mut self, host: HostId, torrent: InfoHash) -> Option<ScrapeCounts> {
        let now = self.now;
        self.tracker_mut(host).server.counts(now, torrent)
    }

    pub(super) fn look_up(&mut self, host: HostId, job: JobId, name: &str) {
        let found = self.names.get(name).map(|server| self.host(*server).addr.ip());
        let result = found.map(|ip| vec![ip]).ok_or(NetError::NoSuchName);
        self.answer(host, DNS_TIME, Event::Resolved { job, result });
    }

    pub(super) fn ask_web(&mut self, host: HostId, job: JobId, url: String) {
        let life = self.host(host).life;
        let name = host_of(&url);
        let failed = |error| Event::HttpDone { job, result: Err(HttpError::Net(error)) };
        let Some(server) = name.and_then(|name| self.names.get(name)).copied() else {
            return self.answer(host, DNS_TIME, failed(NetError::NoSuchName));
        };
        let one_way = self.path_delay(host, server);
        let mood = match &self.host(server).role {
            Role::Tracker(tracker) => tracker.mood,
            _ => TrackerMood::Down,
        };
        if self.host(host).reach == Reach::Down {
            return self.answer(host, DNS_TIME, failed(NetError::Unreachable));
        }
        let dark = self.is_dark(host, server);
        if dark || mood == TrackerMood::Silent {
            return self.answer(host, HTTP_LIMIT, failed(NetError::TimedOut));
        }
        if mood == TrackerMood::Down {
            return self.answer(host, DNS_TIME + 2 * one_way, failed(NetError::Refused));
        }
        // A look-up, a connection, and the way of the request.
        let at = self.now + DNS_TIME + 3 * one_way;
        self.queue.push(at, What::Http { host, life, job, url: url.into() });
    }

    /// Nobody here is behind a router.
    pub(super) fn no_router(&mut self, host: HostId, job: JobId) {
        self.answer(host, UPNP_TIME, Event::UpnpDone { job, result: Err(UpnpError::NoRouter) });
    }

    pub(super) fn on_http(&mut self, host: HostId, job: JobId, url: &str) {
        let now = self.now;
        let Some(&server) = host_of(url).and_then(|name| self.names.get(name)) else { return };
        let remote = self.host(host).addr.ip();
        let target = url.splitn(4, '/').nth(3).map_or_else(|| "/".to_owned(), |rest| format!("/{rest}"));
        let event = target.split(['?', '&']).find_map(|pair| pair.strip_prefix("event=")).unwrap_or_default();
        self.line(server, Way::In, Topic::Lookup, format_args!("announce {event} from {remote}"));
        let event = event.to_owned();
        let tracker = self.tracker_mut(server);
        let body = match tracker.mood {
            TrackerMood::Garbage => b"<html>It works!</html>".to_vec(),
            _ => {
                tracker.announces.push(Announced { at: now, from: host, event });
                tracker.server.handle_http(now, &target, remote)
            }
        };
        let think = match tracker.mood {
            TrackerMood::Slow(time) => time,
            _ => Duration::ZERO,
        };
        let answer = Ok(HttpAnswer { status: 200, body: Bytes::from(body) });
        let back = self.path_delay(server, host);
        self.answer(host, think + back, Event::HttpDone { job, result: answer });
    }

    pub(super) fn on_tracker_datagram(&mut self, host: HostId, datagram: &Datagram) {
        let now = self.now;
        let from = datagram.from;
        let sender = self.host_at(from.ip());
        let tracker = self.tracker_mut(host);
        let think = match tracker.mood {
            TrackerMood::Down | TrackerMood::Silent => return,
            TrackerMood::Slow(time) => time,
            TrackerMood::Garbage | TrackerMood::Normal => Duration::ZERO,
        };
        if let (Some(event), Some(from)) = (udp_event(&datagram.data), sender) {
            tracker.announces.push(Announced { at: now, from, event: event.to_owned() });
        }
        let answer = match tracker.mood {
            TrackerMood::Garbage => Some(b"no tracker says this".to_vec()),
            _ => tracker.server.handle_udp(now, &datagram.data, from),
        };
        let Some(answer) = answer else { return };
        if think.is_zero() {
            self.send_datagram(host, from, answer.into());
        } else {
            let back = Datagram { from: self.host(host).addr, to: from, data: answer.into() };
            self.queue.push(now + think, What::Datagram(Box::new(back)));
        }
    }

    fn answer(&mut self, host: HostId, after: Duration, event: Event) {
        let life = self.host(host).life;
        self.queue.push(self.now + after, What::Event { host, life, event: Box::new(event) });
    }

    fn tracker_mut(&mut self, host: HostId) -> &mut Tracker {
        match &mut self.host_mut(host).role {
            Role::Tracker(tracker) => tracker,
            _ => panic!("only a tracker has moods"),
        }
    }
}

/// `http://host:port/path` to `host`.
fn host_of(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    rest.split(['/', '?']).next()?.split(':').next()
}

/// The event in an announce over UDP (BEP 15: action at 8, event at 80).
fn udp_event(data: &[u8]) -> Option<&'static str> {
    let number = |at: usize| Some(u32::from_be_bytes(*data.get(at..)?.first_chunk()?));
    (number(8)? == 1).then_some(())?;
    ["", "completed", "started", "stopped"].get(number(80)? as usize).copied()
}

/// What a look-up takes.
const DNS_TIME: Duration = Duration::from_millis(20);

/// How long it takes to find out that there is no router.
const UPNP_TIME: Duration = Duration::from_secs(4);

/// How long a web request may take.
const HTTP_LIMIT: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::{host_of, udp_event};

    #[test]
    fn a_host_is_found_in_every_url() {
        assert_eq!(host_of("http://tracker.test:80/announce?x=1"), Some("tracker.test"));
        assert_eq!(host_of("https://a"), Some("a"));
        assert_eq!(host_of("a/b"), None);
    }

    #[test]
    fn an_announce_over_udp_tells_its_event() {
        let mut packet = vec![0; 98];
        packet[11] = 1;
        packet[83] = 3;
        assert_eq!(udp_event(&packet), Some("stopped"));
        packet[11] = 2;
        assert_eq!(udp_event(&packet), None);
    }
}
