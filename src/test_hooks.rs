//! **Test hooks**, compiled with the feature `test-hooks` alone: they make one hunt's fold panic, and
//! hold a lost hunt back until a file appears, so that a test can look at everybody else meanwhile.
//!
//! `HUNTLINE_TEST_PANIC=HUNT:OFFSET:TIMES[,…]` panics when the record at that offset of that hunt (in
//! whichever partition) is folded, `TIMES` times or `always`; several are separated by commas.
//! `HUNTLINE_TEST_GATE=FILE` lets no lost hunt be restored before FILE exists.

use crate::daemon::Options;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

struct Panic {
    hunt: String,
    offset: i64,
    left: AtomicU64,
}

/// The options that the environment asks for. Panics on a variable it cannot read: a test's mistake.
pub fn from_environment() -> Options {
    let mut options = Options::default();
    if let Ok(text) = std::env::var("HUNTLINE_TEST_PANIC") {
        let panics: Vec<Panic> = text.split(',').map(Panic::parse).collect();
        options.hook = Some(Arc::new(move |hunt, offset| {
            for panic in &panics {
                if panic.hunt.as_bytes() == hunt && panic.offset == offset.0 && panic.take() {
                    panic!("planted by a test at offset {offset}");
                }
            }
        }));
    }
    if let Ok(file) = std::env::var("HUNTLINE_TEST_GATE") {
        options.gate = Some(Arc::new(move |_| std::path::Path::new(&file).exists()));
    }
    options
}

impl Panic {
    fn parse(text: &str) -> Self {
        let parts: Vec<&str> = text.rsplitn(3, ':').collect();
        let [times, offset, hunt] = parts[..] else { panic!("HUNTLINE_TEST_PANIC: found {text:?}, expected HUNT:OFFSET:TIMES") };
        let left =
            if times == "always" { u64::MAX } else { times.parse().expect("HUNTLINE_TEST_PANIC: TIMES is a number or always") };
        Self {
            hunt: hunt.to_owned(),
            offset: offset.parse().expect("HUNTLINE_TEST_PANIC: OFFSET is a number"),
            left: left.into(),
        }
    }

    fn take(&self) -> bool {
        let taken = self.left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| match left {
            u64::MAX => Some(left),
            left => left.checked_sub(1),
        });
        taken.is_ok()
    }
}
