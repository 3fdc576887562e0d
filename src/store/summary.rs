//! The **summary**: which typed columns the relation `hunt_summary` has beside `hunt_id`, from the definitions.
//!
//! The daemon hands them to [`super::Store::bind`]; each store writes the view in its own SQL. Invariant: a column a name, and only
//! for aggregates whose every value fits its type or is null, so that no hunt can keep the relation from being read.

use crate::definitions::{Definitions, Kind};

/// A column of `hunt_summary`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SummaryColumn {
    pub aggregate: String,
    pub kind: SummaryType,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SummaryType {
    BigInt,
    Numeric,
    Double,
}

/// The columns of these definitions: one for every unwindowed scalar aggregate, by name.
pub fn columns(definitions: &Definitions) -> Vec<SummaryColumn> {
    let unwindowed = definitions.aggregates.iter().filter(|aggregate| aggregate.window.is_none());
    let typed = unwindowed.filter_map(|aggregate| {
        let kind = match aggregate.kind {
            Kind::Count | Kind::Distinct { .. } => SummaryType::BigInt,
            Kind::Sum { .. } | Kind::Min { .. } | Kind::Max { .. } => SummaryType::Numeric,
            Kind::Mean { .. } => SummaryType::Double,
            Kind::First { .. } | Kind::Last { .. } | Kind::Top { .. } | Kind::Quantiles { .. } | Kind::Funnel { .. } => {
                return None;
            }
        };
        Some(SummaryColumn { aggregate: aggregate.name.clone(), kind })
    });
    typed.collect()
}

/// An identifier in SQL.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string in SQL.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
