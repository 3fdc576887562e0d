//! **Recovery**: the daemon killed at random moments, some between a COMMIT and its answer, and PostgreSQL stopped under it, while
//! records keep coming; at the end every row is what the oracle says.
//!
//! A fault counts only if it struck: work was under way, and the daemon had got somewhere since its last start. Some hunts' folds fail
//! meanwhile, and some states grow full, so that every outcome and every reason of a dead letter is among what must be exact.

use crate::engine::{Case, Engine};
use crate::harness::daemon::Daemon;
use crate::harness::postgres::{self, Postgres, Stop};
use crate::harness::proxy::{CommitFault, Proxy};
use crate::harness::{Scratch, await_until, kafka::Kafka};
use crate::oracle::records::{Options, Topic};
use crate::oracle::{LeftOut, Said};
use crate::platform::{Platform, differing_hunt, ends, everything_happens, options, positions, query};
use crate::victims::{self, Victim};
use fastrand::Rng;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

const RECORDS: usize = 500_000;
/// Sent in answer to each fault, so that no daemon finds the log at rest.
const RATION: usize = 20_000;
const CHUNK: usize = 1_000;
/// Faults that may fail to strike before the test gives up.
const VAIN: usize = 20;
const SOON: Duration = Duration::from_secs(60);
/// The state of one hunt comes to pass this.
const MAX_STATE: usize = 14 << 10;
/// Hunts whose folds failed wait until no more than this many faults are to come.
const LAGGING_UNTIL: usize = 20;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// SIGKILL at any moment.
    Kill,
    /// SIGKILL while a checkpoint's COMMIT is on its way; it arrives when the next daemon claims the partition.
    KillInCommit,
    /// The COMMIT is carried out, its answer lost; then SIGKILL.
    KillAfterLostAnswer,
    Outage(Stop),
}

fn faults(rng: &mut Rng) -> Vec<Fault> {
    let mut faults = vec![Fault::Kill; 12];
    faults.extend([Fault::KillInCommit; 5]);
    faults.extend([Fault::KillAfterLostAnswer; 3]);
    faults.extend([Stop::Fast, Stop::Immediate, Stop::Fast, Stop::Immediate, Stop::Fast].map(Fault::Outage));
    rng.shuffle(&mut faults);
    faults
}

#[test]
#[cfg_attr(not(feature = "test-hooks"), ignore = "needs the feature test-hooks")]
fn twenty_kills_and_five_outages_leave_every_row_exact() {
    let mut rng = Rng::with_seed(20);
    let server = Postgres::start(&postgres::Options { fsync: false, ..postgres::Options::default() });
    let store = server.create_database();
    let proxy = Proxy::start(server.port());
    let mut platform =
        Platform::new("recovery", (4, 2), Options { seed: 11, hunts: 2_000, step_ms: 20, crowd: 0.004, ..options() });
    // A static member has its partitions back at once.
    let config = platform.config(&proxy.url(&store), "300ms", "instance = \"recovering\"");
    let config = format!("{config}[failure]\nmax_state = \"{MAX_STATE}B\"\n");
    let (kafka, topics) = (platform.kafka, platform.topics.clone());
    platform.send(RATION);
    let victims = Victim::in_every_partition(&platform, 0.3);

    let sent = AtomicUsize::new(platform.sent);
    std::thread::scope(|scope| {
        let (rations, granted) = mpsc::channel::<usize>();
        let (platform, sent) = (&mut platform, &sent);
        scope.spawn(move || {
            for ration in granted {
                for _ in 0..ration / CHUNK {
                    platform.send(CHUNK);
                    sent.fetch_add(CHUNK, Ordering::SeqCst);
                }
            }
        });
        let (setup, gate) = victims::setup(&config, &victims, "always");
        let mut daemon = setup.start();
        let mut field = Field { daemon: &mut daemon, server: &server, store: &store, proxy: &proxy, kafka, topics: &topics };
        let (mut open, mut vain, mut granted) = (faults(&mut rng), 0, RATION);
        let mut base = 0;
        while let Some(fault) = open.pop() {
            granted += RATION;
            rations.send(RATION).expect("the sender lives");
            await_until(SOON, "positions move after a start", || field.moved(base));
            let target = sent.load(Ordering::SeqCst) + rng.usize(..RATION / 2);
            await_until(SOON, "more is sent", || (sent.load(Ordering::SeqCst) >= target.min(granted)).then_some(()));
            let struck = field.strike(fault, base, &mut rng);
            base = field.position();
            if open.len() == LAGGING_UNTIL && !gate.join("open").exists() {
                // As the kills so far left it.
                let held =
                    || Ok::<_, String>(postgres::query(&store, "SELECT sum(held) FROM huntline.partitions")?[0][0].clone());
                await_until(SOON, "records are held", || match held()?.as_deref() {
                    None | Some("0") => Err("nothing is held".to_owned()),
                    _ => Ok(()),
                });
                std::fs::write(gate.join("open"), "").expect("open the gate");
            }
            if !struck {
                vain += 1;
                assert!(vain <= VAIN, "{fault:?} found no work under way");
                open.insert(0, fault);
            }
        }
        let _ = rations.send(RECORDS.saturating_sub(granted));
        drop(rations);
        assert!(proxy.faults() >= 8, "{} faults of a COMMIT struck", proxy.faults());
        await_until(Duration::from_secs(120), "everything is sent", || {
            (sent.load(Ordering::SeqCst) >= granted.max(RECORDS)).then_some(())
        });
        await_until(Duration::from_secs(120), "everything is read", || match field.lag() {
            0 => Ok(()),
            lag => Err(lag),
        });
        assert_eq!(daemon.metric("huntline_stalls_total", &[]), 0.0);
        assert_eq!(daemon.sigterm(), Some(0), "{}", daemon.output());
    });
    assert!(platform.aborted > 0 && platform.sent >= RECORDS);
    platform.await_saved(&store);
    // Whatever struck, the states that grew full are those that do where nothing strikes.
    let case = || Case {
        failing: victims::left_out(&victims),
        max_state: MAX_STATE,
        saved_every: 0,
        ..Case::new("recovery".to_owned(), config.clone(), Vec::new())
    };
    let mut undisturbed = Engine::new(&case());
    for (partition, records) in &platform.log {
        for batch in records.chunks(500) {
            undisturbed.take(partition, &batch.iter().collect::<Vec<_>>());
        }
    }
    let said = platform.said(&undisturbed.left_out);
    everything_happens(&said);
    let letters = || said.partitions.values().flat_map(|of| &of.dead_letters);
    for reason in ["failed", "state_full"] {
        assert!(letters().any(|letter| letter.reason == reason), "no dead letter is {reason}");
    }
    let differences = platform.differences(&store, &said);
    assert!(differences.is_empty(), "{differences}\n{}", divergence(&platform, &store, &said, &case()));
}

#[test]
fn a_difference_is_traced_to_the_record_after_which_it_can_be() {
    let store = postgres::shared().create_database();
    let mut platform = Platform::new("divergence", (2, 1), Options { seed: 12, hunts: 30, ..options() });
    platform.send(2_000);
    let config = platform.config(&store, "200ms", "");
    let mut daemon = Daemon::start(&config);
    platform.await_saved(&store);
    assert_eq!(daemon.sigterm(), Some(0), "{}", daemon.output());
    let said = platform.said(&LeftOut::new());
    let case = || Case::new("divergence".to_owned(), config.clone(), Vec::new());
    assert_eq!(platform.differences(&store, &said), "");
    assert_eq!(divergence(&platform, &store, &said, &case()), "");

    // In the state and in what readers see of it: the events of one hunt's largest partial.
    let largest = "SELECT hunt_id FROM huntline.partials WHERE hunt_id LIKE 'hunt-%' ORDER BY events DESC LIMIT 1";
    let hunt = query(&store, largest)[0][0].clone().expect("a hunt");
    let of_it = format!("ctid = (SELECT ctid FROM huntline.partials WHERE hunt_id = '{hunt}' ORDER BY events DESC LIMIT 1)");
    query(
        &store,
        &format!(
            "UPDATE huntline.partials SET state = set_byte(state, 1, get_byte(state, 1) # 1), events = events # 1 WHERE {of_it}"
        ),
    );
    query(&store, &format!("UPDATE huntline.partials SET view = '{{}}' WHERE {of_it}"));
    query(&store, &format!("UPDATE huntline.shared_hunts SET view = '{{}}' WHERE hunt_id = '{hunt}'"));
    assert!(platform.differences(&store, &said).contains(&format!("hunt {hunt:?}")));
    let traced = divergence(&platform, &store, &said, &case());
    assert!(
        traced.contains(&format!("hunt {hunt:?}: events: stored ")) && traced.contains("can differ from record "),
        "{traced}"
    );
    assert!(traced.ends_with("By these records they do not differ."), "{traced}");
    // Where it is the fold that says otherwise, it is the record that shows it.
    let toml = config.replace("data.points > 50", "data.points > 400");
    let traced = divergence(&platform, &store, &said, &Case::new("divergence".to_owned(), toml, Vec::new()));
    assert!(traced.contains("They first differ after record ") && traced.contains("\"big_solves\""), "{traced}");
}

/// Of the first hunt whose view is another: what `verify` finds in the store, and where the fold itself leaves the oracle.
fn divergence(platform: &Platform, store: &str, said: &Said, case: &Case) -> String {
    let Some(hunt) = differing_hunt(store, said) else { return String::new() };
    let scratch = Scratch::new("divergence");
    let config = scratch.join("huntline.toml");
    std::fs::write(&config, platform.config(store, "300ms", "")).expect("write the configuration");
    let mut verify = Command::new(env!("CARGO_BIN_EXE_huntline"));
    verify.args(["verify", "--hunt", &hunt, "--config"]).arg(&config).stdin(Stdio::null());
    let output = verify.output().expect("huntline verify starts");
    let of_hunt =
        Case { name: hunt.clone(), toml: case.toml.clone(), failing: case.failing.clone(), stream: Vec::new(), ..*case };
    let of_hunt = of_hunt.of_hunt(&platform.log, &hunt);
    format!(
        "verify --hunt {hunt:?}:\n{}{}fold and oracle: {}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
        of_hunt.first_difference(&said.definitions),
    )
}

/// Where faults happen.
struct Field<'f> {
    daemon: &'f mut Daemon,
    server: &'f Postgres,
    store: &'f str,
    proxy: &'f Proxy,
    kafka: &'static Kafka,
    topics: &'f [Topic],
}

impl Field<'_> {
    /// The sum of all saved positions.
    fn position(&self) -> i64 {
        positions(self.store).expect("the store answers").values().sum()
    }

    fn moved(&self, base: i64) -> Result<(), i64> {
        let position = self.position();
        if position > base { Ok(()) } else { Err(position) }
    }

    fn lag(&self) -> i64 {
        ends(self.kafka, self.topics) - self.position()
    }

    /// Brings a fault about, and the daemon back; whether it struck: records were unsaved, and positions had moved since `base`.
    fn strike(&mut self, fault: Fault, base: i64, rng: &mut Rng) -> bool {
        let checkpoint = "checkpoint = $5 + 1";
        match fault {
            Fault::Kill => {}
            Fault::KillInCommit => {
                self.proxy.arm(CommitFault::InFlight, checkpoint);
                await_until(SOON, "a COMMIT is on its way", || (self.proxy.in_flight() == 1).then_some(()));
            }
            Fault::KillAfterLostAnswer => {
                let before = self.proxy.faults();
                self.proxy.arm(CommitFault::AnswerLost, checkpoint);
                await_until(SOON, "a COMMIT's answer is lost", || (self.proxy.faults() > before).then_some(()));
            }
            Fault::Outage(mode) => return self.outage(mode),
        }
        let end = ends(self.kafka, self.topics);
        assert!(self.daemon.exited().is_none(), "the daemon ended by itself:\n{}", self.daemon.output());
        self.daemon.kill9();
        let position = self.position();
        let (store, proxy, at_once) = (self.store, self.proxy, rng.bool());
        std::thread::scope(|scope| {
            if fault == Fault::KillInCommit {
                scope.spawn(move || deliver(store, proxy, at_once));
            }
            self.daemon.restart();
        });
        position > base && position < end
    }

    fn outage(&mut self, mode: Stop) -> bool {
        let failures = |daemon: &Daemon| daemon.metric("huntline_store_errors_total", &[]);
        let (before, position, end) = (failures(self.daemon), self.position(), ends(self.kafka, self.topics));
        self.server.stop(mode);
        await_until(SOON, "the daemon misses its store", || (failures(self.daemon) > before).then_some(()));
        self.server.restart();
        await_until(SOON, "positions move after an outage", || self.moved(position));
        position < end
    }
}

/// Lets the COMMIT of the daemon that is dead arrive: at once, or when the next one waits to claim the partition.
fn deliver(store: &str, proxy: &Proxy, at_once: bool) {
    if !at_once {
        await_until(SOON, "the next daemon waits for the locks of the one before", || {
            let claims = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'INSERT INTO huntline.partitions%'";
            if postgres::query(store, claims)?.is_empty() { Err("nobody waits".to_owned()) } else { Ok(()) }
        });
    }
    proxy.deliver();
}
