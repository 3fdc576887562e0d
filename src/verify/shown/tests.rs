//! Pages as a store might have them, damaged here and there.

use super::*;
use crate::config::testing::settings;
use crate::decode::Plan;
use crate::position::{Epoch, Offset, Position};
use crate::record::{Batch, PartitionId};
use crate::refold::{Given, Refold, Stage};
use crate::store::{Lag, LagReasons};
use std::sync::Arc;

fn stage() -> Stage {
    let text = "[time]\nlateness = \"10s\"\n[aggregates.points]\nkind = \"sum\"\nof = \"/points\"\n[aggregates.last]\nkind = \"last\"\nof = \"/any\"";
    let definitions = settings(text).definitions;
    let plan = Arc::new(Plan::new(&definitions, "hunt-events"));
    let fold = Arc::new(Fold::new(&definitions, &plan, usize::MAX));
    Stage { from: None, plan, fold }
}

/// What one partition's records of hunt `h` come to; none: a row without a state.
fn partial(number: i32, values: &[&str]) -> ShownPartial {
    let partition = PartitionId::new("hunt-events", number);
    let mut batch = Batch::new(partition.clone(), Epoch(0), Position(0));
    for (n, value) in values.iter().enumerate() {
        let (n, value) = (n as i64, format!(r#"{{"type":"t",{value}}}"#));
        batch.push(Offset(n), (i64::from(number) + 1) * 100_000 + n * 1000, Some(b"h"), Some(value.as_bytes()), []);
    }
    let mut refold = Refold::new(vec![stage()], Given::default());
    refold.take(&batch, Micros(0), &mut ());
    let refolded = refold.finish();
    let state = refolded.get("h").map(|(partial, _)| partial);
    let readers = state.map(|partial| refolded.fold.readers(partial));
    ShownPartial {
        partition,
        state: state.map(|partial| refolded.fold.encode(partial)),
        view: readers.as_ref().map(|readers| readers.view.clone()),
        events: readers.as_ref().map_or(0, |readers| readers.events),
        first_event_at: Ok(readers.as_ref().and_then(|readers| readers.first_event_at)),
        last_event_at: Ok(readers.as_ref().and_then(|readers| readers.last_event_at)),
        hunt_clock: readers.as_ref().and_then(|readers| readers.hunt_clock),
        partition_clock: readers.as_ref().and_then(|readers| readers.partition_clock),
        watermark_floor: readers.as_ref().and_then(|readers| readers.watermark_floor),
        lag: None,
        clock: refolded.clock,
    }
}

fn one() -> ShownHunt {
    let partial = partial(0, &[r#""points":3"#, r#""points":18446744073709551615,"any":{"b":1.5,"a":"é"}"#]);
    let row = ShownRow {
        view: partial.view.clone(),
        events: Some(2),
        status: Some("live".into()),
        first_event_at: partial.first_event_at.clone(),
        last_event_at: partial.last_event_at.clone(),
        watermark: Some(Micros(91_000_000)),
    };
    ShownHunt { hunt: "h".into(), partials: vec![partial], rows: vec![row] }
}

/// With a second partial, whose row has no state.
fn two() -> ShownHunt {
    let mut hunt = one();
    hunt.partials.push(partial(1, &[]));
    hunt
}

fn said(hunt: &ShownHunt) -> Vec<String> {
    compare(&stage().fold, hunt).iter().map(Difference::to_string).collect()
}

fn lag(held: i64, reasons: LagReasons) -> Option<Lag> {
    Some(Lag { position: Position(2), clock: Some(Micros(101_000_000)), held, reasons })
}

#[test]
fn the_same_is_found_the_same_in_whatever_words() {
    assert_eq!(said(&one()), [""; 0]);
    assert_eq!(said(&two()), [""; 0]);
    let mut other = one();
    let words = r#"{ "last": {"a": "\u00e9", "b": 1.50}, "points": 18446744073709551618.0}"#;
    other.partials[0].view = Some(words.into());
    other.rows[0].view = Some(words.replace(".0", ""));
    assert_eq!(said(&other), [""; 0]);
}

#[test]
fn every_column_of_a_partial_is_compared() {
    type Change = fn(&mut ShownPartial);
    let changes: [(&str, Change); 11] = [
        ("aggregate points of partials.view: stored 18446744073709551619, recomputed 18446744073709551618", |row| {
            row.view = row.view.take().map(|view| view.replace("551618", "551619"));
        }),
        (r#"aggregate last of partials.view: stored {"a":"é","b":1.5000000000000001}, recomputed {"a":"é","b":1.5}"#, |row| {
            row.view = row.view.take().map(|view| view.replace("1.5", "1.5000000000000001"));
        }),
        ("aggregate more of partials.view: stored 1, recomputed none", |row| {
            row.view = row.view.take().map(|view| view.replace(r#""points""#, r#""more":1,"points""#));
        }),
        (r#"aggregate last of partials.view: stored none, recomputed {"a":"é","b":1.5}"#, |row| {
            row.view = Some(r#"{"points":18446744073709551618}"#.into());
        }),
        ("partials.view: stored none, recomputed {", |row| row.view = None),
        ("partials.events: stored 3, recomputed 2", |row| row.events = 3),
        ("partials.first_event_at: stored \"never\", which is no time, recomputed 1970", |row| {
            row.first_event_at = Err("never".into())
        }),
        ("partials.last_event_at: stored none, recomputed 1970", |row| row.last_event_at = Ok(None)),
        ("partials.hunt_clock: stored 1970-01-01T00:00:00.000007Z, recomputed 1970", |row| row.hunt_clock = Some(Micros(7))),
        ("partials.partition_clock: stored none, recomputed 1970-01-01T00:01:41Z", |row| row.partition_clock = None),
        ("partials.watermark_floor: stored none, recomputed 1970-01-01T00:01:30Z", |row| row.watermark_floor = None),
    ];
    for (sentence, change) in changes {
        let mut hunt = two();
        change(&mut hunt.partials[0]);
        let found = said(&hunt);
        assert_eq!(found.len(), 1, "{sentence}: {found:?}");
        assert!(found[0].starts_with(&format!("hunt-events/0: hunt \"h\": {sentence}")), "{found:?}");
    }
    let mut hunt = two();
    (hunt.partials[1].view, hunt.partials[1].events) = (Some("{}".into()), 1);
    let of = "hunt-events/1: hunt \"h\": partials";
    assert_eq!(said(&hunt), [format!("{of}.view: stored {{}}, recomputed none"), format!("{of}.events: stored 1, recomputed 0")]);
}

#[test]
fn every_column_of_a_hunts_row_is_compared() {
    type Change = fn(&mut ShownRow);
    let changes: [(&str, Change); 6] = [
        ("aggregate points of hunts.view: stored 18446744073709551618.5, recomputed 18446744073709551618", |row| {
            row.view = row.view.take().map(|view| view.replace("551618", "551618.5"));
        }),
        ("hunts.events: stored 1, recomputed 2", |row| row.events = Some(1)),
        ("hunts.status: stored parked, recomputed live", |row| row.status = Some("parked".into())),
        ("hunts.first_event_at: stored none, recomputed 1970", |row| row.first_event_at = Ok(None)),
        ("hunts.last_event_at: stored none, recomputed 1970", |row| row.last_event_at = Ok(None)),
        ("hunts.watermark: stored none, recomputed 1970-01-01T00:01:31Z", |row| row.watermark = None),
    ];
    for (sentence, change) in changes {
        for mut hunt in [one(), two()] {
            change(&mut hunt.rows[0]);
            let found = said(&hunt);
            assert_eq!(found.len(), 1, "{sentence}: {found:?}");
            assert!(found[0].starts_with(&format!("hunt \"h\": {sentence}")), "{found:?}");
        }
    }
    // The row of a hunt with one partial is that partial's: what differs is said once.
    let mut hunt = one();
    (hunt.partials[0].events, hunt.rows[0].events) = (9, Some(9));
    assert_eq!(said(&hunt), ["hunt-events/0: hunt \"h\": partials.events: stored 9, recomputed 2"]);
}

#[test]
fn a_row_stands_where_one_has_to() {
    let mut hunt = one();
    let row = hunt.rows.remove(0);
    assert!(said(&hunt)[0].starts_with("hunt \"h\": row of hunts: stored none, recomputed {"), "{:?}", said(&hunt));
    hunt.rows = vec![row.clone(), row.clone()];
    assert_eq!(said(&hunt), ["hunt \"h\": row of hunts: stored 2 rows, recomputed one"]);
    let nothing = ShownHunt { hunt: "h".into(), partials: vec![partial(0, &[])], rows: vec![row] };
    assert_eq!(said(&nothing), ["hunt \"h\": row of hunts: stored 2 events, recomputed none"]);
    assert_eq!(said(&ShownHunt { rows: vec![], ..nothing }), [""; 0]);
}

#[test]
fn a_hunt_that_lags_says_so_and_a_parked_one_has_a_row_without_an_event() {
    let parked = LagReasons { operator: true, ..LagReasons::default() };
    let refused = LagReasons { store_refused: true, ..LagReasons::default() };
    let fold = stage().fold;
    let empty = ShownRow {
        view: Some(fold.view(&fold.start())),
        events: Some(0),
        status: Some("parked".into()),
        first_event_at: Ok(None),
        last_event_at: Ok(None),
        watermark: None,
    };
    for (held, reasons, status) in [(0, parked, "parked"), (2, parked, "parked"), (2, refused, "lagging"), (0, refused, "none")] {
        let partials = vec![ShownPartial { lag: lag(held, reasons), ..partial(0, &[]) }];
        let rows = if status == "none" { vec![] } else { vec![ShownRow { status: Some(status.into()), ..empty.clone() }] };
        let mut hunt = ShownHunt { hunt: "h".into(), partials, rows };
        assert_eq!(said(&hunt), [""; 0], "{status}");
        if let Some(row) = hunt.rows.first_mut() {
            row.status = Some("live".into());
            assert_eq!(said(&hunt), [format!("hunt \"h\": hunts.status: stored live, recomputed {status}")]);
        }
    }
    // The clock of a lagging partial is its own; one that lags before its first event leaves no watermark.
    let mut hunt = two();
    hunt.partials[0].lag = lag(1, LagReasons::default());
    hunt.partials[0].clock = Some(Micros(99_000_000_000_000));
    hunt.rows[0].status = Some("lagging".into());
    assert_eq!(said(&hunt), [""; 0]);
    hunt.partials[1].lag = lag(1, LagReasons::default());
    assert_eq!(said(&hunt), ["hunt \"h\": hunts.watermark: stored 1970-01-01T00:01:31Z, recomputed none"]);
}

#[test]
fn a_state_that_cannot_be_read_is_named_and_nothing_else_of_its_hunt() {
    let mut hunt = two();
    hunt.partials[0].state = Some(vec![9, 9]);
    let found = said(&hunt);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("hunt-events/0: hunt \"h\": state: stored bytes that cannot be read ("), "{found:?}");
}
