//! **Aligned** windows, tumbling or hopping: each starts at a multiple of `every` after 1970 and
//! holds the events of `length` from there.

use super::{FAR, starts};
use crate::aggregate::{Occurrence, Of, Rule, State};
use crate::codec::{Reader, Result, Writer};
use crate::time::Micros;
use std::collections::VecDeque;

/// States by the start of their window, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Aligned {
    panes: VecDeque<(i64, State)>,
}

impl Aligned {
    /// Whether at least one window refused the event: one that is final, or older than the `keep` that were kept before it.
    #[allow(clippy::too_many_arguments)] // One call from one place, each its own thing.
    #[inline]
    pub(super) fn apply(
        &mut self,
        rule: &Rule,
        length: i64,
        every: i64,
        keep: usize,
        event: &Occurrence,
        watermark: Option<Micros>,
        mut taken: impl FnMut(i64, &Occurrence),
    ) -> bool {
        let oldest = if self.panes.len() >= keep { self.panes.front().map(|pane| pane.0) } else { None };
        let mut late = false;
        for start in starts(event.time.0, length, every) {
            let is_final = watermark.is_some_and(|watermark| start + length <= watermark.0);
            if is_final || oldest.is_some_and(|oldest| start < oldest) {
                late = true;
                // Those still to come are older: none of them takes it.
                break;
            }
            rule.apply(self.pane(rule, start), event);
            taken(start, event);
        }
        self.cut(keep);
        late
    }

    pub(super) fn apply_at(&mut self, rule: &Rule, keep: usize, start: i64, event: &Occurrence) {
        rule.apply(self.pane(rule, start), event);
        self.cut(keep);
    }

    /// The state of a window, made when it is new. Most events fall into the newest.
    #[inline]
    fn pane(&mut self, rule: &Rule, start: i64) -> &mut State {
        let at = match self.panes.back() {
            Some((newest, _)) if *newest == start => self.panes.len() - 1,
            Some((newest, _)) if *newest > start => {
                let at = self.panes.partition_point(|pane| pane.0 < start);
                if self.panes[at].0 != start {
                    self.panes.insert(at, (start, rule.start()));
                }
                at
            }
            _ => {
                self.panes.push_back((start, rule.start()));
                self.panes.len() - 1
            }
        };
        &mut self.panes[at].1
    }

    /// The start of the oldest of `keep` windows: what lies before it is late. `None`: there are fewer.
    pub(super) fn oldest_of(&self, keep: usize) -> Option<i64> {
        self.panes.front().filter(|_| self.panes.len() >= keep).map(|pane| pane.0)
    }

    pub(super) fn get(&self, start: i64) -> Option<&State> {
        let at = self.panes.binary_search_by_key(&start, |pane| pane.0).ok()?;
        Some(&self.panes[at].1)
    }

    fn cut(&mut self, keep: usize) {
        while self.panes.len() > keep {
            self.panes.pop_front();
        }
    }

    pub(super) fn merge(&mut self, rule: &Rule, keep: usize, other: &Aligned, of: Of) {
        for (start, state) in &other.panes {
            rule.merge(self.pane(rule, *start), state, of);
        }
        self.cut(keep);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (i64, &State)> {
        self.panes.iter().map(|(start, state)| (*start, state))
    }

    /// Starts as multiples of `every`: the first, then how much later each next one is.
    pub(super) fn encode(&self, rule: &Rule, every: i64, w: &mut Writer) {
        w.unsigned(self.panes.len() as u64);
        let mut before = None;
        for (start, state) in &self.panes {
            let number = start / every;
            match before {
                None => w.signed(number),
                Some(before) => w.unsigned((number - before) as u64),
            }
            before = Some(number);
            rule.encode(state, w);
        }
    }

    pub(super) fn decode(rule: &Rule, every: i64, keep: usize, r: &mut Reader) -> Result<Aligned> {
        let count = r.count("the number of windows")?;
        if count > keep {
            return r.expected("no more windows than are kept");
        }
        let mut panes = VecDeque::new();
        let mut before: Option<i64> = None;
        for _ in 0..count {
            let number = match before {
                None => r.signed("the first window")?,
                Some(before) => match r.unsigned("the next window")? {
                    step @ 1.. if step < FAR as u64 => before + step as i64,
                    _ => return r.expected("a later window"),
                },
            };
            if number.checked_mul(every).is_none_or(|start| start.abs() > FAR) {
                return r.expected("a window within the range of times");
            }
            panes.push_back((number * every, rule.decode(r)?));
            before = Some(number);
        }
        Ok(Aligned { panes })
    }
}
