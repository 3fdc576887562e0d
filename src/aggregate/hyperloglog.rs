//! A **HyperLogLog** sketch: how many distinct fingerprints there were, to a standard error of 0.81 %.
//!
//! The upper 14 bits of a fingerprint number a register; the leading zeros of the lower 50, plus
//! one, are its rank (1 to 51, the latter for 50 zeros); a register keeps the greatest rank it was
//! given. `distinct` turns to it beyond its exact range. The estimate is the improved raw estimator,
//! unbiased from no key to 2^64 without tables (O. Ertl, "New cardinality estimation algorithms for
//! HyperLogLog sketches", 2017, algorithm 6).
//!
//! Invariant: the registers are a function of the set of fingerprints alone, and their encoding of
//! the registers alone: whichever of two forms, a list or all of them, is the shorter.

use crate::codec::{Reader, Result, Writer};

const INDEX_BITS: u32 = 14;
const RANK_BITS: u32 = 64 - INDEX_BITS;
const REGISTERS: usize = 1 << INDEX_BITS;
const GREATEST_RANK: u8 = RANK_BITS as u8 + 1;

/// Half of what all registers take: so far a list spares memory without slowing adds.
const LISTED: usize = REGISTERS / 8;

const LIST: u8 = 0;
const ALL: u8 = 1;

/// So far above the least rank, half a byte does not hold a rank.
const FAR: u8 = 15;

/// The registers that are not 0 in ascending order, or all.
#[derive(Clone, Debug)]
pub enum Hyperloglog {
    List(Vec<Register>),
    All(Box<[u8; REGISTERS]>),
}

#[derive(Clone, Copy, Debug)]
pub struct Register {
    index: u16,
    rank: u8,
}

impl Register {
    fn of(key: u64) -> Register {
        let lower = key << INDEX_BITS;
        Register { index: (key >> RANK_BITS) as u16, rank: (lower.leading_zeros().min(RANK_BITS) + 1) as u8 }
    }
}

impl Default for Hyperloglog {
    fn default() -> Self {
        Hyperloglog::List(Vec::new())
    }
}

impl Hyperloglog {
    /// No add lengthens the encoding by more: a register of the list takes up to 3 bytes and may lengthen the list's length, one
    /// of all takes half a byte, and one more if it is far above the least.
    pub const GROWTH: usize = 4;

    pub fn add(&mut self, key: u64) {
        self.raise(Register::of(key));
    }

    pub fn merge(&mut self, other: &Hyperloglog) {
        match (&mut *self, other) {
            (Hyperloglog::All(ours), Hyperloglog::All(theirs)) => {
                ours.iter_mut().zip(theirs.iter()).for_each(|(our, their)| *our = *their.max(our));
            }
            (_, Hyperloglog::List(list)) => list.iter().for_each(|register| self.raise(*register)),
            (Hyperloglog::List(_), Hyperloglog::All(_)) => {
                self.write_out();
                self.merge(other);
            }
        }
    }

    fn raise(&mut self, new: Register) {
        match self {
            Hyperloglog::All(ranks) => {
                let rank = &mut ranks[usize::from(new.index)];
                *rank = new.rank.max(*rank);
            }
            Hyperloglog::List(list) => match list.binary_search_by_key(&new.index, |register| register.index) {
                Ok(at) => list[at].rank = new.rank.max(list[at].rank),
                Err(at) if list.len() < LISTED => list.insert(at, new),
                Err(_) => {
                    self.write_out();
                    self.raise(new);
                }
            },
        }
    }

    fn write_out(&mut self) {
        let mut ranks = Box::new([0; REGISTERS]);
        for register in self.registers() {
            ranks[usize::from(register.index)] = register.rank;
        }
        *self = Hyperloglog::All(ranks);
    }

    pub fn is_empty(&self) -> bool {
        self.registers().next().is_none()
    }

    /// Those that are not 0, in ascending order.
    fn registers(&self) -> impl Iterator<Item = Register> + '_ {
        let (list, ranks) = match self {
            Hyperloglog::List(list) => (&list[..], &[][..]),
            Hyperloglog::All(ranks) => (&[][..], &ranks[..]),
        };
        list.iter().copied().chain(listed(ranks))
    }

    pub fn estimate(&self) -> f64 {
        let mut counts = [0u32; GREATEST_RANK as usize + 1];
        for register in self.registers() {
            counts[usize::from(register.rank)] += 1;
        }
        counts[0] = REGISTERS as u32 - counts.iter().sum::<u32>();
        let registers = REGISTERS as f64;
        let mut z = registers * tau(1.0 - f64::from(counts[usize::from(GREATEST_RANK)]) / registers);
        for count in counts[1..usize::from(GREATEST_RANK)].iter().rev() {
            z = 0.5 * (z + f64::from(*count));
        }
        z += registers * sigma(f64::from(counts[0]) / registers);
        registers * registers / (2.0 * std::f64::consts::LN_2 * z)
    }

    pub fn encode(&self, w: &mut Writer) {
        match self {
            Hyperloglog::All(ranks) if !list_is_shorter(ranks) => {
                w.byte(ALL);
                encode_all(ranks, w);
            }
            _ => {
                w.byte(LIST);
                w.unsigned(self.registers().count() as u64);
                for (step, register) in steps(self.registers()) {
                    w.unsigned(packed(step, register.rank));
                }
            }
        }
    }

    pub fn decode(r: &mut Reader) -> Result<Hyperloglog> {
        match r.byte("the form of a sketch")? {
            LIST => {
                let sketch = Self::decode_list(r)?;
                match &sketch {
                    Hyperloglog::All(ranks) if !list_is_shorter(ranks) => {
                        r.expected("all registers, which is shorter than so long a list")
                    }
                    _ => Ok(sketch),
                }
            }
            ALL => {
                let ranks = decode_all(r)?;
                if list_is_shorter(&ranks) {
                    r.expected("a list of registers, which is shorter")
                } else {
                    Ok(Hyperloglog::All(ranks))
                }
            }
            _ => r.expected("a sketch (0 a list of registers, 1 all registers)"),
        }
    }

    fn decode_list(r: &mut Reader) -> Result<Hyperloglog> {
        let mut sketch = Hyperloglog::default();
        let mut next = 0;
        for _ in 0..r.count("the number of registers")? {
            let packed = r.unsigned("a register")?;
            let (index, rank) = (next + (packed >> 6), (packed & 63) as u8);
            if index >= REGISTERS as u64 || rank == 0 || rank > GREATEST_RANK {
                return r.expected("a register below 16384 of rank 1 to 51");
            }
            sketch.raise(Register { index: index as u16, rank });
            next = index + 1;
        }
        Ok(sketch)
    }
}

/// Whether the registers take fewer bytes listed. A list as short as is kept in memory always does.
fn list_is_shorter(ranks: &[u8; REGISTERS]) -> bool {
    let least = least(ranks);
    let all = 1 + REGISTERS / 2 + ranks.iter().filter(|rank| **rank - least >= FAR).count();
    let count = ranks.iter().filter(|rank| **rank > 0).count();
    // A listed register takes a byte or more: spares counting them where it is plain.
    count <= all
        && width(count as u64) + steps(listed(ranks)).map(|(step, register)| width(packed(step, register.rank))).sum::<usize>()
            <= all
}

fn least(ranks: &[u8; REGISTERS]) -> u8 {
    ranks.iter().copied().fold(u8::MAX, u8::min)
}

/// Half a byte each above the least, then a byte for each that this is too small for.
fn encode_all(ranks: &[u8; REGISTERS], w: &mut Writer) {
    let least = least(ranks);
    w.byte(least);
    for pair in ranks.chunks_exact(2) {
        w.byte((pair[0] - least).min(FAR) | (pair[1] - least).min(FAR) << 4);
    }
    for rank in ranks.iter().filter(|rank| **rank - least >= FAR) {
        w.byte(*rank - least - FAR);
    }
}

fn decode_all(r: &mut Reader) -> Result<Box<[u8; REGISTERS]>> {
    let lowest = r.byte("the least rank")?;
    let mut ranks = Box::new([0; REGISTERS]);
    for pair in ranks.chunks_exact_mut(2) {
        let both = r.byte("two registers")?;
        (pair[0], pair[1]) = (both & 15, both >> 4);
    }
    if !ranks.contains(&0) {
        return r.expected("a register of the least rank");
    }
    for rank in ranks.iter_mut() {
        let far = if *rank == FAR { r.byte("a far register")? } else { 0 };
        match rank.checked_add(far).and_then(|above| above.checked_add(lowest)) {
            Some(whole) if whole <= GREATEST_RANK => *rank = whole,
            _ => return r.expected("a rank of at most 51"),
        }
    }
    Ok(ranks)
}

/// Those that are not 0, in ascending order.
fn listed(ranks: &[u8]) -> impl Iterator<Item = Register> + '_ {
    ranks.iter().enumerate().filter(|(_, rank)| **rank > 0).map(|(index, rank)| Register { index: index as u16, rank: *rank })
}

/// Each register with how many of rank 0 lie between it and the one before.
fn steps(registers: impl Iterator<Item = Register>) -> impl Iterator<Item = (u16, Register)> {
    let mut next = 0;
    registers.map(move |register| {
        let step = register.index - next;
        next = register.index + 1;
        (step, register)
    })
}

fn packed(step: u16, rank: u8) -> u64 {
    u64::from(step) << 6 | u64::from(rank)
}

/// Bytes of a number as [`Writer::unsigned`] writes it.
fn width(value: u64) -> usize {
    (64 - value.leading_zeros()).div_ceil(7).max(1) as usize
}

/// What the registers of rank 0 add: x + Σ x^(2^k) · 2^(k-1).
fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

/// What the registers of the greatest rank add: ⅓ (1 - x - Σ (1 - x^(2^-k))² · 2^-k).
fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(sketch: &Hyperloglog) -> Vec<u8> {
        let mut w = Writer::default();
        sketch.encode(&mut w);
        w.finish()
    }

    fn decode(bytes: &[u8]) -> Result<Hyperloglog> {
        let mut r = Reader::new(bytes);
        let sketch = Hyperloglog::decode(&mut r)?;
        r.end().map(|()| sketch)
    }

    /// splitmix64: uniform fingerprints.
    fn key(seed: u64, i: u64) -> u64 {
        let mut z = (seed << 32 | i).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn sketch(keys: impl Iterator<Item = u64>) -> Hyperloglog {
        let mut sketch = Hyperloglog::default();
        keys.for_each(|key| sketch.add(key));
        sketch
    }

    #[test]
    fn index_and_rank_come_from_fixed_bits() {
        let of = |key| (Register::of(key).index, Register::of(key).rank);
        assert_eq!(of(0), (0, 51));
        assert_eq!(of(u64::MAX), (16383, 1));
        assert_eq!(of(1), (0, 50));
        assert_eq!(of(1 << 50), (1, 51));
        assert_eq!(of(1 << 49), (0, 1));
    }

    #[test]
    fn estimates_are_unbiased_and_within_one_percent() {
        for (size, seeds) in [(2_000, 200), (10_000, 100), (100_000, 25), (1_000_000, 4)] {
            let errors: Vec<f64> = (0..seeds)
                .map(|seed| sketch((0..size).map(|i| key(seed + 7 * size, i))).estimate() / size as f64 - 1.0)
                .collect();
            let mean = errors.iter().sum::<f64>() / seeds as f64;
            let spread = (errors.iter().map(|e| e * e).sum::<f64>() / seeds as f64).sqrt();
            // Four standard errors of the mean, and of the spread itself (χ²).
            assert!(mean.abs() < 4.0 * 0.0082 / (seeds as f64).sqrt(), "{size}: mean error {mean}");
            assert!(spread < 0.0082 * (1.0 + 4.0 / (2.0 * seeds as f64).sqrt()), "{size}: spread {spread}");
        }
    }

    #[test]
    fn of_few_keys_the_estimate_is_their_number() {
        for size in 0..50u64 {
            assert_eq!(sketch((0..size).map(|i| i << 55)).estimate().round() as u64, size);
        }
    }

    #[test]
    fn full_registers_estimate_without_end() {
        let full = Hyperloglog::All(Box::new([GREATEST_RANK; REGISTERS]));
        assert_eq!(full.estimate(), f64::INFINITY);
        assert_eq!(bytes(&decode(&bytes(&full)).unwrap()), bytes(&full));
    }

    #[test]
    fn every_size_reads_back_and_no_add_lengthens_it_by_more_than_its_growth() {
        let mut sketch = Hyperloglog::default();
        let mut before = bytes(&sketch);
        for i in 0..100_000u64 {
            let looked_at = i < 300 || i % 499 < 2;
            sketch.add(key(3, i));
            if looked_at {
                let now = bytes(&sketch);
                assert!(i >= 300 && i % 499 == 0 || now.len() <= before.len() + Hyperloglog::GROWTH, "{i}: {}", now.len());
                assert!(now.len() < 8_400);
                assert_eq!(bytes(&decode(&now).unwrap()), now);
                before = now;
            }
        }
    }

    /// Keys whose registers and ranks are spread, low and far ones too.
    fn keys(most: usize) -> impl Strategy<Value = Vec<u64>> {
        proptest::collection::vec(
            (any::<u64>(), 0u32..64).prop_map(|(key, zeros)| (key << INDEX_BITS >> zeros >> INDEX_BITS) | key & 0xfffc << 48),
            0..most,
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_merge_is_the_sketch_of_the_union(a in keys(4000), b in keys(4000)) {
            let whole = sketch(a.iter().chain(&b).rev().copied());
            for (first, second) in [(&a, &b), (&b, &a)] {
                let mut merged = sketch(first.iter().copied());
                merged.merge(&sketch(second.iter().copied()));
                prop_assert_eq!(bytes(&merged), bytes(&whole));
            }
        }

        #[test]
        fn damaged_bytes_are_read_as_they_stand_or_refused(a in keys(9000), at: prop::sample::Index, to: u8, cut: bool) {
            let mut damaged = bytes(&sketch(a.into_iter()));
            let at = at.index(damaged.len());
            damaged[at] = to;
            if cut {
                damaged.truncate(at);
            }
            if let Ok(read) = decode(&damaged) {
                prop_assert_eq!(bytes(&read), damaged);
            }
        }

        #[test]
        fn any_bytes_are_read_as_they_stand_or_refused(
            list: Vec<u8>,
            all in proptest::collection::vec(any::<u8>(), REGISTERS / 2..REGISTERS),
        ) {
            for (form, body) in [(LIST, &list), (ALL, &all)] {
                let bytes_of_it = [&[form], &body[..]].concat();
                if let Ok(read) = decode(&bytes_of_it) {
                    prop_assert_eq!(bytes(&read), bytes_of_it);
                }
            }
        }
    }
}
