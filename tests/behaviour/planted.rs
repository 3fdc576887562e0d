//! Planted bugs: the simulation is known to be able to fail. Each defect of the protocol is put beside
//! the machine (into the store, the readers, the queues), and some seed must notice it.

use crate::simulation::{Bug, EXPECTED, quiet_planted_panics, simulate};
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

/// Far fewer than the simulation runs.
const SEEDS: u64 = 3000;

fn is_noticed(bug: Bug) {
    quiet_planted_panics();
    let reached = Mutex::new(HashSet::new());
    EXPECTED.set(true);
    let noticed = (0..SEEDS).find(|&seed| catch_unwind(AssertUnwindSafe(|| simulate(seed, &reached, Some(bug)))).is_err());
    EXPECTED.set(false);
    let Some(seed) = noticed else { panic!("no seed below {SEEDS} notices {bug:?}") };
    println!("{bug:?}: seed {seed}");
}

macro_rules! noticed {
    ($($name:ident: $bug:ident;)*) => {
        $(
            #[test]
            fn $name() {
                is_noticed(Bug::$bug);
            }
        )*
    };
}

noticed! {
    a_store_that_compares_positions_is_noticed: ComparesPositions;
    a_zombie_that_saves_is_noticed: TakesZombies;
    a_checkpoint_acknowledged_before_it_is_saved_is_noticed: AcknowledgesEarly;
    a_lost_order_is_noticed: DropsAnOrder;
    a_partition_clock_not_restored_is_noticed: ForgetsTheClock;
    a_lagging_hunts_clock_not_restored_is_noticed: ForgetsTheClockOfALag;
    a_snapshot_past_its_boundary_is_noticed: SnapshotsLate;
    a_reply_counted_twice_is_noticed: CountsAReplyTwice;
    a_held_count_off_by_one_is_noticed: HoldsOneTooMany;
    a_saved_state_not_loaded_is_noticed: LoadsNothing;
    a_hunt_restored_from_nothing_is_noticed: RestoresNothing;
    a_lost_dead_letter_is_noticed: LosesALetter;
    a_hidden_gap_is_noticed: HidesAGap;
    a_halt_at_a_gap_that_nobody_hears_of_is_noticed: HaltsInSilence;
    a_gap_hidden_from_lagging_hunts_is_noticed: HidesAGapAside;
    a_side_reader_that_repeats_itself_is_noticed: ReadsTwiceAside;
    a_rollup_not_restored_is_noticed: ForgetsTheRollup;
    a_breaker_that_a_new_owner_forgets_is_noticed: ReadsOnTripped;
    a_snapshot_ahead_of_its_partition_is_noticed: FoldsOnFromAhead;
}
