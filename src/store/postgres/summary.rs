//! The view **`hunt_summary`**: a typed column for each aggregate that has one, on top of `hunts`.
//!
//! It is looked at with every binding and touched only where it is missing or has other columns than the definitions ask for. What
//! was built on it stands as long as columns are only added: they come last. Where one goes or changes its type the view is made
//! anew, and whoever could read it still can. Invariant: it is made in the transaction that binds, under the lock of binding.

use super::super::summary::{identifier, literal};
use super::super::{Error, SummaryColumn, SummaryType};
use super::connect::Session;
use super::fault::Fault;
use tokio_postgres::error::SqlState;

/// Names and types, in the order of the view.
type Columns = Vec<(String, String)>;

/// What is to be done to the view.
#[derive(Debug, PartialEq)]
enum Change {
    Make,
    /// To these columns: those it has, then more.
    Extend(Columns),
    Remake,
}

/// Brings the view up to `wanted` in the open transaction. `place` is what an error names.
pub(super) async fn renew(session: &mut Session, wanted: &[SummaryColumn], place: &str) -> Result<(), Fault> {
    let wanted: Columns = wanted.iter().map(|column| (column.aggregate.clone(), type_name(column.kind).to_owned())).collect();
    let found = found(session).await?;
    let Some(change) = change(found.as_deref(), &wanted) else { return Ok(()) };
    make(session, &change, wanted).await.map_err(|fault| explained(fault, &change, place))
}

/// `None`: there is no such relation.
async fn found(session: &mut Session) -> Result<Option<Columns>, Fault> {
    let rows = session
        .client
        .query(
            "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_catalog.pg_attribute
             WHERE attrelid = to_regclass('huntline.hunt_summary') AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
            &[],
        )
        .await?;
    let columns: Columns = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    Ok(Some(columns).filter(|columns| !columns.is_empty()))
}

fn change(found: Option<&[(String, String)]>, wanted: &Columns) -> Option<Change> {
    let Some(found) = found else { return Some(Change::Make) };
    let [(first, kind), found @ ..] = found else { return Some(Change::Remake) };
    if (first.as_str(), kind.as_str()) != ("hunt_id", "text") || !found.iter().all(|column| wanted.contains(column)) {
        return Some(Change::Remake);
    }
    let mut columns = found.to_vec();
    columns.extend(wanted.iter().filter(|column| !found.contains(column)).cloned());
    (columns.len() > found.len()).then_some(Change::Extend(columns))
}

async fn make(session: &mut Session, change: &Change, wanted: Columns) -> Result<(), Fault> {
    // A view that was not there yet is for those who may read what it is made of.
    let (model, columns) = match change {
        Change::Extend(columns) => {
            return Ok(session.client.batch_execute(&format!("CREATE OR REPLACE {}", definition(columns))).await?);
        }
        Change::Make => ("huntline.hunts", wanted),
        Change::Remake => ("huntline.hunt_summary", wanted),
    };
    // In the texts, not beside them: they are asked in the session's schema.
    let readers = session
        .client
        .query(
            &format!("SELECT CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(r.rolname) END, a.is_grantable
             FROM pg_catalog.pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) a LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.grantee
             WHERE c.oid = to_regclass('{model}') AND a.privilege_type = 'SELECT' AND a.grantee <> c.relowner
               AND (a.grantee = 0 OR r.oid IS NOT NULL)"),
            &[],
        )
        .await?;
    // Another than this role, where this role may hand it over.
    let owner = session
        .client
        .query_opt(
            &format!(
                "SELECT quote_ident(r.rolname) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_roles r ON r.oid = c.relowner
                 WHERE c.oid = to_regclass('{model}') AND r.rolname <> current_user AND pg_has_role(r.oid, 'MEMBER')
                   AND has_schema_privilege(r.oid, c.relnamespace, 'CREATE')"
            ),
            &[],
        )
        .await?;
    let mut sql = String::new();
    if *change == Change::Remake {
        sql += "DROP VIEW huntline.hunt_summary; ";
    }
    sql += &format!("CREATE {}; ", definition(&columns));
    for reader in readers {
        let with = if reader.get(1) { " WITH GRANT OPTION" } else { "" };
        sql += &format!("GRANT SELECT ON huntline.hunt_summary TO {}{with}; ", reader.get::<_, &str>(0));
    }
    if let Some(owner) = owner {
        sql += &format!("ALTER VIEW huntline.hunt_summary OWNER TO {}; ", owner.get::<_, &str>(0));
    }
    Ok(session.client.batch_execute(&sql).await?)
}

/// Each column reads the view by itself: a query pays for those it names.
fn definition(columns: &Columns) -> String {
    let typed: String =
        columns.iter().map(|(name, kind)| format!(", (h.view ->> {})::{kind} AS {}", literal(name), identifier(name))).collect();
    format!("VIEW huntline.hunt_summary AS SELECT h.hunt_id{typed} FROM huntline.hunts h")
}

fn type_name(kind: SummaryType) -> &'static str {
    match kind {
        SummaryType::BigInt => "bigint",
        SummaryType::Numeric => "numeric",
        SummaryType::Double => "double precision",
    }
}

fn explained(fault: Fault, change: &Change, place: &str) -> Fault {
    let Some((state, words)) = fault.said() else { return fault };
    let found = match change {
        Change::Make => "there is no view hunt_summary yet",
        Change::Extend(_) | Change::Remake => "the view hunt_summary has other columns than the definitions ask for",
    };
    if state == SqlState::INSUFFICIENT_PRIVILEGE {
        return Error::Fatal(format!(
            "{place}: {found}, and this role may not make it: {words}: let the schema's owner run `huntline migrate` with this \
             configuration, see \"Rights in Postgres\" in docs/operations.md"
        ))
        .into();
    }
    if state == SqlState::DEPENDENT_OBJECTS_STILL_EXIST {
        return Error::Fatal(format!(
            "{place}: {found}, and something is built on those that go: {words}: drop that, start again, and build it anew"
        ))
        .into();
    }
    fault
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(text: &str) -> Columns {
        text.split_whitespace().map(|column| column.split_once(':').unwrap()).map(|(n, t)| (n.into(), t.into())).collect()
    }

    #[test]
    fn what_stands_is_kept_where_columns_are_only_added() {
        let of = |found: &str, wanted: &str| change(Some(&columns(found)), &columns(wanted));
        assert_eq!(change(None, &columns("")), Some(Change::Make));
        assert_eq!(of("hunt_id:text", ""), None);
        assert_eq!(of("hunt_id:text b:bigint a:numeric", "a:numeric b:bigint"), None);
        let more = columns("b:bigint a:numeric c:numeric");
        assert_eq!(of("hunt_id:text b:bigint", "a:numeric b:bigint c:numeric"), Some(Change::Extend(more)));
        assert_eq!(of("hunt_id:text b:bigint", "b:numeric"), Some(Change::Remake));
        assert_eq!(of("hunt_id:text b:bigint", ""), Some(Change::Remake));
        assert_eq!(of("b:bigint", "b:bigint"), Some(Change::Remake));
    }

    #[test]
    fn names_cannot_break_out_of_the_statement() {
        let sql = definition(&columns(r#"a'b"c:bigint"#));
        assert!(sql.contains(r#"(h.view ->> 'a''b"c')::bigint AS "a'b""c""#), "{sql}");
    }
}
