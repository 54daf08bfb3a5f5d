//! Being reached by others: the port that the router maps, and what follows when the network is another one.

use super::jobs::Job;
use super::{Action, Due, Notice, Session};
use crate::address::is_local;
use crate::id::{JobId, TorrentId};
use crate::machine::{Machine as _, Timestamp};
use crate::portmap::{self, Mapping, PortMapper, Protocol, Router, UpnpError};
use crate::{dht, lsd};
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::time::Duration;

/// What the session knows of the host's network.
#[derive(Debug, Default)]
pub(super) struct Surroundings {
    /// Nothing before the driver has told.
    addresses: Option<Vec<IpAddr>>,
    router: Option<Router>,
    /// What was last told of each mapping.
    told: [Option<Mapping>; 2],
    /// The port that torrents were last told of.
    announced: u16,
    recovered_at: Option<Timestamp>,
    /// When everybody is told that the network is another one, if that waits for its time.
    recovery_at: Option<Timestamp>,
    /// Until when trackers are to hear where we are: as soon as the router has answered.
    announce_by: Option<Timestamp>,
    /// Whether the router was asked since the network became another one.
    asked_router: bool,
    /// Whether the driver woke us much too late.
    overslept: bool,
}

impl Surroundings {
    /// Whether this host has no network, as far as is known.
    pub(super) fn is_down(&self) -> bool {
        self.addresses.as_ref().is_some_and(Vec::is_empty)
    }
}

impl Session {
    /// The port at which others reach us: that which the user names, or that of the router, if it maps one. Zero if they
    /// can't.
    pub(super) fn announced_port(&self) -> u16 {
        if let Some(port) = self.config.announce_port {
            return port;
        }
        let external =
            self.mapper.as_ref().and_then(|mapper| mapper.external_port(self.announced_protocol()));
        external.filter(|_| self.listen_port != 0).unwrap_or(self.listen_port)
    }

    /// Routers may give TCP and UDP ports of their own, and others are told of one.
    fn announced_protocol(&self) -> Protocol {
        if self.config.transports.tcp { Protocol::Tcp } else { Protocol::Udp }
    }

    /// Tells torrents at which port others reach us, if that has changed, and they their trackers, unless these are to
    /// hear of us soon.
    pub(super) fn announce_port(&mut self, now: Timestamp) {
        let port = self.announced_port();
        let before = core::mem::replace(&mut self.surroundings.announced, port);
        if before == port {
            return;
        }
        self.torrents.values_mut().for_each(|slot| slot.torrent.set_listen_port(now, port));
        let Surroundings { recovery_at, announce_by, .. } = self.surroundings;
        if before != 0 && recovery_at.is_none() && announce_by.is_none() {
            self.announce_again(now);
        }
    }

    /// Trackers hear where we are.
    pub(super) fn announce_again(&mut self, now: Timestamp) {
        if let Some(by) = self.surroundings.announce_by.take() {
            self.due.remove(&(by, Due::Announce));
        }
        // Without a network nobody would hear it; when it is back, this comes again.
        if !self.surroundings.is_down() {
            for id in self.ids() {
                self.with_torrent(now, id, |torrent, out| torrent.announce_again(now, out));
            }
        }
    }

    /// Whether the port at which others reach us is still up to the router.
    fn waits_for_router(&self) -> bool {
        let protocol = self.announced_protocol();
        self.config.announce_port.is_none()
            && self.mapper.as_ref().is_some_and(|mapper| mapper.is_undecided(protocol))
    }

    fn ids(&self) -> Vec<TorrentId> {
        self.torrents.keys().copied().collect()
    }

    pub(super) fn on_network_changed(
        &mut self,
        now: Timestamp,
        addresses: Vec<IpAddr>,
        router: Option<Router>,
    ) {
        let is_first = self.surroundings.addresses.replace(addresses).is_none();
        let is_down = self.surroundings.is_down();
        self.surroundings.router = router;
        self.surroundings.asked_router = false;
        self.torrents.values_mut().for_each(|slot| slot.torrent.set_network_is_down(is_down));
        // Without a network there is nobody to tell or to dial.
        if !is_first && !is_down {
            self.recover_soon(now);
        }
        if router.is_none() && !is_down {
            self.tell_mapper(now, portmap::Event::Away);
        }
        if !self.surroundings.asked_router {
            self.ask_router(now);
        }
    }

    /// Has the port mapped by the router that is there now.
    pub(super) fn ask_router(&mut self, now: Timestamp) {
        if let Some(router) = self.surroundings.router
            && self.listen_port != 0
            && self.stop_by.is_none()
            && !self.stopped
        {
            self.surroundings.asked_router = true;
            self.tell_mapper(now, portmap::Event::Start { router, port: self.listen_port });
        }
    }

    /// Sees whether the driver did not wake us when it should have: then the host has slept, and whoever was connected
    /// has given us up.
    pub(super) fn notice_sleep(&mut self, now: Timestamp) {
        if now.since(self.now) > OVERSLEPT {
            // What was due before the last input could not be seen to before it.
            let asked = self.poll_timeout().map(|due| due.at.max(self.now));
            self.surroundings.overslept |= asked.is_some_and(|at| now.since(at) > OVERSLEPT);
        }
    }

    /// Begins anew after sleep, when what broke off meanwhile has been seen: that was due before.
    pub(super) fn recover_from_sleep(&mut self, now: Timestamp) {
        if core::mem::take(&mut self.surroundings.overslept) {
            let rested = self.surroundings.recovered_at.map_or(now, |at| at + RECOVERY_GAP);
            self.surroundings.asked_router = false;
            self.recover_at(rested.max(now));
        }
    }

    fn recover_at(&mut self, at: Timestamp) {
        if let Some(before) = self.surroundings.recovery_at.replace(at) {
            self.due.remove(&(before, Due::Recovery));
        }
        self.due.insert((at, Due::Recovery));
    }

    /// Begins anew with everybody, now or a while after the last time: interfaces can come and go quickly.
    pub(super) fn recover_soon(&mut self, now: Timestamp) {
        let rested = self.surroundings.recovered_at.map_or(now, |at| at + RECOVERY_GAP);
        if rested <= now {
            self.recover(now);
        } else {
            self.recover_at(rested);
        }
    }

    /// Trackers, nodes and the local network hear where we are, and peers are dialled again.
    pub(super) fn recover(&mut self, now: Timestamp) {
        if let Some(at) = self.surroundings.recovery_at.take() {
            self.due.remove(&(at, Due::Recovery));
        }
        // Without a network nobody would hear it; when it is back, this comes again.
        if self.stop_by.is_some() || self.stopped || self.surroundings.is_down() {
            return;
        }
        self.surroundings.recovered_at = Some(now);
        tracing::debug!("the network is another one");
        self.forget_seen();
        self.tell_dht(now, dht::Event::NetworkChanged);
        self.tell_lsd(now, lsd::Event::NetworkChanged);
        self.announce_by(now + ROUTER_PATIENCE);
        if !self.surroundings.asked_router {
            self.ask_router(now);
        }
        for id in self.ids() {
            self.with_torrent(now, id, |torrent, out| torrent.handle_network_changed(now, out));
        }
        self.announce_if_decided(now);
    }

    fn announce_by(&mut self, by: Timestamp) {
        if let Some(before) = self.surroundings.announce_by.replace(by) {
            self.due.remove(&(before, Due::Announce));
        }
        self.due.insert((by, Due::Announce));
    }

    fn announce_if_decided(&mut self, now: Timestamp) {
        if self.surroundings.announce_by.is_some() && !self.waits_for_router() {
            self.announce_again(now);
        }
    }

    pub(super) fn is_from_router(&self, from: SocketAddr) -> bool {
        self.mapper.as_ref().is_some_and(|mapper| mapper.is_from_router(from))
    }

    pub(super) fn on_upnp(
        &mut self,
        now: Timestamp,
        job: JobId,
        result: Result<Option<Ipv4Addr>, UpnpError>,
    ) {
        if let Some(Job::Upnp(job)) = self.jobs.remove(&job) {
            self.tell_mapper(now, portmap::Event::UpnpDone { job, result });
        }
    }

    pub(super) fn tell_mapper(&mut self, now: Timestamp, event: portmap::Event) {
        if let Some(mapper) = &mut self.mapper {
            mapper.handle_event(now, event, &mut self.pending.mapper);
            self.drain_mapper(now);
        }
    }

    pub(super) fn drain_mapper(&mut self, now: Timestamp) {
        while let Some(action) = self.pending.mapper.pop_front() {
            match action {
                portmap::Action::Failed { tried, retry_in } => {
                    self.actions.push_back(Action::Notice(Notice::PortNotMapped { tried, retry_in }));
                }
                portmap::Action::Lost { protocol, why } | portmap::Action::Refused { protocol, why } => {
                    self.surroundings.told[protocol as usize] = None;
                    self.actions.push_back(Action::Notice(Notice::PortLost { protocol, why }));
                    self.announce_port(now);
                }
                portmap::Action::Mapped(mapping) => self.on_mapped(now, mapping),
                portmap::Action::Send { to, data } => self.queue_datagram(to, data),
                portmap::Action::Stopped => self.stopped_if_all_are(),
                portmap::Action::Upnp { job, request } => {
                    let job = self.mint_job(Job::Upnp(job));
                    self.actions.push_back(Action::Upnp { job, request });
                }
            }
        }
        self.announce_if_decided(now);
    }

    fn on_mapped(&mut self, now: Timestamp, mapping: Mapping) {
        let told = self.surroundings.told[mapping.protocol as usize].replace(mapping);
        // A renewal is no news.
        if told.is_some_and(|told| Mapping { lifetime: mapping.lifetime, ..told } == mapping) {
            return;
        }
        self.actions.push_back(Action::Notice(Notice::PortMapped(mapping)));
        self.announce_port(now);
        // Nodes and peers see the same, unless there is another router behind this one.
        let ip = mapping.external_ip.filter(|ip| !is_behind_another(*ip)).map(IpAddr::V4);
        if let Some(ip) = ip.filter(|_| told.is_none_or(|told| told.external_ip != mapping.external_ip)) {
            self.tell_dht(now, dht::Event::ExternalAddress(ip));
        }
    }

    /// The mapping of the port, if the router was asked for one.
    pub fn port_mapper(&self) -> Option<&PortMapper> {
        self.mapper.as_ref()
    }
}

/// Whether a router that has this address outside is itself behind one: then nodes and peers see another.
fn is_behind_another(ip: Ipv4Addr) -> bool {
    let [a, b, ..] = ip.octets();
    // RFC 6598.
    let is_shared = a == 100 && b & 0xc0 == 64;
    is_shared || ip.is_unspecified() || is_local(ip.into())
}

/// How late a driver can be that has only much to do.
const OVERSLEPT: Duration = Duration::from_secs(60);

/// How long trackers are not told where we are, while the router is asked at which port that is.
const ROUTER_PATIENCE: Duration = Duration::from_secs(10);

/// How much time passes at least before everybody is told again that the network is another one.
const RECOVERY_GAP: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::RECOVERY_GAP;
    use crate::id::ConnId;
    use crate::machine::Timestamp;
    use crate::magnet::Magnet;
    use crate::portmap::{Mode, Protocol, Router};
    use crate::session::{
        Action, Config, Event, NetError, NewTorrent, Notice, Session, Transports, WriteBatch,
    };
    use alloc::string::String;
    use alloc::vec;
    use alloc::vec::Vec;
    use bytes::BytesMut;
    use core::net::{Ipv4Addr, SocketAddr};
    use core::time::Duration;

    #[test]
    fn trackers_hear_of_the_port_outside() {
        let mut home = Home::new(Mode::NatPmp);
        home.arrive(7);
        assert_eq!(home.ports(), ["6881"]);
        home.answer_as_router();
        assert_eq!(home.ports(), ["6881", "7000"], "the first answer would go to nobody");
        assert_eq!(home.session.announced_port(), 7000);
        let mapped = |notice: &&Notice| matches!(notice, Notice::PortMapped(_));
        assert_eq!(home.notices.iter().filter(mapped).count(), 2);

        home.at(Duration::from_secs(700));
        home.answer_as_router();
        assert_eq!(home.notices.iter().filter(mapped).count(), 2, "a renewal is no news");

        home.tell(Event::Stop);
        assert!(!home.notices.contains(&Notice::Stopped), "the mappings are to be taken back");
        home.answer_as_router();
        home.at(Duration::from_secs(706));
        assert!(home.notices.contains(&Notice::Stopped));
    }

    #[test]
    fn the_port_that_the_user_names_comes_before_the_mapped_one() {
        let mut home =
            Home::of(Config { port_map: Mode::NatPmp, announce_port: Some(4000), ..Config::default() });
        home.arrive(7);
        home.answer_as_router();
        assert!(home.notices.iter().any(|notice| matches!(notice, Notice::PortMapped(_))));
        assert_eq!((home.ports(), home.session.announced_port()), (vec!["4000"], 4000));
    }

    #[test]
    fn another_address_is_told_at_once_and_no_network_is_told_to_nobody() {
        let mut home = Home::new(Mode::Off);
        home.arrive(7);
        assert_eq!(home.ports().len(), 1);
        home.at(Duration::from_secs(40));
        home.tell(Event::NetworkChanged { addresses: vec![], router: None });
        assert_eq!(home.ports().len(), 1);
        home.arrive(8);
        assert_eq!(home.ports().len(), 2);
        home.arrive(9);
        assert_eq!(home.ports().len(), 2, "it was told just now");
        home.at(Duration::from_secs(70));
        assert_eq!(home.ports().len(), 3);
        assert!(home.sent.is_empty(), "no router was asked");
    }

    #[test]
    fn what_was_to_be_told_later_and_is_told_now_is_not_told_twice() {
        let mut home = Home::new(Mode::Off);
        home.arrive(7);
        home.at(Duration::from_secs(40));
        home.arrive(8);
        home.arrive(9);
        let before = home.ports().len();
        // The network is another one before the driver wakes us.
        home.now = home.now + RECOVERY_GAP + Duration::from_secs(1);
        home.arrive(10);
        assert_eq!(home.ports().len(), before + 1);
        home.at(Duration::from_secs(80));
        assert_eq!(home.ports().len(), before + 1);
    }

    #[test]
    fn another_network_has_the_router_and_the_trackers_asked_once() {
        let mut home = Home::new(Mode::NatPmp);
        home.arrive(7);
        home.answer_as_router();
        home.at(Duration::from_secs(40));
        let before = home.ports().len();
        home.arrive(8);
        assert_eq!(home.sent.len(), 1, "one question in PCP");
        assert_eq!(home.ports().len(), before, "where we are is up to the router");
        home.answer_as_router();
        assert_eq!(home.ports()[before..], ["7000"]);
        home.at(Duration::from_secs(60));
        assert_eq!(home.ports().len(), before + 1);

        // The next one follows too soon, and has a router that says nothing.
        home.arrive(9);
        home.at(Duration::from_secs(69));
        assert_eq!(home.ports().len(), before + 1);
        let asked = home.sent.len();
        home.at(Duration::from_secs(90));
        assert_eq!(home.ports()[before + 1..], ["6881"]);
        assert!((2..=6).contains(&asked), "PCP once, and NAT-PMP: {asked}");
    }

    #[test]
    fn where_there_is_no_router_its_port_is_not_told() {
        let mut home = Home::new(Mode::NatPmp);
        home.arrive(7);
        home.answer_as_router();
        home.at(Duration::from_secs(40));
        home.tell(Event::NetworkChanged { addresses: vec![[203, 0, 113, 9].into()], router: None });
        assert_eq!(home.ports().last(), Some(&"6881"));
        assert_eq!(home.session.announced_port(), 6881);
    }

    #[test]
    fn without_tcp_the_port_of_udp_is_told() {
        let transports = Transports { tcp: false, utp: true };
        let mut home = Home::of(Config { port_map: Mode::NatPmp, transports, ..Config::default() });
        home.arrive(7);
        home.answer_as_router();
        let mapped = home.notices.iter().filter_map(|notice| match notice {
            Notice::PortMapped(mapping) => Some(mapping.protocol),
            _ => None,
        });
        assert_eq!(mapped.collect::<Vec<_>>(), [Protocol::Udp]);
        assert_eq!(home.ports(), ["6881", "7000"]);
    }

    #[test]
    fn a_connection_over_an_address_that_is_gone_says_nothing_about_the_peer() {
        let mut home = Home::new(Mode::Off);
        home.arrive(7);
        let peer = SocketAddr::from(([198, 51, 100, 1], 6881));
        let torrent = home.session.torrents().next().unwrap().0;
        home.tell(Event::AddPeers { torrent, peers: vec![peer] });
        let conn = home.dialled.pop().unwrap();
        home.tell(Event::Connected { conn });
        let mut batch = WriteBatch::default();
        home.session.poll_stream(home.now, conn, 1 << 20, &mut batch);
        assert!(!batch.is_empty(), "an obfuscated handshake");
        home.tell(Event::Closed { conn, error: Some(NetError::Moved) });
        let known = home.session.torrent(torrent).unwrap().known_peers();
        assert_eq!((known.failures(peer), known.dials_plain(peer)), (0, false));
    }

    #[test]
    fn what_was_seen_of_us_elsewhere_is_forgotten() {
        let mut home = Home::new(Mode::Off);
        home.arrive(7);
        for voter in 0..8 {
            home.session.on_seen(([45, 1, voter, 1], 6881).into(), [93, 184, 216, 34].into());
        }
        assert!(home.session.seen.place(6881).v4.is_some());
        home.at(Duration::from_secs(40));
        home.arrive(8);
        assert_eq!(home.session.seen.place(6881).v4, None);
    }

    #[test]
    fn who_is_woken_much_too_late_begins_anew() {
        let mut home = Home::new(Mode::Off);
        home.arrive(7);
        home.at(Duration::from_secs(5));
        let before = home.ports().len();
        home.now = home.now + Duration::from_secs(36_000);
        home.session.handle_timeout(home.now);
        home.drain();
        assert!(home.ports().len() > before);
        assert!(home.session.surroundings.recovered_at == Some(home.now));
    }

    /// A session with one torrent, and its router.
    struct Home {
        session: Session,
        now: Timestamp,
        urls: Vec<String>,
        notices: Vec<Notice>,
        sent: Vec<Vec<u8>>,
        dialled: Vec<ConnId>,
    }

    impl Home {
        fn new(port_map: Mode) -> Self {
            Self::of(Config { port_map, ..Config::default() })
        }

        fn of(config: Config) -> Self {
            let mut session = Session::new(Config { lsd: false, ..config }, [1; 32], Timestamp::ZERO);
            let link =
                "magnet:?xt=urn:btih:c12fe1c06bba254a9dc9f519b335aa7c1367a88a&tr=http%3A%2F%2Ft.test%2Fa";
            let magnet = Magnet::parse(link).unwrap();
            session.handle_event(Timestamp::ZERO, Event::Listening { port: 6881 });
            session.add_torrent(Timestamp::ZERO, NewTorrent::try_from(&magnet).unwrap());
            let (now, urls, notices) = (Timestamp::ZERO, vec![], vec![]);
            let mut home = Self { session, now, urls, notices, sent: vec![], dialled: vec![] };
            home.drain();
            home
        }

        /// The host has this address now.
        fn arrive(&mut self, host: u8) {
            let local = Ipv4Addr::new(192, 168, 1, host);
            let router = Some(Router { local, gateway: Some(Ipv4Addr::new(192, 168, 1, 1)) });
            self.tell(Event::NetworkChanged { addresses: vec![local.into()], router });
        }

        fn tell(&mut self, event: Event) {
            self.session.handle_event(self.now, event);
            self.drain();
        }

        /// Lets the time pass.
        fn at(&mut self, time: Duration) {
            let end = Timestamp::ZERO + time;
            while let Some(due) = self.session.poll_timeout().filter(|due| due.at <= end) {
                self.now = self.now.max(due.at);
                self.session.handle_timeout(self.now);
                self.drain();
            }
            self.now = end;
        }

        fn drain(&mut self) {
            while let Some(action) = self.session.poll_action() {
                match action {
                    Action::Connect { conn, .. } => self.dialled.push(conn),
                    Action::Http { url, .. } => self.urls.push(url),
                    Action::Notice(notice) => self.notices.push(notice),
                    _ => {}
                }
            }
            let mut data = BytesMut::new();
            while self.session.poll_transmit(self.now, &mut data, 1).is_some() {
                self.sent.push(data.to_vec());
            }
        }

        /// The ports that were announced.
        fn ports(&self) -> Vec<&str> {
            let port = |url: &'_ String| url.find("&port=").map(|at| at + 6);
            let ports = self.urls.iter().filter_map(|url| url[port(url)?..].split('&').next());
            ports.collect()
        }

        /// A router that speaks NAT-PMP answers every question, and those that its answers lead to.
        fn answer_as_router(&mut self) {
            while !self.sent.is_empty() {
                for question in core::mem::take(&mut self.sent) {
                    let epoch = self.now.since(Timestamp::ZERO).as_secs() as u32;
                    let mut answer = vec![0, question[1] | 128, 0, u8::from(question[0] != 0)];
                    answer.extend(epoch.to_be_bytes());
                    if question.len() == 12 {
                        answer.extend(&question[4..6]);
                        answer.extend(7000_u16.to_be_bytes());
                        answer.extend(&question[8..12]);
                    } else {
                        answer.extend([203, 0, 113, 7]);
                    }
                    let from = SocketAddr::from(([192, 168, 1, 1], 5351));
                    self.tell(Event::Datagram { from, data: answer.into() });
                }
            }
        }
    }
}
