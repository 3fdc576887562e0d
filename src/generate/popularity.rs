//! The **popularity** of hunts: which hunt the next event is about.

/// Draws ranks from 0: all alike, or rank `k` with a weight of 1 / (k + 1)^skew (Zipf), by Walker's alias method, which takes one
/// random number and at most one look-up a draw.
#[derive(Clone, Debug)]
pub struct Popularity {
    hunts: u32,
    /// A cell a hunt: below the threshold (of 2^32) it is this hunt, else the other. Empty: all alike.
    cells: Vec<(u32, u32)>,
}

impl Popularity {
    /// `hunts` ≥ 1; `skew` ≥ 0 and finite.
    pub fn new(hunts: u32, skew: f64) -> Self {
        if skew == 0.0 {
            return Self { hunts, cells: Vec::new() };
        }
        let mut share: Vec<f64> = (0..hunts).map(|k| f64::from(k + 1).powf(-skew)).collect();
        let total: f64 = share.iter().rev().sum();
        share.iter_mut().for_each(|w| *w *= f64::from(hunts) / total);
        let mut cells: Vec<(u32, u32)> = (0..hunts).map(|k| (u32::MAX, k)).collect();
        // Weights fall with the rank, so the heavy ones are a prefix: one pass fills the light cells from its front.
        let heavy = share.partition_point(|w| *w >= 1.0);
        let mut giver = 0;
        let mut light: Vec<usize> = (heavy..hunts as usize).collect();
        while let Some(cell) = light.pop() {
            if giver >= heavy {
                break;
            }
            cells[cell] = ((share[cell] * 4_294_967_296.0) as u32, giver as u32);
            share[giver] -= 1.0 - share[cell];
            if share[giver] < 1.0 {
                light.push(giver);
                giver += 1;
            }
        }
        Self { hunts, cells }
    }

    pub fn draw(&self, rng: &mut fastrand::Rng) -> u32 {
        let bits = rng.u64(..);
        let cell = (((bits >> 32) * u64::from(self.hunts)) >> 32) as u32;
        match self.cells.get(cell as usize) {
            Some((threshold, other)) if bits as u32 >= *threshold => *other,
            _ => cell,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(hunts: u32, skew: f64, draws: u32) -> Vec<f64> {
        let popularity = Popularity::new(hunts, skew);
        let mut rng = fastrand::Rng::with_seed(1);
        let mut counts = vec![0.0; hunts as usize];
        (0..draws).for_each(|_| counts[popularity.draw(&mut rng) as usize] += 1.0 / f64::from(draws));
        counts
    }

    #[test]
    fn shares_follow_zipfs_law() {
        for skew in [0.5, 1.0, 1.3, 3.0] {
            let shares = drawn(1000, skew, 1_000_000);
            let total: f64 = (1..=1000).map(|k| f64::from(k).powf(-skew)).sum();
            for rank in [0, 1, 2, 9, 99] {
                let expected = f64::from(rank + 1).powf(-skew) / total;
                let off = (shares[rank as usize] - expected).abs();
                assert!(
                    off < 5.0 * (expected / 1e6).sqrt() + 1e-6,
                    "skew {skew}, rank {rank}: {} for {expected}",
                    shares[rank as usize]
                );
            }
        }
    }

    #[test]
    fn without_skew_all_are_alike() {
        let shares = drawn(10, 0.0, 100_000);
        assert!(shares.iter().all(|s| (s - 0.1).abs() < 0.01), "{shares:?}");
        assert_eq!(drawn(1, 2.0, 10), [1.0].map(|s: f64| (0..10).fold(0.0, |sum, _| sum + s / 10.0)));
    }
}
