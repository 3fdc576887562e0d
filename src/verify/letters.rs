//! Comparing **dead letters**, one by one: every record that the log gives as one has its row, and no other row stands.
//!
//! The fold hands over letters as it makes them, the command the store's rows page by page, both in the order of their offsets. Of both
//! sides only offsets, reasons, hunts and digests are held. What is not compared: `detail`, `failed_at`, and what operators' acts change.

use super::{Difference, or_none};
use crate::outcome::Reason;
use crate::position::Offset;
use crate::record::PartitionId;
use crate::refold::Witness;
use crate::store::{AuditedLetter, DeadLetter};
use std::iter::Peekable;
use std::vec;

/// So many rows of one partition are told apart; how many more differ is said in one line.
const DETAILED: usize = 100;

/// The letters that the log gives, as a witness of its fold.
#[derive(Default)]
pub struct Letters(Vec<AuditedLetter>);

impl Witness for Letters {
    const WANTS_LETTERS: bool = true;

    fn dead(&mut self, letter: DeadLetter) {
        self.0.push(AuditedLetter::of(&letter));
    }
}

/// The comparison of one partition, as the rows come.
pub struct LetterCheck<'a> {
    partition: &'a PartitionId,
    /// Only letters of this hunt, on either side.
    only: Option<&'a str>,
    /// By offset: records on record as left out when the log was folded. Rows like them that came since are none of that fold's.
    left_out: &'a [(Offset, Reason)],
    given: Peekable<vec::IntoIter<AuditedLetter>>,
    /// Letters that have no row, whose absence somebody may still account for.
    pub missing: Vec<AuditedLetter>,
    pub compared: u64,
    differences: Vec<Difference>,
    differing: usize,
}

impl<'a> LetterCheck<'a> {
    pub fn new(partition: &'a PartitionId, only: Option<&'a str>, left_out: &'a [(Offset, Reason)], given: Letters) -> Self {
        LetterCheck {
            partition,
            only,
            left_out,
            given: given.0.into_iter().peekable(),
            missing: Vec::new(),
            compared: 0,
            differences: Vec::new(),
            differing: 0,
        }
    }

    /// The next rows of the store, by offset.
    pub fn take(&mut self, rows: &[AuditedLetter]) {
        for row in rows {
            while let Some(given) = self.given.next_if(|given| given.offset < row.offset) {
                self.lacks(given);
            }
            let given = self.given.next_if(|given| given.offset == row.offset);
            if !self.concerns(row) && !given.as_ref().is_some_and(|given| self.concerns(given)) {
                continue;
            }
            match given {
                Some(given) => self.compare(row, &given),
                None if self.is_newer(row) => {}
                None => {
                    self.compared += 1;
                    let stored = told(row);
                    self.differs(
                        row.offset,
                        row.hunt.as_deref(),
                        [(String::new(), stored, "none: the log gives none there".to_owned())],
                    );
                }
            }
        }
    }

    /// There are no more rows.
    pub fn end(&mut self) {
        while let Some(given) = self.given.next() {
            self.lacks(given);
        }
    }

    /// `accounted`, by offset: letters whose row may be gone.
    pub fn finish(mut self, accounted: &[Offset]) -> Vec<Difference> {
        for given in std::mem::take(&mut self.missing) {
            if accounted.binary_search(&given.offset).is_err() {
                self.differs(given.offset, given.hunt.as_deref(), [(String::new(), "none".to_owned(), told(&given))]);
            }
        }
        if let Some(more) = self.differing.checked_sub(DETAILED).filter(|more| *more > 0) {
            let what = format!("{more} more dead letters");
            self.differences.push(Difference::new(self.partition, None, &what, "others", "not listed one by one"));
        }
        self.differences
    }

    fn concerns(&self, letter: &AuditedLetter) -> bool {
        self.only.is_none_or(|only| letter.hunt.as_deref() == Some(only))
    }

    fn lacks(&mut self, given: AuditedLetter) {
        if self.concerns(&given) {
            self.compared += 1;
            self.missing.push(given);
        }
    }

    /// Whether a hunt that caught up wrote it since.
    fn is_newer(&self, row: &AuditedLetter) -> bool {
        let by_state = [Reason::Failed, Reason::StateFull].iter().any(|reason| reason.as_str() == row.reason);
        by_state && self.left_out.binary_search_by_key(&row.offset, |(offset, _)| *offset).is_err()
    }

    fn compare(&mut self, row: &AuditedLetter, given: &AuditedLetter) {
        self.compared += 1;
        if row == given {
            return;
        }
        let hunt = |letter: &AuditedLetter| or_none(letter.hunt.as_ref().map(|hunt| format!("{hunt:?}")));
        let time = |letter: &AuditedLetter| letter.record_at.clone().map_or_else(|text| format!("{text:?}"), or_none);
        let columns = [
            ("reason", row.reason.clone(), given.reason.clone()),
            ("hunt_id", hunt(row), hunt(given)),
            ("key", bytes(row.key), bytes(given.key)),
            ("value", bytes(row.value), bytes(given.value)),
            ("headers", bytes(Some(row.headers)), bytes(Some(given.headers))),
            ("record_at", time(row), time(given)),
        ];
        let differing = columns.into_iter().filter(|(_, stored, given)| stored != given);
        let differing: Vec<_> = differing.map(|(column, stored, given)| (format!(": {column}"), stored, given)).collect();
        self.differs(row.offset, given.hunt.as_deref(), differing);
    }

    fn differs(&mut self, offset: Offset, hunt: Option<&str>, columns: impl IntoIterator<Item = (String, String, String)>) {
        self.differing += 1;
        if self.differing > DETAILED {
            return;
        }
        for (column, stored, recomputed) in columns {
            let what = format!("dead letter {offset}{column}");
            self.differences.push(Difference::new(self.partition, hunt, &what, stored, recomputed));
        }
    }
}

/// A letter in a few words.
fn told(letter: &AuditedLetter) -> String {
    format!("{} with value {}", letter.reason, bytes(letter.value))
}

fn bytes(digest: Option<[u8; 32]>) -> String {
    match digest {
        None => "null".to_owned(),
        Some(digest) => {
            let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("SHA-256 {digits}")
        }
    }
}

#[cfg(test)]
mod tests;
