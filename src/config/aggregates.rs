//! The `[aggregates]` of the configuration, compiled: names, kinds with the keys they take,
//! predicates and windows.

use super::compile::Compiler;
use super::definitions::pointer;
use super::layer::{Path, quote};
use super::structure::list;
use super::written::{self, Kind as Word, Written};
use crate::decode::predicate::Predicate;
use crate::definitions::{Aggregate, Kind, MAX_AGGREGATES, Pointer, Shape, Window};
use std::collections::BTreeMap;

/// How many windows of one aggregate an event may fall into.
const MAX_OVERLAP: i64 = 1_440;

pub(super) fn compile(c: &mut Compiler<'_>, written: &Written) -> Vec<Aggregate> {
    let tables = written.aggregates.iter().flatten();
    let mut aggregates = Vec::new();
    for (i, (name, aggregate)) in tables.enumerate() {
        let path = Path::of(["aggregates"]).key(name);
        if i == MAX_AGGREGATES {
            let count = written.aggregates.as_ref().map_or(0, BTreeMap::len);
            c.refuse(&Path::of(["aggregates"]), format!("{count} aggregates"), format!("at most {MAX_AGGREGATES}"));
        }
        let legal = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_';
        if !name.starts_with(|c: char| c.is_ascii_lowercase()) || name.len() > 63 || !name.bytes().all(legal) {
            c.refuse_key(
                &path,
                format!("the name {}", quote(name)),
                "a name of a-z, 0-9 and _ that begins with a letter, at most 63 long",
            );
        } else if name == "hunt_id" {
            c.refuse_key(&path, "the name \"hunt_id\"", "another name: hunt_summary has a column hunt_id");
        }
        let windowed = aggregate.window.is_some();
        let kind = kind(c, &path, aggregate, windowed);
        let on = aggregate.on.as_ref().map(|on| on.as_slice().to_vec());
        if let Some(types) = &on {
            if types.is_empty() {
                c.refuse(&path.key("on"), "an empty list", "at least one type or glob; leave the key out for every event");
            }
            if let Some(i) = types.iter().position(String::is_empty) {
                let at = path.key("on");
                let at = if matches!(aggregate.on, Some(written::OneOrMore::More(_))) { at.index(i) } else { at };
                c.refuse(&at, "\"\"", "an event type or a glob such as \"clue.*\"");
            }
        }
        let filter = aggregate.filter.as_ref().and_then(|text| match Predicate::of_configuration(text) {
            Ok(predicate) => Some(predicate),
            Err(problem) => {
                c.refuse_within(&path.key("where"), problem.at, problem.found, problem.expected);
                None
            }
        });
        let window = aggregate.window.as_ref().and_then(|w| window(c, &path.key("window"), w));
        if let Some(kind) = kind {
            aggregates.push(Aggregate { name: name.clone(), kind, on, filter, window });
        }
    }
    aggregates
}

/// The keys a kind takes beside `kind`, `on`, `where` and `window`.
fn keys_of(kind: Word) -> &'static [&'static str] {
    match kind {
        Word::Count => &[],
        Word::Sum | Word::Min | Word::Max | Word::Mean | Word::First | Word::Last => &["of"],
        Word::Distinct => &["of", "exact_up_to"],
        Word::Top => &["by", "sum", "limit", "exact_up_to"],
        Word::Quantiles => &["of", "at"],
        Word::Funnel => &["by", "stages", "exact_up_to"],
    }
}

fn kind(c: &mut Compiler<'_>, path: &Path, aggregate: &written::Aggregate, windowed: bool) -> Option<Kind> {
    let Some(word) = aggregate.kind else {
        c.missing(path, "kind", "count, sum, min, max, mean, first, last, distinct, top, quantiles or funnel");
        return None;
    };
    let name = word.as_str();
    let takes = keys_of(word);
    let set = [
        ("of", aggregate.of.is_some()),
        ("by", aggregate.by.is_some()),
        ("sum", aggregate.sum.is_some()),
        ("limit", aggregate.limit.is_some()),
        ("exact_up_to", aggregate.exact_up_to.is_some()),
        ("at", aggregate.at.is_some()),
        ("stages", aggregate.stages.is_some()),
    ];
    for (key, _) in set.iter().filter(|(key, is_set)| *is_set && !takes.contains(key)) {
        let own = list(&[takes, &["on", "where", "window"]].concat());
        c.refuse_key(&path.key(key), format!("a key that kind {name:?} does not take"), own);
    }
    let mut member = |key: &str, text: Option<&written::PointerText>| -> Option<Pointer> {
        match text {
            Some(text) if text.0.is_empty() && !matches!(word, Word::First | Word::Last) => {
                c.refuse(&path.key(key), "the pointer to the whole event", "the pointer of a member, such as \"/data/points\"");
                None
            }
            Some(text) => pointer(c, &path.key(key), &text.0),
            None => {
                c.missing(path, key, format!("the member that kind {name:?} reads, such as \"/data/points\""));
                None
            }
        }
    };
    Some(match word {
        Word::Count => Kind::Count,
        Word::Sum => Kind::Sum { of: member("of", aggregate.of.as_ref())? },
        Word::Min => Kind::Min { of: member("of", aggregate.of.as_ref())? },
        Word::Max => Kind::Max { of: member("of", aggregate.of.as_ref())? },
        Word::Mean => Kind::Mean { of: member("of", aggregate.of.as_ref())? },
        Word::First => Kind::First { of: member("of", aggregate.of.as_ref())? },
        Word::Last => Kind::Last { of: member("of", aggregate.of.as_ref())? },
        Word::Distinct => {
            let of = member("of", aggregate.of.as_ref());
            let exact_up_to = exact_up_to(c, path, aggregate, if windowed { 256 } else { 1024 });
            Kind::Distinct { of: of?, exact_up_to }
        }
        Word::Top => {
            let by = member("by", aggregate.by.as_ref());
            let sum = aggregate.sum.as_ref().map(|sum| member("sum", Some(sum)));
            let limit = c.integer(&path.key("limit"), Some(aggregate.limit.unwrap_or(10)), 1, 10_000);
            let exact_up_to = exact_up_to(c, path, aggregate, if windowed { 1_000 } else { 10_000 });
            if limit > exact_up_to {
                c.refuse(&path.key("limit"), limit.to_string(), format!("at most exact_up_to ({exact_up_to})"));
            }
            let sum = match sum {
                None => None,
                Some(sum) => Some(sum?),
            };
            Kind::Top { by: by?, sum, limit, exact_up_to }
        }
        Word::Quantiles => {
            let of = member("of", aggregate.of.as_ref());
            Kind::Quantiles { at: quantiles(c, &path.key("at"), aggregate.at.as_deref()), of: of? }
        }
        Word::Funnel => {
            let by = member("by", aggregate.by.as_ref());
            let stages = stages(c, path, aggregate.stages.as_deref());
            let exact_up_to = exact_up_to(c, path, aggregate, 10_000);
            Kind::Funnel { by: by?, stages, exact_up_to }
        }
    })
}

fn exact_up_to(c: &mut Compiler<'_>, path: &Path, aggregate: &written::Aggregate, default: i64) -> u32 {
    c.integer(&path.key("exact_up_to"), Some(aggregate.exact_up_to.unwrap_or(default)), 1, 1_000_000)
}

fn quantiles(c: &mut Compiler<'_>, path: &Path, at: Option<&[f64]>) -> Vec<f64> {
    let at = at.unwrap_or(&[0.5, 0.95, 0.99]);
    if at.is_empty() {
        c.refuse(path, "an empty list", "at least one quantile such as 0.99");
    }
    for (i, q) in at.iter().enumerate() {
        if !(*q > 0.0 && *q <= 1.0) {
            c.refuse(&path.index(i), format!("{q:?}"), "a quantile above 0 and at most 1");
        } else if at[..i].contains(q) {
            c.refuse(&path.index(i), format!("{q:?} twice"), "each quantile once");
        }
    }
    at.to_vec()
}

fn stages(c: &mut Compiler<'_>, path: &Path, stages: Option<&[String]>) -> Vec<String> {
    let Some(stages) = stages else {
        c.missing(path, "stages", "the types of the funnel's stages, in order");
        return Vec::new();
    };
    let at = path.key("stages");
    if stages.is_empty() || stages.len() > 64 {
        c.refuse(&at, format!("{} stages", stages.len()), "between 1 and 64 stages");
    }
    for (i, stage) in stages.iter().enumerate() {
        if stage.is_empty() || stage.contains('*') {
            c.refuse(&at.index(i), quote(stage), "an event type, not a glob");
        } else if stages[..i].contains(stage) {
            c.refuse(&at.index(i), format!("{} twice", quote(stage)), "each stage once");
        }
    }
    stages.to_vec()
}

fn window(c: &mut Compiler<'_>, path: &Path, window: &written::Window) -> Option<Window> {
    const LEAST: i64 = 1_000;
    let keep = c.integer(&path.key("keep"), Some(window.keep.unwrap_or(60)), 1, 100_000);
    let shapes = [("tumbling", &window.tumbling), ("hopping", &window.hopping), ("session", &window.session)];
    let set: Vec<_> = shapes.iter().filter(|(_, length)| length.is_some()).collect();
    let mut length = |key: &str, text: &written::Length| c.micros(&path.key(key), Some(&text.0), LEAST);
    let shape = match set.as_slice() {
        [("tumbling", Some(text))] => Shape::Tumbling { length: length("tumbling", text) },
        [("session", Some(text))] => Shape::Session { gap: length("session", text) },
        [("hopping", Some(text))] => {
            let whole = length("hopping", text);
            match &window.every {
                None => {
                    c.missing(path, "every", "the step of the hopping windows, such as \"1m\"");
                    return None;
                }
                Some(text) => {
                    let every = length("every", text);
                    if every > whole {
                        c.refuse(&path.key("every"), quote(&text.0), "at most the length of the hopping windows");
                    } else if whole / every > MAX_OVERLAP {
                        c.refuse(&path.key("every"), quote(&text.0), format!("at least 1/{MAX_OVERLAP} of the hopping windows"));
                    }
                    Shape::Hopping { length: whole, every }
                }
            }
        }
        [] => {
            // Whichever of the three was written may have been refused already.
            let refused = shapes.iter().any(|(key, _)| c.has_problem_at(&path.key(key)));
            if !refused {
                c.refuse(path, "a window without a length", "tumbling, hopping (with every) or session");
            }
            return None;
        }
        several => {
            let names: Vec<_> = several.iter().map(|(name, _)| *name).collect();
            c.refuse(path, names.join(" and "), "one of tumbling, hopping and session");
            return None;
        }
    };
    if window.every.is_some() && !matches!(shape, Shape::Hopping { .. }) {
        c.refuse_key(&path.key("every"), "a key that only hopping windows take", "hopping beside it, or no every");
    }
    Some(Window { shape, keep })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::{problems, settings};

    fn aggregate(keys: &str) -> Aggregate {
        settings(&format!("[aggregates.a]\n{keys}")).definitions.aggregates.remove(0)
    }

    /// The first line of each problem, without file and line.
    fn wrong(keys: &str) -> Vec<String> {
        let lines = problems(&format!("[aggregates.a]\n{keys}")).into_iter();
        lines
            .map(|p| p.lines().next().and_then(|line| line.splitn(4, ':').nth(3)).unwrap_or_default().trim().to_owned())
            .collect()
    }

    #[test]
    fn kinds_have_their_defaults() {
        let pointer = |text: &str| Pointer(text.split('/').skip(1).map(str::to_owned).collect());
        let windowed = "window = { tumbling = \"1m\" }";
        for (keys, kind) in [
            ("kind = \"distinct\"\nof = \"/p\"", Kind::Distinct { of: pointer("/p"), exact_up_to: 1024 }),
            (&format!("kind = \"distinct\"\nof = \"/p\"\n{windowed}"), Kind::Distinct { of: pointer("/p"), exact_up_to: 256 }),
            (
                "kind = \"top\"\nby = \"/p\"\nsum = \"/q\"\nlimit = 3",
                Kind::Top { by: pointer("/p"), sum: Some(pointer("/q")), limit: 3, exact_up_to: 10_000 },
            ),
            (
                &format!("kind = \"top\"\nby = \"/p\"\n{windowed}"),
                Kind::Top { by: pointer("/p"), sum: None, limit: 10, exact_up_to: 1_000 },
            ),
            ("kind = \"quantiles\"\nof = \"/p\"", Kind::Quantiles { of: pointer("/p"), at: vec![0.5, 0.95, 0.99] }),
            (
                "kind = \"funnel\"\nby = \"/p\"\nstages = [\"x\", \"y\"]",
                Kind::Funnel { by: pointer("/p"), stages: vec!["x".into(), "y".into()], exact_up_to: 10_000 },
            ),
        ] {
            assert_eq!(aggregate(keys).kind, kind, "{keys}");
        }
    }

    #[test]
    fn windows_are_read_in_their_three_shapes() {
        const MINUTE: i64 = 60_000_000;
        for (text, shape, keep) in [
            ("{ tumbling = \"1m\" }", Shape::Tumbling { length: MINUTE }, 60),
            ("{ hopping = \"10m\", every = \"1m\", keep = 5 }", Shape::Hopping { length: 10 * MINUTE, every: MINUTE }, 5),
            ("{ session = \"30m\" }", Shape::Session { gap: 30 * MINUTE }, 60),
        ] {
            assert_eq!(aggregate(&format!("kind = \"count\"\nwindow = {text}")).window, Some(Window { shape, keep }), "{text}");
        }
    }

    #[test]
    fn mistakes_in_windows_are_named() {
        for (text, message) in [
            (
                "{ keep = 5 }",
                "aggregates.a.window: found a window without a length, expected tumbling, hopping (with every) or session",
            ),
            (
                "{ tumbling = \"1m\", session = \"1m\" }",
                "aggregates.a.window: found tumbling and session, expected one of tumbling, hopping and session",
            ),
            (
                "{ hopping = \"10m\" }",
                "aggregates.a.window.every: found nothing, expected the step of the hopping windows, such as \"1m\"",
            ),
            (
                "{ hopping = \"1m\", every = \"2m\" }",
                "aggregates.a.window.every: found \"2m\", expected at most the length of the hopping windows",
            ),
            (
                "{ hopping = \"1d\", every = \"1s\" }",
                "aggregates.a.window.every: found \"1s\", expected at least 1/1440 of the hopping windows",
            ),
            (
                "{ tumbling = \"1m\", every = \"1s\" }",
                "aggregates.a.window.every: found a key that only hopping windows take, expected hopping beside it, or no every",
            ),
            ("{ tumbling = \"1m\", keep = 0 }", "aggregates.a.window.keep: found 0, expected an integer between 1 and 100000"),
            ("{ tumbling = \"0s\" }", "aggregates.a.window.tumbling: found \"0s\", expected at least 1ms"),
            (
                "{ tumbling = 60 }",
                "aggregates.a.window.tumbling: found 60, expected a duration such as \"500ms\", \"5s\" or \"1h30m\" (units ms s m h d)",
            ),
        ] {
            assert_eq!(wrong(&format!("kind = \"count\"\nwindow = {text}")), [message]);
        }
    }

    #[test]
    fn mistakes_in_kinds_are_named() {
        for (keys, message) in [
            (
                "kind = \"top\"",
                "aggregates.a.by: found nothing, expected the member that kind \"top\" reads, such as \"/data/points\"",
            ),
            ("kind = \"top\"\nby = \"/p\"\nlimit = 0", "aggregates.a.limit: found 0, expected an integer between 1 and 10000"),
            (
                "kind = \"top\"\nby = \"/p\"\nlimit = 20\nexact_up_to = 5",
                "aggregates.a.limit: found 20, expected at most exact_up_to (5)",
            ),
            (
                "kind = \"quantiles\"\nof = \"/p\"\nat = [0.5, 0]",
                "aggregates.a.at[1]: found 0.0, expected a quantile above 0 and at most 1",
            ),
            (
                "kind = \"quantiles\"\nof = \"/p\"\nat = []",
                "aggregates.a.at: found an empty list, expected at least one quantile such as 0.99",
            ),
            (
                "kind = \"funnel\"\nby = \"/p\"",
                "aggregates.a.stages: found nothing, expected the types of the funnel's stages, in order",
            ),
            (
                "kind = \"funnel\"\nby = \"/p\"\nstages = [\"a\", \"a\"]",
                "aggregates.a.stages[1]: found \"a\" twice, expected each stage once",
            ),
            (
                "kind = \"funnel\"\nby = \"/p\"\nstages = [\"a.*\"]",
                "aggregates.a.stages[0]: found \"a.*\", expected an event type, not a glob",
            ),
            (
                "kind = \"sum\"\nof = \"\"",
                "aggregates.a.of: found the pointer to the whole event, expected the pointer of a member, such as \"/data/points\"",
            ),
        ] {
            assert_eq!(wrong(keys), [message]);
        }
    }

    #[test]
    fn a_rollup_takes_aggregates_without_sessions() {
        let rolled = |more: &str| format!("kind = \"count\"\n{more}\n[rollup]\naggregates = [\"a\"]");
        assert!(wrong(&rolled("window = { tumbling = \"1m\" }")).is_empty());
        assert_eq!(
            wrong(&rolled("window = { session = \"1m\" }")),
            [
                "rollup.aggregates[0]: found \"a\", whose windows are sessions, expected an aggregate without session windows: sessions cannot be rolled up"
            ]
        );
    }

    #[test]
    fn there_are_at_most_as_many_aggregates_as_bits() {
        let text = |n: usize| (0..n).map(|i| format!("[aggregates.a{i}]\nkind = \"count\"\n")).collect::<String>();
        assert!(problems(&text(MAX_AGGREGATES)).is_empty());
        let found = problems(&text(MAX_AGGREGATES + 1));
        assert!(found.len() == 1 && found[0].contains("aggregates: found 129 aggregates, expected at most 128"), "{found:?}");
    }
}
