use super::{
    Action, Answer, CALLS, Event, LEASE_S, Mapping, Method, Mode, PortMapper, Protocol, Router, UpnpError,
    UpnpRequest, Why,
};
use crate::machine::{Machine as _, Outbox, Timestamp};
use crate::rng::Rng;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, SocketAddr};
use core::time::Duration;
use proptest::prelude::{Just, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};

const LOCAL: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 7);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
const PORT: u16 = 6881;

#[test]
fn pcp_maps_both_protocols() {
    let mut home = Home::new(Mode::Auto, Speaks::Pcp);
    home.start();
    assert_eq!(home.said(), ["TCP 6881 PCP", "UDP 6881 PCP"]);
    assert_eq!(home.mapper.external_port(Protocol::Tcp), Some(PORT));
    assert_eq!(home.questions, 2);
}

#[test]
fn a_router_of_the_old_version_is_asked_in_it() {
    let mut home = Home::new(Mode::Auto, Speaks::NatPmp);
    home.start();
    assert_eq!(home.said(), ["TCP 6881 NAT-PMP", "UDP 6881 NAT-PMP"]);
    assert_eq!(home.now, Timestamp::ZERO, "the router said at once that it does not speak PCP");
    assert_eq!(home.mapper.external_ip, Some(OUTSIDE));
}

/// RFC 6887, appendix A: a router that speaks only PCP says so to who asks in NAT-PMP.
#[test]
fn a_lost_question_in_pcp_is_made_up_for() {
    let mut home = Home::new(Mode::Auto, Speaks::Pcp);
    home.router.deaf_to = 1;
    home.start();
    home.run_for(10);
    assert_eq!(home.said(), ["TCP 6881 PCP", "UDP 6881 PCP"]);
}

#[test]
fn where_nobody_answers_upnp_is_asked_within_seven_seconds() {
    let mut home = Home::new(Mode::Auto, Speaks::Nothing);
    home.start();
    home.run_for(8);
    let [(at, UpnpRequest::Map { local, protocol: Protocol::Tcp, external: PORT, lifetime_s })] =
        home.jobs[..]
    else {
        panic!("{:?}", home.jobs)
    };
    assert_eq!((local.to_string(), lifetime_s), ("192.168.1.7:6881".to_string(), LEASE_S));
    assert!(at <= Timestamp::ZERO + Duration::from_secs(7), "{at}");
    assert_eq!(home.questions, 5, "RFC 6887, 8.1.1: one in 3 s; RFC 6886, 3.1: after 250, 500 and 1000 ms");
    home.answer_job(Ok(Some(OUTSIDE)));
    home.answer_job(Ok(Some(OUTSIDE)));
    assert_eq!(home.said(), ["TCP 6881 UPnP", "UDP 6881 UPnP"]);
}

#[test]
fn a_host_without_a_known_router_asks_by_upnp_at_once() {
    let mut home = Home::new(Mode::Auto, Speaks::Nothing);
    home.tell(Event::Start { router: Router { local: LOCAL, gateway: None }, port: PORT });
    assert_eq!((home.jobs.len(), home.questions), (1, 0));
}

#[test]
fn both_protocols_get_one_port_if_they_can() {
    let mut home = Home::new(Mode::Upnp, Speaks::Nothing);
    home.start();
    home.answer_job(Err(UpnpError::Conflict));
    home.answer_job(Ok(None));
    let external: Vec<_> = home
        .jobs
        .iter()
        .map(|(_, request)| match request {
            UpnpRequest::Map { protocol, external, .. } => (*protocol, *external),
            UpnpRequest::Unmap { .. } => panic!("{request}"),
        })
        .collect();
    assert_ne!(external[1], (Protocol::Tcp, PORT));
    assert_eq!(external[2], (Protocol::Udp, external[1].1), "somebody else has the port in TCP");
}

#[test]
fn where_there_is_no_router_nothing_is_mapped() {
    let mut home = Home::new(Mode::Auto, Speaks::Pcp);
    home.start();
    home.tell(Event::Away);
    assert_eq!(home.lost.len(), 2);
    assert_eq!(home.mapper.external_port(Protocol::Tcp), None);
    assert!(home.mapper.is_off() && home.mapper.poll_timeout().is_none());
    home.start();
    assert_eq!(home.mapper.external_port(Protocol::Tcp), Some(PORT));
}

#[test]
fn only_what_is_used_is_asked_for() {
    let mut home = Home::new(Mode::Auto, Speaks::Pcp);
    home.mapper = PortMapper::new(Mode::Auto, &[Protocol::Udp], Rng::from_number(1));
    home.start();
    home.run_for(3000);
    assert!(home.mapped(Protocol::Tcp).is_empty() && home.mapped(Protocol::Udp).len() > 3);
}

#[test]
fn what_the_user_does_not_allow_is_not_tried() {
    let mut home = Home::new(Mode::Upnp, Speaks::Pcp);
    home.start();
    assert_eq!((home.jobs.len(), home.questions), (1, 0));
    let mut home = Home::new(Mode::NatPmp, Speaks::Nothing);
    home.start();
    home.run_for(100_000);
    assert_eq!(home.jobs, []);
    let rests: Vec<u64> = home.failures.iter().map(|(_, _, rest)| rest.as_secs()).collect();
    assert!(rests[..7].is_sorted() && rests[0] < 70, "{rests:?}");
    assert!(rests[7..].iter().all(|rest| (3600..=4320).contains(rest)), "{rests:?}");
    let whys: Vec<_> = home.failures[0].1.iter().map(|(method, why)| format!("{method}: {why}")).collect();
    assert_eq!(whys, ["PCP: no answer", "NAT-PMP: no answer"]);
}

#[test]
fn mappings_are_renewed_at_half_of_their_time() {
    for speaks in [Speaks::Pcp, Speaks::NatPmp] {
        let mut home = Home::new(Mode::Auto, speaks);
        home.start();
        home.run_for(6 * u64::from(LEASE_S));
        let mapped: Vec<Timestamp> = home.mapped(Protocol::Udp);
        let waits = mapped.windows(2).map(|pair| pair[1].since(pair[0]).as_secs());
        assert!(waits.clone().all(|wait| (600..=750).contains(&wait)), "{:?}", waits.collect::<Vec<_>>());
        assert!(mapped.len() > 9 && home.failures.is_empty() && home.lost.is_empty());
    }
}

#[test]
fn a_short_grant_is_renewed_in_time_and_a_long_one_is_not_relied_on() {
    for (grants, wait) in [(1, 5..=7), (60, 30..=38), (86_400, 600..=750)] {
        let mut home = Home::new(Mode::Auto, Speaks::Pcp);
        home.router.grants_s = Some(grants);
        home.start();
        home.run_for(2000);
        let mapped = home.mapped(Protocol::Tcp);
        let waits = mapped.windows(2).map(|pair| pair[1].since(pair[0]).as_secs());
        assert!(waits.clone().all(|it| wait.contains(&it)), "{grants}: {:?}", waits.collect::<Vec<_>>());
    }
}

#[test]
fn a_silent_router_is_asked_ever_more_rarely_until_the_mapping_has_to_be_gone() {
    let mut home = Home::new(Mode::NatPmp, Speaks::Pcp);
    home.start();
    home.router.deaf_to = u32::MAX;
    home.questions = 0;
    let end = Timestamp::ZERO + Duration::from_secs(LEASE_S.into());
    home.run_until(end - Duration::from_secs(1));
    assert!((6..=9).contains(&home.questions), "{}", home.questions);
    assert!(home.lost.is_empty());
    home.run_until(end);
    assert_eq!(home.lost, [(Protocol::Tcp, Why::NoAnswer), (Protocol::Udp, Why::NoAnswer)]);
    assert_eq!(home.mapper.external_port(Protocol::Tcp), None);
    home.router.deaf_to = 0;
    home.run_for(120);
    assert_eq!(home.said().len(), 4, "it is back");
}

#[test]
fn a_router_that_forgot_is_asked_again_when_it_calls() {
    for speaks in [Speaks::Pcp, Speaks::NatPmp] {
        let mut home = Home::new(Mode::Auto, speaks);
        home.start();
        home.run_for(100);
        home.reboot();
        assert!(home.router.mappings.is_empty());
        home.call();
        home.run_for(6);
        assert_eq!(home.router.mappings.len(), 2, "{speaks:?}");
        assert_eq!(home.mapper.external_port(Protocol::Tcp), Some(PORT));
        assert!(home.lost.is_empty());
    }
}

#[test]
fn a_router_may_call_in_either_protocol() {
    for (speaks, calls) in [(Speaks::Pcp, Speaks::NatPmp), (Speaks::NatPmp, Speaks::Pcp)] {
        let mut home = Home::new(Mode::Auto, speaks);
        home.start();
        home.run_for(100);
        home.reboot();
        home.router.speaks = calls;
        home.call();
        home.router.speaks = speaks;
        home.run_for(6);
        assert_eq!(home.router.mappings.len(), 2, "{speaks:?}");
    }
}

#[test]
fn a_router_that_forgot_is_found_out_at_the_next_renewal() {
    let mut home = Home::new(Mode::Auto, Speaks::NatPmp);
    home.start();
    home.run_for(700);
    home.reboot();
    let before = home.now;
    while home.router.mappings.len() < 2 {
        home.run_for(1);
        assert!(home.now.since(before) <= Duration::from_secs(755));
    }
}

#[test]
fn a_router_that_is_silent_when_it_calls_is_asked_at_once_again() {
    let mut home = Home::new(Mode::Auto, Speaks::Pcp);
    home.start();
    home.router.deaf_to = u32::MAX;
    home.run_for(1000);
    home.router.deaf_to = 0;
    home.reboot();
    home.call();
    home.run_for(6);
    assert_eq!(home.router.mappings.len(), 2);
}

#[test]
fn only_the_router_is_believed() {
    let mut home = Home::new(Mode::Auto, Speaks::Nothing);
    home.start();
    let question = home.last_question.clone();
    let answer = FakeRouter { speaks: Speaks::Pcp, ..FakeRouter::default() }.answer(home.now, &question);
    let answer = answer.expect("it speaks PCP");
    for from in ["192.168.1.1:5352", "192.168.1.2:5351", "[::ffff:192.168.1.2]:5351", "224.0.0.1:5351"] {
        home.tell(Event::Datagram { from: from.parse().unwrap(), data: answer.clone().into() });
        assert_eq!(home.said(), [""; 0], "{from}");
    }
    let mut other_nonce = answer.clone();
    other_nonce[24] ^= 1;
    home.hear(other_nonce);
    assert_eq!(home.said(), [""; 0]);
    home.hear(answer);
    assert_eq!(home.said(), ["TCP 6881 PCP"]);
}

#[test]
fn a_thousand_calls_in_the_routers_name_cost_little() {
    let mut home = Home::new(Mode::Auto, Speaks::Pcp);
    home.start();
    home.questions = 0;
    for n in 0..1000 {
        home.router.started = if n % 2 == 0 { home.now } else { Timestamp::ZERO };
        home.call();
        home.run_for(1);
    }
    // Two for each time that something was asked again.
    assert!((100..=250).contains(&home.questions), "{}", home.questions);
}

#[test]
fn another_port_outside_is_kept() {
    let mut home = Home::new(Mode::Auto, Speaks::NatPmp);
    home.router.taken = vec![PORT];
    home.start();
    assert_eq!(home.said(), ["TCP 6882 NAT-PMP", "UDP 6882 NAT-PMP"]);
    home.run_for(700);
    home.reboot();
    home.router.taken.clear();
    home.call();
    home.run_for(6);
    assert_eq!(home.mapper.external_port(Protocol::Tcp), Some(6882), "others were told of it");
}

#[test]
fn at_a_stop_everything_is_taken_back() {
    for speaks in [Speaks::Pcp, Speaks::NatPmp] {
        let mut home = Home::new(Mode::Auto, speaks);
        home.start();
        home.tell(Event::Stop);
        assert!(home.router.mappings.is_empty() && home.mapper.is_off() && home.stopped == 1);
        assert_eq!(home.mapper.poll_timeout(), None);
    }
    let mut home = Home::new(Mode::Auto, Speaks::Pcp);
    home.start();
    home.router.deaf_to = u32::MAX;
    home.tell(Event::Stop);
    assert_eq!(home.stopped, 0);
    home.run_for(4);
    assert_eq!(home.stopped, 1, "it does not take longer than the session may");
}

#[test]
fn a_stop_takes_back_what_upnp_has_mapped_meanwhile() {
    let mut home = Home::new(Mode::Upnp, Speaks::Nothing);
    home.start();
    home.tell(Event::Stop);
    assert_eq!(home.stopped, 0);
    home.answer_job(Ok(None));
    assert!(matches!(home.jobs[1].1, UpnpRequest::Unmap { protocol: Protocol::Tcp, external: PORT, .. }));
    home.answer_job(Ok(None));
    assert_eq!((home.stopped, home.jobs.len()), (1, 2));
}

#[test]
fn upnp_tries_other_ports_and_mappings_for_ever() {
    let mut home = Home::new(Mode::Upnp, Speaks::Nothing);
    home.start();
    home.answer_job(Err(UpnpError::Conflict));
    home.answer_job(Err(UpnpError::OnlyPermanent));
    let [.., (_, UpnpRequest::Map { external, lifetime_s: 0, .. })] = home.jobs[..] else {
        panic!("{:?}", home.jobs)
    };
    assert_ne!(external, PORT);
    home.answer_job(Ok(Some(OUTSIDE)));
    assert_eq!(home.mapper.external_port(Protocol::Tcp), Some(external));
    home.answer_job(Err(UpnpError::Refused("UDP is not for you".into())));
    assert_eq!(home.refused, [(Protocol::Udp, "UDP is not for you".to_string())]);
    home.run_for(750);
    let [.., (_, UpnpRequest::Map { protocol: Protocol::Tcp, .. })] = home.jobs[..] else {
        panic!("{:?}", home.jobs)
    };
}

#[test]
fn many_taken_ports_end_it() {
    let mut home = Home::new(Mode::Upnp, Speaks::Nothing);
    home.start();
    (0..5).for_each(|_| home.answer_job(Err(UpnpError::Conflict)));
    assert_eq!(home.failures.len(), 1);
    assert_eq!(home.failures[0].1, [(Method::Upnp, Why::Upnp(UpnpError::Conflict))]);
}

#[test]
fn another_network_is_begun_with_anew() {
    let mut home = Home::new(Mode::Auto, Speaks::Pcp);
    home.start();
    let local = Ipv4Addr::new(192, 168, 1, 8);
    home.tell(Event::Start { router: Router { local, gateway: Some(GATEWAY) }, port: PORT });
    assert_eq!(home.lost, [(Protocol::Tcp, Why::Moved), (Protocol::Udp, Why::Moved)]);
    assert_eq!(home.said().len(), 4);
    home.questions = 0;
    home.tell(Event::Start { router: Router { local, gateway: Some(GATEWAY) }, port: PORT });
    assert_eq!((home.questions, home.lost.len()), (2, 2), "the same again makes sure");
}

#[test]
fn refusals_say_why() {
    let mut home = Home::new(Mode::Auto, Speaks::Pcp);
    home.router.refuses = 2;
    home.start();
    home.run_for(4);
    home.answer_job(Err(UpnpError::NoRouter));
    let whys = home.failures[0].1.iter().map(|(method, why)| format!("{method}: {why}"));
    assert_eq!(
        whys.collect::<Vec<_>>(),
        [
            "PCP: refused: it is not allowed here (code 2)",
            "NAT-PMP: the router does not speak it",
            "UPnP: no router answers"
        ]
    );
}

proptest! {
    /// Whatever a router or its impostors say, questions are few, and a mapping is one that was granted lately.
    #[test]
    fn questions_are_few_and_mappings_are_fresh(
        seed in any::<u64>(),
        speaks in prop_oneof![Just(Speaks::Pcp), Just(Speaks::NatPmp), Just(Speaks::Nothing)],
        steps in prop::collection::vec((0..7_u8, 0..2000_u64), 1..60),
    ) {
        let mut home = Home::seeded(Mode::Auto, speaks, seed);
        home.start();
        let mut rng = Rng::from_number(seed);
        for (what, secs) in steps {
            match what {
                0 => home.reboot(),
                1 => home.call(),
                2 => home.router.deaf_to = rng.below(4) as u32,
                3 => {
                    let mut data = vec![0; rng.below(70) as usize];
                    rng.fill(&mut data);
                    if let Some(first) = data.first_mut() {
                        *first &= 2;
                    }
                    home.hear(data);
                }
                4 if !home.open_jobs.is_empty() => {
                    let result = if rng.chance(1, 2) { Ok(None) } else { Err(UpnpError::NoRouter) };
                    home.answer_job(result);
                }
                5 => home.start(),
                _ => {}
            }
            let before = home.questions;
            home.run_for(secs);
            prop_assert!(u64::from(home.questions - before) <= 12 + secs / 2, "in {} s", secs);
            let fresh = |mapping: &(Timestamp, Mapping)| home.now.since(mapping.0) <= mapping.1.lifetime;
            for protocol in Protocol::ALL {
                let last = home.log.iter().rev().find(|(_, mapping)| mapping.protocol == protocol);
                if let Some(port) = home.mapper.external_port(protocol) {
                    prop_assert!(last.is_some_and(fresh));
                    prop_assert_eq!(Some(port), last.map(|(_, mapping)| mapping.external));
                }
            }
            prop_assert!(home.open_jobs.len() <= 60);
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Speaks {
    NatPmp,
    #[default]
    Nothing,
    Pcp,
}

#[derive(Clone, Debug, Default)]
struct FakeRouter {
    speaks: Speaks,
    started: Timestamp,
    mappings: BTreeMap<(u8, u16), u16>,
    /// Ports outside that others have.
    taken: Vec<u16>,
    /// How many questions are not heard.
    deaf_to: u32,
    grants_s: Option<u32>,
    /// The code with which everything is refused.
    refuses: u8,
}

impl FakeRouter {
    fn epoch(&self, now: Timestamp) -> [u8; 4] {
        (now.since(self.started).as_secs() as u32).to_be_bytes()
    }

    fn answer(&mut self, now: Timestamp, question: &[u8]) -> Option<Vec<u8>> {
        if self.deaf_to > 0 {
            self.deaf_to = self.deaf_to.saturating_sub(u32::from(self.deaf_to != u32::MAX));
            return None;
        }
        let epoch = self.epoch(now);
        match (self.speaks, question[0]) {
            (Speaks::Nothing, _) => None,
            (Speaks::Pcp, 2) => {
                let mut answer = question.to_vec();
                answer[1] |= 128;
                answer[3] = self.refuses;
                answer[8..12].copy_from_slice(&epoch);
                answer[12..24].fill(0);
                let lifetime = u32::from_be_bytes(*question[4..].first_chunk().unwrap());
                let lifetime = if lifetime == 0 { 0 } else { self.grants_s.unwrap_or(lifetime) };
                answer[4..8].copy_from_slice(&lifetime.to_be_bytes());
                let external = self.map(question[36], question[40..44].try_into().unwrap(), lifetime);
                answer[42..44].copy_from_slice(&external.to_be_bytes());
                answer[44..60].copy_from_slice(&OUTSIDE.to_ipv6_mapped().octets());
                Some(answer)
            }
            // RFC 6887, 9: it answers in its own version.
            (Speaks::Pcp, _) => {
                let mut answer = vec![2, 128, 0, 1, 0, 0, 0, 0];
                answer.extend(epoch);
                answer.extend([0; 12]);
                Some(answer)
            }
            (Speaks::NatPmp, 0) => {
                let mut answer = vec![0, question[1] | 128, 0, 0];
                answer.extend(epoch);
                if question[1] == 0 {
                    answer.extend(OUTSIDE.octets());
                    return Some(answer);
                }
                let lifetime = u32::from_be_bytes(*question[8..].first_chunk().unwrap());
                let external = self.map(question[1], question[4..8].try_into().unwrap(), lifetime);
                answer.extend(&question[4..6]);
                answer.extend(external.to_be_bytes());
                answer.extend(lifetime.to_be_bytes());
                Some(answer)
            }
            (Speaks::NatPmp, _) => Some([vec![0, 128, 0, 1], epoch.to_vec()].concat()),
        }
    }

    fn map(&mut self, protocol: u8, ports: [u8; 4], lifetime: u32) -> u16 {
        let [a, b, c, d] = ports;
        let (internal, mut external) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        if lifetime == 0 {
            self.mappings.remove(&(protocol, internal));
            return 0;
        }
        while self.taken.contains(&external) {
            external += 1;
        }
        self.mappings.insert((protocol, internal), external);
        external
    }
}

/// When nothing worked, why, and for how long it rests then.
type Failed = (Timestamp, Vec<(Method, Why)>, Duration);

/// A host and its router.
struct Home {
    mapper: PortMapper,
    router: FakeRouter,
    now: Timestamp,
    log: Vec<(Timestamp, Mapping)>,
    lost: Vec<(Protocol, Why)>,
    refused: Vec<(Protocol, String)>,
    failures: Vec<Failed>,
    jobs: Vec<(Timestamp, UpnpRequest)>,
    open_jobs: Vec<u64>,
    questions: u32,
    last_question: Vec<u8>,
    stopped: u32,
}

impl Home {
    fn new(mode: Mode, speaks: Speaks) -> Self {
        Self::seeded(mode, speaks, 1)
    }

    fn seeded(mode: Mode, speaks: Speaks, seed: u64) -> Self {
        Self {
            mapper: PortMapper::new(mode, &Protocol::ALL, Rng::from_number(seed)),
            router: FakeRouter { speaks, ..FakeRouter::default() },
            now: Timestamp::ZERO,
            log: vec![],
            lost: vec![],
            refused: vec![],
            failures: vec![],
            jobs: vec![],
            open_jobs: vec![],
            questions: 0,
            last_question: vec![],
            stopped: 0,
        }
    }

    fn start(&mut self) {
        self.tell(Event::Start { router: Router { local: LOCAL, gateway: Some(GATEWAY) }, port: PORT });
    }

    fn reboot(&mut self) {
        self.router.started = self.now;
        self.router.mappings.clear();
    }

    /// The router calls out that it has started.
    fn call(&mut self) {
        assert!(CALLS.ip().is_multicast());
        let epoch = self.router.epoch(self.now);
        match self.router.speaks {
            Speaks::Nothing => {}
            Speaks::Pcp => self.hear([vec![2, 128, 0, 0, 0, 0, 0, 0], epoch.to_vec(), vec![0; 12]].concat()),
            Speaks::NatPmp => {
                self.hear([vec![0, 128, 0, 0], epoch.to_vec(), OUTSIDE.octets().to_vec()].concat());
            }
        }
    }

    fn hear(&mut self, data: Vec<u8>) {
        self.tell(Event::Datagram { from: SocketAddr::from((GATEWAY, 5351)), data: data.into() });
    }

    fn answer_job(&mut self, result: Result<Option<Ipv4Addr>, UpnpError>) {
        let job = self.open_jobs.remove(0);
        self.tell(Event::UpnpDone { job, result });
    }

    fn tell(&mut self, event: Event) {
        let mut out = Outbox::new();
        self.mapper.handle_event(self.now, event, &mut out);
        self.follow(out);
    }

    fn follow(&mut self, mut out: Outbox<Action>) {
        while let Some(action) = out.pop_front() {
            match action {
                Action::Failed { tried, retry_in } => self.failures.push((self.now, tried, retry_in)),
                Action::Lost { protocol, why } => self.lost.push((protocol, why)),
                Action::Mapped(mapping) => self.log.push((self.now, mapping)),
                Action::Refused { protocol, why } => self.refused.push((protocol, why.to_string())),
                Action::Send { to, data } => {
                    assert_eq!(to, SocketAddr::from((GATEWAY, 5351)));
                    assert_eq!(Answer::parse(&data), None, "a question is no answer");
                    self.questions += 1;
                    self.last_question = data;
                    let answer = self.router.answer(self.now, &self.last_question.clone());
                    if let Some(answer) = answer {
                        let from = SocketAddr::from((GATEWAY, 5351));
                        let event = Event::Datagram { from, data: answer.into() };
                        self.mapper.handle_event(self.now, event, &mut out);
                    }
                }
                Action::Stopped => self.stopped += 1,
                Action::Upnp { job, request } => {
                    self.jobs.push((self.now, request));
                    self.open_jobs.push(job);
                }
            }
        }
    }

    fn run_for(&mut self, secs: u64) {
        self.run_until(self.now + Duration::from_secs(secs));
    }

    fn run_until(&mut self, end: Timestamp) {
        while let Some(due) = self.mapper.poll_timeout().filter(|due| due.at <= end) {
            self.now = self.now.max(due.at);
            let mut out = Outbox::new();
            self.mapper.handle_timeout(self.now, &mut out);
            self.follow(out);
            assert!(self.mapper.poll_timeout().is_none_or(|next| next.at > self.now));
        }
        self.now = end;
    }

    fn said(&self) -> Vec<String> {
        let line = |(_, it): &(Timestamp, Mapping)| format!("{} {} {}", it.protocol, it.external, it.method);
        self.log.iter().map(line).collect()
    }

    fn mapped(&self, protocol: Protocol) -> Vec<Timestamp> {
        self.log.iter().filter(|(_, mapping)| mapping.protocol == protocol).map(|(at, _)| *at).collect()
    }
}
