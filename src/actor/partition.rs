//! The actor around one partition: every message becomes an input of its machine, every effect of
//! the machine is performed here, in order.
//!
//! Invariant: the machine is the only one that decides; what is kept here is addresses, retries and
//! figures. Store calls that may pass by themselves are tried again until they do.

use super::hunt::{HuntActor, Outbox, State};
use crate::api::query::LiveHunt;
use crate::decode::{Decoded, Plan};
use crate::hunt::Hook;
use crate::metrics::{self, PartitionGauges};
use crate::outcome::{Counts, Outcome};
use crate::partial::Fold;
use crate::partition::{Effect, Input, LoadPurpose, Machine, Phase, Settings, Summary};
use crate::position::{Epoch, Position};
use crate::record::{Batch, PartitionId};
use crate::source::{Command, SideEvent, SideRead};
use crate::store::{self, Checkpoint, Merge, Owner, PartitionLine, Store};
use crate::time::Micros;
use actix::{Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message, ResponseFuture, WrapFuture};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::mpsc;

/// How often time passes for the machine, and figures are shown.
const TICK: Duration = Duration::from_millis(100);
/// How often a partition that waits for an operator asks the store whether one has acted.
const ACTS: Duration = Duration::from_secs(1);

pub type SideReader = Arc<dyn Fn(SideRead, mpsc::Sender<SideEvent>) + Send + Sync>;
pub type StartResolver = Arc<dyn Fn(&PartitionId) -> Result<Position, String> + Send + Sync>;

/// Says whether these lost hunts may be restored now; tests only.
pub type Gate = Arc<dyn Fn(&[String]) -> bool + Send + Sync>;

/// What a partition's actor works with.
#[derive(Clone)]
pub struct Ports {
    pub store: Store,
    pub merge: Merge,
    pub owner: Owner,
    pub source: std::sync::mpsc::Sender<Command>,
    pub side_reader: SideReader,
    pub start_resolver: StartResolver,
    pub news: mpsc::UnboundedSender<News>,
    pub board: Arc<Board>,
    pub hook: Option<Hook>,
    pub gate: Option<Gate>,
}

/// What a partition tells the daemon.
#[derive(Debug)]
pub enum News {
    Fenced {
        partition: PartitionId,
        found: String,
    },
    Released {
        partition: PartitionId,
    },
    /// Given up at once, by the claim of this epoch.
    Abandoned {
        partition: PartitionId,
        epoch: Epoch,
    },
    /// All that stand in the store now. (The daemon tells itself.)
    Claims(Vec<PartitionLine>),
    /// Reading or the store's answers make no sense: claim again from what is saved.
    Broken {
        partition: PartitionId,
        why: String,
    },
    /// Nothing here can go on.
    Fatal(String),
}

/// What every partition of this instance last said of itself, for the API and the metrics.
#[derive(Default)]
pub struct Board {
    pub partitions: Mutex<BTreeMap<PartitionId, Shown>>,
    pub changed: tokio::sync::watch::Sender<u64>,
}

#[derive(Clone)]
pub struct Shown {
    pub summary: Summary,
    pub address: Addr<PartitionActor>,
    pub end: Option<Position>,
    /// Set while the source has stopped reading it, in words.
    pub halted: Option<String>,
}

pub struct PartitionActor {
    partition: PartitionId,
    machine: Machine,
    plan: Arc<Plan>,
    fold: Arc<Fold>,
    ports: Ports,
    outbox: Option<Rc<Outbox>>,
    /// By slot.
    hunts: Vec<Option<Addr<HuntActor>>>,
    gauges: PartitionGauges,
    figures: Figures,
    end: Option<Position>,
    halted: Option<String>,
    /// Tells the events of this side read from those of one given up.
    side_read: u64,
    /// When the store was last asked for acts; `None` while an answer is awaited.
    asked_for_acts: Option<Instant>,
}

/// Times and counts between ticks.
struct Figures {
    records: [::metrics::Counter; 5],
    firsts: Counts,
    /// By aggregate.
    late: Vec<::metrics::Counter>,
    /// Oldest record timestamp dispatched and not yet in a view, not yet in a checkpoint, in the checkpoint under way.
    unseen: Option<Micros>,
    unsaved: Option<Micros>,
    saving: Option<Micros>,
    unsaved_since: Option<Instant>,
    saving_since: Option<Instant>,
}

impl PartitionActor {
    pub fn new(partition: PartitionId, plan: Arc<Plan>, fold: Arc<Fold>, settings: Settings, ports: Ports) -> Self {
        let figures = Figures {
            records: Outcome::ALL.map(|outcome| metrics::records(&partition.topic, outcome)),
            firsts: Counts::default(),
            late: fold.names().map(metrics::late).collect(),
            unseen: None,
            unsaved: None,
            saving: None,
            unsaved_since: None,
            saving_since: None,
        };
        Self {
            machine: Machine::new(partition.clone(), ports.owner.id.clone(), plan.clone(), fold.clone(), settings),
            gauges: PartitionGauges::new(&partition),
            partition,
            plan,
            fold,
            ports,
            outbox: None,
            hunts: Vec::new(),
            figures,
            end: None,
            halted: None,
            side_read: 0,
            asked_for_acts: Some(Instant::now()),
        }
    }

    fn step(&mut self, input: Input, ctx: &mut Context<Self>) {
        for effect in self.machine.step(now(), input) {
            self.perform(effect, ctx);
        }
    }

    fn perform(&mut self, effect: Effect, ctx: &mut Context<Self>) {
        match effect {
            Effect::Claim => self.claim(ctx),
            Effect::ResolveStart => {
                let (resolver, partition) = (self.ports.start_resolver.clone(), self.partition.clone());
                let resolved = async move { tokio::task::spawn_blocking(move || resolver(&partition)).await };
                ctx.spawn(resolved.into_actor(self).map(|resolved, act, ctx| match resolved {
                    Ok(Ok(position)) => act.step(Input::StartResolved(position), ctx),
                    Ok(Err(why)) => act.fatal(format!("{}: find where to start: {why}", act.partition)),
                    Err(error) => act.fatal(format!("{}: find where to start: {error}", act.partition)),
                }));
            }
            Effect::Begin { epoch, position } => {
                let (store, partition, owner) = (self.ports.store.clone(), self.partition.clone(), self.ports.owner.id.clone());
                let begun = retried(move || {
                    let (store, partition, owner) = (store.clone(), partition.clone(), owner.clone());
                    async move { store.begin(&partition, epoch, &owner, position).await }
                });
                ctx.spawn(begun.into_actor(self).map(|begun, act, ctx| match begun {
                    Ok(()) => act.step(Input::Begun, ctx),
                    Err(error) => act.store_failed(error, ctx),
                }));
            }
            Effect::Read { epoch, position } => {
                tracing::info!(partition = %self.partition, %epoch, %position, "partition claimed");
                self.source(Command::Assign { partition: self.partition.clone(), position, epoch });
            }
            Effect::Load { purpose, hunts } => self.load(purpose, hunts, ctx),
            Effect::StartHunt { slot, generation, state } => {
                let outbox = self.outbox.get_or_insert_with(|| Outbox::new(ctx.address())).clone();
                let address =
                    HuntActor::start(self.fold.clone(), slot, generation, state.as_deref(), self.ports.hook.clone(), outbox);
                let slot = slot as usize;
                if self.hunts.len() <= slot {
                    self.hunts.resize(slot + 1, None);
                }
                self.hunts[slot] = Some(address);
            }
            Effect::Deliver { slot, order } => match self.hunts.get(slot as usize) {
                Some(Some(hunt)) => hunt.do_send(order),
                _ => self.fatal(format!("{}: no actor for slot {slot}: a defect", self.partition)),
            },
            Effect::StopHunt { slot } => {
                self.hunts[slot as usize] = None;
                metrics::hunt_passivations().increment(1);
            }
            Effect::SweepLater => ctx.notify(SweepOn),
            Effect::Commit(checkpoint) => self.commit(checkpoint, ctx),
            Effect::CommitOffset(position) => self.source(Command::CommitOffsets(vec![(self.partition.clone(), position)])),
            Effect::SideRead(read) => self.read_aside(read, ctx),
            Effect::CancelSideRead => self.side_read += 1,
            Effect::HuntLost { slot, lost } => {
                let hunt = self.machine.slot(slot).0;
                tracing::warn!(partition = %self.partition, hunt, offset = lost.at.map(|o| o.0), why = %lost.why, "hunt restarts from its last snapshot");
            }
            Effect::HuntWaits { slot, why } => {
                let hunt = self.machine.slot(slot).0;
                tracing::error!(partition = %self.partition, hunt, %why, "hunt waits for an operator");
            }
            Effect::Tripped(why) => {
                tracing::error!(partition = %self.partition, %why, "the breaker tripped: the partition pauses until an operator resets it");
            }
            Effect::Fenced(found) => {
                metrics::fenced().increment(1);
                self.source(Command::Unassign { partition: self.partition.clone() });
                self.tell(News::Fenced { partition: self.partition.clone(), found });
                ctx.stop();
            }
            Effect::Released => {
                self.tell(News::Released { partition: self.partition.clone() });
                ctx.stop();
            }
            Effect::Broken(why) => {
                self.source(Command::Unassign { partition: self.partition.clone() });
                self.tell(News::Broken { partition: self.partition.clone(), why });
                ctx.stop();
            }
        }
    }

    fn claim(&mut self, ctx: &mut Context<Self>) {
        let (store, partition, owner) = (self.ports.store.clone(), self.partition.clone(), self.ports.owner.clone());
        let claimed = retried(move || {
            let (store, partition, owner) = (store.clone(), partition.clone(), owner.clone());
            async move { store.claim(&partition, &owner).await }
        });
        ctx.spawn(claimed.into_actor(self).map(|claimed, act, ctx| match claimed {
            Ok(claimed) => act.step(Input::Claimed(claimed), ctx),
            Err(error) => act.store_failed(error, ctx),
        }));
    }

    fn load(&mut self, purpose: LoadPurpose, hunts: Vec<String>, ctx: &mut Context<Self>) {
        let (store, partition) = (self.ports.store.clone(), self.partition.clone());
        let hunts = Arc::new(hunts);
        let gate = self.ports.gate.clone().filter(|_| purpose == LoadPurpose::Restore);
        let loaded = async move {
            while gate.as_ref().is_some_and(|gate| !gate(&hunts)) {
                tokio::time::sleep(TICK).await;
            }
            retried(move || {
                let (store, partition, hunts) = (store.clone(), partition.clone(), hunts.clone());
                async move { store.load(&partition, hunts.to_vec()).await }
            })
            .await
        };
        ctx.spawn(loaded.into_actor(self).map(move |loaded, act, ctx| match loaded {
            Ok(loaded) => act.step(Input::Loaded { purpose, loaded }, ctx),
            Err(error) => act.store_failed(error, ctx),
        }));
    }

    fn commit(&mut self, checkpoint: Arc<Checkpoint>, ctx: &mut Context<Self>) {
        self.figures.saving = self.figures.unsaved.take();
        self.figures.saving_since = self.figures.unsaved_since.take();
        metrics::snapshot_rows().record(checkpoint.partials.len() as f64);
        let bytes: usize = checkpoint.partials.iter().map(|row| row.state.as_ref().map_or(0, Vec::len)).sum();
        metrics::snapshot_bytes().record(bytes as f64);
        for letter in &checkpoint.dead_letters {
            metrics::dead_letters(letter.reason).increment(1);
        }
        let (store, merge) = (self.ports.store.clone(), self.ports.merge.clone());
        let began = Instant::now();
        let committed = retried(move || {
            let (store, merge, checkpoint) = (store.clone(), merge.clone(), checkpoint.clone());
            async move { store.checkpoint(checkpoint, merge).await }
        });
        ctx.spawn(committed.into_actor(self).map(move |committed, act, ctx| match committed {
            Ok(()) => {
                metrics::snapshot_seconds().record(began.elapsed());
                act.figures.saving_since = None;
                if let Some(oldest) = act.figures.saving.take() {
                    metrics::event_to_store_seconds().record(seconds_since(oldest));
                }
                act.step(Input::Committed, ctx);
            }
            Err(error) => act.store_failed(error, ctx),
        }));
    }

    fn store_failed(&mut self, error: store::Error, ctx: &mut Context<Self>) {
        metrics::store_errors(&error).increment(1);
        match error {
            store::Error::Fenced { found, .. } => self.step(Input::Fenced(found), ctx),
            store::Error::Refused(hunts) => self.step(Input::Refused(hunts), ctx),
            error => self.fatal(format!("{}: {error}", self.partition)),
        }
    }

    /// Asks the store for acts of operators that are not done.
    fn look_for_acts(&mut self, ctx: &mut Context<Self>) {
        self.asked_for_acts = None;
        let (store, partition) = (self.ports.store.clone(), self.partition.clone());
        let asked = async move { store.open_acts(&partition).await };
        ctx.spawn(asked.into_actor(self).map(|acts, act, ctx| {
            act.asked_for_acts = Some(Instant::now());
            match acts {
                Ok(acts) => {
                    for reset in acts.into_iter().filter(|open| open.act == store::Act::Reset) {
                        tracing::info!(partition = %act.partition, by = ?reset.by, "an operator resets the breaker");
                        act.step(Input::Reset { act: reset.id }, ctx);
                    }
                }
                Err(error) => {
                    metrics::store_errors(&error).increment(1);
                    tracing::warn!(partition = %act.partition, %error, "the store will be asked for acts again");
                }
            }
        }));
    }

    /// Reads part of the log beside the main reader; its events come back one at a time.
    fn read_aside(&mut self, read: SideRead, ctx: &mut Context<Self>) {
        let (events, received) = mpsc::channel(2);
        self.side_read += 1;
        tracing::info!(partition = %self.partition, from = %read.from, until = %read.until, "lagging hunts catch up");
        (self.ports.side_reader)(read, events);
        self.next_aside(self.side_read, received, ctx);
    }

    fn next_aside(&mut self, of: u64, mut events: mpsc::Receiver<SideEvent>, ctx: &mut Context<Self>) {
        let next = async move { (events.recv().await, events) };
        ctx.spawn(next.into_actor(self).map(move |(event, events), act, ctx| {
            if act.side_read != of {
                return;
            }
            match event {
                Some(SideEvent::Batch(batch)) => {
                    let (batch, decoded) = act.decode(batch);
                    act.step(Input::SideBatch { batch, decoded }, ctx);
                }
                Some(SideEvent::Gap { from, to }) => act.step(Input::SideGap { from, to }, ctx),
                Some(SideEvent::Failed(why)) => {
                    tracing::warn!(partition = %act.partition, %why, "catching up will be tried again");
                    return act.step(Input::SideFailed, ctx);
                }
                // A pass that has read enough is over for the machine already, and ignores this.
                None => return act.step(Input::SideFailed, ctx),
            }
            act.next_aside(of, events, ctx);
        }));
    }

    fn decode(&self, batch: Batch) -> (Arc<Batch>, Decoded) {
        let mut decoded = Decoded::default();
        self.plan.decode(&batch, &mut decoded);
        (Arc::new(batch), decoded)
    }

    fn source(&self, command: Command) {
        // The source outlives the partitions but for its own failure, which the daemon hears of from itself.
        let _ = self.ports.source.send(command);
    }

    fn tell(&self, news: News) {
        let _ = self.ports.news.send(news);
    }

    fn fatal(&self, why: String) {
        self.tell(News::Fatal(why));
    }

    /// Shows figures and lets time pass.
    fn tick(&mut self, ctx: &mut Context<Self>) {
        self.step(Input::Tick, ctx);
        let summary = self.machine.summary();
        self.gauges.position(summary.dispatched, self.end);
        let since = self.figures.saving_since.or(self.figures.unsaved_since);
        self.gauges.snapshot_age(since.map_or(Duration::ZERO, |since| since.elapsed()));
        let (new, old) = (summary.firsts, std::mem::replace(&mut self.figures.firsts, summary.firsts));
        let grown = [
            new.applied - old.applied,
            new.duplicate - old.duplicate,
            new.dead_lettered - old.dead_lettered,
            new.ignored - old.ignored,
            new.held - old.held,
        ];
        for (counter, grown) in self.figures.records.iter().zip(grown) {
            counter.increment(grown as u64);
        }
        self.gauges.breaker_tripped(summary.tripped.is_some());
        if summary.tripped.is_some() && self.asked_for_acts.is_some_and(|asked| asked.elapsed() >= ACTS) {
            self.look_for_acts(ctx);
        }
        let changed = new != old;
        let shown = Shown { summary, address: ctx.address(), end: self.end, halted: self.halted.clone() };
        if self.machine.phase() != Phase::Ended {
            let mut board = self.ports.board.partitions.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            board.insert(self.partition.clone(), shown);
        }
        if changed {
            self.ports.board.changed.send_modify(|n| *n += 1);
        }
    }
}

impl Actor for PartitionActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(TICK, |act, ctx| act.tick(ctx));
        self.step(Input::Start, ctx);
        self.tick(ctx);
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        let mut board = self.ports.board.partitions.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        board.remove(&self.partition);
    }
}

/// What reaches a partition's actor.
macro_rules! message {
    ($(#[$doc:meta])* $message:ty, $actor:ident, $given:pat, $ctx:ident, $body:expr) => {
        impl Message for $message {
            type Result = ();
        }

        impl Handler<$message> for PartitionActor {
            type Result = ();

            fn handle(&mut self, $given: $message, $ctx: &mut Self::Context) {
                let $actor = self;
                $body
            }
        }
    };
}

/// Records of this partition, from the source.
pub struct Deliver(pub Batch);
message!(Deliver, act, Deliver(batch), ctx, {
    if batch.epoch != act.machine.epoch() {
        return;
    }
    let oldest = batch.records.iter().filter_map(|record| Micros::of_record_timestamp(record.timestamp_ms)).min();
    if !batch.records.is_empty() {
        act.figures.unsaved_since.get_or_insert_with(Instant::now);
    }
    for since in [&mut act.figures.unseen, &mut act.figures.unsaved] {
        *since = match (*since, oldest) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
    let (batch, decoded) = act.decode(batch);
    act.step(Input::Batch { batch, decoded }, ctx);
});

/// The outbox has replies.
pub struct Replies;
message!(Replies, act, Replies, ctx, {
    let replies = act.outbox.as_ref().map(|outbox| outbox.take()).unwrap_or_default();
    if let Some(oldest) = act.figures.unseen.take() {
        metrics::event_to_view_seconds().record(seconds_since(oldest));
    }
    for reply in replies {
        for (aggregate, events) in &reply.late_by {
            act.figures.late[usize::from(*aggregate)].increment(u64::from(*events));
        }
        act.step(Input::Reply(reply), ctx);
    }
});

/// Go on asking hunts for snapshots: a message of its own, so that other work has its turn.
struct SweepOn;
message!(SweepOn, act, SweepOn, ctx, act.step(Input::Sweep, ctx));

/// The log lost records before they were read; reading goes on after them, or the source stands still.
pub struct Missed {
    pub epoch: Epoch,
    pub from: Position,
    pub to: Position,
    pub reads_on: bool,
}
message!(Missed, act, Missed { epoch, from, to, reads_on }, ctx, {
    if epoch == act.machine.epoch() {
        act.step(Input::Gap { from, to, reads_on }, ctx);
    }
});

/// How far the partition can be read now.
pub struct End(pub Position);
message!(End, act, End(end), _ctx, act.end = Some(end));

/// The source stands still at this partition, and why.
pub struct Halted(pub String);
message!(Halted, act, Halted(why), _ctx, act.halted = Some(why));

/// The partition's row in the store. A claim after ours may come without a record that our next checkpoint would be for.
pub struct Claim(pub PartitionLine);
message!(Claim, act, Claim(line), ctx, {
    if act.machine.phase() == Phase::Running && line.epoch > act.machine.epoch() {
        let owner = line.owner.map_or("nobody".to_owned(), |owner| owner.id);
        act.step(
            Input::Fenced(format!("epoch {} of owner {owner} stands in the store, ours is {}", line.epoch, act.machine.epoch())),
            ctx,
        );
    }
});

/// Save everything and end; `News::Released` follows.
pub struct Release;
message!(Release, act, Release, ctx, act.step(Input::Release, ctx));

/// End at once; somebody else may have the partition. `News::Abandoned` follows.
pub struct Abandon;
message!(Abandon, act, Abandon, ctx, {
    act.tell(News::Abandoned { partition: act.partition.clone(), epoch: act.machine.epoch() });
    ctx.stop();
});

/// The hunt's partial of this partition, if its actor runs and is live.
pub struct View(pub String);

impl Message for View {
    type Result = Option<LiveHunt>;
}

impl Handler<View> for PartitionActor {
    type Result = ResponseFuture<Option<LiveHunt>>;

    fn handle(&mut self, View(hunt): View, _: &mut Self::Context) -> Self::Result {
        let slot = self.machine.find(&hunt).filter(|&slot| self.machine.is_live(slot));
        let address = slot.and_then(|slot| self.hunts.get(slot as usize).cloned().flatten());
        let (Some(slot), Some(address)) = (slot, address) else { return Box::pin(async { None }) };
        let (_, status, position) = self.machine.slot(slot);
        let (partition, fold, clock) = (self.partition.clone(), self.fold.clone(), self.machine.clock());
        Box::pin(async move {
            let state = address.send(State).await.ok().flatten()?;
            let watermark = fold.watermark(&state, clock);
            Some(LiveHunt { partition, position, status, state, watermark })
        })
    }
}

/// Tries a store call again, with jitter, for as long as its failure may pass by itself.
async fn retried<T, F>(mut call: impl FnMut() -> F) -> store::Result<T>
where
    F: Future<Output = store::Result<T>>,
{
    let mut pause = Duration::from_millis(50);
    loop {
        match call().await {
            Err(error @ store::Error::Passing(_)) => {
                metrics::store_errors(&error).increment(1);
                tracing::warn!(%error, "the store will be tried again");
                tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
                pause = (pause * 2).min(Duration::from_secs(2));
            }
            done => return done,
        }
    }
}

fn now() -> Micros {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Micros(since.as_micros() as i64)
}

/// Seconds of wall time since an instant; 0 for one to come.
pub fn seconds_since(then: Micros) -> f64 {
    (now().0 - then.0).max(0) as f64 / 1e6
}
