use super::{AnnounceId, Announcer, AnnouncerAction, AnnouncerEvent, back_off};
use crate::machine::{Machine as _, Outbox, Timestamp};
use crate::rng::Rng;
use crate::tracker::{AnnounceEvent, AnnounceRequest, Answer, RetryIn, TrackerError, TrackerUrl};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;
use proptest::prelude::*;

#[test]
fn tiers_are_walked_until_one_answers() {
    let mut world = World::new(&[&["a"], &["b", "c"]], false);
    world.event(AnnouncerEvent::Start);
    assert_eq!(world.run_to(0), ["0 a started"]);
    world.fail("a");
    let [first] = &world.run_to(0)[..] else { panic!("one is asked") };
    let (first, second) = if first == "0 b started" { ("b", "c") } else { ("c", "b") };
    world.fail(first);
    assert_eq!(world.run_to(0), [format!("0 {second} started")]);
    world.answer(second, 1800);
    // BEP 12: the one that answered goes to the front of its tier, the first tier stays the first.
    assert_eq!(world.order(), ["a", second, first]);
    assert_eq!(world.announcer.working().unwrap().host(), second);
    assert_eq!(world.run_to(1800), ["1800 a started"]);
    world.fail("a");
    assert_eq!(world.run_to(1800), [format!("1800 {second} regular")]);
}

#[test]
fn a_tier_has_an_order_drawn_once() {
    let orders: Vec<_> =
        (0..20).map(|seed| World::seeded(&[&["a", "b", "c"]], false, seed).order()).collect();
    assert_eq!(orders[0], World::seeded(&[&["a", "b", "c"]], false, 0).order());
    assert!(orders.iter().any(|order| *order != orders[0]));
}

#[test]
fn each_event_is_said_once() {
    let mut world = World::started(&[&["a"]], 1800);
    assert_eq!(world.run_to(1800), ["1800 a regular"]);
    world.answer("a", 1800);
    world.run_to(1801);
    world.event(AnnouncerEvent::Completed);
    assert_eq!(world.run_to(1801), ["1801 a completed"]);
    world.answer("a", 1800);
    assert_eq!(world.run_to(3601), ["3601 a regular"]);
    world.answer("a", 1800);
    world.event(AnnouncerEvent::Stop);
    assert_eq!(world.run_to(9999), ["3601 a stopped"]);
    assert!(!world.announcer.is_stopped());
    world.answer("a", 1800);
    assert!(world.announcer.is_stopped());
    for event in
        [AnnouncerEvent::Start, AnnouncerEvent::Force, AnnouncerEvent::Completed, AnnouncerEvent::Stop]
    {
        world.event(event);
    }
    assert!(world.run_to(99_999).is_empty());
}

#[test]
fn completed_is_said_again_until_it_is_heard() {
    let mut world = World::started(&[&["a"]], 1800);
    world.event(AnnouncerEvent::Completed);
    world.fail("a");
    let said = world.run_to(60);
    assert_eq!((said[0].as_str(), said.len()), ("0 a completed", 2));
    assert!(said[1].ends_with(" a completed"));
    world.answer("a", 1800);
    assert!(world.run_to(1800).is_empty());
}

#[test]
fn who_completes_during_the_first_announce_says_so_after_it() {
    let mut world = World::new(&[&["a"]], false);
    world.event(AnnouncerEvent::Start);
    world.event(AnnouncerEvent::Completed);
    world.answer("a", 1800);
    assert_eq!(world.run_to(1), ["0 a started", "0 a completed"]);
}

#[test]
fn a_seed_that_no_tracker_knew_never_completed() {
    let mut world = World::new(&[&["a"]], false);
    world.event(AnnouncerEvent::Completed);
    world.event(AnnouncerEvent::Start);
    world.answer("a", 1800);
    assert_eq!(world.run_to(1800), ["0 a started", "1800 a regular"]);
}

#[test]
fn wanting_peers_waits_for_the_minimal_interval() {
    let mut world = World::new(&[&["a"]], false);
    world.event(AnnouncerEvent::Start);
    let min_interval = Some(Duration::from_secs(700));
    world.answer_with("a", Answer { min_interval, ..answer(1800) });
    world.event(AnnouncerEvent::WantPeers);
    assert_eq!(world.run_to(700), ["0 a started", "700 a regular"]);
    // Without one it is five minutes.
    world.answer("a", 1800);
    world.event(AnnouncerEvent::WantPeers);
    assert_eq!(world.run_to(1000), ["1000 a regular"]);
    // An interval that is shorter than the minimal one is as long.
    world.answer_with("a", Answer { min_interval, ..answer(60) });
    assert_eq!(world.run_to(1700), ["1700 a regular"]);
}

#[test]
fn who_wants_peers_asks_other_trackers_too() {
    let tiers: &[&[&str]] = &[&["a"], &["b"], &["c"]];
    let mut world = World::started(tiers, 1800);
    world.run_to(10);
    world.event(AnnouncerEvent::WantPeers);
    world.answer("b", 600);
    assert_eq!(world.run_to(20), ["10 b started"]);
    world.event(AnnouncerEvent::WantPeers);
    world.fail("c");
    // b was asked for its peers only: a is the one that counts us.
    assert_eq!(world.run_to(1800), ["20 c started", "1800 a regular"]);
    world.fail("a");
    assert_eq!(world.run_to(1800), ["1800 b regular"]);
    world.answer("b", 600);
    assert_eq!(world.run_to(2400), ["2400 a regular"]);

    let mut world = World::seeded(tiers, true, 1);
    world.event(AnnouncerEvent::Start);
    world.answer("a", 1800);
    world.event(AnnouncerEvent::WantPeers);
    assert_eq!(world.run_to(300), ["0 a started", "300 a regular"]);
}

#[test]
fn the_user_can_force_an_announce() {
    let mut world = World::started(&[&["a"]], 1800);
    world.run_to(1);
    world.event(AnnouncerEvent::Force);
    world.event(AnnouncerEvent::Force);
    assert_eq!(world.run_to(2), ["1 a regular"]);
}

#[test]
fn back_off_grows_with_the_square_to_an_hour() {
    let mut rng = Rng::from_number(1);
    for (fails, full_s) in [(1, 17.5), (2, 55.0), (3, 117.5), (16, 3205.0), (17, 3600.0), (u32::MAX, 3600.0)]
    {
        for _ in 0..50 {
            let wait = back_off(fails, &mut rng).as_secs_f64();
            assert!(wait <= full_s && wait > 0.9 * full_s - 0.01, "{fails}: {wait}");
        }
    }
    let mut world = World::new(&[&["a"]], false);
    world.event(AnnouncerEvent::Start);
    let mut at = vec![];
    while at.len() < 40 {
        world.fail("a");
        let due = world.announcer.poll_timeout().unwrap().at;
        at.push(due.since(world.now));
        world.run_to(due.as_micros().div_ceil(1_000_000));
    }
    assert!(at.iter().all(|wait| *wait <= Duration::from_secs(3600)));
    assert!(at[20..].iter().all(|wait| *wait > Duration::from_secs(3240)));
}

#[test]
fn a_refusal_may_name_its_time() {
    let refused = |retry_in| TrackerError::Refused { reason: String::new(), retry_in: Some(retry_in) };
    let mut world = World::new(&[&["a"]], false);
    world.event(AnnouncerEvent::Start);
    world.fail_with("a", refused(RetryIn::After(Duration::from_secs(600))));
    assert_eq!(world.run_to(600), ["0 a started", "600 a started"]);
    world.fail_with("a", refused(RetryIn::Never));
    world.event(AnnouncerEvent::WantPeers);
    world.event(AnnouncerEvent::NetworkChanged);
    assert!(world.run_to(100_000).is_empty());
    world.event(AnnouncerEvent::Force);
    assert_eq!(world.run_to(100_000), ["100000 a started"]);
}

#[test]
fn a_silent_tracker_does_not_hold_the_walk_up() {
    let mut world = World::new(&[&["a"], &["b"], &["c"]], false);
    world.event(AnnouncerEvent::Start);
    assert_eq!(world.run_to(9), ["0 a started", "5 b started"]);
    world.answer("b", 1800);
    assert!(world.run_to(30).is_empty(), "the round is over");
    world.answer("a", 900);
    assert_eq!(world.run_to(939), ["930 a regular", "935 b regular"]);
    world.answer("b", 1800);
    assert!(world.run_to(960).is_empty());
    world.fail("a");
    assert_eq!(world.run_to(2739), ["2739 a regular"], "as b asks, but a comes first");
}

#[test]
fn the_trackers_of_a_private_torrent_are_asked_one_at_a_time() {
    let mut world = World::new(&[&["a"], &["b"]], true);
    world.event(AnnouncerEvent::Start);
    assert_eq!(world.run_to(29), ["0 a started"]);
    world.fail("a");
    assert_eq!(world.run_to(30), ["29 b started"]);
}

#[test]
fn a_stop_reaches_those_that_may_count_us() {
    let mut world = World::new(&[&["a"], &["b"], &["c"], &["d"]], false);
    world.event(AnnouncerEvent::Start);
    world.fail("a");
    world.answer("b", 60);
    world.run_to(60);
    world.fail("a");
    world.run_to(65); // b is silent, c is asked beside it
    world.run_to(66);
    world.event(AnnouncerEvent::Stop);
    assert_eq!(world.cancelled, 2);
    let said = world.run_to(67);
    assert_eq!(said, ["66 b stopped", "66 c stopped"]);
    assert_eq!(
        world.pending.values().map(|(_, request)| request.num_want).sum::<u32>(),
        0,
        "no peers are wanted"
    );
    world.fail("b");
    world.fail("c");
    assert!(world.announcer.is_stopped());
}

#[test]
fn a_new_network_forgives_failures() {
    let mut world = World::new(&[&["a"]], false);
    world.event(AnnouncerEvent::Start);
    for _ in 0..9 {
        world.fail("a");
        let due = world.announcer.poll_timeout().unwrap().at;
        world.run_to(due.as_micros().div_ceil(1_000_000));
    }
    world.fail("a");
    let second = world.now.as_micros() / 1_000_000;
    world.event(AnnouncerEvent::NetworkChanged);
    assert_eq!(world.run_to(second), [format!("{second} a started")]);
    assert_eq!(world.announcer.trackers().next().unwrap().fails, 0);
}

#[test]
fn a_new_network_is_told_at_once_and_what_is_under_way_is_forgotten() {
    let mut world = World::started(&[&["a"], &["b"]], 1800);
    assert!(world.run_to(20).is_empty());
    world.event(AnnouncerEvent::NetworkChanged);
    assert_eq!(world.run_to(21), ["20 a regular"]);
    world.event(AnnouncerEvent::NetworkChanged);
    assert_eq!(world.run_to(22), ["21 a regular"]);
    world.answer("a", 1800);
    assert!(world.run_to(1800).is_empty(), "b is asked no more often than before");
    world.event(AnnouncerEvent::Stop);
    world.event(AnnouncerEvent::NetworkChanged);
    assert_eq!(world.run_to(1900), ["1800 a stopped"]);
}

#[test]
fn a_partial_seed_says_so_each_time() {
    let mut world = World::started(&[&["a"]], 60);
    world.event(AnnouncerEvent::PartialSeed(true));
    assert_eq!(world.run_to(60), ["60 a paused"]);
    world.answer("a", 60);
    assert_eq!(world.run_to(120), ["120 a paused"]);
    world.event(AnnouncerEvent::PartialSeed(false));
    world.answer("a", 60);
    assert_eq!(world.run_to(180), ["180 a regular"]);
}

#[test]
fn a_tracker_id_is_told_again() {
    let mut world = World::new(&[&["a"]], false);
    world.event(AnnouncerEvent::Start);
    world.answer_with("a", Answer { tracker_id: Some(b"x".to_vec()), ..answer(60) });
    world.run_to(60);
    world.answer("a", 60);
    world.run_to(120);
    assert_eq!(world.tracker_ids, [None, Some(b"x".to_vec()), Some(b"x".to_vec())]);
}

#[test]
fn without_trackers_there_is_nothing_to_do() {
    let mut world = World::new(&[], false);
    for event in
        [AnnouncerEvent::Start, AnnouncerEvent::WantPeers, AnnouncerEvent::Force, AnnouncerEvent::Stop]
    {
        world.event(event);
    }
    assert!(world.run_to(10_000).is_empty() && world.announcer.is_stopped());
}

fn answer(interval_s: u64) -> Answer {
    Answer { interval: Duration::from_secs(interval_s), ..Answer::default() }
}

/// An announcer, a clock that stops at each deadline, and the announces that wait for an answer by tracker.
struct World {
    announcer: Announcer,
    now: Timestamp,
    log: Vec<String>,
    pending: BTreeMap<String, (AnnounceId, AnnounceRequest)>,
    cancelled: usize,
    tracker_ids: Vec<Option<Vec<u8>>>,
}

impl World {
    fn new(tiers: &[&[&str]], private: bool) -> Self {
        Self::seeded(tiers, private, 1)
    }

    fn seeded(tiers: &[&[&str]], private: bool, seed: u64) -> Self {
        let url = |name: &&str| TrackerUrl::parse(&format!("http://{name}/announce")).unwrap();
        let tiers = tiers.iter().map(|tier| tier.iter().map(url).collect()).collect();
        Self {
            announcer: Announcer::new(tiers, private, Rng::from_number(seed)),
            now: Timestamp::ZERO,
            log: vec![],
            pending: BTreeMap::new(),
            cancelled: 0,
            tracker_ids: vec![],
        }
    }

    /// One whose first tracker has answered to `started`.
    fn started(tiers: &[&[&str]], interval_s: u64) -> Self {
        let mut world = Self::new(tiers, false);
        world.event(AnnouncerEvent::Start);
        world.answer(tiers[0][0], interval_s);
        world.log.clear();
        world
    }

    fn order(&self) -> Vec<String> {
        self.announcer.trackers().map(|tracker| tracker.url.host().to_string()).collect()
    }

    fn answer(&mut self, tracker: &str, interval_s: u64) {
        self.answer_with(tracker, answer(interval_s));
    }

    fn answer_with(&mut self, tracker: &str, answer: Answer) {
        let (id, _) = self.pending.remove(tracker).expect("the tracker was asked");
        self.event(AnnouncerEvent::Answered { id, answer });
    }

    fn fail(&mut self, tracker: &str) {
        self.fail_with(tracker, TrackerError::TimedOut);
    }

    fn fail_with(&mut self, tracker: &str, error: TrackerError) {
        let (id, _) = self.pending.remove(tracker).expect("the tracker was asked");
        self.event(AnnouncerEvent::Failed { id, error });
    }

    fn event(&mut self, event: AnnouncerEvent) {
        let mut out = Outbox::new();
        self.announcer.handle_event(self.now, event, &mut out);
        self.take(out);
    }

    /// Lets time pass, and gives what was announced since the last call: second, tracker and event.
    fn run_to(&mut self, second: u64) -> Vec<String> {
        let end = Timestamp::from_micros(second * 1_000_000);
        while let Some(due) = self.announcer.poll_timeout().filter(|due| due.at <= end) {
            self.now = due.at;
            let mut out = Outbox::new();
            self.announcer.handle_timeout(self.now, &mut out);
            assert!(self.announcer.poll_timeout().is_none_or(|next| next.at > self.now));
            self.take(out);
            let mut again = Outbox::new();
            self.announcer.handle_timeout(self.now, &mut again);
            assert!(again.is_empty());
        }
        self.now = end;
        core::mem::take(&mut self.log)
    }

    fn take(&mut self, out: Outbox<AnnouncerAction>) {
        let second = self.now.as_micros() / 1_000_000;
        for action in out {
            match action {
                AnnouncerAction::Announce { id, url, request, .. } => {
                    let event = request.event.map_or("regular", AnnounceEvent::name);
                    self.log.push(format!("{second} {} {event}", url.host()));
                    self.tracker_ids.push(request.tracker_id.clone());
                    let before = self.pending.insert(url.host().to_string(), (id, request));
                    assert_eq!(before, None, "a tracker is asked one thing at a time");
                }
                AnnouncerAction::Cancel { id } => {
                    self.pending.retain(|_, (pending, _)| *pending != id);
                    self.cancelled += 1;
                }
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Answer { which: usize, interval_s: u64, min_s: Option<u64> },
    Completed,
    Fail { which: usize },
    Network,
    Start,
    Wait(u64),
    Want,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (any::<usize>(), 60..4000_u64, prop::option::of(0..3000_u64))
            .prop_map(|(which, interval_s, min_s)| Step::Answer { which, interval_s, min_s }),
        1 => Just(Step::Completed),
        3 => any::<usize>().prop_map(|which| Step::Fail { which }),
        1 => Just(Step::Network),
        4 => (0..3000_u64).prop_map(Step::Wait),
        2 => Just(Step::Want),
    ];
    prop::collection::vec(step, 0..60)
}

proptest! {
    /// INV-S-40: a tracker that answered is left alone for its minimal interval, but for news; `started` comes
    /// first and once, `completed` is confirmed once at most, and `stopped` comes last.
    #[test]
    fn trackers_are_treated_as_they_ask(steps in steps(), private: bool, seed: u64) {
        let mut world = World::seeded(&[&["a", "b"], &["c"], &["d", "e"]], private, seed);
        let mut free_from: BTreeMap<String, u64> = BTreeMap::new();
        let (mut started, mut heard_completed, mut completed) = (vec![], 0, false);
        for step in [Step::Start].into_iter().chain(steps) {
            let pending = world.pending.keys().cloned().collect::<Vec<_>>();
            let second = world.now.as_micros() / 1_000_000;
            match step {
                Step::Answer { which, interval_s, min_s } if !pending.is_empty() => {
                    let name = &pending[which % pending.len()];
                    started.push(name.clone());
                    let event = world.pending[name].1.event;
                    heard_completed += usize::from(event == Some(AnnounceEvent::Completed));
                    free_from.insert(name.clone(), second + min_s.unwrap_or(interval_s.min(300)));
                    let min_interval = min_s.map(Duration::from_secs);
                    world.answer_with(name, Answer { min_interval, ..answer(interval_s) });
                }
                Step::Fail { which } if !pending.is_empty() => world.fail(&pending[which % pending.len()]),
                Step::Completed if !completed => {
                    completed = true;
                    world.event(AnnouncerEvent::Completed);
                }
                Step::Network => {
                    // Where we are is news to all of them.
                    free_from.clear();
                    world.event(AnnouncerEvent::NetworkChanged);
                }
                Step::Start => world.event(AnnouncerEvent::Start),
                Step::Want => world.event(AnnouncerEvent::WantPeers),
                Step::Wait(seconds) => {
                    let said = world.run_to(second + seconds);
                    world.log = said;
                }
                Step::Answer { .. } | Step::Fail { .. } | Step::Completed => {}
            }
            for line in core::mem::take(&mut world.log) {
                let [at, name, event] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
                prop_assert_eq!(event == "started", !started.contains(&name.to_string()), "{}", line);
                let free = free_from.get(name).copied().unwrap_or(0);
                prop_assert!(event == "completed" || at.parse::<u64>().unwrap() >= free, "{}", line);
            }
            prop_assert!(heard_completed <= 1);
            prop_assert!(!private || world.pending.len() <= 1);
        }
        let waiting: Vec<_> = world.pending.keys().cloned().collect();
        world.event(AnnouncerEvent::Stop);
        let mut stopped: Vec<_> = world.pending.keys().cloned().collect();
        stopped.sort();
        let mut known = [started, waiting].concat();
        known.sort();
        known.dedup();
        prop_assert_eq!(&stopped, &known);
        stopped.iter().for_each(|name| world.fail(name));
        prop_assert!(world.announcer.is_stopped() && world.announcer.poll_timeout().is_none());
    }
}
