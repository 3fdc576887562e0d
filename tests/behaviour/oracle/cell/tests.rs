//! Small values of every kind, worked out by hand.

use super::*;

fn numbers(kind: Kind, tokens: &[&str]) -> String {
    let mut cell = Cell::new(&kind);
    for token in tokens {
        cell.add(&kind, &Contribution::Number(Number::of_token(token)), &(0, String::new(), 0, 0));
    }
    cell.value(&kind).to_string()
}

#[test]
fn sums_of_integers_are_exact_and_one_float_makes_a_float() {
    let sum = |tokens: &[&str]| numbers(Kind::Sum(vec![]), tokens);
    assert_eq!(sum(&[]), "0");
    assert_eq!(sum(&["18446744073709551615", "18446744073709551615", "1"]), "36893488147419103231");
    assert_eq!(sum(&["-9223372036854775808", "-9223372036854775808"]), "-18446744073709551616");
    assert_eq!(sum(&["1", "2", "0.5"]), "3.5");
    assert_eq!(sum(&["1.0", "-1"]), "0.0");
    assert_eq!(sum(&["18446744073709551616"]), "1.8446744073709552e19");
    assert_eq!(sum(&["1e308", "1e308"]), "null");
}

#[test]
fn a_mean_is_null_before_anything_and_outside_doubles() {
    let mean = |tokens: &[&str]| numbers(Kind::Mean(vec![]), tokens);
    assert_eq!(mean(&[]), "null");
    assert_eq!(mean(&["1", "2"]), "1.5");
    assert_eq!(mean(&["4", "2"]), "3.0");
    assert_eq!(mean(&["1e308", "1e308"]), "null");
}

#[test]
fn extrema_compare_integers_with_floats_exactly() {
    let max = |tokens: &[&str]| numbers(Kind::Max(vec![]), tokens);
    assert_eq!(max(&[]), "null");
    assert_eq!(max(&["9007199254740993", "9007199254740992.0"]), "9007199254740993");
    assert_eq!(max(&["18446744073709551615", "18446744073709551616"]), "1.8446744073709552e19");
    assert_eq!(numbers(Kind::Min(vec![]), &["0.5", "-1", "0"]), "-1");
}

#[test]
fn quantiles_take_the_value_of_rank_q_times_n_rounded_up() {
    let at = |qs: &[&str], n: u32| {
        let tokens: Vec<String> = (1..=n).rev().map(|i| i.to_string()).collect();
        let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
        numbers(Kind::Quantiles { of: vec![], at: qs.iter().map(|q| q.to_string()).collect() }, &tokens)
    };
    assert_eq!(at(&["0.5"], 0), "null");
    assert_eq!(at(&["0.5"], 1), r#"{"p50":1}"#);
    assert_eq!(at(&["0.5", "0.95", "0.99"], 100), r#"{"p50":50,"p95":95,"p99":99}"#);
    assert_eq!(at(&["0.07", "0", "1", "0.999"], 100), r#"{"p0":1,"p100":100,"p7":7,"p99.9":100}"#);
    assert_eq!(at(&["0.5"], 3), r#"{"p50":2}"#);
    assert_eq!(quantile_name("0.9995"), "p99.95");
    assert_eq!(quantile_name("0.005"), "p0.5");
}

#[test]
fn a_top_is_greatest_first_and_equal_values_by_key() {
    let kind = Kind::Top { by: vec![], sum: Some(vec![]), limit: 3 };
    let mut cell = Cell::new(&kind);
    assert_eq!(cell.value(&kind).to_string(), "[]");
    for (key, weight) in [("b", "2"), ("a", "1"), ("a", "1.0"), ("c", "-5"), ("d", "7"), ("é", "0")] {
        cell.add(&kind, &Contribution::Weight(key.into(), Number::of_token(weight)), &(0, String::new(), 0, 0));
    }
    assert_eq!(cell.value(&kind).to_string(), r#"[{"key":"d","value":7},{"key":"a","value":2.0},{"key":"b","value":2}]"#);
}

#[test]
fn a_funnel_counts_keys_seen_at_a_stage_and_all_before_it_in_any_order() {
    let kind = Kind::Funnel { by: vec![], stages: ["r", "h", "s"].map(String::from).to_vec() };
    let mut cell = Cell::new(&kind);
    let counts = |cell: &Cell| match cell.value(&kind) {
        Json::Array(stages) => stages.iter().map(|s| s.at(&["count".into()]).unwrap().to_string()).collect::<Vec<_>>().join(" "),
        other => panic!("{other}"),
    };
    assert_eq!(counts(&cell), "0 0 0");
    for (key, stage) in [("a", 2), ("a", 0), ("b", 1), ("b", 0), ("c", 2), ("c", 1), ("b", 0)] {
        cell.add(&kind, &Contribution::Stages(key.into(), vec![stage]), &(0, String::new(), 0, 0));
    }
    assert_eq!(counts(&cell), "2 1 0");
    let mut more = Cell::new(&kind);
    more.add(&kind, &Contribution::Stages("a".into(), vec![1]), &(0, String::new(), 0, 0));
    cell.merge(&kind, &more);
    assert_eq!(counts(&cell), "2 2 1");
}

#[test]
fn first_and_last_go_by_event_time_then_topic_partition_and_offset() {
    let rank = |time: i128, topic: &str, partition, offset| (time, topic.to_owned(), partition, offset);
    for (kind, expected) in [(Kind::First(vec![]), "2"), (Kind::Last(vec![]), "5")] {
        let mut cell = Cell::new(&kind);
        let all = [
            (rank(5, "a", 0, 3), "1"),
            (rank(4, "a", 0, 4), "2"),
            (rank(4, "a", 0, 5), "3"),
            (rank(5, "a", 1, 0), "4"),
            (rank(5, "b", 0, 0), "5"),
            (rank(4, "b", 0, 1), "6"),
        ];
        for (rank, value) in all {
            cell.add(&kind, &Contribution::Value(Json::Number(value.into())), &rank);
        }
        assert_eq!(cell.value(&kind).to_string(), expected);
    }
}
