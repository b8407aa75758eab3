//! The stories, and the proof that they would find something.

use std::{ops::Range, time::Duration};

use super::{
    planted::Mistake,
    play::{play, play_out_of_sight},
    story::CONNECTED_WITHIN,
    tally::Tally,
};
use crate::{
    discovery::reconcile::Planted as InBook, membership::detector::Planted as InDetector,
    mesh::arbiter::Planted as InArbiter,
};

/// Seeds of one test run. CI plays 10,000.
const SEEDS: u64 = 300;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn seeds() -> Range<u64> {
    match number("ROOKERY_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("ROOKERY_SEEDS").unwrap_or(SEEDS),
    }
}

/// Plays all of them, with a thread for each core where they are many. Gives what happened, and how long the slowest took to
/// be connected again.
fn play_all(range: Range<u64>) -> (Tally, Duration) {
    let many = range.end - range.start > SEEDS;
    let threads = if many { std::thread::available_parallelism().map_or(1, |count| count.get() as u64) } else { 1 };
    let play_part = |part: u64| {
        let (mut tally, mut slowest) = (Tally::default(), Duration::ZERO);
        for seed in range.clone().filter(|seed| seed % threads == part % threads) {
            let played = play(seed, None).unwrap_or_else(|text| {
                panic!(
                    "seed {seed}: {text}\nplay it again: ROOKERY_SEED={seed} cargo test -p rookery-node --lib \
                     simulation::tests::the_contract"
                )
            });
            tally.add(&played.tally);
            slowest = slowest.max(played.connected);
        }
        (tally, slowest)
    };
    std::thread::scope(|scope| {
        let parts: Vec<_> = (0..threads)
            .map(|part| {
                scope.spawn({
                    let play_part = &play_part;
                    move || play_part(part)
                })
            })
            .collect();
        parts.into_iter().fold((Tally::default(), Duration::ZERO), |(mut all, slowest), part| {
            let (tally, own) = part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            all.add(&tally);
            (all, slowest.max(own))
        })
    })
}

/// What so few seeds may miss.
const RARE: [&str; 2] = ["too_late", "replacing"];

#[test]
fn the_contract_holds_in_any_story() {
    let range = seeds();
    let (tally, slowest) = play_all(range.clone());
    // For whoever runs it with --nocapture.
    println!("{} seeds; connected within {slowest:?} of {CONNECTED_WITHIN:?}", range.end - range.start);
    for (name, count) in tally.all() {
        println!("{name:>18} {count}");
    }
    // What is never met is not tried.
    if range.end - range.start >= SEEDS {
        let never: Vec<_> =
            tally.all().into_iter().filter(|(name, count)| *count == 0 && !RARE.contains(name)).collect();
        assert!(never.is_empty(), "it never came to {never:?}");
    }
}

/// One good address is enough, also when two that DNS does not name could not reach each other for long.
#[test]
fn d1_those_who_lost_sight_of_each_other_hear_of_each_other_again() {
    for seed in 0..30 {
        if let Err(text) = play_out_of_sight(seed) {
            panic!("seed {seed}: {text}");
        }
    }
}

/// Within how many seeds each mistake has to be found; CI plays more.
const FOUND_WITHIN: u64 = 150;

fn found(mistake: Mistake, row: &str) {
    let found = (0..FOUND_WITHIN).find_map(|seed| Some((seed, play(seed, Some(mistake)).err()?)));
    let Some((seed, text)) = found else { panic!("{mistake:?} was not found in {FOUND_WITHIN} seeds") };
    let first = text.lines().next().unwrap_or_default();
    println!("{mistake:?} is found by seed {seed}: {first}");
    assert!(first.contains(row), "{mistake:?} breaks {row}, and this was found: {first}");
}

#[test]
fn a_mistake_in_the_arbiter_is_found() {
    found(Mistake::Arbiter(InArbiter::KeepsBoth), "D2");
    found(Mistake::Arbiter(InArbiter::ForgetsLives), "P1");
}

#[test]
fn a_mistake_in_the_detector_is_found() {
    found(Mistake::Detector(InDetector::AsksNobody), "D3");
    found(Mistake::Detector(InDetector::NeverDown), "D3");
    found(Mistake::Detector(InDetector::OwnStarvation), "D3");
}

#[test]
fn a_mistake_in_reassembly_is_found() {
    found(Mistake::Overtakes, "S1");
}

#[test]
fn a_mistake_in_credit_is_found() {
    found(Mistake::GivesTwice, "S7");
    found(Mistake::CreditOutlivesConnection, "S7");
}

#[test]
fn a_mistake_in_the_dialling_book_is_found() {
    found(Mistake::Book(InBook::GivesUp), "D1");
    found(Mistake::Book(InBook::StaysConnected), "D1");
}
