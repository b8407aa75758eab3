//! A move in one seeded world, in virtual time: the old process's node, the new one's, and their supervisor's, which may be one of the
//! two. Connections are lost and come back, which each end notices when it notices, and nodes are killed, at each step. What decides
//! is real ([`Parting`], [`Arriving`], [`Succeeding`]); the drivers around it are played as they are written.
//!
//! ```text
//! client ── write ──▶ whoever serves          supervisor ── Start ──▶ new ── Offer, Part, Commit ──▶ old
//! ```
//! What holds: no two serve for longer than a loss takes to be noticed; every move ends; after one fault that leaves the supervisor its
//! ties, one of both serves and has every write that was acknowledged. A seed that fails is printed with the command that plays it again.

#![allow(clippy::unwrap_used, clippy::panic)] // A test may stop where it fails.

mod processes;
mod world;

use world::{Bug, Child, Fault, NEW, OLD, OldProcess, THIRD, World};

/// Runs of the test; `ROOKERY_SEEDS` takes another number, `ROOKERY_SEED` one run.
const SEEDS: u64 = 3_000;
impl World {
    /// After this fault alone, which of both has to serve, if that is certain.
    fn certain(&self, fault: Option<Fault>) -> bool {
        match fault {
            None => true,
            Some(Fault::Cut(OLD, NEW)) => self.home == THIRD,
            // It was killed before it had handed over, or the new one has taken it over.
            Some(Fault::Kill(OLD)) => self.home != OLD && self.had_all,
            Some(Fault::Kill(NEW)) => self.home != NEW && matches!(self.old, OldProcess::Serves | OldProcess::Parts(_)),
            Some(_) => false,
        }
    }
}

fn run(seed: u64, bug: Bug) -> Result<(), String> {
    let mut world = World::new(seed, bug);
    let count = world.below(4);
    let faults: Vec<(u64, Fault)> = (0..count)
        .map(|_| {
            // Most of them while the state moves.
            let at = if world.below(5) == 0 { world.below(12_000) } else { world.below(120) };
            let fault = match world.below(8) {
                0 => Fault::Kill(OLD),
                1 => Fault::Kill(NEW),
                2 => Fault::Kill(THIRD),
                3 => Fault::Cut(OLD, THIRD),
                4 => Fault::Cut(NEW, THIRD),
                _ => Fault::Cut(OLD, NEW),
            };
            (at, fault)
        })
        .collect();
    let context = |world: &World, why: &str| {
        let World { home, child, old, new, now, .. } = world;
        format!("{why}; at {now} ms, faults {faults:?}, supervisor on {home} has {child:?}: old {old:?}, new {new:?}")
    };
    world.play(&faults).map_err(|why| context(&world, &why))?;
    if count > 1 || !world.certain(faults.first().map(|(_, fault)| *fault)) {
        return Ok(());
    }
    let (state, serves) = match world.serves() {
        [true, false] => (&world.old_state, Child::Old),
        [false, true] => (&world.new_state, Child::New),
        other => return Err(context(&world, &format!("who serves: {other:?}"))),
    };
    if *state != world.acknowledged {
        let (has, of) = (state.len(), world.acknowledged.len());
        return Err(context(&world, &format!("{serves:?} has {has} of {of} writes")));
    }
    let knows = world.child == serves || !world.lives[world.home];
    if knows { Ok(()) } else { Err(context(&world, "the supervisor has another child than the one that serves")) }
}

fn seeds() -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    number("ROOKERY_SEED").map_or_else(|| (0..number("ROOKERY_SEEDS").unwrap_or(SEEDS)).collect(), |seed| vec![seed])
}

#[test]
fn d6_a_move_ends_and_one_of_both_serves() {
    for seed in seeds() {
        if let Err(why) = run(seed, Bug::None) {
            panic!(
                "seed {seed}: {why}\nagain: ROOKERY_SEED={seed} cargo test -p rookery-runtime --lib handover::simulation"
            );
        }
    }
}

#[test]
fn the_simulation_finds_what_is_done_wrong() {
    for bug in [Bug::AsksNobody, Bug::GoesOnAfterCommit, Bug::HandlesMeanwhile] {
        assert!((0..SEEDS).any(|seed| run(seed, bug).is_err()), "{bug:?}");
    }
}
