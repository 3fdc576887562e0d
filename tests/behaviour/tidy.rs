//! House rules, read off the source: what a reviewer would otherwise have to say again and again.

use std::fs;
use std::path::{Path, PathBuf};

/// No file grows past this many lines; past 500, look for the second noun.
const LONGEST: usize = 900;

fn sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("src"), root.join("tests"), root.join("benches")];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the project").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("source is UTF-8");
                found.push((path.strip_prefix(root).expect("below the root").to_owned(), text));
            }
        }
    }
    assert!(found.len() > 100, "only {} files were read", found.len());
    found
}

fn offenders(rule: &str, breaks: impl Fn(&Path, &str) -> bool) {
    let found: Vec<String> =
        sources().into_iter().filter(|(path, text)| breaks(path, text)).map(|(path, _)| path.display().to_string()).collect();
    assert!(found.is_empty(), "{rule}: {}", found.join(", "));
}

#[test]
fn every_module_says_what_it_is() {
    offenders("a module begins with //!", |_, text| !text.starts_with("//!"));
}

#[test]
fn nothing_is_left_open() {
    // Put together here, so that this file does not name them.
    let marks = [["to", "do!("].concat(), ["unimpl", "emented!("].concat(), ["FIX", "ME"].concat(), ["#[ig", "nore"].concat()];
    offenders("nothing is left open", |_, text| marks.iter().any(|mark| text.contains(mark.as_str())));
}

#[test]
fn files_are_named_for_nouns_and_stay_short() {
    let empty = ["util", "utils", "common", "misc", "helper", "helpers", "types", "manager"];
    offenders("a file's name says something", |path, _| {
        path.components().any(|part| empty.contains(&part.as_os_str().to_string_lossy().trim_end_matches(".rs")))
    });
    offenders("a file stays within 900 lines", |_, text| text.lines().count() > LONGEST);
}

#[test]
fn each_outside_library_stops_at_its_folder() {
    let fences: [(&str, &[&str]); 4] = [
        ("rdkafka", &["src/source/kafka", "src/cli/generate"]),
        ("tokio_postgres", &["src/store/postgres"]),
        ("rusqlite", &["src/store/sqlite", "src/source/log"]),
        ("actix_web", &["src/api", "src/daemon"]),
    ];
    for (library, homes) in fences {
        offenders(&format!("{library} stays in {}", homes.join(", ")), |path, text| {
            let at_home = homes.iter().any(|home| path.starts_with(home));
            path.starts_with("src") && !at_home && text.contains(&format!("{library}::"))
        });
    }
}

#[test]
fn the_rules_know_no_clock_and_no_input_or_output() {
    let pure = [
        "src/aggregate",
        "src/decode",
        "src/partition",
        "src/codec.rs",
        "src/dedup.rs",
        "src/explain",
        "src/explain.rs",
        "src/hunt.rs",
        "src/partial",
        "src/partial.rs",
        "src/refold",
        "src/refold.rs",
        "src/rollup.rs",
        "src/verify",
        "src/verify.rs",
        "src/watermark.rs",
        "src/window",
        "src/window.rs",
    ];
    let outside = ["SystemTime", "Instant::now", "std::fs", "std::net", "tokio::", "actix"];
    offenders("rules are pure", |path, text| {
        pure.iter().any(|rule| path.starts_with(rule)) && outside.iter().any(|word| text.contains(word))
    });
}
