//! The **side reader** of an embedded log: one pass over part of one partition, beside the main
//! reader, for hunts that lag.

use super::file::{Error, LogFile};
use super::read::{Full, Run};
use crate::position::Position;
use crate::record::Batch;
use crate::source::{SideEvent, SideRead};
use std::path::Path;
use tokio::sync::mpsc;

/// Smaller than the main reader's batches: they are unbudgeted, the channel's capacity alone bounds them.
const FULL: Full = Full { records: 16_384, bytes: 4 << 20 };

/// Makes the pass `what` over the log at `path`, on the calling thread (not one of tokio's), and returns when it is done, has failed
/// (said in the last event) or nobody receives any more.
pub fn side_read(path: &Path, what: &SideRead, out: &mpsc::Sender<SideEvent>) {
    if let Err(e) = pass(path, what, out) {
        let _ = out.blocking_send(SideEvent::Failed(e.to_string()));
    }
}

fn pass(path: &Path, what: &SideRead, out: &mpsc::Sender<SideEvent>) -> Result<(), Error> {
    let file = LogFile::open(path, None)?;
    let mut position = what.from;
    while position < what.until {
        let mut batch = Batch::new(what.partition.clone(), what.epoch, position);
        let event = match file.read(&mut batch, what.until, FULL)? {
            Run::Gap { to } => {
                let from = position;
                position = to;
                SideEvent::Gap { from, to }
            }
            Run::Broken(why) => SideEvent::Failed(why),
            Run::Read(extent) if batch.records.is_empty() => SideEvent::Failed(ends_early(what, extent.end)),
            Run::Read(_) => {
                position = batch.next;
                SideEvent::Batch(batch)
            }
        };
        let failed = matches!(event, SideEvent::Failed(_));
        let gap_to_the_end = matches!(event, SideEvent::Gap { .. }) && position >= what.until;
        if out.blocking_send(event).is_err() || failed {
            return Ok(());
        }
        if gap_to_the_end {
            // The pass ends with a batch, whatever came before it.
            let _ = out.blocking_send(SideEvent::Batch(Batch::new(what.partition.clone(), what.epoch, position)));
        }
    }
    Ok(())
}

fn ends_early(what: &SideRead, end: Position) -> String {
    format!("{}: found the log's end at {end}, expected records up to {}", what.partition, what.until)
}
