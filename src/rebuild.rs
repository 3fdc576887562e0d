//! A **rebuilt partition** on its way into a store beside the serving one: what its log came to, cut
//! into checkpoints of bounded size.
//!
//! `huntline rebuild` hands it a claim, dead letters as the fold makes them, and the [`Refolded`]; it
//! gives checkpoints in the order in which they are to be committed. Invariant: the partition's
//! position and counts move with the last of them alone, so that a rebuild that ends early leaves a
//! store nobody can take for a finished one.

use crate::outcome::Counts;
use crate::partial::Partial;
use crate::position::{Epoch, Position};
use crate::record::PartitionId;
use crate::refold::{Refolded, Witness};
use crate::store::{Checkpoint, DeadLetter, Gap, Lag, Snapshot};
use crate::time::Micros;

/// What one checkpoint holds at most, beyond its last row.
const ROWS: usize = 10_000;
const BYTES: usize = 16 << 20;

/// A partition claimed in the new store.
pub struct Rebuilt {
    pub partition: PartitionId,
    pub epoch: Epoch,
    pub owner: String,
    /// The number that the next checkpoint must name.
    pub number: i64,
    pub start: Position,
}

impl Rebuilt {
    /// A checkpoint with dead letters alone; position and counts stay where they were.
    pub fn letters(&mut self, dead_letters: Vec<DeadLetter>, at: Micros) -> Checkpoint {
        Checkpoint { dead_letters, ..self.checkpoint(at) }
    }

    /// The checkpoints that bring everything else; the last moves the position to `end`. `gaps`: records the log no longer had.
    pub fn partials<'r>(
        &'r mut self,
        refolded: &'r Refolded,
        end: Position,
        gaps: Vec<Gap>,
        at: Micros,
    ) -> impl Iterator<Item = Checkpoint> + 'r {
        let mut rows = refolded.partials().map(|(hunt, partial, lag)| row(refolded, hunt, partial, lag)).peekable();
        let mut done = false;
        std::iter::from_fn(move || {
            if std::mem::replace(&mut done, true) {
                return None;
            }
            let mut checkpoint = self.checkpoint(at);
            let mut bytes = 0;
            while checkpoint.partials.len() < ROWS
                && bytes < BYTES
                && let Some(row) = rows.next()
            {
                bytes += 128 + row.state.as_ref().map_or(0, Vec::len) + row.readers.as_ref().map_or(0, |r| r.view.len());
                checkpoint.partials.push(row);
            }
            done = rows.peek().is_none();
            if done {
                checkpoint.position = end;
                checkpoint.clock = refolded.clock;
                checkpoint.counts = refolded.counts;
                checkpoint.gaps = gaps.clone();
                let rollup = refolded.fold.rollup();
                checkpoint.rollup = (!rollup.is_empty()).then(|| rollup.encode(&refolded.rollup));
            }
            Some(checkpoint)
        })
    }

    fn checkpoint(&mut self, at: Micros) -> Checkpoint {
        let number = self.number;
        self.number += 1;
        Checkpoint {
            partition: self.partition.clone(),
            epoch: self.epoch,
            owner: self.owner.clone(),
            number,
            position: self.start,
            clock: None,
            counts: Counts::default(),
            partials: Vec::new(),
            dead_letters: Vec::new(),
            gaps: Vec::new(),
            rollup: None,
            tripped: None,
            acts: Vec::new(),
            at,
        }
    }
}

fn row(refolded: &Refolded, hunt: &str, partial: &Partial, lag: Option<Lag>) -> Snapshot {
    let fold = &refolded.fold;
    let saved = partial.events > 0;
    Snapshot {
        hunt: hunt.to_owned(),
        state: saved.then(|| fold.encode(partial)),
        readers: saved.then(|| fold.readers(partial)),
        lag,
    }
}

/// Dead letters as they come, to be taken away before they are too many.
#[derive(Default)]
pub struct Letters {
    letters: Vec<DeadLetter>,
    bytes: usize,
}

impl Letters {
    /// All there are, once they are enough for a checkpoint.
    pub fn take_if_full(&mut self) -> Option<Vec<DeadLetter>> {
        (self.letters.len() >= ROWS || self.bytes >= BYTES).then(|| self.take())
    }

    pub fn take(&mut self) -> Vec<DeadLetter> {
        self.bytes = 0;
        std::mem::take(&mut self.letters)
    }
}

impl Witness for Letters {
    const WANTS_LETTERS: bool = true;

    fn dead(&mut self, letter: DeadLetter) {
        self.bytes += 256 + letter.value.as_ref().map_or(0, Vec::len) + letter.key.as_ref().map_or(0, Vec::len);
        self.letters.push(letter);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::settings;
    use crate::decode::Plan;
    use crate::outcome::Reason;
    use crate::partial::Fold;
    use crate::position::Offset;
    use crate::record::Batch;
    use crate::refold::{Given, Refold, Stage};
    use std::sync::Arc;

    fn refolded(hunts: usize, given: Given) -> (Refolded, Vec<DeadLetter>) {
        let definitions = settings("aggregates.events.kind = \"count\"").definitions;
        let plan = Arc::new(Plan::new(&definitions, "hunt-events"));
        let fold = Arc::new(Fold::new(&definitions, &plan, usize::MAX));
        let mut batch = Batch::new(PartitionId::new("hunt-events", 0), Epoch(0), Position(0));
        for n in 0..hunts {
            batch.push(Offset(n as i64), n as i64, Some(format!("h{n}").as_bytes()), Some(br#"{"type":"t"}"#), []);
        }
        let mut letters = Letters::default();
        let mut refold = Refold::new(vec![Stage { from: None, plan, fold }], given);
        refold.take(&batch, Micros(0), &mut letters);
        (refold.finish(), letters.take())
    }

    fn rebuilt() -> Rebuilt {
        let partition = PartitionId::new("hunt-events", 0);
        Rebuilt { partition, epoch: Epoch(3), owner: "rebuild".into(), number: 7, start: Position(2) }
    }

    #[test]
    fn position_and_counts_move_with_the_last_checkpoint_alone() {
        let (refolded, _) = refolded(2 * ROWS + 5, Given::default());
        let mut rebuilt = rebuilt();
        let checkpoints: Vec<Checkpoint> = rebuilt.partials(&refolded, Position(99_999), Vec::new(), Micros(1)).collect();
        let shape: Vec<_> = checkpoints.iter().map(|c| (c.number, c.partials.len(), c.position.0, c.counts.records)).collect();
        assert_eq!(shape, [(7, ROWS, 2, 0), (8, ROWS, 2, 0), (9, 5, 99_999, 20_005)]);
        assert_eq!(rebuilt.number, 10);
        let mut hunts: Vec<&str> = checkpoints.iter().flat_map(|c| &c.partials).map(|row| &*row.hunt).collect();
        hunts.sort_unstable();
        hunts.dedup();
        assert_eq!(hunts.len(), 2 * ROWS + 5);
    }

    #[test]
    fn a_partition_without_hunts_has_one_checkpoint() {
        for rows in [0, ROWS] {
            let (refolded, _) = refolded(rows, Given::default());
            assert_eq!(rebuilt().partials(&refolded, Position(9), Vec::new(), Micros(1)).count(), 1, "{rows}");
        }
    }

    #[test]
    fn letters_go_ahead_and_a_hunt_that_is_parked_before_its_first_event_has_a_row_without_a_state() {
        let left_out = vec![(Offset(0), Reason::Failed)];
        let (_, letters) = refolded(1, Given { left_out: left_out.clone(), ..Given::default() });
        let checkpoint = rebuilt().letters(letters, Micros(1));
        assert_eq!((checkpoint.position, checkpoint.dead_letters.len()), (Position(2), 1));

        let (refolded, letters) = refolded(1, Given { left_out, park: true, ..Given::default() });
        assert_eq!(letters.len(), 0);
        let checkpoint = rebuilt().partials(&refolded, Position(1), Vec::new(), Micros(1)).next().expect("one");
        let row = &checkpoint.partials[0];
        assert!(row.state.is_none() && row.readers.is_none() && row.lag.is_some_and(|lag| lag.reasons.failed && lag.held == 1));
        assert_eq!((checkpoint.counts.held, checkpoint.counts.records), (1, 1));
    }
}
