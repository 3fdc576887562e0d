//! The **rollup**: some aggregates over all hunts. The fold hands it each contribution that a hunt took, window by window.
//!
//! Invariant: it depends on what the hunts applied and not on how: sums of floats are exact, and the windows it keeps are the newest
//! of all that any hunt ever added to, whether or not the hunt still keeps them.

use super::cell::{Cell, Rank};
use super::definitions::{Aggregate, Definitions, Shape};
use super::event::Contribution;
use super::json::Json;
use super::window::aligned_value;
use std::collections::BTreeMap;

pub struct Rollup<'a> {
    aggregates: BTreeMap<&'a str, (&'a Aggregate, Cells)>,
}

enum Cells {
    Whole(Cell),
    /// Every window ever added to, by its start.
    Windows(BTreeMap<i128, Cell>),
}

impl<'a> Rollup<'a> {
    pub fn new(definitions: &'a Definitions) -> Rollup<'a> {
        let with_cells = |name: &'a String| {
            let aggregate = &definitions.aggregates[name];
            let cells = match aggregate.window {
                None => Cells::Whole(Cell::of_rollup(&aggregate.kind)),
                Some(_) => Cells::Windows(BTreeMap::new()),
            };
            (name.as_str(), (aggregate, cells))
        };
        Rollup { aggregates: definitions.rollup.iter().map(with_cells).collect() }
    }

    /// `windows`: the starts of those of its hunt that took it.
    pub fn add(&mut self, name: &str, contribution: &Contribution, rank: &Rank, windows: &[i128]) {
        match self.aggregates.get_mut(name) {
            None => {}
            Some((aggregate, Cells::Whole(cell))) => cell.add(&aggregate.kind, contribution, rank),
            Some((aggregate, Cells::Windows(cells))) => {
                for start in windows {
                    let cell = cells.entry(*start).or_insert_with(|| Cell::of_rollup(&aggregate.kind));
                    cell.add(&aggregate.kind, contribution, rank);
                }
            }
        }
    }

    pub fn values(&self) -> BTreeMap<String, Json> {
        let value = |aggregate: &Aggregate, cells: &Cells| match (cells, &aggregate.window) {
            (Cells::Whole(cell), _) => cell.value(&aggregate.kind),
            (Cells::Windows(cells), Some(window)) => {
                let (Shape::Tumbling(length) | Shape::Hopping { length, .. }) = window.shape else {
                    panic!("sessions cannot be rolled up")
                };
                aligned_value(&aggregate.kind, length, cells.iter().skip(cells.len().saturating_sub(window.keep)))
            }
            (Cells::Windows(_), None) => panic!("windows belong to a windowed aggregate"),
        };
        self.aggregates.iter().map(|(name, (aggregate, cells))| (name.to_string(), value(aggregate, cells))).collect()
    }
}
