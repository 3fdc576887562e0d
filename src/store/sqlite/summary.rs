//! The view **`hunt_summary`**: a typed column for each aggregate that has one, on top of `hunts`. It is made anew where its text
//! is another.
//!
//! SQLite has no numbers beyond 64 bits: an integer sum that leaves them reads as the nearest float here, and exact in `hunts.view`.

use super::super::summary::{identifier, literal};
use super::super::{SummaryColumn, SummaryType};
use rusqlite::{OptionalExtension, Transaction};

/// Brings the view up to `wanted`.
pub(super) fn renew(transaction: &Transaction<'_>, wanted: &[SummaryColumn]) -> rusqlite::Result<()> {
    let wanted = definition(wanted);
    let found: Option<String> = transaction
        .query_row("SELECT sql FROM sqlite_master WHERE type = 'view' AND name = 'hunt_summary'", [], |row| row.get(0))
        .optional()?;
    if found.as_ref() == Some(&wanted) {
        return Ok(());
    }
    transaction.execute_batch(&format!("DROP VIEW IF EXISTS hunt_summary; {wanted}"))
}

fn definition(columns: &[SummaryColumn]) -> String {
    let typed: String = columns
        .iter()
        .map(|column| {
            let name = &column.aggregate;
            let value = format!("json_extract(view, {})", literal(&format!("$.\"{name}\"")));
            let value = match column.kind {
                SummaryType::BigInt | SummaryType::Numeric => value,
                SummaryType::Double => format!("CAST({value} AS REAL)"),
            };
            format!(", {value} AS {}", identifier(name))
        })
        .collect();
    format!("CREATE VIEW hunt_summary AS SELECT hunt_id{typed} FROM hunts")
}
