//! The **daemon**: builds every part in the order of the path, hands batches to the partitions, and
//! stops source first, store last.
//!
//! It decides little: a partition that the group gives gets an actor, which claims it; one that is
//! revoked is released; one that was fenced while it is still ours is claimed again after a moment,
//! and three fences of one in a minute mean that somebody else reads the same store.

mod claims;
mod live;
mod redefine;

pub use redefine::Redefined;

use crate::actor::partition::{
    Abandon, Board, Claim, Deliver, End, Gate, Halted, Missed, News, PartitionActor, Ports, Release, SideReader, StartResolver,
};
use crate::api;
use crate::config;
use crate::decode::Plan;
use crate::hunt::Hook;
use crate::metrics::{self, Rebalance};
use crate::partial::Fold;
use crate::partition;
use crate::position::Epoch;
use crate::record::PartitionId;
use crate::source::{Command, Event, reader::Reader};
use crate::store::{self, Identity, Merge, Owner, Status, Store, summary};
use actix::{Actor, Addr, Arbiter};
use anyhow::{Context as _, anyhow, bail};
use live::{LiveDaemon, Troubles};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// How long a stop may take before what is not saved is left to the next start.
const STOP: Duration = Duration::from_secs(8);
/// How long a signal to stop may come in twice.
const ECHO: Duration = Duration::from_secs(1);
/// Views followed at once.
const STREAMS: usize = 256;
/// Fences of one partition within this time after which the daemon gives way. Of one: a process that was frozen finds all of its
/// partitions claimed by others at once, and only once.
const FENCES: (usize, Duration) = (3, Duration::from_secs(60));

/// What a run may be told besides its configuration.
#[derive(Default)]
pub struct Options {
    /// Do not upgrade the store, only check it.
    pub no_migrate: bool,
    /// Let definitions that are not the store's hold from the present positions on.
    pub from_now: bool,
    /// Called before each event is folded; tests only.
    pub hook: Option<Hook>,
    /// Asked before lost hunts are restored; tests only.
    pub gate: Option<Gate>,
    /// Told the address of the API once it listens.
    pub listening: Option<Box<dyn FnOnce(SocketAddr) + Send>>,
}

/// Runs the daemon until it is told to stop (SIGTERM, SIGINT) or cannot go on.
pub fn run(settings: config::Settings, options: Options) -> anyhow::Result<()> {
    let system = actix::System::new();
    let result = system.block_on(async { Daemon::start(settings, options).await?.serve().await });
    actix::System::current().stop();
    result
}

struct Daemon {
    settings: config::Settings,
    commands: std::sync::mpsc::Sender<Command>,
    events: UnboundedReceiver<Event>,
    news: UnboundedReceiver<News>,
    ports: Ports,
    plans: BTreeMap<String, (Arc<Plan>, Arc<Fold>)>,
    arbiters: Vec<Arbiter>,
    board: Arc<Board>,
    troubles: Arc<Mutex<Troubles>>,
    /// Partitions the group gives us.
    assigned: BTreeMap<PartitionId, Option<Addr<PartitionActor>>>,
    /// Partitions being released, with whom to tell when the last of them is.
    revoking: Vec<(Vec<PartitionId>, Option<SyncSender<()>>)>,
    fences: VecDeque<(Instant, PartitionId)>,
    /// When to claim a partition again.
    again: Vec<(Instant, PartitionId)>,
    /// Lost to the group since the last look around, with the epochs of our claims.
    abandoned: Vec<(PartitionId, Epoch)>,
    server: actix_web::dev::ServerHandle,
    /// Tells streams to end.
    closing: tokio::sync::watch::Sender<bool>,
}

impl Daemon {
    async fn start(settings: config::Settings, options: Options) -> anyhow::Result<Daemon> {
        let alone = matches!(settings.store, config::StoreUrl::Sqlite { .. });
        let reader = Reader::new(&settings, alone);
        let topics = reader.topics();
        let aggregates: Vec<String> = settings.definitions.aggregates.iter().map(|aggregate| aggregate.name.clone()).collect();
        let exposition = metrics::install(&topics, &aggregates);

        let mut plans = BTreeMap::new();
        for topic in &topics {
            let plan = Arc::new(Plan::new(&settings.definitions, topic));
            let max_state = usize::try_from(settings.failure.max_state).unwrap_or(usize::MAX);
            let fold = Arc::new(Fold::new(&settings.definitions, &plan, max_state));
            plans.insert(topic.clone(), (plan, fold));
        }
        // States merge by kind alone, whatever topic they came from.
        let merging = plans.values().next().map(|(_, fold)| fold.clone()).context("at least one topic")?;

        let (identity, warnings) = {
            let reader = reader.clone();
            tokio::task::spawn_blocking(move || reader.identity()).await?.map_err(|why| anyhow!(why))?
        };
        for warning in warnings {
            tracing::warn!("{warning}");
        }

        let target = store_target(&settings.store);
        redefine::readable(&target).await?;
        let store = Store::open(&target, !options.no_migrate).await?;
        let bound = Identity {
            cluster: identity.cluster.clone(),
            group: reader.group().to_owned(),
            topics: identity.topics.iter().map(|topic| (topic.topic.clone(), topic.id.clone())).collect(),
            definitions: config::definitions_json(&settings.definitions),
        };
        let time = &settings.definitions.time;
        let empty_view = merging.view(&merging.start());
        let summary = summary::columns(&settings.definitions);
        let bind = || store.bind(&bound, time.idle, time.lateness, &empty_view, &summary, config::definitions_changes);
        match bind().await {
            Err(store::Error::Redefined { stored, .. }) if options.from_now => {
                let (definitions, merge) = (&settings.definitions, merge_of(merging.clone()));
                redefine::from_now(&store, &stored, definitions, &topics[0], merging.clone(), merge).await?;
                bind().await?;
            }
            Err(store::Error::Redefined { stored, configured }) => return Err(redefine::refusal(&stored, &configured)),
            bound => bound?,
        }

        let board = Arc::new(Board::default());
        let troubles = Arc::new(Mutex::new(Troubles { unassigned: true, unanswered: None }));
        let live = Arc::new(LiveDaemon { board: board.clone(), fold: merging.clone(), troubles: troubles.clone() });
        let (closing, closed) = tokio::sync::watch::channel(false);
        let reveal = |tokens: &[config::Secret]| tokens.iter().map(|token| token.reveal().to_owned()).collect();
        let api_settings = api::Settings {
            listen: settings.http.listen.to_string(),
            advertise: settings.http.advertise.clone(),
            read_tokens: reveal(&settings.http.read_tokens),
            admin_tokens: reveal(&settings.http.admin_tokens),
            time: settings.definitions.time.clone(),
            rollup: merging.rollup().values([]),
            streams: STREAMS,
            closing: closed,
        };
        let (server, address) = api::server(api_settings, live, Arc::new(store.clone()), exposition.clone())?;
        // Whoever asked for any port is known by the one it got.
        let advertise = match settings.http.advertise.strip_suffix(":0") {
            Some(host) => format!("{host}:{}", address.port()),
            None => settings.http.advertise.clone(),
        };
        let handle = server.handle();
        actix::spawn(async move {
            if let Err(error) = server.await {
                tracing::error!(%error, "the API stopped");
            }
        });
        actix::spawn(exposition.clone().upkeep());
        tracing::info!(%address, "listening");
        if let Some(listening) = options.listening {
            listening(address);
        }

        let merge = merge_of(merging);
        let (send_events, events) = unbounded_channel();
        let (commands, _) = reader.start(&identity, send_events).map_err(|why| anyhow!(why))?;
        let (send_news, news) = unbounded_channel();
        let side_reader: SideReader = {
            let reader = reader.clone();
            Arc::new(move |read, events| reader.side_read(read, events))
        };
        let start_resolver: StartResolver = {
            let reader = reader.clone();
            Arc::new(move |partition| reader.resolve_start(partition))
        };
        let ports = Ports {
            store,
            merge,
            owner: Owner { id: owner_id(), advertise },
            source: commands.clone(),
            side_reader,
            start_resolver,
            news: send_news,
            board: board.clone(),
            hook: options.hook,
            gate: options.gate,
        };
        actix::spawn(claims::look(ports.store.clone(), ports.news.clone()));
        let arbiters = (0..std::thread::available_parallelism().map_or(1, |n| n.get())).map(|_| Arbiter::new()).collect();
        Ok(Daemon {
            settings,
            commands,
            events,
            news,
            ports,
            plans,
            arbiters,
            board,
            troubles,
            assigned: BTreeMap::new(),
            revoking: Vec::new(),
            fences: VecDeque::new(),
            again: Vec::new(),
            abandoned: Vec::new(),
            server: handle,
            closing,
        })
    }

    async fn serve(mut self) -> anyhow::Result<()> {
        let mut stop = Signals::new()?;
        let mut every = tokio::time::interval(Duration::from_millis(250));
        let result = loop {
            tokio::select! {
                event = self.events.recv() => match event {
                    Some(event) => if let Err(error) = self.source_event(event) { break Err(error) },
                    None => break Err(anyhow!("the source ended by itself: a defect")),
                },
                Some(news) = self.news.recv() => if let Err(error) = self.news(news) { break Err(error) },
                _ = every.tick() => self.look_around(),
                signal = stop.next() => {
                    tracing::info!(signal, "stopping: a last checkpoint, then the group is left");
                    break Ok(());
                }
            }
        };
        let stopped = tokio::select! {
            stopped = self.stop() => stopped,
            signal = stop.again() => {
                tracing::warn!(signal, "stopping at once; what is not saved is read again at the next start");
                std::process::exit(1);
            }
        };
        result.and(stopped)
    }

    fn source_event(&mut self, event: Event) -> anyhow::Result<()> {
        match event {
            Event::Batch(batch) => {
                if let Some(Some(actor)) = self.assigned.get(&batch.partition) {
                    actor.do_send(Deliver(batch));
                }
            }
            Event::Assigned(partitions) => {
                metrics::rebalances(Rebalance::Assigned).increment(1);
                for partition in partitions {
                    self.begin(partition);
                }
                *self.troubles() = Troubles::default();
            }
            Event::Revoked { partitions, lost, done } => self.revoked(partitions, lost, done),
            Event::Gap { partition, epoch, from, to } => {
                tracing::error!(%partition, %from, %to, "the log no longer has these records");
                let reads_on = self.settings.kafka.as_ref().is_some_and(|kafka| kafka.on_gap == config::OnGap::Continue);
                if let Some(Some(actor)) = self.assigned.get(&partition) {
                    if !reads_on {
                        actor.do_send(Halted(format!(
                            "the log no longer has {from} to {to}; kafka.on_gap = \"continue\" reads on"
                        )));
                    }
                    actor.do_send(Missed { epoch, from, to, reads_on });
                }
            }
            Event::End { partition, end } => {
                if self.troubles().unanswered.take().is_some() {
                    tracing::info!("Kafka answers again");
                }
                if let Some(Some(actor)) = self.assigned.get(&partition) {
                    actor.do_send(End(end));
                }
            }
            Event::Halted { partition, why, .. } => {
                tracing::error!(%partition, %why, "partition halted");
                if let Some(Some(actor)) = self.assigned.get(&partition) {
                    actor.do_send(Halted(why));
                }
            }
            Event::Stalled { partition, action } => {
                metrics::stalls().increment(1);
                tracing::error!(%partition, %action, "partition did not move although it could");
            }
            Event::Unanswered(why) => {
                tracing::warn!("Kafka does not answer: {why}");
                self.troubles().unanswered = Some(why);
            }
            Event::Trouble(why) => tracing::warn!("{why}"),
            Event::Failed(why) => bail!(why),
            Event::Stopped => bail!("the source stopped by itself: a defect"),
        }
        Ok(())
    }

    fn troubles(&self) -> MutexGuard<'_, Troubles> {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&mut self, partition: PartitionId) {
        let Some((plan, fold)) = self.plans.get(&*partition.topic).cloned() else {
            tracing::error!(%partition, "the group gives a topic that is not configured");
            return;
        };
        let settings = partition::Settings {
            interval: micros(self.settings.snapshot.interval),
            max_pending: usize::try_from(self.settings.snapshot.max_pending).unwrap_or(usize::MAX),
            passivate_idle: micros(self.settings.passivate_idle),
            catch_up_buffer: 16 << 20,
            catch_up_retry: 500_000,
            breaker: partition::breaker::Limit {
                records: self.settings.failure.breaker.records,
                share: self.settings.failure.breaker.share,
            },
        };
        let (ports, name) = (self.ports.clone(), partition.clone());
        let arbiter = &self.arbiters[partition.partition.unsigned_abs() as usize % self.arbiters.len()];
        let actor =
            PartitionActor::start_in_arbiter(&arbiter.handle(), move |_| PartitionActor::new(name, plan, fold, settings, ports));
        self.assigned.insert(partition, Some(actor));
    }

    fn revoked(&mut self, partitions: Vec<PartitionId>, lost: bool, done: SyncSender<()>) {
        metrics::rebalances(if lost { Rebalance::Lost } else { Rebalance::Revoked }).increment(1);
        let mut waiting = Vec::new();
        for partition in partitions {
            self.again.retain(|(_, other)| *other != partition);
            match self.assigned.remove(&partition).flatten() {
                Some(actor) if lost => {
                    tracing::info!(%partition, "lost: the group has given it away; what is not saved is dropped");
                    actor.do_send(Abandon);
                }
                Some(actor) => {
                    tracing::info!(%partition, "revoked: a last checkpoint, then it is released");
                    actor.do_send(Release);
                    waiting.push(partition);
                }
                None => {}
            }
        }
        if waiting.is_empty() {
            let _ = done.try_send(());
        } else {
            self.revoking.push((waiting, Some(done)));
        }
    }

    fn news(&mut self, news: News) -> anyhow::Result<()> {
        match news {
            News::Released { partition } => {
                tracing::info!(%partition, "released");
                for (waiting, done) in &mut self.revoking {
                    waiting.retain(|other| *other != partition);
                    if waiting.is_empty()
                        && let Some(done) = done.take()
                    {
                        // The source has stopped waiting after a second: the fence makes that safe.
                        let _ = done.try_send(());
                    }
                }
                self.revoking.retain(|(waiting, _)| !waiting.is_empty());
            }
            News::Fenced { partition, found } => {
                tracing::warn!(%partition, %found, "fenced: another owner has claimed the partition");
                let now = Instant::now();
                self.fences.push_back((now, partition.clone()));
                self.fences.retain(|(then, _)| now - *then < FENCES.1);
                if self.fences.iter().filter(|(_, other)| *other == partition).count() >= FENCES.0 {
                    bail!(
                        "{partition} was fenced {} times within a minute: {found}. Does another daemon run under this one's kafka.instance?",
                        FENCES.0
                    );
                }
                self.claim_again(partition, Duration::from_millis(200 + fastrand::u64(..1300)));
            }
            // By a daemon that was frozen: it may hear that its partitions are lost before the store refuses it anything.
            News::Abandoned { partition, epoch } if epoch > Epoch(0) => self.abandoned.push((partition, epoch)),
            News::Abandoned { .. } => {}
            News::Claims(claims) => {
                for claim in claims {
                    if let Some(Some(actor)) = self.assigned.get(&claim.partition) {
                        actor.do_send(Claim(claim));
                    }
                }
            }
            News::Broken { partition, why } => {
                tracing::error!(%partition, %why, "the partition is claimed again");
                self.claim_again(partition, Duration::from_secs(1));
            }
            News::Fatal(why) => bail!(why),
        }
        Ok(())
    }

    fn claim_again(&mut self, partition: PartitionId, after: Duration) {
        if let Some(actor) = self.assigned.get_mut(&partition) {
            *actor = None;
            self.again.push((Instant::now() + after, partition));
        }
    }

    /// Claims again what is due, notices actors that ended by a defect, and sums up the figures of all partitions.
    fn look_around(&mut self) {
        let now = Instant::now();
        let due: Vec<PartitionId> = self.again.extract_if(.., |(at, _)| *at <= now).map(|(_, partition)| partition).collect();
        for partition in due {
            self.begin(partition);
        }
        if !self.abandoned.is_empty() {
            let (store, owner) = (self.ports.store.clone(), self.ports.owner.id.clone());
            actix::spawn(claims::count_taken_over(store, owner, std::mem::take(&mut self.abandoned)));
        }
        let ended = |actor: &Option<Addr<PartitionActor>>| actor.as_ref().is_some_and(|actor| !actor.connected());
        let dead: Vec<PartitionId> = self.assigned.iter().filter(|(_, actor)| ended(actor)).map(|(id, _)| id.clone()).collect();
        for partition in dead {
            // A fence's news arrives before this; what is left is a panic.
            if !self.again.iter().any(|(_, other)| *other == partition) {
                tracing::error!(%partition, "the partition's actor ended by a defect; it is claimed again");
                let _ = self.commands.send(Command::Unassign { partition: partition.clone() });
                self.board.partitions.lock().unwrap_or_else(PoisonError::into_inner).remove(&partition);
                self.claim_again(partition, Duration::from_secs(1));
            }
        }
        let (mut hunts, mut lagging, mut parked, mut pending) = (0, 0, 0, 0);
        let mut held_oldest = None;
        for shown in self.board.partitions.lock().unwrap_or_else(PoisonError::into_inner).values() {
            hunts += shown.summary.hunts;
            lagging += shown.summary.lagging;
            parked += shown.summary.parked;
            pending += shown.summary.pending_bytes;
            held_oldest = match (held_oldest, shown.summary.held_oldest) {
                (Some(a), Some(b)) => Some(std::cmp::min(a, b)),
                (a, b) => a.or(b),
            };
        }
        metrics::hunts(Status::Live).set((hunts - lagging) as f64);
        metrics::hunts(Status::Lagging).set((lagging - parked) as f64);
        metrics::hunts(Status::Parked).set(parked as f64);
        metrics::pending_bytes().set(pending as f64);
        metrics::held_oldest_seconds().set(held_oldest.map_or(0.0, crate::actor::partition::seconds_since));
    }

    /// Source first, store last.
    async fn stop(&mut self) -> anyhow::Result<()> {
        let deadline = tokio::time::Instant::now() + STOP;
        let mut releasing = Vec::new();
        for (partition, actor) in std::mem::take(&mut self.assigned) {
            if let Some(actor) = actor.filter(Addr::connected) {
                actor.do_send(Release);
                releasing.push(partition);
            }
        }
        while !releasing.is_empty() {
            let told = tokio::time::timeout_at(deadline, self.news.recv()).await;
            match told {
                Ok(Some(News::Released { partition } | News::Fenced { partition, .. } | News::Broken { partition, .. })) => {
                    releasing.retain(|other| *other != partition);
                }
                Ok(Some(News::Abandoned { .. } | News::Claims(_))) => {}
                Ok(Some(News::Fatal(why))) => tracing::error!("{why}"),
                Ok(None) => break,
                Err(_) => {
                    tracing::warn!(partitions = ?releasing, "not saved in time; read again at the next start");
                    break;
                }
            }
        }
        let _ = self.commands.send(Command::Stop);
        while let Ok(Some(event)) = tokio::time::timeout_at(deadline + Duration::from_secs(1), self.events.recv()).await {
            match event {
                Event::Stopped => break,
                Event::Revoked { done, .. } => drop(done.try_send(())),
                _ => {}
            }
        }
        let _ = self.closing.send(true);
        self.server.stop(true).await;
        for arbiter in &self.arbiters {
            arbiter.stop();
        }
        tracing::info!("stopped");
        Ok(())
    }
}

/// SIGTERM and SIGINT.
struct Signals {
    term: tokio::signal::unix::Signal,
    int: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.term.recv() => "SIGTERM",
            _ = self.int.recv() => "SIGINT",
        }
    }

    /// A second request to stop. What comes within a moment of the first is the same one: `timeout`, terminals and wrappers
    /// signal the process and its group.
    async fn again(&mut self) -> &'static str {
        let since = Instant::now();
        loop {
            let signal = self.next().await;
            if since.elapsed() >= ECHO {
                return signal;
            }
        }
    }
}

/// How states of these definitions merge: by kind alone, whatever topic they came from.
pub(crate) fn merge_of(fold: Arc<Fold>) -> Merge {
    Merge {
        hunts: {
            let fold = fold.clone();
            Arc::new(move |states| {
                fold.merged_readers(states.iter().map(|(_, state)| &state[..])).map_err(|error| error.to_string())
            })
        },
        rollup: Arc::new(move |partitions| {
            let deltas: Result<Vec<_>, _> = partitions.iter().map(|bytes| fold.rollup().decode(bytes)).collect();
            Ok(fold.rollup().values(&deltas.map_err(|error| error.to_string())?))
        }),
    }
}

/// Where the configured store is.
pub fn store_target(url: &config::StoreUrl) -> crate::store::Target {
    use crate::store::Target;
    match url {
        config::StoreUrl::Postgres { url, password } => {
            Target::Postgres { url: url.clone(), password: password.as_ref().map(|password| password.reveal().to_owned()) }
        }
        config::StoreUrl::Sqlite { path } => Target::Sqlite { path: path.clone() },
    }
}

/// Unique a process: the host, the process and a number drawn at random.
pub(crate) fn owner_id() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}-{}-{:08x}", host.trim(), std::process::id(), fastrand::u32(..))
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
