//! `docs/sql.md` says what stands in the store, and nothing else: each relation and column of a store as it is made, with types, what may be
//! null and the closed sets of words; and its queries run.

use super::Fixture;
use crate::harness::postgres::shared;
use huntline::outcome::Reason;
use huntline::store::{Act, LetterState, Status, Target};
use std::collections::{BTreeMap, BTreeSet};

const PAGE: &str = include_str!("../../../docs/sql.md");

/// A row of one of the page's tables.
#[derive(Debug)]
struct Column {
    kind: String,
    null: String,
    meaning: String,
}

/// By relation and column.
type Columns = BTreeMap<(String, String), Column>;

fn page() -> Columns {
    let mut columns = Columns::new();
    let mut relation = None;
    for line in PAGE.lines() {
        if line.starts_with('#') {
            relation = line.strip_prefix("### ");
        }
        let Some(cells) = line.strip_prefix("| `") else { continue };
        let cells: Vec<&str> = cells.trim_end_matches('|').split(" | ").map(str::trim).collect();
        let [name, kind, null, rest @ ..] = &cells[..] else { panic!("{line}") };
        let column = Column { kind: (*kind).into(), null: (*null).into(), meaning: rest.concat() };
        let key = (relation.unwrap_or_else(|| panic!("no heading above {line}")).into(), name.trim_end_matches('`').into());
        assert!(columns.insert(key, column).is_none(), "twice: {line}");
    }
    columns
}

fn url(fixture: &Fixture) -> &str {
    match &fixture.target {
        Target::Postgres { url, .. } => url,
        Target::Sqlite { .. } => panic!("a Postgres store"),
    }
}

#[tokio::test]
async fn the_page_has_every_column_of_a_postgres_store() {
    let fixture = Fixture::postgres().await;
    let sql = "SELECT c.table_name, c.column_name, c.data_type, c.is_nullable, t.table_type FROM information_schema.columns c
                 JOIN information_schema.tables t USING (table_schema, table_name) WHERE c.table_schema = 'huntline'";
    let mut page = page();
    for row in shared().query(url(&fixture), sql) {
        let [relation, column, kind, nullable, of] = row.into_iter().map(Option::unwrap).collect::<Vec<_>>().try_into().unwrap();
        let told = page.remove(&(relation.clone(), column.clone()));
        let told = told.unwrap_or_else(|| panic!("docs/sql.md lacks {relation}.{column}"));
        assert_eq!(told.kind, kind.replace("timestamp with time zone", "timestamptz"), "{relation}.{column}");
        // Of a view's columns the database does not say it.
        if of == "BASE TABLE" {
            assert_eq!(told.null == "never", nullable == "NO", "{relation}.{column}: null {:?}", told.null);
        }
    }
    assert!(page.is_empty(), "docs/sql.md has what the store has not: {:?}", page.keys());
}

#[tokio::test]
async fn a_sqlite_store_differs_only_as_the_page_says() {
    let fixture = Fixture::sqlite().await;
    let sql = "SELECT m.name || '.' || c.name FROM sqlite_schema m JOIN pragma_table_info(m.name) c
                WHERE m.type IN ('table', 'view') AND m.name NOT LIKE 'sqlite_%'";
    let found: BTreeSet<String> = fixture.ask(sql).into_iter().flatten().collect();
    let told: BTreeSet<String> = page().into_keys().map(|(relation, column)| format!("{relation}.{column}")).collect();
    let only = |of: &BTreeSet<String>, other: &BTreeSet<String>| -> BTreeSet<String> {
        of.difference(other)
            .map(|name| if name == "identity.bound_at" { &**name } else { name.split('.').next().unwrap() }.to_owned())
            .collect()
    };
    assert_eq!(only(&told, &found), BTreeSet::from(["hunt_home", "identity.bound_at", "migrations"].map(str::to_owned)));
    assert_eq!(only(&found, &told), BTreeSet::from(["partial_watermarks".to_owned()]));
}

#[test]
fn closed_sets_of_words_are_whole_on_the_page() {
    let page = page();
    let told = |relation: &str, column: &str| -> BTreeSet<String> {
        let meaning = &page[&(relation.to_owned(), column.to_owned())].meaning;
        meaning.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    };
    let words = |words: Vec<&str>| -> BTreeSet<String> { words.into_iter().map(str::to_owned).collect() };
    assert_eq!(told("dead_letters", "reason"), words(Reason::ALL.iter().map(|reason| reason.as_str()).collect()));
    let states = [LetterState::Rejected, LetterState::Replayed, LetterState::Discarded];
    assert_eq!(told("dead_letters", "state"), words(states.iter().map(|state| state.as_str()).collect()));
    let statuses = [Status::Live, Status::Lagging, Status::Parked];
    assert_eq!(told("hunts", "status"), words(statuses.iter().map(|status| status.as_str()).collect()));
    let acts = [Act::Park, Act::Resume, Act::Skip, Act::Replay, Act::Discard, Act::Reset];
    assert_eq!(told("acts", "act"), words(acts.iter().map(|act| act.as_str()).collect()));
}

#[tokio::test]
async fn the_queries_of_the_page_run() {
    let fixture = Fixture::postgres().await;
    let queries: Vec<&str> =
        PAGE.split("```sql\n").skip(1).map(|rest| rest.split("```").next().unwrap()).filter(|sql| !sql.is_empty()).collect();
    assert!(queries.len() >= 6, "{queries:?}");
    for sql in queries {
        shared().query(url(&fixture), sql);
    }
}
