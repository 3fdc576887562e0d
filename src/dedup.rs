//! The **dedup memory**: fingerprints of the ids of the last `dedup.last` applied events of a
//! partial that had one, first in, first out.
//!
//! Invariant: `ids` holds them oldest at `oldest`, never more than the limit; equal memories encode
//! to equal bytes (oldest first), whatever their layout.

use crate::codec::{Reader, Result, Writer};
use hashbrown::HashSet;

/// Up to here a scan over the ring beats a set.
const SCANNED: usize = 128;

#[derive(Clone, Debug, Default)]
pub struct Dedup {
    ids: Vec<u64>,
    oldest: usize,
    /// Only for long memories. A fingerprint stands in the ring at most once, since an id in memory is a duplicate.
    set: Option<Box<HashSet<u64>>>,
}

impl Dedup {
    pub fn contains(&self, id: u64) -> bool {
        match &self.set {
            Some(set) => set.contains(&id),
            None => self.ids.contains(&id),
        }
    }

    /// Remembers `id`, forgetting the oldest one beyond `limit`. Panics on a limit of 0 in debug builds: then nothing is remembered at all.
    pub fn remember(&mut self, id: u64, limit: usize) {
        debug_assert!(limit > 0);
        if self.ids.len() < limit {
            self.ids.push(id);
            if self.ids.len() > SCANNED && self.set.is_none() {
                self.set = Some(Box::new(self.ids.iter().copied().collect()));
            }
        } else {
            let old = std::mem::replace(&mut self.ids[self.oldest], id);
            self.oldest = (self.oldest + 1) % limit;
            if let Some(set) = &mut self.set {
                set.remove(&old);
            }
        }
        if let Some(set) = &mut self.set {
            set.insert(id);
        }
    }

    /// How many ids it holds.
    pub fn count(&self) -> usize {
        self.ids.len()
    }

    /// The same memory under another limit: the newest ones that fit.
    pub fn resized(&self, limit: usize) -> Dedup {
        let (newer, older) = self.ids.split_at(self.oldest);
        let ids: Vec<u64> = older.iter().chain(newer).skip(self.ids.len().saturating_sub(limit)).copied().collect();
        let set = (ids.len() > SCANNED).then(|| Box::new(ids.iter().copied().collect()));
        Dedup { ids, oldest: 0, set }
    }

    pub fn encode(&self, w: &mut Writer) {
        w.unsigned(self.ids.len() as u64);
        let (newer, older) = self.ids.split_at(self.oldest);
        for id in older.iter().chain(newer) {
            w.fixed(*id);
        }
    }

    pub fn decode(r: &mut Reader, limit: usize) -> Result<Dedup> {
        let count = r.count("the number of remembered ids")?;
        if count > limit {
            return r.expected("no more ids than dedup.last");
        }
        let ids = (0..count).map(|_| r.fixed("an id's fingerprint")).collect::<Result<Vec<_>>>()?;
        let set = (ids.len() > SCANNED).then(|| Box::new(ids.iter().copied().collect()));
        Ok(Dedup { ids, oldest: 0, set })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        #[test]
        fn it_remembers_exactly_the_last_ones(ids in proptest::collection::vec(1u64..400, 0..900), limit in 1usize..300) {
            let mut dedup = Dedup::default();
            let mut plain = VecDeque::new();
            for id in ids {
                prop_assert_eq!(dedup.contains(id), plain.contains(&id));
                if !plain.contains(&id) {
                    dedup.remember(id, limit);
                    plain.push_back(id);
                    if plain.len() > limit { plain.pop_front(); }
                }
                let mut w = Writer::default();
                dedup.encode(&mut w);
                let bytes = w.finish();
                let back = Dedup::decode(&mut Reader::new(&bytes), limit).unwrap();
                let mut w = Writer::default();
                back.encode(&mut w);
                prop_assert_eq!(&bytes, &w.finish());
                dedup = if id % 7 == 0 { back } else { dedup };
            }
        }

        #[test]
        fn a_resized_memory_goes_on_as_one_that_always_had_the_newest(
            ids in proptest::collection::vec(1u64..400, 0..300), old in 1usize..200, new in 0usize..200, more in proptest::collection::vec(400u64..500, 0..9)
        ) {
            let mut dedup = Dedup::default();
            let mut plain = Vec::new();
            for id in ids {
                if !dedup.contains(id) {
                    dedup.remember(id, old);
                    plain.push(id);
                }
            }
            let kept = plain.len().min(old).min(new);
            let mut plain = Vec::from(&plain[plain.len() - kept..]);
            let mut dedup = dedup.resized(new);
            for id in more {
                if new > 0 && !dedup.contains(id) {
                    dedup.remember(id, new);
                    plain.push(id);
                }
            }
            let newest = &plain[plain.len().saturating_sub(new)..];
            for id in 1..500 {
                prop_assert_eq!(dedup.contains(id), newest.contains(&id), "{}", id);
            }
        }
    }
}
