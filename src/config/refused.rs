//! The librdkafka properties that users may not set: huntline sets them itself, or another value
//! would break what a partial is (records skipped, read twice, or read under another's claim).

/// What is wrong with a property that librdkafka itself was asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// Of its name rather than its value.
    pub name: bool,
    /// Shown only where the property holds no secret.
    pub found: String,
    pub expected: String,
}

/// Asks librdkafka, as this huntline has it, about one property: name and value.
///
/// Why it is handed over: the configuration knows no outside library, and only some commands ask.
pub type Trial<'a> = &'a dyn Fn(&str, &str) -> Option<Unfit>;

/// Name, and what to do instead.
pub(super) const REFUSED: [(&str, &str); 31] = [
    (
        "allow.auto.create.topics",
        "topics made beforehand: a topic that comes to be by being read has another id than the one that was meant",
    ),
    ("auto.commit.enable", "none: positions are kept in the store"),
    ("auto.commit.interval.ms", "none: positions are kept in the store"),
    ("auto.offset.reset", "start and on_gap in [kafka]"),
    ("bootstrap.servers", "brokers in [kafka]"),
    ("check.crcs", "none: checksums are always checked"),
    ("consume.callback.max.messages", "none: huntline reads in batches of its own"),
    ("enable.auto.commit", "none: positions are kept in the store"),
    ("enable.auto.offset.store", "none: positions are kept in the store"),
    ("enable.partition.eof", "none: huntline needs it to tell idle from stuck"),
    ("enabled_events", "none: huntline listens for rebalances"),
    ("group.id", "group in [kafka]"),
    ("group.instance.id", "instance in [kafka]"),
    ("group.protocol", "none: huntline claims partitions under the classic protocol"),
    ("group.protocol.type", "none: huntline is a consumer"),
    ("group.remote.assignor", "none: huntline claims partitions under the classic protocol"),
    ("isolation.level", "none: records of aborted transactions are no records"),
    ("max.poll.interval.ms", "none: huntline's reader never stops polling, and a shorter interval takes its partitions away"),
    ("metadata.broker.list", "brokers in [kafka]"),
    ("offset.store.method", "none: positions are kept in the store"),
    ("offset.store.path", "none: positions are kept in the store"),
    ("offset.store.sync.interval.ms", "none: positions are kept in the store"),
    ("partition.assignment.strategy", "none: huntline claims partitions as cooperative-sticky gives them"),
    ("plugin.library.paths", "none: a plugin may change records on their way"),
    ("rebalance_cb", "none: huntline listens for rebalances"),
    ("offset_commit_cb", "none: positions are kept in the store"),
    ("consume_cb", "none: huntline reads in batches of its own"),
    ("test.mock.broker.rtt", "a real cluster, or huntline demo"),
    ("test.mock.num.brokers", "a real cluster, or huntline demo"),
    ("topic.blacklist", "topics in [kafka]"),
    ("topic.metadata.refresh.interval.ms", "none: huntline looks for new partitions every 10 seconds"),
];
