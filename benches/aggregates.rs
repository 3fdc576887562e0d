//! What each kind of aggregate costs: time per event, and bytes of state.
//!
//! `cargo bench --bench aggregates -- [--hunts N,N,…]` (1,000, 100,000 and 1,000,000 unless told). Time is CPU time of the fold alone, in
//! one thread, over hunts taken in no order, with events decoded beforehand and no dedup memory; every kind runs in turn with `count`, a
//! slice each, and the ratio to it is of the same run. Bytes of a state that saw so many events, each with a new key and another value, are
//! those of its encoding, and those it holds in memory by what it asked of the allocator.

use huntline::config;
use huntline::decode::{Decoded, Plan, Verdict};
use huntline::partial::{Fold, Partial};
use huntline::position::{Epoch, Offset, Position};
use huntline::record::{Batch, PartitionId};
use huntline::rollup::Delta;
use std::alloc::{GlobalAlloc, Layout};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

/// Counts what is held while asked to; else as in the daemon.
struct Counting(mimalloc::MiMalloc);

static COUNTS: AtomicBool = AtomicBool::new(false);
static HELD: AtomicI64 = AtomicI64::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting(mimalloc::MiMalloc);

// SAFETY: every call goes to mimalloc as it came; a counter beside it allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if COUNTS.load(Ordering::Relaxed) {
            HELD.fetch_add(layout.size() as i64, Ordering::Relaxed);
        }
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if COUNTS.load(Ordering::Relaxed) {
            HELD.fetch_sub(layout.size() as i64, Ordering::Relaxed);
        }
        unsafe { self.0.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if COUNTS.load(Ordering::Relaxed) {
            HELD.fetch_add(size as i64 - layout.size() as i64, Ordering::Relaxed);
        }
        unsafe { self.0.realloc(pointer, layout, size) }
    }
}

/// The first is what the others are compared with.
const KINDS: [(&str, &str); 13] = [
    ("count", "kind = \"count\""),
    ("sum", "kind = \"sum\"\nof = \"/points\""),
    ("min", "kind = \"min\"\nof = \"/points\""),
    ("max", "kind = \"max\"\nof = \"/points\""),
    ("mean", "kind = \"mean\"\nof = \"/points\""),
    ("first", "kind = \"first\"\nof = \"/player\""),
    ("last", "kind = \"last\"\nof = \"/player\""),
    ("distinct", "kind = \"distinct\"\nof = \"/player\""),
    ("top", "kind = \"top\"\nby = \"/player\"\nsum = \"/points\""),
    ("quantiles", "kind = \"quantiles\"\nof = \"/points\""),
    ("funnel", "kind = \"funnel\"\nby = \"/player\"\nstages = [\"a\", \"b\", \"c\"]"),
    ("count, tumbling 1m", "kind = \"count\"\nwindow = { tumbling = \"1m\", keep = 60 }"),
    ("sum, hopping 10m every 1m", "kind = \"sum\"\nof = \"/points\"\nwindow = { hopping = \"10m\", every = \"1m\", keep = 60 }"),
];
const EVENTS: [usize; 4] = [0, 10, 1_000, 100_000];
/// Events that are folded again and again, over an hour.
const CYCLE: usize = 4096;
/// Pairs of slices, of which the middle ratio is taken.
const ROUNDS: usize = 9;

struct Case {
    plan: Plan,
    fold: Fold,
}

impl Case {
    fn new(keys: &str) -> Case {
        let text = format!(
            "[embedded_log]\npath = \"log.db\"\n[store]\nurl = \"sqlite:store.db\"\n[dedup]\nlast = 0\n[time]\nlateness = \"1d\"\n[aggregates.it]\n{keys}\n"
        );
        let definitions = config::load_text(&text).unwrap_or_else(|problems| panic!("{problems}")).definitions;
        let plan = Plan::new(&definitions, "t");
        let fold = Fold::new(&definitions, &plan, 1 << 30);
        Case { plan, fold }
    }

    /// So many events, `milliseconds` apart, each of a player of its own.
    fn decoded(&self, events: usize, milliseconds: usize) -> (Batch, Decoded) {
        let mut batch = Batch::new(PartitionId::new("t", 0), Epoch(1), Position(0));
        let mut random = fastrand::Rng::with_seed(1);
        for n in 0..events {
            let at = 1_767_225_600_000 + (n * milliseconds) as i64;
            let kind = ["a", "b", "c"][n % 3];
            // From a second to a day, as times to solve a clue are.
            let points = 86_400f64.powf(random.f64());
            let points = if n % 2 == 0 { format!("{}", points as i64) } else { format!("{points:.3}") };
            let value = format!(r#"{{"type":"{kind}","time":{at},"player":"player-{n:06}","points":{points}}}"#);
            batch.push(Offset(n as i64), at, Some(b"h"), Some(value.as_bytes()), []);
        }
        let mut decoded = Decoded::default();
        self.plan.decode(&batch, &mut decoded);
        assert!(decoded.events.iter().all(|event| event.verdict == Verdict::Event));
        (batch, decoded)
    }
}

/// One kind folding into many hunts.
struct Run<'c> {
    case: &'c Case,
    batch: Batch,
    decoded: Decoded,
    hunts: Vec<Partial>,
    folded: usize,
}

impl<'c> Run<'c> {
    fn new(case: &'c Case, hunts: usize) -> Run<'c> {
        let (batch, decoded) = case.decoded(CYCLE, 3_600_000 / CYCLE);
        Run { case, batch, decoded, hunts: (0..hunts).map(|_| case.fold.start()).collect(), folded: 0 }
    }

    /// Seconds it took.
    fn slice(&mut self, events: usize) -> f64 {
        // A stride that is prime to any of their numbers: each hunt comes once before any comes again, neighbours far apart.
        const STRIDE: usize = 611_953;
        let mut delta = Delta::default();
        let began = cpu_seconds();
        for _ in 0..events {
            let hunt = self.folded * STRIDE % self.hunts.len();
            let index = self.folded % CYCLE;
            let folded = self.case.fold.apply(&mut self.hunts[hunt], &self.batch, &self.decoded, index, None, &mut delta);
            black_box(folded);
            self.folded += 1;
        }
        cpu_seconds() - began
    }
}

fn main() {
    let given: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let hunts: Vec<usize> = match &given[..] {
        [] => vec![1_000, 100_000, 1_000_000],
        [name, numbers] if name == "--hunts" => {
            numbers.split(',').map(|number| number.parse().expect("--hunts takes numbers")).collect()
        }
        other => panic!("found {other:?}, expected --hunts N,N,…"),
    };
    let cases: Vec<(&str, Case)> = KINDS.iter().map(|(name, keys)| (*name, Case::new(keys))).collect();
    times(&cases, &hunts);
    bytes(&cases);
}

fn times(cases: &[(&str, Case)], hunts: &[usize]) {
    println!("ns per event of the fold, and times `count` of the same run\n");
    println!("| kind |{}", hunts.iter().map(|n| format!(" {n} hunts |")).collect::<String>());
    println!("|---|{}", "---|".repeat(hunts.len()));
    let baseline = &cases[0].1;
    for (name, case) in cases {
        let mut line = format!("| {name} |");
        for &hunts in hunts {
            let slice = (2 * hunts).max(2_000_000) / ROUNDS;
            let (mut counting, mut run) = (Run::new(baseline, hunts), Run::new(case, hunts));
            let mut rounds: Vec<(f64, f64)> = (0..ROUNDS)
                .map(|_| {
                    let base = counting.slice(slice);
                    let own = run.slice(slice);
                    (own / base, own * 1e9 / slice as f64)
                })
                .collect();
            rounds.sort_by(|a, b| a.0.total_cmp(&b.0));
            let (ratio, nanoseconds) = rounds[ROUNDS / 2];
            line += &format!(" {nanoseconds:.0} ({ratio:.1}×) |");
        }
        println!("{line}");
    }
}

/// CPU time of this thread so far: other processes do not count.
fn cpu_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes to a value that is there.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn bytes(cases: &[(&str, Case)]) {
    println!("\nbytes of state after so many events: encoded / in memory\n");
    println!("| kind |{}", EVENTS.iter().map(|n| format!(" {n} |")).collect::<String>());
    println!("|---|{}", "---|".repeat(EVENTS.len()));
    let empty: Vec<usize> = EVENTS.iter().map(|events| state(&cases[0].1, *events).0).collect();
    for (name, case) in cases {
        let sizes = EVENTS.iter().map(|events| state(case, *events));
        println!("| {name} |{}", sizes.map(|(encoded, held)| format!(" {encoded} / {held} |")).collect::<String>());
    }
    println!("\nof which the hunt itself, with `count`, encodes to {empty:?}");
}

/// One hunt's state after so many events, a second apart: its encoding, and what it holds in memory.
fn state(case: &Case, events: usize) -> (usize, i64) {
    let (batch, decoded) = case.decoded(events, 1000);
    let mut delta = Delta::default();
    HELD.store(0, Ordering::Relaxed);
    COUNTS.store(true, Ordering::Relaxed);
    let mut hunt = Box::new(case.fold.start());
    for index in 0..events {
        case.fold.apply(&mut hunt, &batch, &decoded, index, None, &mut delta);
    }
    COUNTS.store(false, Ordering::Relaxed);
    (case.fold.encode(&hunt).len(), HELD.load(Ordering::Relaxed))
}
