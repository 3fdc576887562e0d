//! The **table** of `top`: a value for each key, found by the XXH3 hash of the key.
//!
//! Invariant: nothing that leaves the table depends on the order it happens to lie in: whoever shows
//! its entries sorts them, whoever folds them does so in a way in which order means nothing.

use hashbrown::HashTable;
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

    /// In the order of the keys' bytes.
    pub fn sorted(&self) -> Vec<(&[u8], &V)> {
        let mut entries: Vec<_> = self.iter().collect();
        entries.sort_unstable_by_key(|(key, _)| *key);
        entries
    }
}
