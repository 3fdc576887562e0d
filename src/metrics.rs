//! **Metrics**: every figure the daemon shows Prometheus, named once, with the labels it may carry.
//!
//! Whoever does the work asks here for a handle ([`records`], [`apply_seconds`], …), keeps it, and counts on it; the API renders
//! them all ([`Exposition::render`]). Invariant: labels come from closed sets (topics, partitions, outcomes, reasons,
//! aggregates), which the functions' types enforce, never from a hunt; and every series whose labels are known beforehand stands
//! at 0 from the start ([`touch`]), so that a rate over it is right from its first increment on.
//!
//! Why NaN: the recorder cannot take a series back, and its idle timeout would either drop what merely stands still or let two
//! instances report one partition's lag for as long as it lasts. So a partition's gauges live in a [`PartitionGauges`]; dropping
//! it on revoke sets them to NaN, and `render` leaves NaN out: the series is gone from the next scrape on. What stays in memory
//! is bounded by the number of partitions.

use crate::outcome::{Outcome, Reason};
use crate::position::Position;
use crate::record::PartitionId;
use crate::store::{self, Status};
use ::metrics::{Counter, Gauge, Histogram, Unit, counter, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use std::sync::OnceLock;
use std::time::Duration;

/// One metric: its name as Prometheus sees it, its kind, the labels each of its series carries, and what it says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Family {
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Counter,
    Gauge,
    /// With the upper bounds of its buckets.
    Histogram(&'static [f64]),
}

/// From a microsecond (one event in a hot hunt) to a second.
const SHORT_SECONDS: &[f64] = &[1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0];
/// From a millisecond to five minutes: what a reader waits for.
const LONG_SECONDS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];
const ROWS: &[f64] = &[0.0, 1.0, 10.0, 100.0, 1e3, 1e4, 3e4, 1e5, 3e5, 1e6];
const BYTES: &[f64] = &[0.0, 1024.0, 16384.0, 262144.0, 1048576.0, 4194304.0, 16777216.0, 67108864.0, 268435456.0];

macro_rules! families {
    ($($(#[$doc:meta])* $id:ident = $name:literal $kind:expr, $labels:expr, $help:literal;)*) => {
        $(const $id: Family = Family { name: concat!("huntline_", $name), kind: $kind, labels: &$labels, help: $help };)*
        /// Every metric there is, in the order in which a record meets them.
        pub const ALL: &[Family] = &[$($id),*];
    };
}

families! {
    BUILD_INFO = "build_info" Kind::Gauge, ["version"], "1, labelled with the version that runs.";
    RECORDS = "records_total" Kind::Counter, ["topic", "outcome"], "Records by their first outcome: applied, duplicate, dead_lettered, ignored or held.";
    REPLAYED = "replayed_total" Kind::Counter, [], "Dead letters replayed.";
    LATE = "late_total" Kind::Counter, ["aggregate"], "Applied events that a window of this aggregate refused because it was final or no longer kept.";
    DEAD_LETTERS = "dead_letters_total" Kind::Counter, ["reason"], "Records that became dead letters, by reason.";
    POSITION = "position" Kind::Gauge, ["topic", "partition"], "The next offset to read.";
    CONSUMER_LAG = "consumer_lag" Kind::Gauge, ["topic", "partition"], "Offsets between the position and the end that can be read now.";
    BREAKER_TRIPPED = "breaker_tripped" Kind::Gauge, ["topic", "partition"], "1 while the partition is paused because too many of its newest records are dead letters.";
    HUNTS = "hunts" Kind::Gauge, ["state"], "Partials of hunts held in memory here: live, lagging or parked.";
    RESTARTS = "hunt_restarts_total" Kind::Counter, [], "Hunt actors restarted after a failed fold.";
    PASSIVATIONS = "hunt_passivations_total" Kind::Counter, [], "Idle hunt actors dropped once their state was saved.";
    HELD_OLDEST = "held_oldest_seconds" Kind::Gauge, [], "How long the longest lagging hunt here has been lagging; 0: none lags.";
    APPLY = "apply_seconds" Kind::Histogram(SHORT_SECONDS), [], "Folding one hunt's share of one batch.";
    EVENT_TO_VIEW = "event_to_view_seconds" Kind::Histogram(LONG_SECONDS), [], "From a record's timestamp to the moment the live view holds it.";
    EVENT_TO_STORE = "event_to_store_seconds" Kind::Histogram(LONG_SECONDS), [], "From a record's timestamp to the commit that saved it.";
    SNAPSHOT = "snapshot_seconds" Kind::Histogram(LONG_SECONDS), [], "A partition's checkpoint, from its start to the acknowledged commit.";
    SNAPSHOT_ROWS = "snapshot_rows" Kind::Histogram(ROWS), [], "Partials saved by one checkpoint.";
    SNAPSHOT_BYTES = "snapshot_bytes" Kind::Histogram(BYTES), [], "Bytes of state saved by one checkpoint.";
    SNAPSHOT_AGE = "snapshot_age_seconds" Kind::Gauge, ["topic", "partition"], "Age of the partition's oldest change that is not saved yet; 0: all is saved.";
    PENDING_BYTES = "pending_bytes" Kind::Gauge, [], "Changed state and snapshots not yet saved.";
    STORE_ERRORS = "store_errors_total" Kind::Counter, ["kind"], "Store calls that failed: fenced, refused, passing, fatal or mismatch.";
    REBALANCES = "rebalances_total" Kind::Counter, ["kind"], "Changes of this instance's partitions: assigned, revoked or lost.";
    FENCED = "fenced_total" Kind::Counter, [], "Partitions dropped because a newer claim stands in the store.";
    STALLS = "stalls_total" Kind::Counter, [], "Times the watchdog found a partition that did not move although it could.";
    HTTP_STREAMS = "http_streams" Kind::Gauge, [], "Views followed over server-sent events right now.";
}

/// What happened to this instance's share of the partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rebalance {
    Assigned,
    Revoked,
    /// Taken without asking: somebody else may have them already.
    Lost,
}

const STATUSES: [Status; 3] = [Status::Live, Status::Lagging, Status::Parked];
const STORE_ERROR_KINDS: [&str; 5] = ["fenced", "refused", "passing", "fatal", "mismatch"];
const REBALANCE_KINDS: [&str; 3] = ["assigned", "revoked", "lost"];

pub fn records(topic: &str, outcome: Outcome) -> Counter {
    counter!(RECORDS.name, "topic" => topic.to_owned(), "outcome" => outcome.as_str())
}

pub fn replayed() -> Counter {
    counter!(REPLAYED.name)
}

pub fn late(aggregate: &str) -> Counter {
    counter!(LATE.name, "aggregate" => aggregate.to_owned())
}

pub fn dead_letters(reason: Reason) -> Counter {
    counter!(DEAD_LETTERS.name, "reason" => reason.as_str())
}

pub fn hunts(status: Status) -> Gauge {
    gauge!(HUNTS.name, "state" => status.as_str())
}

pub fn hunt_restarts() -> Counter {
    counter!(RESTARTS.name)
}

pub fn hunt_passivations() -> Counter {
    counter!(PASSIVATIONS.name)
}

pub fn held_oldest_seconds() -> Gauge {
    gauge!(HELD_OLDEST.name)
}

pub fn apply_seconds() -> Histogram {
    histogram!(APPLY.name)
}

pub fn event_to_view_seconds() -> Histogram {
    histogram!(EVENT_TO_VIEW.name)
}

pub fn event_to_store_seconds() -> Histogram {
    histogram!(EVENT_TO_STORE.name)
}

pub fn snapshot_seconds() -> Histogram {
    histogram!(SNAPSHOT.name)
}

pub fn snapshot_rows() -> Histogram {
    histogram!(SNAPSHOT_ROWS.name)
}

pub fn snapshot_bytes() -> Histogram {
    histogram!(SNAPSHOT_BYTES.name)
}

pub fn pending_bytes() -> Gauge {
    gauge!(PENDING_BYTES.name)
}

pub fn store_errors(error: &store::Error) -> Counter {
    let kind = match error {
        store::Error::Fenced { .. } => "fenced",
        store::Error::Refused(_) => "refused",
        store::Error::Passing(_) => "passing",
        store::Error::Fatal(_) => "fatal",
        store::Error::Mismatch(_) => "mismatch",
        store::Error::Redefined { .. } => "redefined",
    };
    counter!(STORE_ERRORS.name, "kind" => kind)
}

pub fn rebalances(kind: Rebalance) -> Counter {
    let kind = match kind {
        Rebalance::Assigned => "assigned",
        Rebalance::Revoked => "revoked",
        Rebalance::Lost => "lost",
    };
    counter!(REBALANCES.name, "kind" => kind)
}

pub fn fenced() -> Counter {
    counter!(FENCED.name)
}

pub fn stalls() -> Counter {
    counter!(STALLS.name)
}

pub fn http_streams() -> Gauge {
    gauge!(HTTP_STREAMS.name)
}

/// The gauges of one partition, for as long as it is ours: they stand at 0 once this is made and leave the exposition when it is
/// dropped. Where a claim follows a revoke, drop the old one first.
#[derive(Debug)]
pub struct PartitionGauges {
    position: Gauge,
    lag: Gauge,
    snapshot_age: Gauge,
    breaker: Gauge,
}

impl PartitionGauges {
    pub fn new(partition: &PartitionId) -> Self {
        let of = |family: Family| gauge!(family.name, "topic" => partition.topic.to_string(), "partition" => partition.partition.to_string());
        let gauges =
            Self { position: of(POSITION), lag: of(CONSUMER_LAG), snapshot_age: of(SNAPSHOT_AGE), breaker: of(BREAKER_TRIPPED) };
        gauges.set_all(0.0);
        gauges
    }

    /// Position, and the lag where the end is known.
    pub fn position(&self, position: Position, end: Option<Position>) {
        self.position.set(position.0 as f64);
        if let Some(end) = end {
            self.lag.set((end.0 - position.0).max(0) as f64);
        }
    }

    /// Age of the oldest unsaved change; zero when all is saved.
    pub fn snapshot_age(&self, age: Duration) {
        self.snapshot_age.set(age.as_secs_f64());
    }

    pub fn breaker_tripped(&self, tripped: bool) {
        self.breaker.set(if tripped { 1.0 } else { 0.0 });
    }

    fn set_all(&self, value: f64) {
        for gauge in [&self.position, &self.lag, &self.snapshot_age, &self.breaker] {
            gauge.set(value);
        }
    }
}

impl Drop for PartitionGauges {
    fn drop(&mut self) {
        self.set_all(f64::NAN);
    }
}

/// Every series whose labels are known beforehand, at 0; an aggregate without windows stays there.
pub fn touch(topics: &[String], aggregates: &[String]) {
    gauge!(BUILD_INFO.name, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    for topic in topics {
        for outcome in Outcome::ALL {
            records(topic, outcome).increment(0);
        }
    }
    for aggregate in aggregates {
        late(aggregate).increment(0);
    }
    for reason in Reason::ALL {
        dead_letters(reason).increment(0);
    }
    for status in STATUSES {
        hunts(status).set(0.0);
    }
    for kind in STORE_ERROR_KINDS {
        counter!(STORE_ERRORS.name, "kind" => kind).increment(0);
    }
    for kind in REBALANCE_KINDS {
        counter!(REBALANCES.name, "kind" => kind).increment(0);
    }
    for family in ALL.iter().filter(|family| family.labels.is_empty()) {
        match family.kind {
            Kind::Counter => counter!(family.name).increment(0),
            Kind::Gauge => gauge!(family.name).set(0.0),
            Kind::Histogram(_) => drop(histogram!(family.name)),
        }
    }
}

/// What `/metrics` answers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Exposition(PrometheusHandle);

impl Exposition {
    /// The Prometheus text format: families by name, series in order, without the partitions that are no longer ours.
    pub fn render(&self) -> String {
        arrange(&self.0.render())
    }

    /// Moves samples of histograms into their buckets, which would else pile up until the next scrape. Never ends.
    pub async fn upkeep(self) {
        let mut every = tokio::time::interval(Duration::from_secs(5));
        loop {
            every.tick().await;
            self.0.run_upkeep();
        }
    }
}

/// Makes this process's recorder, once, and touches every series; later calls get the same one.
pub fn install(topics: &[String], aggregates: &[String]) -> Exposition {
    static INSTALLED: OnceLock<Exposition> = OnceLock::new();
    let exposition = INSTALLED.get_or_init(|| {
        let (recorder, exposition) = recorder();
        // Another recorder can only stand here if a library put it there, and none does.
        ::metrics::set_global_recorder(recorder).expect("no other metrics recorder is installed");
        describe();
        exposition
    });
    touch(topics, aggregates);
    exposition.clone()
}

/// A recorder with our buckets, not installed.
pub fn recorder() -> (PrometheusRecorder, Exposition) {
    let mut builder = PrometheusBuilder::new();
    for family in ALL {
        if let Kind::Histogram(buckets) = family.kind {
            builder = builder
                .set_buckets_for_metric(Matcher::Full(family.name.to_owned()), buckets)
                .expect("a histogram of ours has at least one bucket");
        }
    }
    let recorder = builder.build_recorder();
    let exposition = Exposition(recorder.handle());
    (recorder, exposition)
}

/// Gives every metric its help text.
pub fn describe() {
    for Family { name, kind, help, .. } in ALL {
        let unit = match name {
            name if name.ends_with("_seconds") => Unit::Seconds,
            name if name.ends_with("_bytes") => Unit::Bytes,
            _ => Unit::Count,
        };
        match kind {
            Kind::Counter => ::metrics::describe_counter!(*name, unit, *help),
            Kind::Gauge => ::metrics::describe_gauge!(*name, unit, *help),
            Kind::Histogram(_) => ::metrics::describe_histogram!(*name, unit, *help),
        }
    }
}

/// Sorts what the recorder gives in the order of its hash maps, and leaves out NaN.
fn arrange(text: &str) -> String {
    let mut families: Vec<Vec<&str>> = Vec::new();
    for block in text.split("\n\n") {
        let mut lines: Vec<&str> = block.lines().filter(|line| !line.is_empty() && !line.ends_with(" NaN")).collect();
        // A histogram's buckets already stand in order, and have to.
        if !lines.iter().any(|line| line.starts_with("# TYPE") && line.ends_with(" histogram")) {
            lines.sort_by_key(|line| (!line.starts_with("# HELP"), !line.starts_with('#'), *line));
        }
        if !lines.is_empty() {
            families.push(lines);
        }
    }
    families.sort();
    families.iter().flat_map(|lines| lines.iter().flat_map(|line| [*line, "\n"]).chain(["\n"])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(act: impl FnOnce()) -> String {
        let (recorder, exposition) = recorder();
        ::metrics::with_local_recorder(&recorder, || {
            describe();
            act();
            exposition.render()
        })
    }

    #[test]
    fn every_family_is_described_and_stands_at_zero_from_the_start() {
        let text = rendered(|| {
            touch(&["hunt-events".into()], &["solved_per_minute".into()]);
            std::mem::forget(PartitionGauges::new(&PartitionId::new("hunt-events", 0)));
        });
        for family in ALL {
            let kind = match family.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram(_) => "histogram",
            };
            assert!(text.contains(&format!("# HELP {} {}", family.name, family.help)), "{}\n{text}", family.name);
            assert!(text.contains(&format!("# TYPE {} {kind}\n", family.name)), "{}\n{text}", family.name);
        }
        for line in [
            "huntline_records_total{topic=\"hunt-events\",outcome=\"held\"} 0",
            "huntline_late_total{aggregate=\"solved_per_minute\"} 0",
            "huntline_dead_letters_total{reason=\"state_full\"} 0",
            "huntline_replayed_total 0",
            "huntline_consumer_lag{topic=\"hunt-events\",partition=\"0\"} 0",
            "huntline_breaker_tripped{topic=\"hunt-events\",partition=\"0\"} 0",
            "huntline_hunts{state=\"parked\"} 0",
            "huntline_store_errors_total{kind=\"refused\"} 0",
            "huntline_rebalances_total{kind=\"lost\"} 0",
            "huntline_apply_seconds_bucket{le=\"+Inf\"} 0",
            "huntline_snapshot_rows_count 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert_eq!(
            text,
            rendered(|| {
                touch(&["hunt-events".into()], &["solved_per_minute".into()]);
                std::mem::forget(PartitionGauges::new(&PartitionId::new("hunt-events", 0)));
            })
        );
    }

    #[test]
    fn a_revoked_partition_leaves_the_exposition_and_comes_back() {
        let partition = PartitionId::new("hunt-events", 3);
        let series = "huntline_consumer_lag{topic=\"hunt-events\",partition=\"3\"} ";
        let text = rendered(|| {
            let gauges = PartitionGauges::new(&partition);
            gauges.position(Position(7), Some(Position(12)));
            std::mem::forget(gauges);
        });
        assert!(text.contains(&format!("{series}5\n")), "{text}");
        let text = rendered(|| PartitionGauges::new(&partition).position(Position(7), Some(Position(12))));
        assert!(!text.contains("partition=\"3\""), "{text}");
        let text = rendered(|| {
            drop(PartitionGauges::new(&partition));
            std::mem::forget(PartitionGauges::new(&partition));
        });
        assert!(text.contains(&format!("{series}0\n")), "{text}");
    }

    #[test]
    fn histograms_have_our_buckets() {
        let text = rendered(|| snapshot_seconds().record(0.02));
        assert!(text.contains("huntline_snapshot_seconds_bucket{le=\"0.01\"} 0\n"), "{text}");
        assert!(text.contains("huntline_snapshot_seconds_bucket{le=\"0.025\"} 1\n"), "{text}");
    }

    #[test]
    fn the_contract_names_each_of_these_and_the_documentation_all() {
        let names: Vec<&str> = ALL.iter().map(|family| family.name).collect();
        for name in [
            "records_total",
            "replayed_total",
            "late_total",
            "dead_letters_total",
            "consumer_lag",
            "position",
            "hunts",
            "hunt_restarts_total",
            "hunt_passivations_total",
            "held_oldest_seconds",
            "apply_seconds",
            "event_to_view_seconds",
            "event_to_store_seconds",
            "snapshot_seconds",
            "snapshot_rows",
            "snapshot_bytes",
            "snapshot_age_seconds",
            "pending_bytes",
            "store_errors_total",
            "rebalances_total",
            "fenced_total",
            "stalls_total",
            "breaker_tripped",
            "build_info",
        ] {
            assert!(names.contains(&format!("huntline_{name}").as_str()), "{name}");
        }
        let page = include_str!("../docs/metrics.md");
        for family in ALL {
            assert!(
                page.contains(&format!("| `{}` |", family.name)) && page.contains(family.help),
                "docs/metrics.md: {}",
                family.name
            );
        }
        assert!(ALL.iter().all(|family| !family.labels.contains(&"hunt") && !family.labels.contains(&"hunt_id")));
    }
}
