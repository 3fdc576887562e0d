//! The **summary** of a `top` of too many keys: estimates of the greatest sums, and how wrong they
//! are at most.
//!
//! It is Misra and Gries' with weights of either sign, merged as by Agarwal et al., *Mergeable
//! Summaries* (2012): when a table holds too many keys, the magnitude `c` of rank keep + 1 is taken
//! from every magnitude, what reaches 0 is dropped, and `c` is added to the error.
//!
//! Why the error is at most 2 W / k, W the sum of all |weights|: (1) A reduction moves what is kept of
//! any key by at most `c`, so nothing is off by more than the sum of all `c`; merging adds the
//! estimates of two summaries and their errors. (2) The keep + 1 greatest magnitudes lose `c` each,
//! so a reduction takes (keep + 1) `c` or more from the sum of all magnitudes, which an event raises
//! by at most its |weight|, and a merge at most adds up. (3) So the error is at most W / (keep + 1),
//! and keep is at least k / 2 rounded down: less than 2 W / k. What additions of floats lose is in
//! the error too (see [`Estimate`]) and far smaller than the rest of that bound; sums from before
//! the summary count as they were shown.

use super::estimate::{Estimate, LONGEST};
use super::table::Table;
use crate::aggregate::sum::Sum;
use crate::codec::{Reader, Result, Writer};

/// No more bytes than this are added to the encoding by a weight that causes no reduction, beside a new key's.
pub const GROWTH: usize = 2 * LONGEST;

/// Estimates of the greatest magnitudes.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    estimates: Table<Estimate>,
    /// No key's true sum is further than this from its estimate; from 0, if it has none.
    error: Estimate,
}

impl Summary {
    /// Each key's sum as it shows.
    pub fn of(sums: Table<Sum>) -> Summary {
        let mut most_lost = 0.0f64;
        let estimates = sums.map(|sum| {
            let (estimate, lost) = Estimate::of_sum(&sum);
            most_lost = most_lost.max(lost);
            estimate
        });
        Summary { estimates, error: Estimate::of_float(most_lost) }
    }

    /// Of the keys kept.
    pub fn estimates(&self) -> &Table<Estimate> {
        &self.estimates
    }

    /// No key's true sum is further than this from its estimate; from 0, if it has none.
    #[cfg(test)]
    pub fn error(&self) -> Estimate {
        self.error
    }

    #[inline]
    pub fn add(&mut self, key: &[u8], weight: Estimate) {
        match self.estimates.get_mut(key) {
            Some(estimate) => {
                let lost = estimate.add(weight);
                self.lose(lost);
            }
            None => self.estimates.insert(key, weight),
        }
    }

    pub fn merge(&mut self, later: &Summary) {
        self.add_all(later.estimates.iter().map(|(key, estimate)| (key, (*estimate, 0.0))));
        self.error.raise(later.error);
    }

    pub fn merge_sums(&mut self, later: &Table<Sum>) {
        self.add_all(later.iter().map(|(key, sum)| (key, Estimate::of_sum(sum))));
    }

    /// Adds estimates, each with what of it is lost at most.
    fn add_all<'a>(&mut self, later: impl Iterator<Item = (&'a [u8], (Estimate, f64))>) {
        let mut most_lost = 0.0f64;
        for (key, (estimate, lost)) in later {
            let lost_too = match self.estimates.get_mut(key) {
                Some(ours) => ours.add(estimate),
                None => {
                    self.estimates.insert(key, estimate);
                    0.0
                }
            };
            most_lost = most_lost.max(lost + lost_too);
        }
        self.lose(most_lost);
    }

    /// Leaves at most `keep` keys, if there are more.
    pub fn reduce(&mut self, keep: usize) {
        let mut magnitudes: Vec<_> = self.estimates.iter().map(|(_, estimate)| estimate.magnitude()).collect();
        let (_, cut, _) = magnitudes.select_nth_unstable_by(keep, |a, b| b.compare(*a));
        let mut most_lost = 0.0f64;
        self.estimates.retain(|estimate| {
            if estimate.magnitude().compare(*cut).is_le() {
                return false;
            }
            most_lost = most_lost.max(estimate.shrink(*cut));
            true
        });
        self.error.raise(*cut);
        self.lose(most_lost);
    }

    pub fn encode(&self, w: &mut Writer) {
        self.error.encode(w);
        self.estimates.encode(|estimate, w| estimate.encode(w), w);
    }

    pub fn decode(r: &mut Reader, exact_up_to: u32) -> Result<Summary> {
        let error = Estimate::decode(r)?;
        if error != error.magnitude() {
            return r.expected("an error of at least 0");
        }
        Ok(Summary { estimates: Table::decode(r, Estimate::decode, exact_up_to)?, error })
    }

    /// As [`super::Top::write_json`], each item with its error.
    pub fn write_json(&self, limit: usize, out: &mut String) {
        let write = |estimate: &Estimate, out: &mut String| {
            estimate.write_json(out);
            out.push_str(",\"error\":");
            estimate.write_error_json(self.error, out);
        };
        self.estimates.write_json(limit, |a, b| a.compare_shown(*b), write, out);
    }

    /// What is lost of different keys at once counts once: the greatest of it, which may be a sum and so is rounded up.
    fn lose(&mut self, lost: f64) {
        if lost > 0.0 {
            self.error.raise(Estimate::of_float(lost.next_up()));
        }
    }
}
