//! The Kafka source against a real Kafka: what is read, from where, and what is said when it cannot be.

mod broker;
mod member;

use broker::{Right, broker, send, send_raw};
use huntline::position::{Epoch, Position};
use huntline::record::PartitionId;
use huntline::source::kafka::{Error, Limits, OnGap, Settings, Start, identity, refused_setting, resolve_start, side_read};
use huntline::source::{Command, SideEvent, SideRead};
use huntline::time::Micros;
use member::{Ledger, Member};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::Producer;
use std::time::{Duration, Instant};

fn settings(topic: &str) -> Settings {
    Settings {
        brokers: vec![broker().address.clone()],
        group: format!("group-of-{topic}"),
        topics: vec![topic.to_owned()],
        instance: String::new(),
        on_gap: OnGap::Halt,
        librdkafka: Default::default(),
        sasl_password: None,
        assign_all: false,
        limits: Limits::default(),
    }
}

fn partition(topic: &str, number: i32) -> PartitionId {
    PartitionId::new(topic, number)
}

fn refusal<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    match result.expect_err("a refusal") {
        Error::Refused(why) => why,
        other => panic!("refused otherwise: {other:?}"),
    }
}

#[test]
fn every_record_comes_once_and_in_order_from_four_partitions_whatever_its_compression() {
    let topic = "compressions";
    broker().create_topic(topic, 4, &[]);
    for (i, codec) in ["lz4", "zstd", "gzip", "snappy", "none"].iter().enumerate() {
        let producer = broker().producer(&[("compression.codec", codec)]);
        for p in 0..4 {
            send(&producer, topic, p, i as u64 * 4000..(i as u64 + 1) * 4000, 100);
        }
    }
    let ledger = Ledger::default();
    let mut member = Member::start(&settings(topic), &ledger);
    member.until("all records", |m| m.records >= 80_000);
    // And a late one at once: nothing in flight, no waiting for more.
    let producer = broker().producer(&[]);
    send(&producer, topic, 2, 20_000..20_001, 0);
    member.until("one more", |m| m.records >= 80_001);
    for p in 0..4 {
        let expected: Vec<u64> = (0..if p == 2 { 20_001 } else { 20_000 }).collect();
        assert_eq!(ledger.numbers(&partition(topic, p)), expected);
    }
    let end = partition(topic, 2);
    member.until("the end to be told", |m| m.ends.get(&end) == Some(&Position(20_001)));
    member.stop();
}

#[test]
fn aborted_transactions_are_no_records_and_the_position_passes_their_markers_at_the_end() {
    let topic = "transactions";
    broker().create_topic(topic, 1, &[]);
    let producer = broker().producer(&[("transactional.id", "t-1")]);
    producer.init_transactions(Duration::from_secs(20)).expect("init");
    for (numbers, commit) in [(0..10, true), (10..20, false), (20..30, true), (30..40, false)] {
        producer.begin_transaction().expect("begin");
        send(&producer, topic, 0, numbers, 0);
        let end = Duration::from_secs(20);
        if commit { producer.commit_transaction(end) } else { producer.abort_transaction(end) }.expect("end");
    }
    let ledger = Ledger::default();
    let mut member = Member::start(&settings(topic), &ledger);
    let id = partition(topic, 0);
    // 40 records and 4 markers.
    member.until("the end", |m| m.ledger.position(&id) == 44);
    assert_eq!(ledger.numbers(&id), (0..10).chain(20..30).collect::<Vec<u64>>());
    // An open transaction is not read, and not in the end that is told.
    producer.begin_transaction().expect("begin");
    send(&producer, topic, 0, 40..50, 0);
    member.until("the last stable offset", |m| m.ends.get(&id) == Some(&Position(44)));
    producer.abort_transaction(Duration::from_secs(20)).expect("abort");
    member.until("the position past the abort", |m| m.ledger.position(&id) == 55);
    assert_eq!(member.records, 20);
    member.stop();
}

/// Settings of a group that notices its members quickly.
fn lively(topic: &str) -> Settings {
    let mut settings = settings(topic);
    settings.librdkafka.insert("heartbeat.interval.ms".into(), "300".into());
    settings
}

/// Lets both members take events until `done`.
fn both(a: &mut Member, b: &mut Member, what: &str, done: impl Fn(&Member, &Member) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done(a, b) {
        assert!(Instant::now() < deadline, "{what} did not happen: {:#?} {:#?}", a.said, b.said);
        a.within(Duration::from_millis(5), |_| false);
        b.within(Duration::from_millis(5), |_| false);
    }
}

#[test]
fn members_join_and_leave_under_load_and_every_record_is_committed_once() {
    let topic = "rebalances";
    broker().create_topic(topic, 6, &[]);
    let (done, stop) = std::sync::mpsc::channel::<()>();
    let load = std::thread::spawn(move || {
        let producer = broker().producer(&[("compression.codec", "lz4")]);
        let mut sent = 0;
        while stop.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            for p in 0..6 {
                send(&producer, topic, p, sent..sent + 1000, 50);
            }
            sent += 1000;
        }
        sent
    });
    let ledger = Ledger::default();
    let settings = lively(topic);
    let mut first = Member::start(&settings, &ledger);
    first.until("all partitions", |m| m.claims.len() == 6 && m.records > 1000);
    for _ in 0..3 {
        let mut second = Member::start(&settings, &ledger);
        both(&mut first, &mut second, "sharing", |a, b| a.claims.len() == 3 && b.claims.len() == 3 && b.records > 1000);
        second.stop();
        first.until("all partitions again", |m| m.claims.len() == 6);
    }
    drop(done);
    let sent = load.join().expect("the load");
    first.until("everything", |m| m.ledger.total() >= 6 * sent as usize);
    for p in 0..6 {
        assert_eq!(ledger.numbers(&partition(topic, p)), (0..sent).collect::<Vec<u64>>(), "partition {p}");
    }
    assert_eq!(first.revocations, 3, "{:#?}", first.said);
    first.stop();
}

#[test]
fn a_rebalance_while_everything_is_read_leaves_no_later_record_out() {
    let topic = "quiet-rebalances";
    broker().create_topic(topic, 4, &[]);
    let producer = broker().producer(&[]);
    let (ledger, settings) = (Ledger::default(), lively(topic));
    let mut first = Member::start(&settings, &ledger);
    let mut sent = 0;
    let mut one_each = || {
        for p in 0..4 {
            send(&producer, topic, p, sent..sent + 1, 0);
        }
        sent += 1;
        sent
    };
    let read = |m: &Member, sent: u64| (0..4).all(|p| m.ledger.numbers(&partition(topic, p)).len() as u64 == sent);
    for _ in 0..3 {
        let sent = one_each();
        first.until("one record of each", |m| read(m, sent));
        let mut second = Member::start(&settings, &ledger);
        both(&mut first, &mut second, "sharing", |a, b| a.claims.len() == 2 && b.claims.len() == 2);
        let sent = one_each();
        both(&mut first, &mut second, "one more of each", |a, _| read(a, sent));
        second.stop();
        first.until("all partitions again", |m| m.claims.len() == 4);
    }
    let sent = one_each();
    first.until("the last of each", |m| read(m, sent));
    for p in 0..4 {
        assert_eq!(ledger.numbers(&partition(topic, p)), (0..sent).collect::<Vec<u64>>());
    }
    first.stop();
}

#[test]
fn a_partition_given_up_is_taken_up_again_at_another_position_and_epoch() {
    let topic = "taken-up";
    broker().create_topic(topic, 1, &[]);
    let producer = broker().producer(&[]);
    send(&producer, topic, 0, 0..20_000, 100);
    let (ledger, id) = (Ledger::default(), partition(topic, 0));
    let mut member = Member::start(&settings(topic), &ledger);
    member.until("all records", |m| m.records == 20_000);
    for round in 1..=5 {
        member.commands.send(Command::Unassign { partition: id.clone() }).expect("listens");
        // The store went back in time: every other round begins below what was read.
        ledger.begin(&id, Position(if round % 2 == 0 { 20_000 } else { round * 1000 }));
        let (before, expected) = (member.records, if round % 2 == 0 { 0 } else { 20_000 - round as usize * 1000 });
        member.claim(id.clone());
        member.until("the rest", |m| m.records == before + expected && m.claims[&id].1 == Position(20_000));
    }
    send(&producer, topic, 0, 20_000..20_010, 0);
    member.until("new records", |m| m.claims[&id].1 == Position(20_010));
    member.stop();
}

#[test]
fn a_start_is_the_beginning_the_end_or_a_time() {
    let topic = "starts";
    broker().create_topic(topic, 2, &[]);
    send(&broker().producer(&[]), topic, 0, 0..100, 0);
    broker().delete_records(topic, 0, 10);
    let (settings, id) = (settings(topic), partition(topic, 0));
    let at = |n: i64| Start::At(Micros((1_700_000_000_000 + n) * 1000));
    let resolve = |id: &PartitionId, start| resolve_start(&settings, id, start).expect("a position");
    assert_eq!(resolve(&id, Start::Beginning), Position(10));
    assert_eq!(resolve(&id, Start::End), Position(100));
    assert_eq!(resolve(&id, at(42)), Position(42));
    assert_eq!(resolve(&id, Start::At(Micros((1_700_000_000_000 + 41) * 1000 + 1))), Position(42));
    assert_eq!(resolve(&id, at(0)), Position(10));
    assert_eq!(resolve(&id, at(1_000_000)), Position(100));
    assert_eq!(resolve(&partition(topic, 1), at(42)), Position(0));
}

#[test]
fn a_partition_waits_when_its_bytes_in_flight_are_used_up_and_loses_nothing() {
    let topic = "back-pressure";
    broker().create_topic(topic, 2, &[]);
    let producer = broker().producer(&[("compression.codec", "lz4")]);
    for p in 0..2 {
        send(&producer, topic, p, 0..40_000, 200);
    }
    let limits = Limits { batch_records: 4096, batch_bytes: 1 << 20, partition_in_flight_bytes: 5 << 19 };
    let ledger = Ledger::default();
    let mut member = Member::start(&Settings { limits, ..settings(topic) }, &ledger);
    member.kept = Some(Vec::new());
    let in_flight = |m: &Member| m.kept.as_ref().map_or(0, |kept| kept.iter().map(|b| b.bytes()).sum::<usize>());
    member.until("both partitions to be full", |m| in_flight(m) > 3 << 20);
    assert!(!member.within(Duration::from_secs(2), |m| in_flight(m) > 5 << 20), "more in flight than allowed");
    assert!(member.records < 80_000);
    // Give back one batch at a time: each makes room for about one more.
    while member.records < 40_000 {
        let kept = member.kept.as_mut().expect("kept");
        kept.remove(0);
        let before = member.records;
        member.until("room to be used", |m| m.records > before || in_flight(m) > 3 << 20);
        assert!(in_flight(&member) <= 5 << 20);
    }
    member.kept = None;
    member.until("the rest", |m| m.records >= 80_000);
    for p in 0..2 {
        assert_eq!(ledger.numbers(&partition(topic, p)), (0..40_000).collect::<Vec<u64>>());
    }
    assert!(member.batches > 20, "{}", member.batches);
    member.stop();
}

#[test]
fn records_that_kafka_no_longer_has_are_a_gap_that_halts_or_goes_on_as_configured() {
    let topic = "gaps";
    broker().create_topic(topic, 1, &[]);
    let producer = broker().producer(&[]);
    send(&producer, topic, 0, 0..100, 0);
    broker().delete_records(topic, 0, 60);
    let id = partition(topic, 0);
    let ledger = Ledger::default();
    ledger.begin(&id, Position(20));
    let mut member = Member::start(&settings(topic), &ledger);
    let gap = |m: &Member| m.said.contains(&format!("gap {id} 20..60"));
    member.until("the gap", gap);
    assert!(!member.within(Duration::from_secs(1), |m| m.records > 0), "it went on");
    member.stop();

    let ledger = Ledger::default();
    ledger.begin(&id, Position(20));
    let mut member = Member::start(&Settings { on_gap: OnGap::Continue, ..settings(topic) }, &ledger);
    member.until("the gap and the rest", |m| gap(m) && m.records == 40);
    assert_eq!(ledger.numbers(&id), (60..100).collect::<Vec<u64>>());
    send(&producer, topic, 0, 100..110, 0);
    member.until("what comes later", |m| m.records == 50);
    member.stop();
}

#[test]
fn a_position_beyond_the_end_of_the_log_halts_the_partition() {
    let topic = "beyond";
    broker().create_topic(topic, 1, &[]);
    send(&broker().producer(&[]), topic, 0, 0..10, 0);
    let ledger = Ledger::default();
    ledger.begin(&partition(topic, 0), Position(500));
    let mut member = Member::start(&settings(topic), &ledger);
    member.until("a halt", |m| {
        m.said.iter().any(|s| s.starts_with("Halted") && s.contains("position is 500") && s.contains("ends at 10"))
    });
    assert_eq!(member.records, 0);
    member.stop();
}

#[test]
fn a_lone_daemon_takes_every_partition_without_a_group() {
    let topic = "alone";
    broker().create_topic(topic, 3, &[]);
    let producer = broker().producer(&[]);
    for p in 0..3 {
        send(&producer, topic, p, 0..1000, 10);
    }
    let ledger = Ledger::default();
    let settings = Settings { assign_all: true, instance: "ignored".into(), ..settings(topic) };
    let mut member = Member::start(&settings, &ledger);
    member.until("all records", |m| m.records == 3000);
    let mut second = Member::start(&settings, &Ledger::default());
    second.until("all records, too", |m| m.records == 3000);
    assert_eq!((member.claims.len(), second.claims.len(), member.revocations), (3, 3, 0));
    second.stop();
    member.stop();
}

#[test]
fn a_static_member_that_comes_back_has_its_partitions_at_once() {
    let topic = "static";
    broker().create_topic(topic, 2, &[]);
    send(&broker().producer(&[]), topic, 0, 0..100, 0);
    let settings = Settings { instance: "one".into(), ..settings(topic) };
    let ledger = Ledger::default();
    let mut member = Member::start(&settings, &ledger);
    member.until("records", |m| m.records == 100 && m.claims.len() == 2);
    member.stop();
    send(&broker().producer(&[]), topic, 0, 100..200, 0);
    let mut member = Member::start(&settings, &ledger);
    member.until("the rest", |m| m.records == 100 && m.claims.len() == 2);
    assert_eq!(ledger.numbers(&partition(topic, 0)), (0..200).collect::<Vec<u64>>());
    member.stop();
}

#[test]
fn kafkas_own_offsets_are_written_when_asked() {
    use rdkafka::consumer::{BaseConsumer, Consumer};
    let topic = "lag-tools";
    broker().create_topic(topic, 1, &[]);
    send(&broker().producer(&[]), topic, 0, 0..10, 0);
    let settings = settings(topic);
    let mut member = Member::start(&settings, &Ledger::default());
    member.until("records", |m| m.records == 10);
    member.commands.send(Command::CommitOffsets(vec![(partition(topic, 0), Position(7))])).expect("listens");
    let mut config = broker().config();
    let tool: BaseConsumer = config.set("group.id", &settings.group).create().expect("a consumer");
    member.until("the offset", |_| {
        let mut list = rdkafka::TopicPartitionList::new();
        list.add_partition(topic, 0);
        let found = tool.committed_offsets(list, Duration::from_secs(5)).expect("an answer");
        found.elements()[0].offset() == rdkafka::Offset::Offset(7)
    });
    member.stop();
}

#[test]
fn null_and_empty_are_kept_apart_in_keys_values_and_headers() {
    let topic = "nulls";
    broker().create_topic(topic, 1, &[]);
    let producer = broker().producer(&[]);
    let headers = OwnedHeaders::new()
        .insert(Header { key: "a", value: Some("1") })
        .insert(Header { key: "b", value: Some("") })
        .insert(Header { key: "a", value: None::<&str> });
    send_raw(&producer, topic, None, None, OwnedHeaders::new());
    send_raw(&producer, topic, Some(b""), Some(b""), headers);
    send_raw(&producer, topic, Some(b"key"), Some(&[0, 255]), OwnedHeaders::new());
    let mut member = Member::start(&settings(topic), &Ledger::default());
    member.kept = Some(Vec::new());
    member.until("three records", |m| m.records == 3);
    let kept = member.kept.take().expect("kept");
    let seen: Vec<_> = kept
        .iter()
        .flat_map(|b| b.records.iter().map(move |r| (b.key(r), b.value(r), b.headers(r).collect::<Vec<_>>())))
        .collect();
    assert_eq!(seen[0], (None, None, vec![]));
    let expected: Vec<(&[u8], Option<&[u8]>)> = vec![(b"a", Some(b"1")), (b"b", Some(b"")), (b"a", None)];
    assert_eq!(seen[1], (Some(&b""[..]), Some(&b""[..]), expected));
    assert_eq!(seen[2], (Some(&b"key"[..]), Some(&[0, 255][..]), vec![]));
    member.stop();
}

#[test]
fn a_topic_has_an_identity_that_a_re_created_one_does_not_share() {
    let topic = "identities";
    broker().create_topic(topic, 3, &[("message.timestamp.type", "LogAppendTime")]);
    let found = identity(&settings(topic)).expect("an identity");
    assert_eq!(found.warnings, Vec::<String>::new());
    assert!(!found.log.cluster.is_empty());
    assert_eq!((found.log.topics.len(), found.log.topics[0].topic.as_str(), found.log.topics[0].partitions), (1, topic, 3));
    assert!(found.log.topics[0].id.as_ref().is_some_and(|id| id.len() > 10));
    assert_eq!(identity(&settings(topic)).expect("again"), found);
    broker().delete_topic(topic);
    broker().create_topic(topic, 3, &[]);
    let again = identity(&settings(topic)).expect("an identity");
    assert_eq!(again.log.cluster, found.log.cluster);
    assert!(again.log.topics[0].id.is_some() && again.log.topics[0].id != found.log.topics[0].id);
    assert!(again.warnings.len() == 1 && again.warnings[0].contains("CreateTime"), "{:?}", again.warnings);
}

#[test]
fn what_cannot_be_read_is_refused_by_name() {
    let topic = "refusals";
    broker().create_topic(topic, 1, &[]);
    broker().create_topic("refusals-compacted", 1, &[("cleanup.policy", "compact,delete")]);
    let good = settings(topic);

    let missing = refusal(identity(&Settings { topics: vec![topic.into(), "refusals-absent".into()], ..good.clone() }));
    assert!(missing.contains("\"refusals-absent\" does not exist"), "{missing}");
    let compacted = refusal(identity(&settings("refusals-compacted")));
    assert!(compacted.contains("\"refusals-compacted\" is compacted (cleanup.policy=compact,delete)"), "{compacted}");

    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").to_string();
    let begun = Instant::now();
    match identity(&Settings { brokers: vec![free.clone()], ..good.clone() }) {
        Err(Error::Unreachable(why)) => assert!(why.contains(&free) && why.contains("refused"), "{why}"),
        other => panic!("{other:?}"),
    }
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());

    let with = |key: &str, value: &str| {
        let mut settings = good.clone();
        settings.librdkafka.insert(key.into(), value.into());
        identity(&settings).expect_err("a refusal").to_string()
    };
    assert!(refused_setting("enable.auto.commit").is_some());
    assert!(with("enable.auto.commit", "true").contains("enable.auto.commit"));
    let unknown = with("no.such.setting", "1");
    assert!(unknown.contains("no.such.setting"), "{unknown}");
    if !cfg!(feature = "tls") {
        let tls = with("security.protocol", "SASL_SSL");
        assert!(tls.contains("cargo feature `tls`"), "{tls}");
        let authority = with("ssl.ca.location", "ca.pem");
        assert!(authority.contains("ssl.ca.location") && authority.contains("cargo feature `tls`"), "{authority}");
    }
}

#[test]
fn a_wrong_password_and_each_missing_right_are_told_by_name() {
    let topic = "rights";
    broker().create_topic(topic, 1, &[]);
    send(&broker().producer(&[]), topic, 0, 0..10, 0);
    let guest = |password: &str| {
        let mut settings = Settings { brokers: vec![broker().login_address.clone()], ..settings(topic) };
        for (key, value) in [("security.protocol", "sasl_plaintext"), ("sasl.mechanism", "PLAIN"), ("sasl.username", "guest")] {
            settings.librdkafka.insert(key.into(), value.into());
        }
        settings.sasl_password = Some(password.into());
        settings
    };
    let wrong = refusal(identity(&guest("wrong")));
    assert!(wrong.contains("refuses the login of user \"guest\"") && !wrong.contains("wrong"), "{wrong}");
    let guest = guest("guest");
    let unseen = refusal(identity(&guest));
    assert!(unseen.contains("does not let user \"guest\" see topic \"rights\""), "{unseen}");

    broker().grant(Right::DescribeTopic, topic);
    let found = within_a_while(|| identity(&guest).ok());
    assert!(found.log.topics[0].id.is_some());
    assert!(found.warnings.iter().any(|w| w.contains("whether one is compacted is unknown")), "{:?}", found.warnings);
    let mut member = Member::start(&guest, &Ledger::default());
    member.until("the refusal", |m| {
        m.said.iter().any(|s| s.starts_with("Failed") && s.contains("join group") && s.contains(&guest.group))
    });

    broker().grant(Right::ReadGroup, &guest.group);
    let mut member = Member::start(&guest, &Ledger::default());
    member.until("the trouble", |m| m.said.iter().any(|s| s.starts_with("Trouble") && s.contains("the right Read on topic")));
    broker().grant(Right::ReadTopic, topic);
    member.until("the records", |m| m.records == 10);
    member.stop();
}

/// What a broker learns (a right, say) it learns a moment later.
fn within_a_while<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "it did not come to pass");
    }
}

/// Runs a pass to its end: the numbers, the gaps as text, and `next` of the last batch.
fn run_side(settings: &Settings, what: &SideRead) -> (Vec<u64>, Vec<String>, Position) {
    let (sender, mut out) = tokio::sync::mpsc::channel(2);
    let pass = side_read(settings.clone(), what.clone(), sender);
    let (mut numbers, mut gaps, mut next) = (Vec::new(), Vec::new(), what.from);
    while let Some(event) = out.blocking_recv() {
        match event {
            SideEvent::Batch(batch) => {
                assert_eq!(batch.epoch, what.epoch);
                for record in &batch.records {
                    assert!(record.offset.0 >= next.0);
                    next = record.offset.next();
                    let value = String::from_utf8_lossy(batch.value(record).unwrap_or_default()).into_owned();
                    numbers.extend(value.split(' ').next().and_then(|n| n.parse::<u64>().ok()));
                }
                assert!(batch.next >= next);
                next = batch.next;
            }
            SideEvent::Gap { from, to } => gaps.push(format!("{from}..{to}")),
            SideEvent::Failed(why) => panic!("{why}"),
        }
    }
    pass.join().expect("the pass ends");
    (numbers, gaps, next)
}

#[test]
fn a_side_reader_reads_the_range_it_is_given_and_no_more() {
    let topic = "side";
    broker().create_topic(topic, 1, &[]);
    let producer = broker().producer(&[("transactional.id", "side-1"), ("compression.codec", "lz4")]);
    producer.init_transactions(Duration::from_secs(20)).expect("init");
    for (numbers, commit) in [(0..30_000, true), (30_000..40_000, false)] {
        producer.begin_transaction().expect("begin");
        send(&producer, topic, 0, numbers, 100);
        let end = Duration::from_secs(20);
        if commit { producer.commit_transaction(end) } else { producer.abort_transaction(end) }.expect("end");
    }
    let settings = settings(topic);
    let range =
        |from, until| SideRead { partition: partition(topic, 0), epoch: Epoch(7), from: Position(from), until: Position(until) };
    let all = (100..20_000).collect::<Vec<u64>>();
    assert_eq!(run_side(&settings, &range(100, 20_000)), (all, vec![], Position(20_000)));
    // Past the commit marker at 30,000, the aborted records and their marker at 40,001.
    let (numbers, gaps, next) = run_side(&settings, &range(29_000, 40_002));
    assert_eq!((numbers, gaps, next), ((29_000..30_000).collect(), vec![], Position(40_002)));
    assert_eq!(run_side(&settings, &range(50, 50)), (vec![], vec![], Position(50)));

    broker().delete_records(topic, 0, 25_000);
    let (numbers, gaps, next) = run_side(&settings, &range(1000, 25_010));
    assert_eq!((numbers, gaps, next), ((25_000..25_010).collect(), vec!["1000..25000".to_owned()], Position(25_010)));

    // Dropping the receiver cancels a pass.
    let (sender, out) = tokio::sync::mpsc::channel(1);
    let pass = side_read(settings.clone(), range(25_000, 40_002), sender);
    drop(out);
    pass.join().expect("the pass ends");
}
