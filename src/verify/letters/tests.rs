//! Rows of dead letters against what a fold gave.

use super::*;

fn letter(offset: i64, hunt: Option<&str>, reason: Reason) -> AuditedLetter {
    AuditedLetter {
        offset: Offset(offset),
        hunt: hunt.map(str::to_owned),
        reason: reason.as_str().to_owned(),
        key: None,
        value: Some([offset as u8; 32]),
        headers: [0; 32],
        record_at: Ok(None),
    }
}

fn given() -> Vec<AuditedLetter> {
    vec![
        letter(3, Some("a"), Reason::NoType),
        letter(5, None, Reason::NoHunt),
        letter(8, Some("b"), Reason::Failed),
        letter(9, Some("a"), Reason::Ahead),
    ]
}

const LEFT_OUT: [(Offset, Reason); 2] = [(Offset(8), Reason::Failed), (Offset(11), Reason::StateFull)];

fn said(pages: &[&[AuditedLetter]], only: Option<&str>, accounted: &[Offset]) -> (u64, Vec<String>) {
    let partition = PartitionId::new("hunt-events", 0);
    let mut check = LetterCheck::new(&partition, only, &LEFT_OUT, Letters(given()));
    pages.iter().for_each(|page| check.take(page));
    check.end();
    let compared = check.compared;
    let differences = check.finish(accounted);
    (compared, differences.iter().map(|difference| difference.to_string().replace(&"05".repeat(32), "05…")).collect())
}

#[test]
fn the_same_rows_are_found_the_same_however_they_are_cut_into_pages() {
    let rows = given();
    for cut in 0..=rows.len() {
        let (first, second) = rows.split_at(cut);
        assert_eq!(said(&[first, second], None, &[]), (4, vec![]), "{cut}");
    }
}

#[test]
fn a_row_that_is_gone_is_named_unless_somebody_accounts_for_it() {
    let mut rows = given();
    rows.remove(1);
    let gone = "hunt-events/0: dead letter 5: stored none, recomputed no_hunt with value SHA-256 05…";
    assert_eq!(said(&[&rows], None, &[]), (4, vec![gone.to_owned()]));
    assert_eq!(said(&[&rows], None, &[Offset(4), Offset(5)]), (4, vec![]));
    assert_eq!(said(&[&rows], Some("a"), &[]), (2, vec![]));
    assert_eq!(said(&[], None, &[]).1.len(), 4);
}

#[test]
fn a_row_that_the_log_does_not_give_is_named() {
    let mut rows = given();
    rows.insert(0, letter(2, Some("a"), Reason::NoType));
    let found = said(&[&rows], None, &[]).1;
    assert_eq!(found.len(), 1);
    assert!(
        found[0].starts_with(r#"hunt-events/0: hunt "a": dead letter 2: stored no_type with value SHA-256 0202"#),
        "{found:?}"
    );
    assert!(found[0].ends_with(", recomputed none: the log gives none there"), "{found:?}");
    assert_eq!(said(&[&rows], Some("b"), &[]), (1, vec![]));
}

#[test]
fn every_column_is_compared() {
    type Change = fn(&mut AuditedLetter);
    let changes: [(&str, Change); 6] = [
        ("reason: stored bad_hunt, recomputed no_hunt", |row| row.reason = "bad_hunt".into()),
        ("hunt_id: stored \"h\", recomputed none", |row| row.hunt = Some("h".into())),
        ("key: stored SHA-256 0101", |row| row.key = Some([1; 32])),
        ("value: stored null, recomputed SHA-256 05…", |row| row.value = None),
        ("headers: stored SHA-256 0707", |row| row.headers = [7; 32]),
        ("record_at: stored \"soon\", recomputed none", |row| row.record_at = Err("soon".into())),
    ];
    for (sentence, change) in changes {
        let mut rows = given();
        change(&mut rows[1]);
        let found = said(&[&rows], None, &[]).1;
        assert_eq!(found.len(), 1, "{sentence}: {found:?}");
        assert!(found[0].starts_with(&format!("hunt-events/0: dead letter 5: {sentence}")), "{found:?}");
    }
    // A row that was given to a hunt is seen from either hunt.
    let mut rows = given();
    rows[0].hunt = Some("b".into());
    for only in ["a", "b"] {
        assert_eq!(
            said(&[&rows], Some(only), &[]).1,
            [r#"hunt-events/0: hunt "a": dead letter 3: hunt_id: stored "b", recomputed "a""#]
        );
    }
}

#[test]
fn what_a_hunt_left_out_since_the_fold_is_none_of_its_business() {
    let with = |row: AuditedLetter| {
        let mut rows = given();
        rows.push(row);
        rows.sort_by_key(|row| row.offset);
        said(&[&rows], None, &[]).1
    };
    assert_eq!(with(letter(10, Some("c"), Reason::Failed)), [""; 0]);
    assert_eq!(with(letter(10, Some("c"), Reason::StateFull)), [""; 0]);
    // On record as left out when the log was folded, and the log has no event there.
    assert_eq!(with(letter(11, Some("c"), Reason::StateFull)).len(), 1);
    assert_eq!(with(letter(10, Some("c"), Reason::NoType)).len(), 1);
}

#[test]
fn beyond_so_many_rows_only_their_number_is_told() {
    let rows: Vec<AuditedLetter> = (20..20 + DETAILED as i64 + 7).map(|offset| letter(offset, None, Reason::NoHunt)).collect();
    let found = said(&[&given(), &rows], None, &[]).1;
    assert_eq!(found.len(), DETAILED + 1);
    assert_eq!(found[DETAILED], "hunt-events/0: 7 more dead letters: stored others, recomputed not listed one by one");
}
