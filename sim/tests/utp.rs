//! Streams of uTP are fast, keep queues short, give way, and reward no liar.

use core::time::Duration;
use sim::utp::{Control, Flow, Lie, Outcome, Path, Plan, run};

const HONEST: Flow = Flow::Utp(None);

fn path(rtt: u64, buffer: u64, lost: u64) -> Path {
    let (rtt, buffer) = (Duration::from_millis(rtt), Duration::from_millis(buffer));
    Path { rate_bytes_per_s: 2_500_000, rtt, buffer, lost }
}

fn seen(path: Path, flows: &[(Flow, u64)]) -> Outcome {
    let flows: Vec<_> = flows.iter().map(|(flow, start)| (*flow, Duration::from_secs(*start))).collect();
    let (measured_from, until) = (Duration::from_secs(15), Duration::from_secs(60));
    run(path, Plan { flows: &flows, measured_from, until, seed: 1 })
}

#[test]
fn a_stream_fills_a_clean_path_and_keeps_the_queue_short() {
    for rtt in [10, 50, 100, 300] {
        for buffer in [20, 50, 100, 500] {
            let outcome = seen(path(rtt, buffer, 0), &[(HONEST, 0)]);
            // A buffer that is a small part of the round trip drains before it is noticed.
            let least = if rtt == 300 && buffer == 20 { 500 } else { 850 };
            assert!(outcome.permille(0) >= least, "{rtt} {buffer}: {outcome:?}");
            assert!(outcome.mean_delay <= Duration::from_millis(65), "{rtt} {buffer}: {outcome:?}");
        }
    }
}

#[test]
fn losses_by_accident_cost_little() {
    for (rtt, lost, least) in
        [(10, 100, 800), (50, 100, 700), (100, 100, 500), (50, 200, 500), (50, 500, 400)]
    {
        for buffer in [20, 100, 500] {
            let outcome = seen(path(rtt, buffer, lost), &[(HONEST, 0)]);
            assert!(outcome.permille(0) >= least, "{rtt} {buffer} {lost}: {outcome:?}");
        }
    }
}

#[test]
fn a_tcp_keeps_nine_tenths_of_what_it_had() {
    for control in [Control::Reno, Control::Cubic] {
        for (rtt, lost) in [10, 50, 100, 300].into_iter().flat_map(|rtt| [(rtt, 0), (rtt, 100)]) {
            for buffer in [20, 50, 100, 500] {
                let (path, tcp) = (path(rtt, buffer, lost), (Flow::Tcp(control), 0));
                let alone = seen(path, &[tcp]);
                let both = seen(path, &[tcp, (HONEST, 5)]);
                let kept = both.carried[0] * 1000 / alone.carried[0];
                assert!(kept >= 900, "{control:?} {rtt} {buffer} {lost}: {kept}, {both:?}");
            }
        }
    }
}

#[test]
fn streams_share_a_path() {
    let outcome = seen(path(50, 100, 0), &[(HONEST, 0), (HONEST, 0), (HONEST, 0)]);
    let all: u64 = outcome.carried.iter().sum();
    assert!(all * 1000 / outcome.possible >= 850, "{outcome:?}");
    assert!(outcome.carried.iter().all(|one| one * 2 >= all / 3), "{outcome:?}");
}

/// Row U-04: beside another, first or second, a liar takes no more than 1.2 times what an honest one does.
#[test]
fn nothing_is_gained_by_lies() {
    for lie in [Lie::NoDelay, Lie::NoLoss] {
        for lost in [0, 100] {
            let (path, liar) = (path(50, 100, lost), (Flow::Utp(Some(lie)), 0));
            let honest = (HONEST, 0);
            let (first, second) = (seen(path, &[liar, honest]), seen(path, &[honest, liar]));
            let fair = seen(path, &[honest, honest]);
            let (taken, fair) = (first.taken[0] + second.taken[1], fair.taken[0] + fair.taken[1]);
            assert!(taken * 10 <= fair * 12, "{lie:?} {lost}: {taken} of {fair}, {first:?}, {second:?}");
        }
    }
}
