//! The **reader** of an embedded log: the thread that serves the daemon's commands and hands each
//! partition's records over in batches.
//!
//! A partition with nothing in flight is delivered to at once; while something is in flight its
//! pending batch grows, up to 65,536 records or 16 MiB; at the limit of bytes in flight it is not
//! read until its receiver gives some back. The log itself is the buffer beyond that.

use super::file::{DaemonLock, Error, Expected, LogFile};
use super::read::{Full, Run};
use crate::position::{Epoch, Position};
use crate::record::{Batch, Budget, PartitionId};
use crate::source::{Command, Event};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;

/// How often an idle reader looks for other processes' appends.
const LOOK: Duration = Duration::from_millis(20);
/// How often a reader that waits for bytes in flight looks whether they came back.
const LOOK_BACK: Duration = Duration::from_millis(2);
/// How often ends are told.
const TELL_ENDS: Duration = Duration::from_secs(1);
/// At most one trouble in this time.
const TELL_TROUBLE: Duration = Duration::from_secs(1);
const FULL: Full = Full { records: 65_536, bytes: 16 << 20 };

#[derive(Clone, Debug)]
pub struct Options {
    pub path: PathBuf,
    pub topic: String,
    pub partitions: i32,
    /// Bytes a partition may have in flight.
    pub in_flight_bytes: usize,
    /// `on_gap = "continue"`: where records were trimmed, read on after them; else the partition stands still.
    pub read_on_at_gap: bool,
}

/// Takes the log at `options.path` (creating it where there is none) as its one daemon and starts the reader's thread, which names all
/// partitions at once. The lock is given back when the thread ends.
pub fn start(options: Options, events: UnboundedSender<Event>) -> Result<(Sender<Command>, JoinHandle<()>), Error> {
    let path = options.path.clone();
    let mut reader = Reader::open(options, events)?;
    let (commands, receiver) = channel();
    let thread = std::thread::Builder::new()
        .name("embedded-log".into())
        .spawn(move || reader.serve(&receiver))
        .map_err(|e| Error::Unopenable { path, why: format!("start a thread: {e}") })?;
    Ok((commands, thread))
}

pub(super) struct Reader {
    file: LogFile,
    options: Options,
    events: UnboundedSender<Event>,
    partitions: Vec<Partition>,
    /// SQLite's number of other connections' commits when `end`s were last read.
    seen: Option<i64>,
    ends_told: Option<Instant>,
    trouble_told: Option<Instant>,
    _lock: DaemonLock,
}

struct Partition {
    id: PartitionId,
    end: Position,
    /// Outlives assignments: what an earlier claim still holds counts against the next.
    in_flight: Arc<AtomicUsize>,
    /// `None`: not assigned, or standing still.
    reading: Option<Reading>,
}

struct Reading {
    epoch: Epoch,
    /// Read and not yet handed over; its `next` is the reader's position.
    pending: Batch,
}

/// What a turn over the partitions found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Turn {
    /// Nothing to read.
    Idle,
    /// Records wait for bytes in flight to come back.
    Blocked,
    /// Something was handed over; there may be more.
    Progress,
}

impl Reader {
    pub fn open(options: Options, events: UnboundedSender<Event>) -> Result<Self, Error> {
        let expected = Expected { topic: &options.topic, partitions: options.partitions };
        let file = LogFile::open(&options.path, Some(expected))?;
        let lock = DaemonLock::take(&options.path)?;
        file.settle()?;
        let partition =
            |n| Partition { id: PartitionId::new(&options.topic, n), end: Position(0), in_flight: Arc::default(), reading: None };
        let partitions = (0..options.partitions).map(partition).collect();
        Ok(Self { file, options, events, partitions, seen: None, ends_told: None, trouble_told: None, _lock: lock })
    }

    /// Serves until `Stop`, or until the daemon's end of either queue is gone.
    fn serve(&mut self, commands: &Receiver<Command>) {
        self.assigned();
        let mut wait = Duration::ZERO;
        loop {
            match commands.recv_timeout(wait) {
                Ok(Command::Stop) => break,
                Ok(command) => {
                    self.obey(command);
                    wait = Duration::ZERO;
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) if self.events.is_closed() => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
            wait = match self.turn() {
                Ok(Turn::Progress) => Duration::ZERO,
                Ok(Turn::Blocked) => LOOK_BACK,
                Ok(Turn::Idle) => LOOK,
                Err(e) if e.is_busy() => {
                    self.trouble(&e);
                    LOOK
                }
                Err(e) => {
                    let _ = self.events.send(Event::Failed(e.to_string()));
                    // The daemon stops now, and waits to hear that we did.
                    while !matches!(commands.recv(), Ok(Command::Stop) | Err(_)) {}
                    break;
                }
            };
        }
        let _ = self.events.send(Event::Stopped);
    }

    pub fn assigned(&self) {
        let _ = self.events.send(Event::Assigned(self.partitions.iter().map(|p| p.id.clone()).collect()));
    }

    pub fn obey(&mut self, command: Command) {
        match command {
            Command::Assign { partition, position, epoch } => {
                if let Some(known) = self.partitions.iter_mut().find(|p| p.id == partition) {
                    known.reading = Some(Reading { epoch, pending: Batch::new(partition, epoch, position) });
                    self.seen = None;
                    self.ends_told = None;
                }
            }
            Command::Unassign { partition } => {
                if let Some(known) = self.partitions.iter_mut().find(|p| p.id == partition) {
                    known.reading = None;
                }
            }
            // An embedded log has no lag tools, and the thread's loop sees to Stop.
            Command::CommitOffsets(_) | Command::Stop => {}
        }
    }

    /// Looks once at every partition, handing over at most one batch of each.
    pub fn turn(&mut self) -> Result<Turn, Error> {
        self.look()?;
        if self.ends_told.is_none_or(|told| told.elapsed() >= TELL_ENDS) {
            for p in &self.partitions {
                let _ = self.events.send(Event::End { partition: p.id.clone(), end: p.end });
            }
            self.ends_told = Some(Instant::now());
        }
        let mut turn = Turn::Idle;
        for index in 0..self.partitions.len() {
            turn = turn.max(self.advance(index)?);
        }
        Ok(turn)
    }

    /// Learns where the partitions end, if another connection has committed since.
    fn look(&mut self) -> Result<(), Error> {
        let version: i64 = self
            .file
            .conn
            .prepare_cached("PRAGMA data_version")
            .and_then(|mut query| query.query_row([], |row| row.get(0)))
            .map_err(self.file.sql("read"))?;
        if self.seen != Some(version) {
            for (p, extent) in self.partitions.iter_mut().zip(self.file.extents()?) {
                p.end = extent.end;
            }
            self.seen = Some(version);
        }
        Ok(())
    }

    fn advance(&mut self, index: usize) -> Result<Turn, Error> {
        let p = &mut self.partitions[index];
        let Some(reading) = &mut p.reading else { return Ok(Turn::Idle) };
        let pending = &mut reading.pending;
        let in_flight = p.in_flight.load(Ordering::Acquire);
        // Not "below the end": a position above it has to be found out too.
        let room = Full { bytes: FULL.bytes.min(self.options.in_flight_bytes.saturating_sub(in_flight)), ..FULL };
        if pending.next != p.end && !room.is_reached(pending) {
            match self.file.read(pending, Position(i64::MAX), room)? {
                Run::Read(extent) => p.end = extent.end,
                Run::Gap { to } => {
                    let from = pending.next;
                    let epoch = reading.epoch;
                    hand_over(&self.events, pending, &p.in_flight);
                    pending.next = to;
                    if !self.options.read_on_at_gap {
                        p.reading = None;
                    }
                    let _ = self.events.send(Event::Gap { partition: p.id.clone(), epoch, from, to });
                    return Ok(Turn::Progress);
                }
                Run::Broken(why) => {
                    let epoch = reading.epoch;
                    hand_over(&self.events, pending, &p.in_flight);
                    p.reading = None;
                    let _ = self.events.send(Event::Halted { partition: p.id.clone(), epoch, why });
                    return Ok(Turn::Progress);
                }
            }
        }
        if !pending.records.is_empty() && (in_flight == 0 || FULL.is_reached(pending)) {
            hand_over(&self.events, pending, &p.in_flight);
            return Ok(Turn::Progress);
        }
        Ok(if pending.records.is_empty() && pending.next == p.end { Turn::Idle } else { Turn::Blocked })
    }

    fn trouble(&mut self, error: &Error) {
        if self.trouble_told.is_none_or(|told| told.elapsed() >= TELL_TROUBLE) {
            self.trouble_told = Some(Instant::now());
            let _ = self.events.send(Event::Trouble(error.to_string()));
        }
    }
}

/// Gives what is pending away, if anything, and begins the next batch where it ends.
fn hand_over(events: &UnboundedSender<Event>, pending: &mut Batch, in_flight: &Arc<AtomicUsize>) {
    if pending.records.is_empty() {
        return;
    }
    let next = Batch::new(pending.partition.clone(), pending.epoch, pending.next);
    let mut batch = std::mem::replace(pending, next);
    batch.budget = Some(Budget::take(in_flight, batch.bytes()));
    let _ = events.send(Event::Batch(batch));
}
