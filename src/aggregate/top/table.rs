//! The **table** of `top`: a value for each key, found by the XXH3 hash of the key.
//!
//! Invariant: nothing that leaves the table depends on the order it happens to lie in: whoever shows
//! its entries sorts them, whoever folds them does so in a way in which order means nothing.

use crate::codec::{Reader, Result, Writer};
use hashbrown::HashTable;
use std::cmp::Ordering;
use xxhash_rust::xxh3::xxh3_64;

/// An empty one allocates nothing; one of up to 14 keys takes 16 entries of memory or fewer.
#[derive(Clone, Debug)]
pub struct Table<V>(HashTable<(Box<[u8]>, V)>);

impl<V> Default for Table<V> {
    fn default() -> Self {
        Self(HashTable::new())
    }
}

impl<V> Table<V> {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[inline]
    pub fn get_mut(&mut self, key: &[u8]) -> Option<&mut V> {
        self.0.find_mut(xxh3_64(key), |(known, _)| **known == *key).map(|(_, value)| value)
    }

    pub fn contains(&self, key: &[u8]) -> bool {
        self.0.find(xxh3_64(key), |(known, _)| **known == *key).is_some()
    }

    /// Adds a key that is not in the table.
    pub fn insert(&mut self, key: &[u8], value: V) {
        self.0.insert_unique(xxh3_64(key), (key.into(), value), |(key, _)| xxh3_64(key));
    }

    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &V)> {
        self.0.iter().map(|(key, value)| (&**key, value))
    }

    pub fn retain(&mut self, mut keep: impl FnMut(&mut V) -> bool) {
        self.0.retain(|(_, value)| keep(value));
    }

    /// The same keys with other values.
    pub fn map<W>(self, mut to: impl FnMut(V) -> W) -> Table<W> {
        let mut mapped = HashTable::with_capacity(self.len());
        for (key, value) in self.0 {
            mapped.insert_unique(xxh3_64(&key), (key, to(value)), |(key, _)| xxh3_64(key));
        }
        Table(mapped)
    }

    /// In the order of the keys' bytes, each with what `encode` writes of its value.
    pub fn encode(&self, encode: impl Fn(&V, &mut Writer), w: &mut Writer) {
        let mut entries: Vec<_> = self.iter().collect();
        entries.sort_unstable_by_key(|(key, _)| *key);
        w.unsigned(entries.len() as u64);
        for (key, value) in entries {
            w.text(key);
            encode(value, w);
        }
    }

    pub fn decode(r: &mut Reader, decode: impl Fn(&mut Reader) -> Result<V>, exact_up_to: u32) -> Result<Table<V>> {
        let count = r.count("the number of keys")?;
        if count > exact_up_to as usize {
            return r.expected("no more keys than exact_up_to");
        }
        let mut table = Table::default();
        let mut before = None;
        for _ in 0..count {
            let key = r.text("a key")?;
            if before.is_some_and(|before| before >= key) || std::str::from_utf8(key).is_err() {
                return r.expected("keys in ascending order, of UTF-8");
            }
            before = Some(key);
            table.insert(key, decode(r)?);
        }
        Ok(table)
    }

    /// At most `limit` items, those that `compare` finds greatest first, equal ones by key; `write` writes what follows `"value":`.
    pub fn write_json(
        &self,
        limit: usize,
        compare: impl Fn(&V, &V) -> Ordering,
        write: impl Fn(&V, &mut String),
        out: &mut String,
    ) {
        out.push('[');
        for (i, (key, value)) in self.greatest(limit, compare).into_iter().enumerate() {
            let key = std::str::from_utf8(key).expect("keys are UTF-8, as decode checked");
            let key = serde_json::to_string(key).expect("a string is JSON");
            out.push_str(if i == 0 { "{\"key\":" } else { ",{\"key\":" });
            out.push_str(&key);
            out.push_str(",\"value\":");
            write(value, out);
            out.push('}');
        }
        out.push(']');
    }

    fn greatest(&self, limit: usize, compare: impl Fn(&V, &V) -> Ordering) -> Vec<(&[u8], &V)> {
        let order = |a: &(&[u8], &V), b: &(&[u8], &V)| compare(b.1, a.1).then_with(|| a.0.cmp(b.0));
        let mut entries: Vec<_> = self.iter().collect();
        if limit < entries.len() {
            entries.select_nth_unstable_by(limit, order);
            entries.truncate(limit);
        }
        entries.sort_unstable_by(order);
        entries
    }
}
