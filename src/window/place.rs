//! A **place**: which windows take an event and which refuse it as late, told without applying it.
//!
//! `explain` asks for it beside the fold. Invariant: told of the same windows, event time and
//! watermark, it names the windows that [`Windowed::apply`] adds the event to, and refuses one exactly
//! when `apply` says that one refused.

use super::{Grid, Windowed, Windows, starts};
use crate::aggregate::State;
use crate::time::Micros;
use serde::Serialize;

/// Where an event falls, each in the order of time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub taken: Vec<Bounds>,
    pub late: Vec<Bounds>,
}

/// A window: `start` included, `end` not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub start: Micros,
    pub end: Micros,
}

impl Windowed {
    /// Where an event of this time falls. `windows` as they are before it; `None`: none yet. A session is named as it is with the event in it.
    pub fn place(&self, windows: Option<&Windows>, time: Micros, watermark: Option<Micros>) -> Place {
        let mut place = Place::default();
        match (windows, self.grid) {
            (Some(Windows::Sessions(_)) | None, Grid::Sessions { gap }) => {
                let (late, start, end) = match windows {
                    Some(Windows::Sessions(sessions)) => sessions.place(gap, time.0, watermark),
                    _ => (watermark.is_some_and(|watermark| time.0 + gap <= watermark.0), time.0, time.0 + gap),
                };
                let bounds = Bounds { start: Micros(start), end: Micros(end) };
                if late { place.late.push(bounds) } else { place.taken.push(bounds) }
            }
            (Some(Windows::Aligned(_)) | None, Grid::Aligned { length, every }) => {
                let oldest = match windows {
                    Some(Windows::Aligned(aligned)) => aligned.oldest_of(self.keep),
                    _ => None,
                };
                for start in starts(time.0, length, every) {
                    let is_final = watermark.is_some_and(|watermark| start + length <= watermark.0);
                    let bounds = Bounds { start: Micros(start), end: Micros(start + length) };
                    let late = is_final || oldest.is_some_and(|oldest| start < oldest);
                    if late { place.late.push(bounds) } else { place.taken.push(bounds) }
                }
                place.taken.reverse();
                place.late.reverse();
            }
            (windows, grid) => unreachable!("windows {windows:?} on {grid:?}"),
        }
        place
    }

    /// The state of the window that has exactly these bounds.
    pub fn at<'w>(&self, windows: &'w Windows, bounds: Bounds) -> Option<&'w State> {
        match windows {
            Windows::Aligned(aligned) => aligned.get(bounds.start.0),
            Windows::Sessions(sessions) => {
                let mut sessions = sessions.iter();
                sessions.find(|s| (s.start, s.end) == (bounds.start.0, bounds.end.0)).map(|session| &session.state)
            }
        }
    }
}

impl Serialize for Bounds {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Texts {
            start: String,
            end: String,
        }
        Texts { start: self.start.to_string(), end: self.end.to_string() }.serialize(serializer)
    }
}
