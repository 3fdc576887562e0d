//! The **corpus**: every input that fuzzing kept, and every one that once broke something, goes through the same functions again.
#![cfg(feature = "test-hooks")]

use huntline::fuzzing::TARGETS;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

#[test]
fn every_target_holds_for_every_file_of_its_corpus() {
    for (target, run) in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(target);
        let files: Vec<_> =
            fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())).flatten().collect();
        assert!(!files.is_empty(), "{} is empty", folder.display());
        for file in files {
            let bytes = fs::read(file.path()).expect("a file of the corpus");
            let held = catch_unwind(AssertUnwindSafe(|| run(&bytes)));
            assert!(held.is_ok(), "{target} does not hold for {}", file.path().display());
        }
    }
}
