//! **Windows**: what one windowed aggregate keeps of one partial: a state for each of its newest
//! windows that hold anything.
//!
//! A [`Windowed`] is the definition compiled: a rule and the shape of its windows. The partial hands
//! it an event and the watermark before that event's record; it says whether a window refused the
//! event as late, and which tumbling or hopping windows took it, for the rollup.
//! Invariant: windows stand in the order of their starts; of tumbling and hopping windows never more
//! than `keep`, of sessions never more than `keep` final ones beyond an event; sessions never overlap.

mod aligned;
mod place;
mod session;

pub use aligned::Aligned;
pub use place::{Bounds, Place};
pub use session::Sessions;

use crate::aggregate::{Occurrence, Of, Rule, State};
use crate::codec::{Reader, Result, Writer};
use crate::definitions::{Shape, Window};
use crate::time::Micros;

/// A rule with its windows.
#[derive(Clone, Debug)]
pub struct Windowed {
    pub rule: Rule,
    grid: Grid,
    keep: usize,
}

/// Lengths in microseconds.
#[derive(Clone, Copy, Debug)]
enum Grid {
    /// Windows of `length` that start at every multiple of `every`.
    Aligned {
        length: i64,
        every: i64,
    },
    Sessions {
        gap: i64,
    },
}

/// What a windowed aggregate of one partial holds.
#[derive(Clone, Debug)]
pub enum Windows {
    Aligned(Aligned),
    Sessions(Sessions),
}

/// Beyond any time of an event: what an encoding may name as a start, an end or a number of a window.
const FAR: i64 = 1 << 60;

impl Windowed {
    pub fn new(rule: Rule, window: &Window) -> Windowed {
        let grid = match window.shape {
            Shape::Tumbling { length } => Grid::Aligned { length, every: length },
            Shape::Hopping { length, every } => Grid::Aligned { length, every },
            Shape::Session { gap } => Grid::Sessions { gap },
        };
        Windowed { rule, grid, keep: window.keep as usize }
    }

    pub fn has_sessions(&self) -> bool {
        matches!(self.grid, Grid::Sessions { .. })
    }

    pub fn start(&self) -> Windows {
        match self.grid {
            Grid::Aligned { .. } => Windows::Aligned(Aligned::default()),
            Grid::Sessions { .. } => Windows::Sessions(Sessions::default()),
        }
    }

    /// Adds an event that the rule takes; says whether at least one window refused it. `taken` is told the start of every tumbling
    /// or hopping window that took it.
    #[inline]
    pub fn apply(
        &self,
        windows: &mut Windows,
        event: &Occurrence,
        watermark: Option<Micros>,
        taken: impl FnMut(i64, &Occurrence),
    ) -> bool {
        match (windows, self.grid) {
            (Windows::Aligned(aligned), Grid::Aligned { length, every }) => {
                aligned.apply(&self.rule, length, every, self.keep, event, watermark, taken)
            }
            (Windows::Sessions(sessions), Grid::Sessions { gap }) => sessions.apply(&self.rule, gap, event, watermark),
            (windows, grid) => unreachable!("windows {windows:?} on {grid:?}"),
        }
    }

    /// Adds an event to the window that starts at `start`, as a rollup does that was told so.
    pub fn apply_at(&self, windows: &mut Windows, start: i64, event: &Occurrence) {
        match windows {
            Windows::Aligned(aligned) => aligned.apply_at(&self.rule, self.keep, start, event),
            Windows::Sessions(_) => unreachable!("sessions are not rolled up"),
        }
    }

    /// After each applied event of the partial, whichever aggregates it concerned: final sessions beyond the newest `keep` go.
    pub fn drop_final(&self, windows: &mut Windows, watermark: Option<Micros>) {
        if let (Windows::Sessions(sessions), Some(watermark)) = (windows, watermark) {
            sessions.drop_final(self.keep, watermark.0);
        }
    }

    /// Merged tumbling and hopping windows are cut to the newest `keep` again; merged sessions that overlap are joined.
    pub fn merge(&self, windows: &mut Windows, other: &Windows, of: Of) {
        match (windows, other) {
            (Windows::Aligned(a), Windows::Aligned(b)) => a.merge(&self.rule, self.keep, b, of),
            (Windows::Sessions(a), Windows::Sessions(b)) => a.merge(&self.rule, b, of),
            (a, b) => unreachable!("windows {a:?} with {b:?}"),
        }
    }

    /// An upper bound of how many bytes this event can add to the encoding.
    pub fn growth(&self, windows: &Windows, event: &Occurrence) -> usize {
        /// A window's place and an empty state.
        const PLACE: usize = 48;
        let fixed = self.rule.largest_encoding().unwrap_or_default();
        match (windows, self.grid) {
            (Windows::Aligned(aligned), Grid::Aligned { length, every }) => {
                let each = |state: Option<&State>| match state {
                    Some(state) => self.rule.growth(state, event),
                    None => PLACE + fixed + self.rule.growth(&self.rule.start(), event),
                };
                starts(event.time.0, length, every).map(|start| each(aligned.get(start))).sum()
            }
            // Of merged states none is longer than both, but where a sketch begins: see `Sessions::growth`.
            (Windows::Sessions(sessions), Grid::Sessions { gap }) => PLACE + fixed + sessions.growth(&self.rule, gap, event),
            (windows, grid) => unreachable!("windows {windows:?} on {grid:?}"),
        }
    }

    pub fn encode(&self, windows: &Windows, w: &mut Writer) {
        match (windows, self.grid) {
            (Windows::Aligned(aligned), Grid::Aligned { every, .. }) => aligned.encode(&self.rule, every, w),
            (Windows::Sessions(sessions), _) => sessions.encode(&self.rule, w),
            (windows, grid) => unreachable!("windows {windows:?} on {grid:?}"),
        }
    }

    pub fn decode(&self, r: &mut Reader) -> Result<Windows> {
        Ok(match self.grid {
            Grid::Aligned { every, .. } => Windows::Aligned(Aligned::decode(&self.rule, every, self.keep, r)?),
            Grid::Sessions { gap } => Windows::Sessions(Sessions::decode(&self.rule, gap, r)?),
        })
    }

    /// `[{"start","end","value"}]`, oldest first; with `finals` each also says whether it is final at that watermark.
    pub fn write_json(&self, windows: &Windows, finals: Option<Finals>, out: &mut String) {
        out.push('[');
        let mut first = true;
        let mut write = |start: i64, end: i64, state: &State| {
            if !std::mem::take(&mut first) {
                out.push(',');
            }
            let (start, at) = (Micros(start), Micros(end));
            out.push_str(&format!("{{\"start\":\"{start}\",\"end\":\"{at}\",\"value\":"));
            self.rule.write_json(state, out);
            if let Some(finals) = finals {
                out.push_str(if finals.0.is_some_and(|watermark| at <= watermark) {
                    ",\"final\":true"
                } else {
                    ",\"final\":false"
                });
            }
            out.push('}');
        };
        match (windows, self.grid) {
            (Windows::Aligned(aligned), Grid::Aligned { length, .. }) => {
                aligned.iter().for_each(|(start, state)| write(start, start + length, state));
            }
            (Windows::Sessions(sessions), _) => sessions.iter().for_each(|s| write(s.start, s.end, &s.state)),
            (windows, grid) => unreachable!("windows {windows:?} on {grid:?}"),
        }
        out.push(']');
    }
}

/// An aggregate as its definition has it: one state, or one a window.
#[derive(Clone, Debug)]
pub enum Keeper {
    Whole(Rule),
    Windowed(Windowed),
}

/// What a [`Keeper`] keeps.
#[derive(Clone, Debug)]
pub enum Kept {
    Whole(State),
    /// `None`: no window yet, which is also how no windows are kept.
    Windowed(Option<Box<Windows>>),
}

impl Keeper {
    pub fn new(rule: Rule, window: Option<&Window>) -> Keeper {
        match window {
            None => Keeper::Whole(rule),
            Some(window) => Keeper::Windowed(Windowed::new(rule, window)),
        }
    }

    pub fn start(&self) -> Kept {
        match self {
            Keeper::Whole(rule) => Kept::Whole(rule.start()),
            Keeper::Windowed(_) => Kept::Windowed(None),
        }
    }

    pub fn merge(&self, kept: &mut Kept, other: &Kept, of: Of) {
        match (self, kept, other) {
            (Keeper::Whole(rule), Kept::Whole(a), Kept::Whole(b)) => rule.merge(a, b, of),
            (Keeper::Windowed(_), Kept::Windowed(_), Kept::Windowed(None)) => {}
            (Keeper::Windowed(windowed), Kept::Windowed(a), Kept::Windowed(Some(b))) => {
                windowed.merge(a.get_or_insert_with(|| Box::new(windowed.start())), b, of);
            }
            (keeper, a, b) => unreachable!("{keeper:?} with {a:?} and {b:?}"),
        }
    }

    /// No state of this aggregate encodes to more bytes; `None`: there is no such bound worth having.
    pub fn largest_encoding(&self) -> Option<usize> {
        match self {
            Keeper::Whole(rule) => rule.largest_encoding(),
            Keeper::Windowed(_) => None,
        }
    }

    /// An upper bound of how many bytes this event can add to the encoding, where there is no largest.
    pub fn growth(&self, kept: &Kept, event: &Occurrence) -> usize {
        match (self, kept) {
            (Keeper::Whole(rule), Kept::Whole(state)) => rule.growth(state, event),
            (Keeper::Windowed(windowed), Kept::Windowed(Some(windows))) => windowed.growth(windows, event),
            (Keeper::Windowed(windowed), Kept::Windowed(None)) => windowed.growth(&windowed.start(), event),
            (keeper, kept) => unreachable!("{keeper:?} with {kept:?}"),
        }
    }

    pub fn encode(&self, kept: &Kept, w: &mut Writer) {
        match (self, kept) {
            (Keeper::Whole(rule), Kept::Whole(state)) => rule.encode(state, w),
            (Keeper::Windowed(windowed), Kept::Windowed(Some(windows))) => windowed.encode(windows, w),
            (Keeper::Windowed(windowed), Kept::Windowed(None)) => windowed.encode(&windowed.start(), w),
            (keeper, kept) => unreachable!("{keeper:?} with {kept:?}"),
        }
    }

    pub fn decode(&self, r: &mut Reader) -> Result<Kept> {
        Ok(match self {
            Keeper::Whole(rule) => Kept::Whole(rule.decode(r)?),
            Keeper::Windowed(windowed) => Kept::Windowed(Some(windowed.decode(r)?).filter(|w| !w.is_empty()).map(Box::new)),
        })
    }

    pub fn write_json(&self, kept: &Kept, finals: Option<Finals>, out: &mut String) {
        match (self, kept) {
            (Keeper::Whole(rule), Kept::Whole(state)) => rule.write_json(state, out),
            (Keeper::Windowed(windowed), Kept::Windowed(Some(windows))) => windowed.write_json(windows, finals, out),
            (Keeper::Windowed(_), Kept::Windowed(None)) => out.push_str("[]"),
            (keeper, kept) => unreachable!("{keeper:?} with {kept:?}"),
        }
    }
}

impl Windows {
    fn is_empty(&self) -> bool {
        match self {
            Windows::Aligned(aligned) => aligned.iter().next().is_none(),
            Windows::Sessions(sessions) => sessions.is_empty(),
        }
    }
}

/// The watermark that decides which windows of a view are final; `None`: none is.
#[derive(Clone, Copy, Debug)]
pub struct Finals(pub Option<Micros>);

/// The starts of the windows that a time lies in, newest first: starts included, ends not.
fn starts(time: i64, length: i64, every: i64) -> impl Iterator<Item = i64> {
    let newest = time.div_euclid(every) * every;
    (0..).map(move |n| newest - n * every).take_while(move |start| time < start + length)
}

#[cfg(test)]
mod tests;
