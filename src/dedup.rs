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

    /// The newest `limit` of it, for a memory of another length.
    pub fn limited(mut self, limit: usize) -> Dedup {
        self.ids.rotate_left(self.oldest);
        let ids = self.ids.split_off(self.ids.len().saturating_sub(limit));
        Dedup::of(ids)
    }

    /// Of these ids, oldest first.
    fn of(ids: Vec<u64>) -> Dedup {
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
        Ok(Dedup::of((0..count).map(|_| r.fixed("an id's fingerprint")).collect::<Result<Vec<_>>>()?))
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
        fn a_memory_of_another_length_goes_on_with_the_newest(ids in proptest::collection::vec(1u64..99, 0..99), was in 1usize..20, is in 1usize..20) {
            let mut dedup = Dedup::default();
            let mut plain = VecDeque::new();
            for (n, id) in ids.iter().enumerate() {
                let limit = if n < ids.len() / 2 { was } else { is };
                if n == ids.len() / 2 {
                    dedup = dedup.limited(is);
                    while plain.len() > is { plain.pop_front(); }
                }
                prop_assert_eq!(dedup.contains(*id), plain.contains(id));
                if !plain.contains(id) {
                    dedup.remember(*id, limit);
                    plain.push_back(*id);
                    if plain.len() > limit { plain.pop_front(); }
                }
            }
        }
    }
}
