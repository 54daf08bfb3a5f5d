use super::{DEAD_MAX, LATE_MAX, LATE_MIN, LATE_TIMES, LATE_UNKNOWN, Overdue, Queries};
use crate::machine::Timestamp;
use crate::rng::Rng;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;
use proptest::prelude::*;

fn queries() -> Queries<u32> {
    Queries::new(Rng::from_number(1))
}

fn nth(n: u8) -> SocketAddr {
    SocketAddr::from(([45, 1, 2, n], 6881))
}

fn at(millis: u64) -> Timestamp {
    Timestamp::ZERO + Duration::from_millis(millis)
}

#[test]
fn only_who_was_asked_can_answer_and_only_once() {
    let mut queries = queries();
    let transaction = queries.open(at(0), nth(1), None, 7);
    assert!(queries.is_asked(nth(1)) && !queries.is_asked(nth(2)));
    assert_eq!(queries.close(at(1), nth(2), transaction), None, "another address");
    assert_eq!(queries.close(at(1), SocketAddr::new(nth(1).ip(), 6882), transaction), None, "another port");
    assert_eq!(queries.close(at(1), nth(1), transaction ^ 1), None, "another transaction");
    assert_eq!(queries.close(at(1), nth(1), transaction).unwrap().purpose, 7);
    assert_eq!(queries.close(at(1), nth(1), transaction), None, "once more");
    assert!(queries.is_empty() && queries.poll_timeout().is_none());
}

#[test]
fn a_query_is_late_and_then_dead() {
    let mut queries = queries();
    queries.open(at(0), nth(1), None, 7);
    let late = Timestamp::ZERO + LATE_UNKNOWN;
    assert_eq!(queries.pop_overdue(late - Duration::from_micros(1)), None);
    assert_eq!(queries.pop_overdue(late), Some(Overdue::Late { to: nth(1), id: None, purpose: 7 }));
    assert_eq!(queries.pop_overdue(late), None);
    let dead = Timestamp::ZERO + LATE_TIMES * LATE_UNKNOWN;
    assert_eq!(queries.poll_timeout().unwrap().at, dead);
    let dead = queries.pop_overdue(dead);
    assert!(matches!(dead, Some(Overdue::Dead { query, is_fault: false, .. }) if query.purpose == 7));
    assert_eq!((queries.len(), queries.pop_overdue(at(1_000_000))), (0, None));
}

#[test]
fn silence_of_all_is_nobodys_fault() {
    let mut queries = queries();
    let faults = |queries: &mut Queries<u32>, now| {
        let overdue: Vec<_> = core::iter::from_fn(|| queries.pop_overdue(now)).collect();
        overdue.into_iter().filter(|due| matches!(due, Overdue::Dead { is_fault: true, .. })).count()
    };
    let answered = queries.open(at(0), nth(1), None, 1);
    queries.open(at(0), nth(2), None, 2);
    queries.close(at(50), nth(1), answered).unwrap();
    queries.open(at(100), nth(3), None, 3);
    assert_eq!(faults(&mut queries, at(3300)), 1, "the second one should have answered");
    assert_eq!(
        faults(&mut queries, Timestamp::ZERO + 2 * DEAD_MAX),
        0,
        "nobody answered since the third was asked"
    );
}

#[test]
fn what_is_late_depends_on_how_fast_others_are() {
    let mut queries = queries();
    let mut after = |millis, times| {
        for n in 0..times {
            let sent = at(n * 10_000);
            let transaction = queries.open(sent, nth(1), None, 0);
            queries.close(sent + Duration::from_millis(millis), nth(1), transaction);
        }
        queries.late_after()
    };
    assert_eq!(after(80, 1), Duration::from_millis(240));
    assert_eq!(after(80, 50), LATE_MIN);
    assert!(after(300, 50) >= Duration::from_millis(300));
    assert_eq!(after(4000, 50), LATE_MAX);
}

proptest! {
    /// Each query ends once: answered or dead.
    #[test]
    fn every_query_closes_once(steps in prop::collection::vec((0..4_u8, 0..6_u8, 0..2000_u64), 1..200)) {
        let mut queries = queries();
        let (mut open, mut now) = (Vec::<(SocketAddr, u32, u32)>::new(), 0);
        for (n, (step, who, wait)) in steps.into_iter().enumerate() {
            now += wait;
            while let Some(overdue) = queries.pop_overdue(at(now)) {
                if let Overdue::Dead { query, .. } = overdue {
                    let place = open.iter().position(|(.., purpose)| *purpose == query.purpose).unwrap();
                    open.remove(place);
                }
            }
            match step {
                0 if !open.is_empty() => {
                    let (to, transaction, purpose) = open.swap_remove(usize::from(who) % open.len());
                    prop_assert_eq!(queries.close(at(now), to, transaction).unwrap().purpose, purpose);
                }
                _ => {
                    let transaction = queries.open(at(now), nth(who), None, n as u32);
                    open.push((nth(who), transaction, n as u32));
                }
            }
            prop_assert_eq!(queries.len(), open.len());
            queries.check_invariants();
        }
        queries.check_invariants();
    }
}
