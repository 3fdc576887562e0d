//! The **partition**'s protocol: a pure machine, `step(input) → effects`. It claims, reads, routes
//! records to hunts, draws boundaries, commits checkpoints, lets hunts lag and catch up, passivates
//! them and ends when it is fenced or released.
//!
//! The partition's actor hands it inputs one at a time and performs its effects in their order;
//! the simulation does the same with a store, a log and hunts of its own. No I/O, no clock: the
//! time is a number that comes with the inputs.
//!
//! Invariants:
//! * `committed ≤ closing ≤ dispatched`: the position of the last COMMIT, of the checkpoint being
//!   made, and of the last record sent to a hunt.
//! * `counts + closing tally + open tally` balance at `dispatched` once every reply is in.
//! * A checkpoint holds, for every hunt with records below its boundary, either its snapshot at the
//!   boundary or a row that says it lags, from where, and how many records wait there.
//! * Nothing is sent to a hunt that lags but by catching up, in offset order.

pub mod breaker;
mod catch_up;
mod checkpoint;
mod route;
pub mod slots;

use crate::decode::{Decoded, Plan};
use crate::hunt::{Lost, Order, Reply, Task};
use crate::outcome::Counts;
use crate::partial::Fold;
use crate::position::{Epoch, Position};
use crate::record::{Batch, PartitionId};
use crate::rollup::Delta;
use crate::source::SideRead;
use crate::store::{self, Checkpoint, Claimed, DoneAct, Gap, LagReasons, Loaded, Snapshot, Status};
use crate::time::Micros;
use breaker::Breaker;
use catch_up::Pass;
use checkpoint::{Closing, Pending};
use hashbrown::HashSet;
use slots::{Lagging, Mark, Restoration, Slots, Stage, Tally};
use std::collections::VecDeque;
use std::sync::Arc;

/// Bounds and intervals, in microseconds and bytes.
#[derive(Clone, Debug)]
pub struct Settings {
    pub interval: i64,
    /// Unsaved dead letters and snapshots past this start a checkpoint early.
    pub max_pending: usize,
    pub passivate_idle: i64,
    /// Newer records of hunts that catch up are kept up to this much.
    pub catch_up_buffer: usize,
    /// How long to wait after a pass of the side reader that ended early.
    pub catch_up_retry: i64,
    pub breaker: breaker::Limit,
}

#[derive(Debug)]
pub enum Input {
    /// Begin: claim.
    Start,
    Claimed(Claimed),
    /// Where a partition that was never read begins.
    StartResolved(Position),
    /// The resolved start is in the store.
    Begun,
    Batch {
        batch: Arc<Batch>,
        decoded: Decoded,
    },
    /// The saved snapshots of the hunts of `Effect::Load`; hunts without a row are left out.
    Loaded {
        purpose: LoadPurpose,
        loaded: Loaded,
    },
    Reply(Reply),
    /// Go on asking hunts for snapshots.
    Sweep,
    /// Time passes.
    Tick,
    Committed,
    /// The store refuses these hunts' snapshots; nothing was committed.
    Refused(Vec<(String, String)>),
    Fenced(String),
    SideBatch {
        batch: Arc<Batch>,
        decoded: Decoded,
    },
    SideGap {
        from: Position,
        to: Position,
    },
    SideFailed,
    /// The main reader found that the log no longer has `[from, to)`. It skips them, or stands still before them.
    Gap {
        from: Position,
        to: Position,
        reads_on: bool,
    },
    /// An operator's act: read on although the breaker tripped.
    Reset {
        act: i64,
    },
    /// Save what there is and end.
    Release,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadPurpose {
    /// Hunts of the batch that waits.
    Route,
    /// Lagging hunts, to catch up from what was saved.
    Restore,
}

#[derive(Debug)]
pub enum Effect {
    Claim,
    ResolveStart,
    Begin {
        epoch: Epoch,
        position: Position,
    },
    /// Have the source read from here.
    Read {
        epoch: Epoch,
        position: Position,
    },
    Load {
        purpose: LoadPurpose,
        hunts: Vec<String>,
    },
    /// Start a hunt's actor.
    StartHunt {
        slot: u32,
        generation: u32,
        state: Option<Vec<u8>>,
    },
    Deliver {
        slot: u32,
        order: Order,
    },
    /// Stop its actor: nothing is in its queue.
    StopHunt {
        slot: u32,
    },
    /// Hand in `Input::Sweep` after other work had its turn.
    SweepLater,
    Commit(Arc<Checkpoint>),
    /// Committed: lag tools may be told.
    CommitOffset(Position),
    SideRead(SideRead),
    /// The running side read is of no more use.
    CancelSideRead,
    /// A hunt lost its state and will be restored.
    HuntLost {
        slot: u32,
        lost: Lost,
    },
    /// A hunt waits for an operator, in words.
    HuntWaits {
        slot: u32,
        why: String,
    },
    /// The breaker tripped, in words: nothing more is routed until it is reset.
    Tripped(String),
    Fenced(String),
    /// Everything is saved; the machine has ended.
    Released,
    /// The protocol was broken from outside; stop reading, in words.
    Broken(String),
}

/// Where the machine stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    Idle,
    Claiming,
    ResolvingStart,
    Beginning,
    Running,
    /// Takes no more batches and saves what it has.
    Releasing,
    Ended,
}

pub struct Machine {
    partition: PartitionId,
    owner: String,
    plan: Arc<Plan>,
    fold: Arc<Fold>,
    settings: Settings,
    phase: Phase,
    now: Micros,
    epoch: Epoch,
    /// The checkpoint number the next commit must find.
    number: i64,
    committed: Mark,
    /// At `committed`.
    counts: Counts,
    rollup: Delta,
    breaker: Breaker,
    /// Why it stands tripped, now and at `committed`.
    tripped: Option<String>,
    saved_tripped: Option<String>,
    /// Acts carried out since the claim: the store shows one as open until its checkpoint is committed.
    acted: HashSet<i64>,
    dispatched: Mark,
    /// First outcomes since the claim; only ever grows, for metrics.
    firsts: Counts,
    open: Pending,
    closing: Option<Closing>,
    last_boundary: Micros,
    /// Hunts asked for a snapshot in one turn.
    a_sweep: usize,
    slots: Slots,
    /// Slots with records since the last boundary.
    dirty: Vec<u32>,
    /// Slots that lag, those with rows to write among them.
    lagging: Vec<u32>,
    /// The batch whose hunts are being loaded, and those behind it.
    waiting: Option<route::Resolved>,
    inbox: VecDeque<route::Arrival>,
    /// Gaps of the main reader since the claim, oldest first: nothing lies there, so a hunt that stands at one's start stands at its end.
    skipped: VecDeque<(Position, Position)>,
    /// While every hunt this partition ever had is resident or in this set of hashes, a hunt in neither is new and needs no load.
    seen: Option<HashSet<u64>>,
    /// Saved states of lagging hunts are being read: one load at a time, so that its answer is theirs.
    restoring: bool,
    pass: Option<Pass>,
    /// Not before this time is another pass begun (after one failed).
    pass_not_before: Micros,
    /// Where the passivation walk goes on.
    hand: u32,
    effects: Vec<Effect>,
}

/// What the machine shows of itself: for tests, the API and metrics.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    pub phase: Phase,
    pub epoch: Epoch,
    pub dispatched: Position,
    pub committed: Position,
    pub hunts: usize,
    pub lagging: usize,
    /// Of those, the ones that go on only by an operator or a new owner: a refused snapshot among them.
    pub parked: usize,
    pub pending_bytes: usize,
    /// First outcomes of records since the claim; only ever grows.
    pub firsts: Counts,
    /// Dispatched and not committed.
    pub unsaved: bool,
    /// Since when a hunt with held records lags here.
    pub held_oldest: Option<Micros>,
    /// Why the breaker stands tripped.
    pub tripped: Option<String>,
}

impl Machine {
    /// `plan` and `fold` are of the same definitions.
    pub fn new(partition: PartitionId, owner: String, plan: Arc<Plan>, fold: Arc<Fold>, settings: Settings) -> Self {
        let nowhere = Mark { position: Position(0), clock: None };
        Self {
            partition,
            owner,
            plan,
            fold,
            breaker: Breaker::new(settings.breaker),
            tripped: None,
            saved_tripped: None,
            acted: HashSet::new(),
            rollup: Delta::default(),
            settings,
            phase: Phase::Idle,
            now: Micros(0),
            epoch: Epoch(0),
            number: 0,
            committed: nowhere,
            counts: Counts::default(),
            dispatched: nowhere,
            firsts: Counts::default(),
            open: Pending::default(),
            closing: None,
            last_boundary: Micros(0),
            a_sweep: 1024,
            slots: Slots::default(),
            dirty: Vec::new(),
            lagging: Vec::new(),
            waiting: None,
            inbox: VecDeque::new(),
            skipped: VecDeque::new(),
            seen: None,
            restoring: false,
            pass: None,
            pass_not_before: Micros(0),
            hand: 0,
            effects: Vec::new(),
        }
    }

    /// With another number of hunts asked for a snapshot in one turn.
    pub fn sweeping(mut self, hunts: usize) -> Self {
        self.a_sweep = hunts;
        self
    }

    /// One step: what is to be done, in order. Inputs that come too late for their phase change nothing.
    pub fn step(&mut self, now: Micros, input: Input) -> Vec<Effect> {
        self.now = self.now.max(now);
        match (self.phase, input) {
            (Phase::Idle, Input::Start) => {
                self.phase = Phase::Claiming;
                self.effects.push(Effect::Claim);
            }
            (Phase::Claiming, Input::Claimed(claimed)) => self.claimed(claimed),
            (Phase::ResolvingStart, Input::StartResolved(position)) => {
                self.phase = Phase::Beginning;
                self.begin_at(Mark { position, clock: None });
                self.effects.push(Effect::Begin { epoch: self.epoch, position });
            }
            (Phase::Beginning, Input::Begun) => self.read(),
            (Phase::Running, Input::Batch { batch, decoded }) => self.received(batch, decoded),
            (Phase::Running | Phase::Releasing, Input::Loaded { purpose, loaded }) => {
                if self.is_ahead(purpose, loaded.newest) {
                    return std::mem::take(&mut self.effects);
                }
                match purpose {
                    LoadPurpose::Route => self.loaded(loaded.snapshots),
                    LoadPurpose::Restore => self.restored(loaded.snapshots),
                }
            }
            (Phase::Running | Phase::Releasing, Input::Reply(reply)) => self.replied(reply),
            (Phase::Running | Phase::Releasing, Input::Sweep) => self.sweep(),
            (Phase::Running, Input::Tick) => self.tick(),
            (Phase::Running | Phase::Releasing, Input::Committed) => self.commit_done(),
            (Phase::Running | Phase::Releasing, Input::Refused(hunts)) => self.refused(hunts),
            (_, Input::Fenced(found)) => {
                self.phase = Phase::Ended;
                self.effects.push(Effect::Fenced(found));
            }
            (Phase::Running, Input::SideBatch { batch, decoded }) => self.side_batch(batch, decoded),
            (Phase::Running, Input::SideGap { from, to }) => self.side_gap(from, to),
            (Phase::Running, Input::SideFailed) => self.side_failed(),
            (Phase::Running, Input::Gap { from, to, reads_on }) => self.missed(from, to, reads_on),
            (Phase::Running, Input::Reset { act }) => self.reset(act),
            (Phase::Running, Input::Release) => self.release(),
            (Phase::Idle | Phase::Claiming | Phase::ResolvingStart | Phase::Beginning, Input::Release) => {
                self.phase = Phase::Ended;
                self.effects.push(Effect::Released);
            }
            _ => {}
        }
        std::mem::take(&mut self.effects)
    }

    pub fn phase(&self) -> Phase {
        self.phase
    }

    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The partition clock at the dispatched position.
    pub fn clock(&self) -> Option<Micros> {
        self.dispatched.clock
    }

    /// The slot of a resident hunt, for queries.
    pub fn find(&self, hunt: &str) -> Option<u32> {
        self.slots.find(crate::decode::hunt_hash(hunt.as_bytes()), hunt.as_bytes())
    }

    /// The hunt in a slot, its status, and its position.
    pub fn slot(&self, slot: u32) -> (&str, Status, Position) {
        let s = &self.slots[slot];
        match &s.stage {
            Stage::Live | Stage::Loading => (&s.hunt, Status::Live, self.dispatched.position),
            Stage::Lagging(lag) if lag.reasons.need_operator() => (&s.hunt, Status::Parked, lag.base.position),
            Stage::Lagging(lag) => (&s.hunt, Status::Lagging, lag.base.position),
        }
    }

    /// Whether the hunt's actor holds its state at the partition's position.
    pub fn is_live(&self, slot: u32) -> bool {
        matches!(self.slots[slot].stage, Stage::Live)
    }

    pub fn summary(&self) -> Summary {
        let lags = || self.lagging.iter().filter_map(|&slot| self.lag(slot));
        Summary {
            phase: self.phase,
            epoch: self.epoch,
            dispatched: self.dispatched.position,
            committed: self.committed.position,
            hunts: self.slots.count(),
            lagging: self.lagging.len(),
            parked: lags().filter(|lag| lag.reasons.any()).count(),
            pending_bytes: self.pending_bytes(),
            firsts: self.firsts,
            unsaved: self.unsaved(),
            held_oldest: lags().filter(|lag| lag.held > 0).map(|lag| lag.since).min(),
            tripped: self.tripped.clone(),
        }
    }

    fn lag(&self, slot: u32) -> Option<&Lagging> {
        match &self.slots[slot].stage {
            Stage::Lagging(lag) => Some(lag),
            _ => None,
        }
    }

    fn lag_mut(&mut self, slot: u32) -> Option<&mut Lagging> {
        match &mut self.slots[slot].stage {
            Stage::Lagging(lag) => Some(lag),
            _ => None,
        }
    }

    fn claimed(&mut self, claimed: Claimed) {
        self.epoch = claimed.epoch;
        self.number = claimed.checkpoint;
        self.counts = claimed.counts;
        match claimed.rollup.as_deref().map(|bytes| self.fold.rollup().decode(bytes)) {
            None => {}
            Some(Ok(rollup)) => self.rollup = rollup,
            Some(Err(error)) => {
                self.phase = Phase::Ended;
                self.effects.push(Effect::Broken(format!("{}: the saved rollup does not read: {error}", self.partition)));
                return;
            }
        }
        self.tripped.clone_from(&claimed.tripped);
        self.saved_tripped = claimed.tripped;
        self.last_boundary = self.now;
        if claimed.counts.records == 0 && claimed.lagging.is_empty() {
            self.seen = Some(HashSet::new());
        }
        for row in claimed.lagging {
            let base = Mark { position: row.position, clock: row.clock };
            let lag = Lagging {
                base,
                read: base,
                held: row.held,
                // What the store refused once it may take now, from a new owner.
                reasons: LagReasons { store_refused: false, ..row.reasons },
                tried: None,
                restoration: Restoration::Needed,
                in_pass: false,
                progress: Tally::default(),
                letters: Vec::new(),
                since: self.now,
            };
            let hash = crate::decode::hunt_hash(row.hunt.as_bytes());
            let slot = self.slots.insert(hash, &row.hunt, Stage::Lagging(Box::new(lag)), self.now);
            self.slots[slot].saved_lag = Some(base);
            self.lagging.push(slot);
        }
        match claimed.position {
            Some(position) => {
                self.begin_at(Mark { position, clock: claimed.clock });
                self.read();
            }
            None => {
                self.phase = Phase::ResolvingStart;
                self.effects.push(Effect::ResolveStart);
            }
        }
    }

    /// Whether something loaded was saved after what this owner saw last: by a newer owner, or by a database that stepped back since,
    /// or of which a part was restored. To fold on from it would count records twice.
    fn is_ahead(&mut self, purpose: LoadPurpose, newest: i64) -> bool {
        // A checkpoint on its way may be committed already; it writes no hunt that is not resident.
        let on_its_way = purpose == LoadPurpose::Restore && self.closing.as_ref().is_some_and(Closing::is_sent);
        let ahead = newest > self.number + i64::from(on_its_way);
        if ahead {
            self.phase = Phase::Ended;
            self.effects.push(Effect::Fenced(format!(
                "a hunt was saved with checkpoint {newest}, after checkpoint {} of the partition, the last this owner knows",
                self.number
            )));
        }
        ahead
    }

    fn begin_at(&mut self, mark: Mark) {
        self.committed = mark;
        self.dispatched = mark;
    }

    fn read(&mut self) {
        self.phase = Phase::Running;
        self.effects.push(Effect::Read { epoch: self.epoch, position: self.committed.position });
    }

    fn tick(&mut self) {
        let due = self.now.0 - self.last_boundary.0 >= self.settings.interval;
        if self.closing.is_none() && self.unsaved() && (due || self.is_full() || !self.open.acts.is_empty()) {
            self.begin_boundary();
        }
        if self.closing.is_none() {
            self.restore_lagging();
            // A batch that waits for a load has its slots already.
            if self.waiting.is_none() {
                self.passivate();
            }
        }
        self.begin_pass();
        self.route_inbox();
    }

    fn release(&mut self) {
        self.phase = Phase::Releasing;
        self.waiting = None;
        self.inbox.clear();
        if self.pass.take().is_some() {
            self.effects.push(Effect::CancelSideRead);
        }
        self.release_further();
    }

    /// Lets the partition go on, once an act.
    fn reset(&mut self, act: i64) {
        if !self.acted.insert(act) {
            return;
        }
        let result = match self.tripped.take() {
            Some(_) => "reset",
            None => "the breaker was not tripped",
        };
        self.breaker.reset();
        self.open.acts.push(DoneAct { id: act, result: result.to_owned() });
        self.route_inbox();
    }

    /// Saves what is unsaved, then ends.
    fn release_further(&mut self) {
        if self.closing.is_some() {
            return;
        }
        if self.unsaved() {
            self.begin_boundary();
        } else {
            self.phase = Phase::Ended;
            self.effects.push(Effect::Released);
        }
    }

    /// The log lost `[from, to)` before it was read: the records there have no outcome, and the gap says so. Who halts stays before it.
    fn skip(&mut self, from: Position, to: Position, reads_on: bool) {
        const REMEMBERED: usize = 1024;
        let from = from.max(self.dispatched.position);
        if to <= from {
            return;
        }
        self.open.gaps.push(Gap {
            hunt_id: None,
            from,
            to,
            reason: "the log no longer had these records".into(),
            found_at: self.now,
        });
        if !reads_on {
            return;
        }
        self.dispatched.position = to;
        if self.skipped.len() == REMEMBERED {
            self.skipped.pop_front();
        }
        self.skipped.push_back((from, to));
        for index in 0..self.lagging.len() {
            if let Stage::Lagging(lag) = &mut self.slots[self.lagging[index]].stage {
                lag.base = past_gaps(&self.skipped, lag.base);
                lag.read = past_gaps(&self.skipped, lag.read);
            }
        }
    }

    /// So much is unsaved that no more is routed before a checkpoint commits; what arrives meanwhile keeps its share of the bytes in flight.
    fn is_full(&self) -> bool {
        /// A slot's tallies count to twice this.
        const RECORDS: i64 = 1 << 31;
        self.pending_bytes() > self.settings.max_pending || self.open.counts.records >= RECORDS
    }

    fn deliver(&mut self, slot: u32, task: Task) {
        let generation = self.slots[slot].generation;
        self.effects.push(Effect::Deliver { slot, order: Order { generation, task } });
    }

    /// Drops hunts that have been quiet, a bounded number a tick. Only called with no checkpoint closing: everything clean is saved.
    fn passivate(&mut self) {
        const A_TICK: u32 = 20_000;
        for _ in 0..A_TICK.min(self.slots.end()) {
            self.hand = if self.hand + 1 >= self.slots.end() { 0 } else { self.hand + 1 };
            let slot = &self.slots[self.hand];
            let idle = self.now.0 - slot.touched.0 > self.settings.passivate_idle;
            if slot.running && matches!(slot.stage, Stage::Live) && !slot.dirty && idle {
                if let Some(seen) = &mut self.seen {
                    seen.insert(slot.hash);
                }
                self.effects.push(Effect::StopHunt { slot: self.hand });
                self.slots.remove(self.hand);
            }
        }
    }

    /// Takes a hunt's own refusals by the store's words, or why it cannot be restored, to an operator.
    fn wait_for_operator(&mut self, slot: u32, why: String) {
        self.effects.push(Effect::HuntWaits { slot, why });
    }
}

/// The same place behind the gaps that begin at it.
fn past_gaps(skipped: &VecDeque<(Position, Position)>, mut mark: Mark) -> Mark {
    for &(from, to) in skipped {
        if mark.position == from {
            mark.position = to;
        }
    }
    mark
}

/// Why a store's refusal makes a hunt wait, in words.
fn refusal(words: &str) -> String {
    format!("the store refuses its snapshot: {words}")
}

/// Shared by the submodules: the row of a lagging partial.
fn lag_row(hunt: &str, lag: &Lagging) -> Snapshot {
    Snapshot {
        hunt: hunt.to_owned(),
        state: None,
        readers: None,
        lag: Some(store::Lag { position: lag.base.position, clock: lag.base.clock, held: lag.held, reasons: lag.reasons }),
    }
}
