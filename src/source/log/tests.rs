//! The embedded log: order, exactly once, back-pressure, side passes, gaps and what its files may be.

use super::file::DaemonLock;
use super::reader::{Reader, Turn};
use super::*;
use crate::position::Epoch;
use crate::record::{Batch, PartitionId};
use crate::source::{Command, Event, SideEvent, SideRead};
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::mpsc;

struct Place {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

fn place() -> Place {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("events.db");
    Place { _dir: dir, path }
}

fn keyed<'a>(partition: i32, value: &'a [u8]) -> NewRecord<'a> {
    NewRecord { partition: Some(partition), key: Some(b"h-1"), value: Some(value), timestamp_ms: Some(7), ..NewRecord::default() }
}

/// Appends `count` records to `partition`, valued "0", "1", … from `from` on.
fn append_numbers(log: &mut Log, partition: i32, from: usize, count: usize) {
    let values: Vec<String> = (from..from + count).map(|n| n.to_string()).collect();
    let records: Vec<NewRecord> = values.iter().map(|v| keyed(partition, v.as_bytes())).collect();
    log.append(&records).expect("append");
}

fn numbers(batches: &[Batch]) -> Vec<usize> {
    let text = |b: &Batch, r| String::from_utf8(b.value(r).expect("a value").to_vec()).expect("UTF-8");
    batches.iter().flat_map(|b| b.records.iter().map(|r| text(b, r).parse().expect("a number"))).collect()
}

struct Bench {
    reader: Reader,
    events: mpsc::UnboundedReceiver<Event>,
}

fn bench(path: &Path, in_flight_bytes: usize, read_on_at_gap: bool) -> Bench {
    let (sender, events) = mpsc::unbounded_channel();
    let options = Options { path: path.into(), topic: TOPIC.into(), partitions: 2, in_flight_bytes, read_on_at_gap };
    Bench { reader: Reader::open(options, sender).expect("open"), events }
}

impl Bench {
    fn assign(&mut self, partition: i32, position: i64, epoch: i64) {
        let partition = PartitionId::new(TOPIC, partition);
        self.reader.obey(Command::Assign { partition, position: Position(position), epoch: Epoch(epoch) });
    }

    /// Turns until nothing moves any more, and says why it stopped and what was told but ends.
    fn settle(&mut self) -> (Turn, Vec<Event>) {
        let turn = loop {
            match self.reader.turn().expect("turn") {
                Turn::Progress => {}
                turn => break turn,
            }
        };
        let mut told = Vec::new();
        while let Ok(event) = self.events.try_recv() {
            if !matches!(event, Event::End { .. }) {
                told.push(event);
            }
        }
        (turn, told)
    }

    fn batches(&mut self) -> Vec<Batch> {
        let (_, told) = self.settle();
        told.into_iter()
            .map(|event| match event {
                Event::Batch(batch) => batch,
                other => panic!("expected batches, found {other:?}"),
            })
            .collect()
    }
}

#[test]
fn a_record_comes_back_as_it_was_appended() {
    let place = place();
    let mut log = Log::open(&place.path, TOPIC, 2).expect("open");
    let headers: &[(&[u8], Option<&[u8]>)] =
        &[(b"a", Some(b"1")), (b"", None), (b"a", Some(b"")), ("ä".as_bytes(), Some(&[0, 255]))];
    log.append(&[
        NewRecord { partition: Some(1), key: Some(b""), value: Some(b""), headers, timestamp_ms: Some(-1) },
        NewRecord { partition: Some(1), key: None, value: None, headers: &[], timestamp_ms: None },
    ])
    .expect("append");
    let mut bench = bench(&place.path, usize::MAX, false);
    bench.assign(1, 0, 3);
    let batches = bench.batches();
    let [batch] = batches.as_slice() else { panic!("expected one batch, found {}", batches.len()) };
    assert_eq!((batch.epoch, batch.next, batch.partition.partition), (Epoch(3), Position(2), 1));
    let [full, null] = batch.records.as_slice() else { panic!("expected two records") };
    assert_eq!((full.offset.0, full.timestamp_ms, batch.key(full), batch.value(full)), (0, -1, Some(&b""[..]), Some(&b""[..])));
    assert_eq!(batch.headers(full).collect::<Vec<_>>(), headers);
    assert_eq!((null.offset.0, batch.key(null), batch.value(null), batch.headers(null).count()), (1, None, None, 0));
    assert!(null.timestamp_ms > 1_700_000_000_000, "the append's time");
}

#[test]
fn keys_keep_their_partition_and_records_without_one_take_turns() {
    let place = place();
    let mut log = Log::open(&place.path, TOPIC, 2).expect("open");
    let keys: Vec<String> = (0..100).map(|n| format!("h-{n}")).collect();
    let record = |key| NewRecord { key, value: Some(b"{}"), ..NewRecord::default() };
    log.append(&keys.iter().map(|k| record(Some(k.as_bytes()))).collect::<Vec<_>>()).expect("append");
    let ends = |log: &Log| log.extents().expect("extents").iter().map(|e| e.end.0).collect::<Vec<_>>();
    let first = keys.iter().filter(|k| partition_of(k.as_bytes(), 2) == 0).count() as i64;
    assert_eq!(ends(&log), [first, 100 - first]);
    log.append(&[record(None); 10]).expect("append");
    assert_eq!(ends(&log), [first + 5, 105 - first]);
}

#[test]
fn batches_follow_one_another_through_claims_without_hole_or_overlap() {
    let place = place();
    let mut log = Log::open(&place.path, TOPIC, 2).expect("open");
    append_numbers(&mut log, 0, 0, 150_000);
    let mut bench = bench(&place.path, usize::MAX, false);
    bench.assign(0, 0, 1);
    let mut first = bench.batches();
    assert!(first.iter().all(|b| b.records.len() <= 65_536 && b.epoch == Epoch(1)));
    append_numbers(&mut log, 0, 150_000, 10);
    assert_eq!(bench.settle().0, Turn::Blocked, "what is in flight lets the next batch grow");
    append_numbers(&mut log, 0, 150_010, 10);
    bench.settle();
    let position = first.last().expect("a batch").next;
    let read = numbers(&first);
    assert_eq!(read, (0..read.len()).collect::<Vec<_>>());
    assert_eq!(position.0 as usize, read.len());
    first.clear();
    let rest = bench.batches();
    assert_eq!(rest.len(), 1, "grown to one batch");
    assert_eq!(numbers(&rest), (read.len()..150_020).collect::<Vec<_>>());
    drop(rest);
    bench.assign(0, 150_000, 2);
    let again = bench.batches();
    assert_eq!(numbers(&again), (150_000..150_020).collect::<Vec<_>>());
    assert!(again.iter().all(|b| b.epoch == Epoch(2)));
    bench.reader.obey(Command::Unassign { partition: PartitionId::new(TOPIC, 0) });
    append_numbers(&mut log, 0, 0, 1);
    assert!(bench.batches().is_empty());
}

#[test]
fn a_partition_at_its_limit_in_flight_is_not_read_until_bytes_come_back() {
    let place = place();
    let mut log = Log::open(&place.path, TOPIC, 2).expect("open");
    let value = vec![b'x'; 1 << 20];
    log.append(&vec![keyed(0, &value); 60]).expect("append");
    append_numbers(&mut log, 1, 0, 10);
    let mut bench = bench(&place.path, 8 << 20, false);
    bench.assign(0, 0, 1);
    bench.assign(1, 0, 1);
    let (turn, mut told) = bench.settle();
    assert_eq!(turn, Turn::Blocked);
    let mut count = 0;
    let mut passes = 0;
    while !told.is_empty() {
        let mut bytes = 0;
        for event in &told {
            let Event::Batch(batch) = event else { panic!("expected batches, found {event:?}") };
            bytes += batch.bytes();
            count += batch.records.len();
        }
        assert!(bytes <= (8 << 20) + (2 << 20), "{bytes} bytes in flight");
        passes += 1;
        told.clear();
        told = bench.settle().1;
    }
    assert_eq!(count, 70);
    assert!(passes >= 6, "{passes} passes");
    assert_eq!(bench.settle().0, Turn::Idle);
}

#[test]
fn trimmed_records_are_a_gap_that_is_read_over_only_when_asked() {
    for read_on in [false, true] {
        let place = place();
        let mut log = Log::open(&place.path, TOPIC, 2).expect("open");
        append_numbers(&mut log, 0, 0, 25_000);
        log.trim(0, Position(20_001)).expect("trim");
        assert_eq!(log.resolve_start(0, Start::Beginning).expect("start"), Position(20_001));
        let mut bench = bench(&place.path, usize::MAX, read_on);
        bench.assign(0, 3, 1);
        let (_, told) = bench.settle();
        let Some(Event::Gap { from: Position(3), to: Position(20_001), epoch: Epoch(1), .. }) = told.first() else {
            panic!("expected a gap, found {told:?}")
        };
        assert_eq!(told.len(), if read_on { 2 } else { 1 });
        if let Some(Event::Batch(batch)) = told.get(1) {
            assert_eq!(numbers(std::slice::from_ref(batch)), (20_001..25_000).collect::<Vec<_>>());
        }
    }
}

#[test]
fn offsets_go_on_after_everything_was_trimmed() {
    let place = place();
    let mut log = Log::open(&place.path, TOPIC, 2).expect("open");
    append_numbers(&mut log, 0, 0, 5);
    log.trim(0, Position(i64::MAX)).expect("trim");
    append_numbers(&mut log, 0, 5, 1);
    assert_eq!(log.extents().expect("extents")[0], Extent { partition: 0, low: Position(5), end: Position(6) });
}

#[test]
fn a_position_above_the_end_halts_its_partition_alone() {
    let place = place();
    let mut log = Log::open(&place.path, TOPIC, 2).expect("open");
    append_numbers(&mut log, 0, 0, 5);
    append_numbers(&mut log, 1, 0, 5);
    let mut bench = bench(&place.path, usize::MAX, false);
    bench.assign(0, 6, 1);
    bench.assign(1, 0, 1);
    let (_, told) = bench.settle();
    assert!(
        matches!(&told[0], Event::Halted { why, .. } if why.contains("found the log's end at 5, expected it at 6")),
        "{told:?}"
    );
    assert!(matches!(&told[1], Event::Batch(b) if b.records.len() == 5), "{told:?}");
}

#[test]
fn records_lost_from_the_file_are_found_out() {
    let place = place();
    let mut log = Log::open(&place.path, TOPIC, 2).expect("open");
    append_numbers(&mut log, 0, 0, 5);
    log.file.conn.execute("DELETE FROM records_0 WHERE \"offset\" = 2", []).expect("delete");
    let mut bench = bench(&place.path, usize::MAX, false);
    bench.assign(0, 0, 1);
    let (_, told) = bench.settle();
    assert!(matches!(&told[0], Event::Batch(b) if b.next == Position(2)), "{told:?}");
    assert!(matches!(&told[1], Event::Halted { why, .. } if why.contains("found 3 next, expected record 2")), "{told:?}");
}

#[test]
fn a_start_is_resolved_by_place_or_time() {
    let place = place();
    let mut log = Log::open(&place.path, TOPIC, 2).expect("open");
    let at = |ms| NewRecord { partition: Some(1), timestamp_ms: Some(ms), ..NewRecord::default() };
    log.append(&[at(10), at(30), at(20)]).expect("append");
    let start = |start| log.resolve_start(1, start).expect("start").0;
    assert_eq!((start(Start::Beginning), start(Start::End)), (0, 3));
    assert_eq!(start(Start::Time(Micros(10_000))), 0);
    assert_eq!(start(Start::Time(Micros(10_001))), 1);
    assert_eq!(start(Start::Time(Micros(30_001))), 3);
    assert!(log.resolve_start(2, Start::End).is_err());
}

fn side(path: &Path, from: i64, until: i64) -> Vec<SideEvent> {
    let (out, mut events) = mpsc::channel(1000);
    let what = SideRead { partition: PartitionId::new(TOPIC, 0), epoch: Epoch(9), from: Position(from), until: Position(until) };
    side_read(path, &what, &out);
    let mut told = Vec::new();
    while let Ok(event) = events.try_recv() {
        told.push(event);
    }
    told
}

#[test]
fn a_side_read_gives_its_range_and_no_more() {
    let place = place();
    let mut log = Log::open(&place.path, TOPIC, 2).expect("open");
    append_numbers(&mut log, 0, 0, 50_000);
    let batches = |told: Vec<SideEvent>| -> Vec<Batch> {
        told.into_iter().map(|e| if let SideEvent::Batch(b) = e { b } else { panic!("expected a batch, found {e:?}") }).collect()
    };
    let read = batches(side(&place.path, 100, 40_000));
    assert_eq!(numbers(&read), (100..40_000).collect::<Vec<_>>());
    assert_eq!(read.last().map(|b| b.next), Some(Position(40_000)));
    assert!(read.iter().all(|b| b.epoch == Epoch(9)));
    assert!(side(&place.path, 7, 7).is_empty());

    log.trim(0, Position(10)).expect("trim");
    let mut told = side(&place.path, 4, 12);
    assert!(matches!(told[0], SideEvent::Gap { from: Position(4), to: Position(10) }), "{told:?}");
    assert_eq!(numbers(&batches(told.split_off(1))), [10, 11]);
    let told = side(&place.path, 4, 8);
    assert!(matches!(&told[1], SideEvent::Batch(b) if b.next == Position(10) && b.records.is_empty()), "{told:?}");

    let told = side(&place.path, 49_999, 50_001);
    assert!(matches!(told.last(), Some(SideEvent::Failed(why)) if why.contains("found the log's end at 50000")), "{told:?}");
    let told = side(&place.path.with_extension("other"), 0, 1);
    assert!(matches!(told.last(), Some(SideEvent::Failed(why)) if why.contains("events.other")), "{told:?}");
}

/// The next event that `pick` takes, waiting for it.
fn next<T>(events: &mut mpsc::UnboundedReceiver<Event>, mut pick: impl FnMut(Event) -> Option<T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(30), async {
            loop {
                if let Some(found) = pick(events.recv().await.expect("the reader lives")) {
                    return found;
                }
            }
        })
        .await
        .expect("the event within 30 s")
    })
}

#[test]
fn another_processs_appends_are_seen() {
    const PLACE: &str = "HUNTLINE_TEST_APPEND_TO";
    if let Ok(path) = std::env::var(PLACE) {
        append_numbers(&mut Log::open(Path::new(&path), TOPIC, 2).expect("open"), 1, 0, 100);
        return;
    }
    let place = place();
    let (sender, mut events) = mpsc::unbounded_channel();
    let options =
        Options { path: place.path.clone(), topic: TOPIC.into(), partitions: 2, in_flight_bytes: 1 << 20, read_on_at_gap: false };
    let (commands, thread) = start(options, sender).expect("start");
    let assigned = next(&mut events, |e| if let Event::Assigned(all) = e { Some(all) } else { None });
    assert_eq!(assigned, [PartitionId::new(TOPIC, 0), PartitionId::new(TOPIC, 1)]);
    for partition in assigned {
        commands.send(Command::Assign { partition, position: Position(0), epoch: Epoch(1) }).expect("send");
    }
    next(&mut events, |e| matches!(e, Event::End { .. }).then_some(()));
    let child = std::process::Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "source::log::tests::another_processs_appends_are_seen"])
        .env(PLACE, &place.path)
        .output()
        .expect("run");
    assert!(child.status.success(), "{child:?}");
    let mut seen = Vec::new();
    while seen.len() < 100 {
        seen.extend(numbers(&[next(&mut events, |e| if let Event::Batch(batch) = e { Some(batch) } else { None })]));
    }
    assert_eq!(seen, (0..100).collect::<Vec<_>>());
    commands.send(Command::Stop).expect("send");
    next(&mut events, |e| matches!(e, Event::Stopped).then_some(()));
    thread.join().expect("the thread ends");
    DaemonLock::take(&place.path).expect("the lock is free again");
}

#[test]
fn writers_at_once_lose_nothing() {
    let place = place();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let path = place.path.clone();
            std::thread::spawn(move || {
                let mut log = Log::open(&path, TOPIC, 2).expect("open");
                for _ in 0..25 {
                    append_numbers(&mut log, 0, 0, 4);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|t| t.join().expect("append"));
    let log = Log::open_existing(&place.path).expect("open");
    assert_eq!(log.extents().expect("extents")[0].end, Position(400));
}

#[test]
fn a_second_daemon_is_refused_by_name() {
    let place = place();
    let _first = bench(&place.path, usize::MAX, false);
    let (sender, _events) = mpsc::unbounded_channel();
    let options =
        Options { path: place.path.clone(), topic: TOPIC.into(), partitions: 2, in_flight_bytes: 1, read_on_at_gap: false };
    let refused = start(options, sender).expect_err("locked").to_string();
    for part in
        ["events.db is read by another daemon", &format!("process {}", std::process::id()), "events.db.lock", "stop that one"]
    {
        assert!(refused.contains(part), "{refused}");
    }
}

#[test]
fn what_is_not_this_log_is_refused_and_left_as_it_was() {
    let place = place();
    let refuse = |path: &Path, partitions| Log::open(path, TOPIC, partitions).err().expect("refused").to_string();

    std::fs::write(&place.path, "registered,solved\n".repeat(100)).expect("write");
    let before = std::fs::read(&place.path).expect("read");
    let said = refuse(&place.path, 4);
    assert!(said.contains("events.db: found a file that is no SQLite database, expected a log"), "{said}");
    assert_eq!(std::fs::read(&place.path).expect("read"), before);

    let other = place.path.with_file_name("other.db");
    rusqlite::Connection::open(&other).and_then(|c| c.execute_batch("CREATE TABLE a (b)")).expect("create");
    let before = std::fs::read(&other).expect("read");
    let said = refuse(&other, 4);
    assert!(said.contains("found an SQLite database of another kind"), "{said}");
    assert_eq!(std::fs::read(&other).expect("read"), before);

    let newer = place.path.with_file_name("newer.db");
    Log::open(&newer, TOPIC, 4).expect("open").file.conn.execute_batch("PRAGMA user_version = 2").expect("set");
    let said = refuse(&newer, 4);
    assert!(said.contains("newer.db: found format 2, expected at most 1"), "{said}");

    let four = place.path.with_file_name("four.db");
    let log = Log::open(&four, TOPIC, 4).expect("open");
    let said = refuse(&four, 3);
    assert!(said.contains("four.db: found 4 partitions, expected 3"), "{said}");
    let said = Log::open(&four, "other", 4).err().expect("refused").to_string();
    assert!(said.contains("found topic \"hunt-events\", expected \"other\""), "{said}");
    let again = Log::open_existing(&four).expect("open");
    assert_eq!(again.identity(), log.identity());
    assert_eq!(again.identity().topics[0].partitions, 4);

    let said = refuse(&place.path.with_file_name("missing").join("events.db"), 4);
    assert!(said.contains("missing: ") && said.contains("expected a writable directory"), "{said}");
    let said = refuse(place.path.parent().expect("a parent"), 4);
    assert!(said.contains("found a directory"), "{said}");
    let said = refuse(&place.path.with_file_name("none.db"), 0);
    assert!(said.contains("found partitions = 0"), "{said}");
}
