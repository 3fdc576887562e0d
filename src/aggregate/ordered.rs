//! An **ordered table**: fingerprints of keys, each with what is kept of its key, found by hash and
//! walked in order.
//!
//! `distinct` and `funnel` keep their keys in one. Fingerprints are uniform, so each has a natural
//! place: where it would stand if the keys were spread evenly. It stands there or after, and all of
//! them in ascending order (O. Amble, D. Knuth, "Ordered hash tables", 1974). An encoding or a merge
//! is then one walk without sorting, and a look-up a few steps.
//!
//! Invariant: keys ascend along `slots`; no slot from a key's place to the key is empty; the last
//! slot holds the greatest key. Keys that crowd at a few places cost time, never the order.

/// An empty slot. No key is 0: whoever hands one over takes it as 1, as if the two had collided.
const EMPTY: u64 = 0;

/// Up to here the table is a plain sorted list.
const LISTED: u32 = 8;

/// Slots past the places, for the last keys to move up into.
const PAST: usize = 16;

/// The bound of 64-bit keys.
pub const ALL_KEYS: f64 = 18_446_744_073_709_551_616.0;

/// A map from fingerprints to `V`.
#[derive(Clone, Debug)]
pub struct Ordered<V> {
    slots: Vec<(u64, V)>,
    /// Places per unit of key; 0 in a list, where every place is the first.
    scale: f64,
    len: u32,
    /// How many keys may stand in this layout before a wider one is due.
    room: u32,
}

impl<V> Default for Ordered<V> {
    fn default() -> Self {
        Self { slots: Vec::new(), scale: 0.0, len: 0, room: LISTED }
    }
}

impl<V: Copy + Default> Ordered<V> {
    /// The table of these keys, which ascend. `bound` is above them and whatever key is to come: 2^64, or less if it is known.
    pub fn of(keys: &[(u64, V)], bound: f64) -> Self {
        if keys.len() <= LISTED as usize {
            return Self { slots: keys.to_vec(), len: keys.len() as u32, ..Self::default() };
        }
        let room = u32::try_from(keys.len() + 1).expect("a table's keys are counted in 32 bits");
        Self::laid_out(keys.iter().copied(), room, places(room) as f64 / bound)
    }

    fn laid_out(keys: impl Iterator<Item = (u64, V)>, room: u32, scale: f64) -> Self {
        let mut table = Self { slots: vec![(EMPTY, V::default()); places(room) + PAST], scale, len: 0, room };
        let mut next = 0;
        for (key, value) in keys {
            let at = table.place(key).max(next);
            if at >= table.slots.len() {
                table.extend(at + 1);
            }
            table.slots[at] = (key, value);
            table.len += 1;
            next = at + 1;
        }
        table.slots.truncate(next);
        table
    }

    pub fn len(&self) -> usize {
        self.len as usize
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn iter(&self) -> impl Iterator<Item = (u64, V)> + '_ {
        self.slots.iter().copied().filter(|(key, _)| *key != EMPTY)
    }

    /// What is kept of `key`, put there first if the key is new. Panics in debug builds when the key is 0.
    pub fn entry(&mut self, key: u64) -> &mut V {
        debug_assert!(key != EMPTY);
        let at = match self.find(key) {
            Ok(at) => at,
            Err(at) if self.len < self.room => self.insert(at, key),
            Err(_) => {
                self.widen();
                let at = self.find(key).unwrap_or_else(|at| at);
                self.insert(at, key)
            }
        };
        &mut self.slots[at].1
    }

    /// Takes the greatest key away. The layout may narrow to what is left: keys that come later are best less than this one.
    pub fn pop(&mut self) -> Option<(u64, V)> {
        let greatest = self.slots.pop()?;
        self.len -= 1;
        while self.slots.last().is_some_and(|(key, _)| *key == EMPTY) {
            self.slots.pop();
        }
        // The rest stand on too few slots once the greatest keys have made way for lesser ones.
        if self.scale > 0.0 && self.slots.len() < self.len() + self.len() / 8 {
            self.lay_out(self.room, places(self.room) as f64 / greatest.0 as f64);
        }
        Some(greatest)
    }

    /// The slot of `key`, or the one where it belongs.
    fn find(&self, key: u64) -> Result<usize, usize> {
        let mut at = self.place(key);
        while let Some((other, _)) = self.slots.get(at) {
            if *other == key {
                return Ok(at);
            }
            if *other == EMPTY || *other > key {
                break;
            }
            at += 1;
        }
        Err(at)
    }

    /// Never smaller for a greater key: neither the conversions nor the product change an order. Keys beyond the layout's bound
    /// share the last place.
    fn place(&self, key: u64) -> usize {
        ((key as f64 * self.scale) as usize).min(places(self.room))
    }

    fn insert(&mut self, at: usize, key: u64) -> usize {
        self.len += 1;
        if at >= self.slots.len() {
            self.extend(at + 1);
            self.slots[at] = (key, V::default());
            return at;
        }
        match self.slots[at..].iter().position(|(other, _)| *other == EMPTY) {
            Some(until) => self.slots.copy_within(at..at + until, at + 1),
            None => {
                let end = self.slots.len();
                self.extend(end + 1);
                self.slots.copy_within(at..end, at + 1);
            }
        }
        self.slots[at] = (key, V::default());
        at
    }

    fn extend(&mut self, len: usize) {
        // Not doubled: past its places a table needs a few slots more, and a list is small.
        if len > self.slots.capacity() {
            self.slots.reserve_exact(len - self.slots.len() + 3 + len / 8);
        }
        self.slots.resize(len, (EMPTY, V::default()));
    }

    fn widen(&mut self) {
        let room = if self.scale == 0.0 { LISTED / 2 * 3 } else { self.room * 2 };
        let scale = if self.scale == 0.0 { places(room) as f64 / ALL_KEYS } else { self.scale * 2.0 };
        self.lay_out(room, scale);
    }

    fn lay_out(&mut self, room: u32, scale: f64) {
        *self = Self::laid_out(self.iter(), room, scale);
    }
}

/// A third more than keys: a key then stands a step or two from its place.
fn places(room: u32) -> usize {
    room as usize * 4 / 3
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[derive(Clone, Debug)]
    enum Step {
        Add(u64),
        Pop,
    }

    /// Spread keys, neighbours, and both ends.
    fn key() -> impl Strategy<Value = u64> {
        prop_oneof![8 => 1..u64::MAX, 2 => 1u64..40, 2 => u64::MAX - 40..=u64::MAX, 2 => (1u64 << 40)..(1 << 40) + 40]
    }

    fn check(table: &Ordered<u8>, plain: &BTreeMap<u64, u8>) {
        assert_eq!(table.iter().collect::<Vec<_>>(), plain.iter().map(|(k, v)| (*k, *v)).collect::<Vec<_>>());
        assert_eq!(table.len(), plain.len());
        assert_eq!(table.slots.last().map(|(key, _)| *key), plain.keys().last().copied());
        assert!(plain.keys().all(|key| table.find(*key).is_ok_and(|at| table.slots[at].0 == *key)));
    }

    proptest! {
        #[test]
        fn it_is_an_ordered_map(steps in proptest::collection::vec(
            prop_oneof![9 => key().prop_map(Step::Add), 2 => Just(Step::Pop)], 0..600)) {
            let mut table = Ordered::default();
            let mut plain = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Add(key) => {
                        *table.entry(key) += 1;
                        *plain.entry(key).or_default() += 1;
                    }
                    Step::Pop => prop_assert_eq!(table.pop(), plain.pop_last()),
                }
            }
            check(&table, &plain);
        }

        #[test]
        fn of_many_keys_it_keeps_the_least(seed: u64, most in 1usize..200) {
            let mut table = Ordered::default();
            let mut plain = BTreeMap::new();
            for i in 0..3000u64 {
                let key = (seed ^ i).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let key = (key ^ key >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93).max(1);
                *table.entry(key) += 1;
                *plain.entry(key).or_default() += 1;
                if plain.len() > most {
                    prop_assert_eq!(table.pop(), plain.pop_last());
                }
            }
            check(&table, &plain);
            prop_assert!(table.slots.len() < 3 * most + 40, "{} slots for {most} keys", table.slots.len());
        }

        #[test]
        fn made_of_sorted_keys_it_is_the_same(
            mut keys in proptest::collection::btree_map(key(), any::<u8>(), 1..300),
            more in proptest::collection::vec(key(), 0..100),
        ) {
            let sorted: Vec<_> = keys.iter().map(|(key, value)| (*key, *value)).collect();
            for bound in [ALL_KEYS, sorted[sorted.len() - 1].0 as f64] {
                let mut table = Ordered::of(&sorted, bound);
                check(&table, &keys);
                for key in more.iter().filter(|key| (**key as f64) < bound) {
                    *table.entry(*key) = 7;
                    keys.insert(*key, 7);
                }
                check(&table, &keys);
                keys = sorted.iter().copied().collect();
            }
        }
    }
}
