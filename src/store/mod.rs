//! The **store**: snapshots, positions, counts, dead letters and acts, committed together; the only
//! place that says where to start. One port, two implementations (Postgres, SQLite), one contract test.
//!
//! The partition's actor hands it claims and checkpoints as values and gets values back; the API and
//! the commands query it. Invariant: a checkpoint is all or nothing, and only the owner of the
//! newest claim, at the checkpoint number it last saw, can commit one.

mod acts;
pub mod audit;
mod dead_letter;
pub mod handle;
mod headers;
pub mod postgres;
pub mod redefinition;
mod rollup;
pub mod shown;
pub mod sqlite;
pub mod summary;

pub use acts::{Act, Ask, DoneAct, OpenAct};
pub use audit::{Audit, AuditedLetter, AuditedPartial, AuditedPartition, Generation};
pub use handle::{Merge, MergeHunts, MergeRollup, SchemaVersion, Store, Target};
pub use redefinition::Redefinition;
pub use rollup::RollupLine;
pub use shown::{ShownHunt, ShownPage, ShownPartial, ShownRow};
pub use summary::{SummaryColumn, SummaryType};

use crate::outcome::{Counts, Reason};
use crate::position::{Epoch, Offset, Position};
use crate::record::PartitionId;
use crate::time::Micros;
use serde::Serialize;

/// What a store call can come to, by what the caller does about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another claim or a newer checkpoint stands in the row (`found`: a sentence naming owner and epoch). Drop memory, write nothing.
    #[error("fenced at {partition}: {found}")]
    Fenced { partition: PartitionId, found: String },
    /// These partials' rows cannot be taken, each with the store's words; nothing was committed. Send the checkpoint again with them lagging.
    #[error("the store refuses {} snapshots, first hunt {:?}: {}", .0.len(), .0[0].0, .0[0].1)]
    Refused(Vec<(String, String)>),
    /// Goes away by itself (connection, lock, time limit, shutdown, disk full): try again with jitter. Nothing was committed, or, where
    /// the answer to a COMMIT was lost, perhaps all of it: send the same value again and the store finds out.
    #[error("{0}")]
    Passing(String),
    /// Needs an operator (wrong password, missing right or relation, read-only): stop with this sentence.
    #[error("{0}")]
    Fatal(String),
    /// The store belongs to something else: another cluster, group or topic id, fewer topics; or it cannot be redefined now. One sentence a difference.
    #[error("this store was built with something else:\n  {}", .0.join("\n  "))]
    Mismatch(Vec<String>),
    /// The store was built with other definitions, and differs in nothing else. Both as canonical JSON.
    #[error("this store was built with other definitions")]
    Redefined { stored: String, configured: String },
}

pub type Result<T> = std::result::Result<T, Error>;

/// What a store is bound to at its first use and compared with ever after.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    /// Kafka's cluster id, or the embedded log's own id.
    pub cluster: String,
    pub group: String,
    /// Every topic with its topic id (`None` where Kafka gives no right to ask).
    pub topics: Vec<(String, Option<String>)>,
    /// [`crate::definitions::Definitions`] as canonical JSON.
    pub definitions: String,
}

/// Who claims: the daemon's id, unique a process, and the address others may ask it at.
#[derive(Clone, Debug, PartialEq)]
pub struct Owner {
    pub id: String,
    pub advertise: String,
}

/// What a claim finds.
#[derive(Clone, Debug, PartialEq)]
pub struct Claimed {
    pub epoch: Epoch,
    /// The checkpoint number the next checkpoint must name.
    pub checkpoint: i64,
    /// `None`: never read. The daemon resolves `start` and records it with [`Store::begin`].
    pub position: Option<Position>,
    /// Greatest record timestamp of the partition's records below the position.
    pub clock: Option<Micros>,
    pub counts: Counts,
    pub lagging: Vec<Lagging>,
    /// The partition's rollup as last committed; `None`: nothing yet.
    pub rollup: Option<Vec<u8>>,
    /// The breaker stands tripped since an earlier claim, for this reason.
    pub tripped: Option<String>,
}

/// A lagging partial's row: where it goes on from.
#[derive(Clone, Debug, PartialEq)]
pub struct Lagging {
    pub hunt: String,
    pub position: Position,
    /// The partition clock at `position`.
    pub clock: Option<Micros>,
    /// Records of this hunt between the two positions.
    pub held: i64,
    pub reasons: LagReasons,
}

/// Why a partial lags: a set. Empty: it only has to catch up (restarting, still loading). Any other needs an operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LagReasons {
    pub operator: bool,
    pub failed: bool,
    pub state_full: bool,
    pub gap: bool,
    /// The store would not take its snapshot.
    pub store_refused: bool,
}

impl LagReasons {
    pub fn any(self) -> bool {
        self != Self::default()
    }

    /// Whether an operator has to resume it; what the store refused once, its next owner tries again.
    pub fn need_operator(self) -> bool {
        Self { store_refused: false, ..self }.any()
    }

    /// As stored: one bit a reason, in the order of the fields.
    pub fn bits(self) -> i32 {
        i32::from(self.operator)
            | i32::from(self.failed) << 1
            | i32::from(self.state_full) << 2
            | i32::from(self.gap) << 3
            | i32::from(self.store_refused) << 4
    }

    /// Whether a partial that lags for these reasons is parked. A refused snapshot alone only makes it lag.
    pub fn park(self) -> bool {
        Self { store_refused: false, ..self }.any()
    }

    pub fn from_bits(bits: i32) -> Self {
        let bit = |n: u32| bits & 1 << n != 0;
        Self { operator: bit(0), failed: bit(1), state_full: bit(2), gap: bit(3), store_refused: bit(4) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Live,
    Lagging,
    Parked,
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Live => "live",
            Status::Lagging => "lagging",
            Status::Parked => "parked",
        }
    }

    /// The status that [`Status::as_str`] writes so.
    pub fn parse(text: &str) -> Option<Self> {
        [Status::Live, Status::Lagging, Status::Parked].into_iter().find(|status| status.as_str() == text)
    }
}

/// One partial's saved state and what readers see of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    pub hunt: String,
    /// The partial's encoding ([`crate::partial`]). As read, `None`: nothing of this hunt was ever saved. In a checkpoint `None` leaves
    /// whatever state and readers' columns the row has, so that a hunt may begin to lag before it was loaded.
    pub state: Option<Vec<u8>>,
    /// The readers' columns, `None` with `state`.
    pub readers: Option<Readers>,
    /// `None`: the partial is at its partition's position. Else it lags, and this says where.
    pub lag: Option<Lag>,
}

/// Partials as they are saved, and how new they are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loaded {
    /// In no order.
    pub snapshots: Vec<Snapshot>,
    /// The greatest number that a checkpoint which wrote one of them left in the partition's row; 0: unknown.
    pub newest: i64,
}

/// The lagging half of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lag {
    pub position: Position,
    pub clock: Option<Micros>,
    pub held: i64,
    pub reasons: LagReasons,
}

/// The columns of `hunts` that come from one partial.
#[derive(Clone, Debug, PartialEq)]
pub struct Readers {
    /// JSON object: aggregate → value.
    pub view: String,
    /// Applied events.
    pub events: i64,
    pub first_event_at: Option<Micros>,
    pub last_event_at: Option<Micros>,
    /// The clocks that make the watermark: `max(floor, hunt_clock + max(0, partition's clock − partition_clock − idle) − lateness)`,
    /// with the lagging partial's own clock in place of its partition's. All `None` before the first applied event.
    pub hunt_clock: Option<Micros>,
    pub partition_clock: Option<Micros>,
    pub watermark_floor: Option<Micros>,
}

/// One partial's row as read back.
#[derive(Clone, Debug, PartialEq)]
pub struct PartialRow {
    pub partition: PartitionId,
    pub snapshot: Snapshot,
    /// The partition's committed position, clock and owner.
    pub partition_position: Option<Position>,
    pub partition_clock: Option<Micros>,
    pub owner: Option<Owner>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    pub partition: PartitionId,
    pub offset: Offset,
    pub hunt_id: Option<String>,
    pub reason: Reason,
    pub detail: String,
    pub key: Option<Vec<u8>>,
    /// Of `too_large` the first 64 KiB.
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    pub record_at: Option<Micros>,
    pub failed_at: Micros,
    /// `rejected`, `replayed` or `discarded`; a checkpoint writes `rejected`.
    pub state: LetterState,
    pub applied_at: Option<Position>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LetterState {
    Rejected,
    Replayed,
    Discarded,
}

impl LetterState {
    pub fn as_str(self) -> &'static str {
        match self {
            LetterState::Rejected => "rejected",
            LetterState::Replayed => "replayed",
            LetterState::Discarded => "discarded",
        }
    }

    /// The state that [`LetterState::as_str`] writes so.
    pub fn parse(text: &str) -> Option<Self> {
        [LetterState::Rejected, LetterState::Replayed, LetterState::Discarded].into_iter().find(|state| state.as_str() == text)
    }
}

/// Records that Kafka no longer had: `[from, to)`. Whoever finds the same gap again, perhaps grown, leaves one row of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Gap {
    pub hunt_id: Option<String>,
    pub from: Position,
    pub to: Position,
    pub reason: String,
    pub found_at: Micros,
}

/// Everything one checkpoint commits, for one partition.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    pub partition: PartitionId,
    pub epoch: Epoch,
    pub owner: String,
    /// The number it expects to find; the commit leaves it one higher.
    pub number: i64,
    pub position: Position,
    pub clock: Option<Micros>,
    /// Absolute figures at `position`, not differences.
    pub counts: Counts,
    /// Changed, newly lagging and no longer lagging partials, each hunt once, in no order.
    pub partials: Vec<Snapshot>,
    pub dead_letters: Vec<DeadLetter>,
    pub gaps: Vec<Gap>,
    /// The partition's rollup at `position`; `None` leaves what is stored, and the relation `rollup` as it is.
    pub rollup: Option<Vec<u8>>,
    /// Why the breaker stands tripped; `None`: it does not.
    pub tripped: Option<String>,
    /// Acts asked of this partition that this checkpoint has carried out.
    pub acts: Vec<DoneAct>,
    /// Wall clock for `updated_at`.
    pub at: Micros,
}

/// A row of `hunts` without its view.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HuntLine {
    pub hunt_id: String,
    pub events: i64,
    pub status: Status,
    pub last_event_at: Option<Micros>,
}

/// A hunt as one consistent read found it.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredHunt {
    pub hunt_id: String,
    pub status: Status,
    pub events: i64,
    /// JSON object: aggregate → value.
    pub view: String,
    pub first_event_at: Option<Micros>,
    pub last_event_at: Option<Micros>,
    pub watermark: Option<Micros>,
    pub updated_at: Micros,
    /// In (topic, partition) order.
    pub partials: Vec<PartialRow>,
}

/// A row of `partitions`.
#[derive(Clone, Debug, PartialEq)]
pub struct PartitionLine {
    pub partition: PartitionId,
    pub position: Option<Position>,
    pub epoch: Epoch,
    pub owner: Option<Owner>,
    pub counts: Counts,
    /// Why the breaker stands tripped; `None`: it does not.
    pub tripped: Option<String>,
    pub updated_at: Micros,
}

/// Which dead letters to list; cursors are exclusive.
#[derive(Clone, Debug, Default)]
pub struct LetterFilter {
    pub reason: Option<String>,
    pub hunt: Option<String>,
    pub state: Option<String>,
    pub after: Option<(PartitionId, Offset)>,
    pub limit: u32,
}
