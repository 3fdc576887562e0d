//! **Progress** of long work on records: a bar on a terminal, a line every few seconds elsewhere.

use indicatif::{HumanCount, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

const LINES: Duration = Duration::from_secs(5);

pub struct Progress {
    bar: ProgressBar,
    /// Where standard error is no terminal: what is done, in a word.
    lines: Option<&'static str>,
    begun: Instant,
    told: Instant,
}

impl Progress {
    /// `done`: what happens to a record or row, as in `verified`; `of`: how many there are, roughly.
    pub fn new(done: &'static str, of: u64) -> Progress {
        let terminal = std::io::stderr().is_terminal();
        let bar = ProgressBar::new(of);
        bar.set_draw_target(if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() });
        if let Ok(style) = ProgressStyle::with_template("{wide_bar} {human_pos} of {human_len}, {per_sec}, {eta} left  {msg}") {
            bar.set_style(style);
        }
        Progress { bar, lines: (!terminal).then_some(done), begun: Instant::now(), told: Instant::now() }
    }

    /// What is at hand, in a few words.
    pub fn at(&self, what: impl std::fmt::Display) {
        self.bar.set_message(what.to_string());
    }

    pub fn add(&mut self, count: u64) {
        self.bar.inc(count);
        self.tell();
    }

    fn tell(&mut self) {
        if let Some(done) = self.lines
            && self.told.elapsed() >= LINES
        {
            self.told = Instant::now();
            let (position, of) = (self.bar.position(), self.bar.length().unwrap_or_default());
            let rate = per_second(position, self.begun.elapsed());
            let left = of
                .saturating_sub(position)
                .checked_div(rate)
                .map_or(String::new(), |seconds| format!(", {} left", HumanDuration(Duration::from_secs(seconds))));
            eprintln!(
                "{done} {} of {}, {} a second{left}  {}",
                HumanCount(position),
                HumanCount(of),
                HumanCount(rate),
                self.bar.message()
            );
        }
    }

    /// A line for people above the bar.
    pub fn say(&self, line: &str) {
        self.bar.suspend(|| eprintln!("{line}"));
    }

    /// Runs `work`, which writes to standard output, with the bar out of its way.
    pub fn aside<T>(&self, work: impl FnOnce() -> T) -> T {
        self.bar.suspend(work)
    }

    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}

/// Whole ones a second.
pub fn per_second(count: u64, within: Duration) -> u64 {
    (count as f64 / within.as_secs_f64().max(1e-6)) as u64
}
