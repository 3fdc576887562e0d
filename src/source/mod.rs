//! A **source** hands records over: partitions come and go, batches of records come in offset order.
//! Two implementations (Kafka, the embedded log) behind one pair of queues.
//!
//! One OS thread owns the reader and never stops serving it. It takes [`Command`]s and gives
//! [`Event`]s. Invariant: between an `Assign` and the matching `Revoked` or `Unassign`, the batches
//! of a partition carry that assignment's epoch, follow one another without hole or overlap
//! (each starts where the one before said `next`), and no batch carries another epoch.

pub mod kafka;
pub mod log;
pub mod pass;
pub mod reader;

use crate::position::{Epoch, Position};
use crate::record::{Batch, PartitionId};

/// What the daemon asks of a source. Sent over a `std::sync::mpsc::Sender`, never blocking.
#[derive(Debug)]
pub enum Command {
    /// Read the partition from `position` on, tagging its batches with `epoch`. Sent for a partition that `Assigned` named, once it
    /// is claimed; ignored when it has been revoked since.
    Assign { partition: PartitionId, position: Position, epoch: Epoch },
    /// Stop reading it (fenced, halted); a later `Assign` may take it up again while the group still gives it to us.
    Unassign { partition: PartitionId },
    /// Tell Kafka's lag tools where we are; best effort.
    CommitOffsets(Vec<(PartitionId, Position)>),
    /// Leave (a static member stays a member) and end the thread; answered by `Event::Stopped`.
    Stop,
}

/// What a source tells. Sent over a `tokio::sync::mpsc::UnboundedSender`; batches are bounded by the bytes in flight.
#[derive(Debug)]
pub enum Event {
    /// The group gives us these; claim each, then answer with `Assign`.
    Assigned(Vec<PartitionId>),
    /// They are no longer ours. `lost`: somebody else may have them already, write nothing more. Else the source waits for `done` (at most 1 s).
    Revoked {
        partitions: Vec<PartitionId>,
        lost: bool,
        done: std::sync::mpsc::SyncSender<()>,
    },
    Batch(Batch),
    /// Retention took the records below `to`; reading goes on at `to` if `on_gap = "continue"`, else the partition stands still.
    Gap {
        partition: PartitionId,
        epoch: Epoch,
        from: Position,
        to: Position,
    },
    /// How far the partition can be read now: the last stable offset. Told every few seconds, for lag.
    End {
        partition: PartitionId,
        end: Position,
    },
    /// One partition cannot be read on until an operator acts (above the high watermark: truncated or re-created).
    Halted {
        partition: PartitionId,
        epoch: Epoch,
        why: String,
    },
    /// The watchdog found the partition stuck and sought, or started a new consumer.
    Stalled {
        partition: PartitionId,
        action: String,
    },
    /// Kafka does not answer, and why; told again for as long as that is so. The next [`Event::End`] says that it does.
    Unanswered(String),
    /// Something to log that passes by itself (a broker is away), at most one a second and cause.
    Trouble(String),
    /// The source cannot go on; the daemon stops with this sentence.
    Failed(String),
    Stopped,
}

/// What a source knows about the log it reads, found before any claim.
#[derive(Clone, Debug, PartialEq)]
pub struct LogIdentity {
    /// Kafka's cluster id, or the embedded log's own.
    pub cluster: String,
    pub topics: Vec<TopicIdentity>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct TopicIdentity {
    pub topic: String,
    /// `None`: no right to ask.
    pub id: Option<String>,
    pub partitions: i32,
}

/// A pass over part of one partition beside the main reader, for hunts that lag.
#[derive(Clone, Debug, PartialEq)]
pub struct SideRead {
    pub partition: PartitionId,
    pub epoch: Epoch,
    pub from: Position,
    /// The pass ends when its position is at or past this one; then the last batch has `next >= until`.
    pub until: Position,
}

/// What a side reader gives, in order, over a bounded `tokio::sync::mpsc::Sender`.
#[derive(Debug)]
pub enum SideEvent {
    Batch(Batch),
    /// The log no longer has `[from, to)`; the pass goes on at `to`.
    Gap {
        from: Position,
        to: Position,
    },
    /// The pass ended early; try again later from where the batches ended.
    Failed(String),
}
