//! A **contribution**: what one event adds to an aggregate, as people read it.
//!
//! `explain` asks for it beside the fold, which never does. Invariant: there is one exactly where
//! [`Rule::apply`] takes something of the event.

use super::number::Number;
use super::{Occurrence, Rule};
use serde_json::Value;

impl Rule {
    /// As JSON: 1 for `count`, the number for `sum`, `min`, `max`, `mean` and `quantiles`, the value for `first` and `last`, the key for
    /// `distinct`, `{"key","value"}` for `top`, `{"key","stage"}` for `funnel`. `None`: the event adds nothing.
    pub fn contribution(&self, event: &Occurrence) -> Option<String> {
        let number = |field: usize| {
            let mut json = String::new();
            Number::of(event.fields[field])?.write_json(&mut json);
            Some(json)
        };
        let text = |field: usize| event.text(field).map(String::from_utf8_lossy);
        let key = |field: usize| text(field).map(|key| Value::from(&*key).to_string());
        match self {
            Rule::Count => Some("1".to_owned()),
            Rule::Sum { of, .. } | Rule::Extremum { of, .. } | Rule::Mean { of, .. } | Rule::Quantiles { of, .. } => number(*of),
            Rule::Chosen { of, .. } => text(*of).map(|json| json.into_owned()),
            Rule::Distinct { of, .. } => key(*of),
            Rule::Top { by, sum, .. } => {
                let value = sum.map_or(Some("1".to_owned()), number)?;
                Some(format!("{{\"key\":{},\"value\":{value}}}", key(*by)?))
            }
            Rule::Funnel { by, stages, names, .. } => {
                let stage = stages.iter().position(|stage| *stage == event.event_type)?;
                Some(format!("{{\"key\":{},\"stage\":{}}}", key(*by)?, names[stage]))
            }
        }
    }

    /// Whether its value is one number or JSON value, or a handful: quick to show after every event.
    pub fn is_short(&self) -> bool {
        !matches!(self, Rule::Top { .. } | Rule::Funnel { .. })
    }
}
