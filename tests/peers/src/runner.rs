//! Runs cases as tests of their own, and prints how long each took.

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use libtest_mimic::{Arguments, Trial};

use crate::case::Case;

/// Runs the cases that the command line asks for. `check` is shown those that passed, if all were asked for.
pub fn run(cases: Vec<Case>, check: impl FnOnce(&[Case]) -> Result<()>) -> ExitCode {
    let mut args = Arguments::from_args();
    // Most of a case is waiting for clients' timers.
    args.test_threads.get_or_insert(THREADS);
    let outcomes = Arc::new(Mutex::new(Vec::new()));
    let trials = cases.into_iter().map(|case| {
        let outcomes = Arc::clone(&outcomes);
        Trial::test(case.to_string(), move || {
            let start = Instant::now();
            let result = case.run();
            let outcome = Outcome { case, passed: result.is_ok(), time: start.elapsed() };
            outcomes.lock().unwrap_or_else(PoisonError::into_inner).push(outcome);
            result.map_err(|error| format!("{error:#}").into())
        })
    });
    let conclusion = libtest_mimic::run(&args, trials.collect());
    if args.list {
        return ExitCode::SUCCESS;
    }

    let mut outcomes = outcomes.lock().unwrap_or_else(PoisonError::into_inner);
    outcomes.sort_by_key(|outcome| outcome.case.to_string());
    for Outcome { case, passed, time } in outcomes.iter() {
        let result = if *passed { "ok" } else { "FAILED" };
        println!("{:>7.1} s  {result:<6}  {case}", time.as_secs_f64());
    }
    let mut failed = conclusion.num_failed;
    if conclusion.num_filtered_out == 0 {
        let passed: Vec<_> =
            outcomes.iter().filter(|outcome| outcome.passed).map(|outcome| outcome.case.clone()).collect();
        if let Err(error) = check(&passed) {
            println!("incomplete: {error:#}");
            failed += 1;
        }
    }
    println!("{} passed, {failed} failed", conclusion.num_passed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Outcome {
    case: Case,
    passed: bool,
    time: Duration,
}

const THREADS: usize = 6;
