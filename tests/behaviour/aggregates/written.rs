//! **Written definitions**: a configuration that a seed decided, holding any of the kinds in any shape of windows, as a user would
//! write it.
//!
//! Invariant: nothing leaves its exact range, so that the oracle and the engine must say the same.

use crate::oracle::Definitions;
use crate::oracle::definitions::{Kind, Shape};
use crate::oracle::records::{HuntAt, Options};
use fastrand::Rng;
use std::fmt::Write as _;

pub const KINDS: [&str; 11] = ["count", "sum", "min", "max", "mean", "first", "last", "distinct", "top", "quantiles", "funnel"];
pub const SHAPES: [&str; 4] = ["whole", "tumbling", "hopping", "session"];

pub fn definitions(rng: &mut Rng, options: &Options, other_hunt: &HuntAt) -> String {
    let topics: Vec<String> = options.topics.iter().map(|topic| format!("\"{}\"", topic.name)).collect();
    let mut text = format!("[kafka]\ntopics = [{}]\n[event]\nmax_bytes = \"{}B\"\n", topics.join(", "), options.max_bytes);
    if rng.u8(..4) == 0 {
        text += "id = [\"/source\", \"/id\"]\n";
    }
    if options.topics.len() > 1 {
        let place = match other_hunt {
            HuntAt::Key => "key".to_owned(),
            HuntAt::Header(name) => format!("header:{name}"),
            HuntAt::Value => "/data/hunt_id".to_owned(),
        };
        let _ = writeln!(text, "[topic.\"{}\".event]\nhunt = \"{place}\"", options.topics[1].name);
    }
    let _ = writeln!(text, "[dedup]\nlast = {}", one_of(rng, &["0", "1", "4", "32", "200"]));
    let lateness = one_of(rng, &["0s", "1s", "1m", "30m", "2h"]);
    let idle = one_of(rng, &["never", "1m", "10m", "1h"]);
    let ahead = one_of(rng, &["5m", "5m", "1s", "never"]);
    let _ = writeln!(text, "[time]\nlateness = \"{lateness}\"\nidle = \"{idle}\"\nmax_ahead = \"{ahead}\"");

    let mut rolled_up = Vec::new();
    for kind in KINDS {
        for shape in SHAPES {
            if rng.u8(..4) > 0 {
                continue;
            }
            let name = format!("{kind}_{shape}");
            let _ = writeln!(text, "[aggregates.{name}]\nkind = \"{kind}\"\n{}{}", keys(rng, kind), matching(rng));
            if let Some(window) = window(rng, shape) {
                let _ = writeln!(text, "window = {window}");
            }
            if shape != "session" && rng.bool() {
                rolled_up.push(format!("\"{name}\""));
            }
        }
    }
    if !rolled_up.is_empty() {
        let _ = writeln!(text, "[rollup]\naggregates = [{}]", rolled_up.join(", "));
    }
    text
}

/// Each aggregate's name, with its kind and the shape of its windows.
pub fn forms(definitions: &Definitions) -> Vec<(String, (&'static str, &'static str))> {
    let form = |(name, aggregate): (&String, &crate::oracle::definitions::Aggregate)| {
        let kind = match aggregate.kind {
            Kind::Count => "count",
            Kind::Sum(_) => "sum",
            Kind::Min(_) => "min",
            Kind::Max(_) => "max",
            Kind::Mean(_) => "mean",
            Kind::First(_) => "first",
            Kind::Last(_) => "last",
            Kind::Distinct(_) => "distinct",
            Kind::Top { .. } => "top",
            Kind::Quantiles { .. } => "quantiles",
            Kind::Funnel { .. } => "funnel",
        };
        let shape = match aggregate.window.as_ref().map(|window| window.shape) {
            None => "whole",
            Some(Shape::Tumbling(_)) => "tumbling",
            Some(Shape::Hopping { .. }) => "hopping",
            Some(Shape::Session(_)) => "session",
        };
        (name.clone(), (kind, shape))
    };
    definitions.aggregates.iter().map(form).collect()
}

fn one_of<'a>(rng: &mut Rng, of: &[&'a str]) -> &'a str {
    of[rng.usize(..of.len())]
}

fn keys(rng: &mut Rng, kind: &str) -> String {
    let number = one_of(rng, &["/data/points", "/data/points", "/data/seconds"]);
    let key = one_of(rng, &["/data/player_id", "/data/player_id", "/data/clue_id", "/type"]);
    match kind {
        "count" => String::new(),
        "sum" | "min" | "max" | "mean" => format!("of = \"{number}\"\n"),
        "first" | "last" => {
            let any = one_of(rng, &["/data/player_id", "/data/points", "/data", "/id", "/data/title", "/source", ""]);
            format!("of = \"{any}\"\n")
        }
        "distinct" => format!("of = \"{key}\"\nexact_up_to = 100000\n"),
        "top" => {
            let sum = match rng.u8(..3) {
                0 => String::new(),
                _ => format!("sum = \"{number}\"\n"),
            };
            format!("by = \"{key}\"\n{sum}limit = {}\nexact_up_to = 100000\n", rng.u32(1..20))
        }
        "quantiles" => {
            let at = one_of(rng, &["", "at = [0.5]\n", "at = [0.001, 0.25, 0.999, 1.0]\n", "at = [0.07, 0.995]\n"]);
            format!("of = \"{number}\"\n{at}")
        }
        "funnel" => {
            let stages = one_of(
                rng,
                &[
                    "\"user.registered\", \"clue.handed_out\", \"clue.solved\"",
                    "\"clue.solved\", \"clue.handed_out\"",
                    "\"user.registered\"",
                    "\"hunt.created\", \"user.registered\", \"never.happens\"",
                ],
            );
            format!("by = \"/data/player_id\"\nstages = [{stages}]\nexact_up_to = 100000\n")
        }
        other => panic!("{other} is no kind"),
    }
}

fn matching(rng: &mut Rng) -> String {
    let on = one_of(
        rng,
        &[
            "",
            "",
            "on = \"clue.solved\"\n",
            "on = [\"clue.solved\", \"user.registered\"]\n",
            "on = \"clue.*\"\n",
            "on = [\"*ed\", \"clue.handed_out\"]\n",
        ],
    );
    let filter = match rng.u8(..10) {
        0..7 => "",
        _ => one_of(
            rng,
            &[
                "where = \"data.points > 50\"\n",
                "where = \"has(data.seconds)\"\n",
                "where = \"data.points in [1, 2, 3.0, 'x', null, 17]\"\n",
                "where = \"!(data.player_id in ['player-1', 7, null])\"\n",
                "where = \"data.seconds < 100 || data.points >= 250.5\"\n",
                "where = \"type == 'clue.solved' && data.points != 7\"\n",
                "where = \"!has(data.points) || data.points < 18446744073709551616.0\"\n",
                "where = \"data.player_id < 'player-3'\"\n",
            ],
        ),
    };
    format!("{on}{filter}")
}

fn window(rng: &mut Rng, shape: &str) -> Option<String> {
    let length = match shape {
        "whole" => return None,
        "tumbling" => format!("tumbling = \"{}\"", one_of(rng, &["10s", "1m", "7m", "1h", "1d", "36500d"])),
        "hopping" => {
            let lengths = [("10m", "1m"), ("1h", "25m"), ("5m", "5m"), ("1d", "7h"), ("90s", "1m"), ("1m1ms", "1m")];
            let (length, every) = lengths[rng.usize(..lengths.len())];
            format!("hopping = \"{length}\", every = \"{every}\"")
        }
        _ => format!("session = \"{}\"", one_of(rng, &["5s", "1m", "30m", "1d"])),
    };
    Some(format!("{{ {length}, keep = {} }}", one_of(rng, &["1", "2", "5", "60"])))
}
