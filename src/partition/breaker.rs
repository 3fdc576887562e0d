//! The **breaker**: trips when too large a share of a partition's newest records are dead letters by
//! what the record alone decides, so that a wrong pointer does not copy a topic into the dead letters.
//!
//! The machine counts every record with it, in offset order. Invariant: it knows exactly the newest
//! `records` outcomes since the claim or the last reset, and trips at the record that brings the
//! share of rejected ones to the limit, never before as many have come.

use crate::outcome::Reason;
use crate::position::Offset;

/// When it trips.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// Of so many newest records …
    pub records: u32,
    /// … this share.
    pub share: f64,
}

#[derive(Debug)]
pub(super) struct Breaker {
    limit: Limit,
    /// So many rejected ones of the newest trip it.
    most: u32,
    /// One bit a record, in a ring: it was rejected.
    newest: Vec<u64>,
    at: u32,
    seen: u32,
    rejected: u32,
    /// The first rejected record since none of the newest was one.
    first: Option<(Offset, Reason, String)>,
}

impl Breaker {
    pub fn new(limit: Limit) -> Self {
        let words = limit.records.div_ceil(64) as usize;
        let most = (limit.share * f64::from(limit.records)).ceil() as u32;
        Self { limit, most: most.max(1), newest: vec![0; words], at: 0, seen: 0, rejected: 0, first: None }
    }

    /// A record that is no dead letter by itself.
    #[inline]
    pub fn passed(&mut self) {
        self.count(false);
    }

    /// A record that is.
    pub fn rejected(&mut self, offset: Offset, reason: Reason, detail: &str) {
        if self.rejected == 0 {
            self.first = Some((offset, reason, detail.to_owned()));
        }
        self.count(true);
    }

    /// Whether the newest record trips it.
    #[inline]
    pub fn trips(&self) -> bool {
        self.rejected >= self.most && self.seen >= self.limit.records
    }

    /// Why it trips, in words.
    pub fn why(&self) -> String {
        let Self { limit: Limit { records, share }, rejected, .. } = self;
        let mut why = format!("{rejected} of the newest {records} records are dead letters, expected less than {share} of them");
        if let Some((offset, reason, detail)) = &self.first {
            why += &format!("; the first, at offset {offset}, is {reason}: {detail}");
        }
        why
    }

    #[inline]
    fn count(&mut self, rejected: bool) {
        let (word, bit) = ((self.at / 64) as usize, 1 << (self.at % 64));
        self.rejected -= u32::from(self.newest[word] & bit != 0);
        self.rejected += u32::from(rejected);
        if rejected {
            self.newest[word] |= bit;
        } else {
            self.newest[word] &= !bit;
        }
        self.at = if self.at + 1 == self.limit.records { 0 } else { self.at + 1 };
        self.seen = self.seen.saturating_add(1);
    }

    pub fn reset(&mut self) {
        *self = Breaker::new(self.limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `x` as rejected and anything else as passed; the number of records after which it trips.
    fn trips(limit: Limit, records: &str) -> Option<usize> {
        let mut breaker = Breaker::new(limit);
        for (n, record) in records.chars().enumerate() {
            match record {
                'x' => breaker.rejected(Offset(n as i64), Reason::NotJson, "d"),
                _ => breaker.passed(),
            }
            if breaker.trips() {
                return Some(n + 1);
            }
        }
        None
    }

    #[test]
    fn it_trips_at_the_share_of_the_newest_records_and_not_before_there_are_so_many() {
        let limit = Limit { records: 4, share: 0.5 };
        for (records, expected) in [
            ("xxx", None),
            ("xxxx", Some(4)),
            ("..xx", Some(4)),
            ("xx..", Some(4)),
            ("x...x...x...", None),
            ("x...x..x", Some(8)),
            ("....x.x", Some(7)),
            ("x.........xx", Some(12)),
        ] {
            assert_eq!(trips(limit, records), expected, "{records}");
        }
        assert_eq!(trips(Limit { records: 1, share: 1.0 }, "..x"), Some(3));
        assert_eq!(trips(Limit { records: 3, share: 0.5 }, "x..x.x"), Some(6), "half of three is two");
        assert_eq!(trips(Limit { records: 130, share: 1.0 }, &"x".repeat(130)), Some(130));
        assert_eq!(trips(Limit { records: 130, share: 1.0 }, &format!(".{}", "x".repeat(130))), Some(131));
    }

    #[test]
    fn it_names_the_first_rejected_record_since_all_was_well() {
        let mut breaker = Breaker::new(Limit { records: 2, share: 1.0 });
        breaker.rejected(Offset(7), Reason::NoHunt, "old");
        breaker.passed();
        breaker.passed();
        breaker.rejected(Offset(10), Reason::BadHunt, "the hunt: found nothing");
        breaker.rejected(Offset(11), Reason::NotJson, "later");
        assert!(breaker.trips());
        let why = breaker.why();
        assert!(
            why.contains("2 of the newest 2 records") && why.contains("offset 10, is bad_hunt: the hunt: found nothing"),
            "{why}"
        );
        breaker.reset();
        breaker.rejected(Offset(12), Reason::NotJson, "again");
        assert!(!breaker.trips());
    }
}
