//! **Contributions** of one event to a partial: to each aggregate that its type and conditions
//! match, what it adds and the windows it falls into.
//!
//! A refold asks for them before it applies an event, for a witness that wants to know. Invariant:
//! nothing is changed; what is said here is what [`Fold::apply`] then does, should it apply the event.

use super::{Fold, Partial, bits};
use crate::aggregate::Occurrence;
use crate::decode::Decoded;
use crate::record::Batch;
use crate::time::Micros;
use crate::window::{Keeper, Kept, Place};

#[derive(Clone, Debug, PartialEq)]
pub struct Contribution {
    /// Its number in the definitions.
    pub aggregate: usize,
    /// What it adds to each window, or to the one value; `None`: nothing, a member is absent.
    pub adds: Option<String>,
    /// Only of an aggregate with windows, where there is something to add.
    pub place: Option<Place>,
}

impl Contribution {
    /// Whether the event has part in the aggregate's value, as far as the windows that it fell into are kept.
    pub fn counts(&self) -> bool {
        self.adds.is_some() && self.place.as_ref().is_none_or(|place| !place.taken.is_empty())
    }
}

impl Fold {
    /// What record `index` of the batch, an event that is not applied yet, would add. `clock`: the partition clock before the record.
    pub fn contributions(
        &self,
        partial: &Partial,
        batch: &Batch,
        decoded: &Decoded,
        index: usize,
        clock: Option<Micros>,
    ) -> Vec<Contribution> {
        let event = &decoded.events[index];
        let occurrence = Occurrence {
            time: event.time,
            offset: batch.records[index].offset,
            event_type: event.event_type,
            fields: decoded.fields(index),
            batch,
            decoded,
        };
        let watermark = partial.times.map(|times| times.clocks.watermark(clock, &self.time));
        let contribution = |aggregate: usize| match (&self.aggregates[aggregate].keeper, &partial.kept[aggregate]) {
            (Keeper::Windowed(windowed), Kept::Windowed(windows)) if windowed.rule.takes(&occurrence) => Contribution {
                aggregate,
                adds: windowed.rule.contribution(&occurrence),
                place: Some(windowed.place(windows.as_deref(), event.time, watermark)),
            },
            (Keeper::Whole(rule), _) => Contribution { aggregate, adds: rule.contribution(&occurrence), place: None },
            _ => Contribution { aggregate, adds: None, place: None },
        };
        bits(event.matches).map(contribution).collect()
    }

    /// The value of the aggregate now that an event with this contribution was applied, as JSON; with windows, that of the one it fell
    /// into. `None`: it fell into none or several, or such values are long.
    pub fn value_after(&self, partial: &Partial, contribution: &Contribution) -> Option<String> {
        let (rule, state) = match (&self.aggregates[contribution.aggregate].keeper, &partial.kept[contribution.aggregate]) {
            (Keeper::Whole(rule), Kept::Whole(state)) => (rule, Some(state)),
            (Keeper::Windowed(windowed), Kept::Windowed(Some(windows))) => match contribution.place.as_ref()?.taken[..] {
                [bounds] => (&windowed.rule, windowed.at(windows, bounds)),
                _ => return None,
            },
            _ => return None,
        };
        let state = state.filter(|_| rule.is_short())?;
        let mut json = String::new();
        rule.write_json(state, &mut json);
        Some(json)
    }

    /// The number of the aggregate of this name.
    pub fn number(&self, name: &str) -> Option<usize> {
        self.aggregates.iter().position(|aggregate| aggregate.name == name)
    }
}
