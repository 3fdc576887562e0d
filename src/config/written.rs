//! The configuration **as written**: what a file, the built-in defaults and the environment may
//! say, and nothing else. [`super::structure`] checks each layer against the schema of these types,
//! serde reads the merged layers into them, [`super::compile`] gives them meaning.
//!
//! Invariant: unknown keys are errors everywhere, every key may be absent, and the doc comments are
//! the descriptions in `huntline config --schema`.

use super::secrets::{MASK, is_secret_property, mask_url};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;

/// A text leaf with its own JSON Schema; `x-expected` is how messages name it.
macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $expected:literal $(, $key:literal = $value:expr)*) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        #[schemars(extend("x-expected" = $expected $(, $key = $value)*))]
        pub struct $name(pub String);
    };
}

text!(
    /// `(digits unit)+`, units ms s m h d.
    Length, "a duration such as \"500ms\", \"5s\" or \"1h30m\" (units ms s m h d)", "pattern" = "^([0-9]+(ms|s|m|h|d))+$"
);
text!(
    /// A duration, or `never`.
    LengthOrNever, "\"never\" or a duration such as \"500ms\", \"5s\" or \"1h30m\" (units ms s m h d)",
    "pattern" = "^(never|([0-9]+(ms|s|m|h|d))+)$"
);
text!(
    /// A duration, or `forever`.
    LengthOrForever, "\"forever\" or a duration such as \"500ms\", \"5s\" or \"1h30m\" (units ms s m h d)",
    "pattern" = "^(forever|([0-9]+(ms|s|m|h|d))+)$"
);
text!(
    /// Digits and a unit: B KB MB GB KiB MiB GiB.
    Size, "a size such as \"64KiB\", \"8MiB\" or \"1GB\"", "pattern" = "^[0-9]+(B|[KMG]i?B)$"
);
text!(
    /// `key`, `header:NAME` or a JSON pointer (RFC 6901).
    PlaceText, "\"key\", \"header:NAME\" or a JSON pointer such as \"/data/hunt_id\"", "pattern" = "^(key|timestamp|header:.+|(/.*))$"
);
text!(
    /// A JSON pointer (RFC 6901).
    PointerText, "a JSON pointer such as \"/data/points\"", "pattern" = "^(/([^~/]|~0|~1)*)*$"
);

/// A password or token; shown as `***`.
#[derive(Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(extend("x-expected" = "a string", "writeOnly" = true))]
pub struct Hidden(pub String);

impl Serialize for Hidden {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(MASK)
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

/// The store's URL; shown without the password it may hold.
#[derive(Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(extend("x-expected" = "a URL such as \"postgres://user@host/database\" or \"sqlite:huntline.db\""))]
pub struct Url(pub String);

impl Serialize for Url {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&mask_url(&self.0))
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&mask_url(&self.0), f)
    }
}

/// Properties of librdkafka; those that hold secrets are shown as `***`.
#[derive(Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Properties(pub BTreeMap<String, Property>);

impl Serialize for Properties {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(
            self.0
                .iter()
                .map(|(name, value)| (name, if is_secret_property(name) { Property::Text(MASK.into()) } else { value.clone() })),
        )
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.iter().map(|(name, value)| (name, (!is_secret_property(name)).then_some(value)));
        f.debug_map().entries(shown).finish()
    }
}

/// One or several.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum OneOrMore<T> {
    One(T),
    More(Vec<T>),
}

impl<T> OneOrMore<T> {
    pub fn as_slice(&self) -> &[T] {
        match self {
            OneOrMore::One(one) => std::slice::from_ref(one),
            OneOrMore::More(more) => more,
        }
    }
}

/// A table of the configuration: every key optional, no other key allowed.
macro_rules! table {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            $($(#[$field_doc])* #[serde(skip_serializing_if = "Option::is_none")] pub $field: Option<$type>,)*
        }
    };
}

table!(
    /// The configuration of huntline.
    Written {
        kafka: Kafka,
        embedded_log: EmbeddedLog,
        store: Store,
        snapshot: Snapshot,
        http: Http,
        event: Event,
        /// Topics whose events have places of their own, by name.
        topic: BTreeMap<String, Topic>,
        dedup: Dedup,
        time: Time,
        failure: Failure,
        passivate: Passivate,
        dead_letters: DeadLetters,
        logging: Logging,
        /// What is kept of every hunt, by name: `[a-z][a-z0-9_]{0,62}`.
        aggregates: BTreeMap<String, Aggregate>,
        rollup: Rollup,
    }
);

table!(
    /// Where the records come from.
    Kafka {
        /// Brokers to ask first, `host:port`.
        brokers: Vec<String>,
        /// Consumer group.
        group: String,
        topics: Vec<String>,
        /// Where a topic never read before begins: `beginning`, `end` or an RFC 3339 time.
        start: String,
        /// A name makes the member static: a restart takes its partitions back at once.
        instance: String,
        /// SASL password; better from `sasl_password_file` or the environment.
        sasl_password: Hidden,
        /// File that holds the SASL password.
        sasl_password_file: String,
        on_gap: OnGap,
        /// Properties of librdkafka, passed through.
        librdkafka: Properties,
    }
);

/// What to do about records that Kafka no longer has.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnGap {
    Halt,
    Continue,
}

/// A property of librdkafka: text, or a number or boolean taken as text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Property {
    Text(String),
    Integer(i64),
    Boolean(bool),
}

table!(
    /// A log inside this process instead of Kafka: one machine, one daemon.
    EmbeddedLog {
        /// Its file.
        path: String,
        partitions: i64,
    }
);

table!(
    /// Where state is kept.
    Store {
        /// `postgres://user@host/database` (sslmode as libpq), or `sqlite:FILE` (one daemon: it takes all partitions).
        url: Url,
        /// Password of the store; better from `password_file` or the environment.
        password: Hidden,
        /// File that holds the password.
        password_file: String,
    }
);

table!(
    /// When state is saved.
    Snapshot {
        /// Between two checkpoints of a partition.
        interval: Length,
        /// Changed state and snapshots not yet saved; past it a checkpoint starts early, then reading pauses.
        max_pending: Size,
    }
);

table!(
    /// The HTTP API and the console.
    Http {
        /// `address:port`; one that is not loopback needs `[http.auth]`, or `insecure = true`.
        listen: String,
        /// The URL at which other instances ask this one.
        advertise: String,
        /// Lets an address that is not loopback go without tokens.
        insecure: bool,
        auth: HttpAuth,
    }
);

table!(
    /// Bearer tokens; one a line in the files.
    HttpAuth {
        /// Tokens that may read; better from `read_tokens_file` or the environment.
        read_tokens: Vec<Hidden>,
        read_tokens_file: String,
        /// Tokens that may read and act; better from `admin_tokens_file` or the environment.
        admin_tokens: Vec<Hidden>,
        admin_tokens_file: String,
    }
);

table!(
    /// Where the parts of an event stand.
    Event {
        hunt: PlaceText,
        /// One place, or several whose parts count as one id.
        id: OneOrMore<PlaceText>,
        #[serde(rename = "type")]
        event_type: PlaceText,
        /// A place, or `timestamp`: the record's.
        time: PlaceText,
        /// Longest value.
        max_bytes: Size,
    }
);

table!(
    /// One topic's own places.
    Topic {
        event: Event,
    }
);

table!(
    /// Which events count once.
    Dedup {
        /// How many ids a partial remembers; 0 turns it off.
        last: i64,
    }
);

table!(
    /// What late means.
    Time {
        lateness: Length,
        /// How long a hunt is silent before its windows close without it, or `never`.
        idle: LengthOrNever,
        /// How far an event's time may lie beyond its record's, or `never`.
        max_ahead: LengthOrNever,
    }
);

table!(
    /// What happens when an event cannot be folded.
    Failure {
        policy: Policy,
        /// Of one partial.
        max_state: Size,
        breaker: Breaker,
    }
);

/// What becomes of an event that cannot be folded.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    DeadLetter,
    Park,
}

table!(
    /// Trips when this share of a partition's newest records are dead letters.
    Breaker {
        records: i64,
        share: f64,
    }
);

table!(
    /// When an idle hunt's actor is dropped.
    Passivate {
        idle: Length,
    }
);

table!(
    /// How long dead letters stay.
    DeadLetters {
        /// A time after which replayed and discarded ones are deleted, or `forever`.
        keep: LengthOrForever,
    }
);

table!(
    /// What is logged and how.
    Logging {
        level: Level,
        format: Format,
    }
);

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    Text,
    Json,
}

table!(
    /// One thing kept of every hunt.
    Aggregate {
        kind: Kind,
        /// A type, a list of types, or globs; absent: every event.
        on: OneOrMore<String>,
        /// A predicate, in a subset of CEL.
        #[serde(rename = "where")]
        filter: String,
        /// The member that is added, compared, kept or counted.
        of: PointerText,
        /// The key of `top` and `funnel`.
        by: PointerText,
        /// What `top` adds; absent: it counts.
        sum: PointerText,
        /// How many items `top` shows.
        limit: i64,
        /// Up to how many keys the value is exact.
        exact_up_to: i64,
        /// Which quantiles.
        at: Vec<f64>,
        /// The types of a `funnel`, in order.
        stages: Vec<String>,
        window: Window,
    }
);

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Count,
    Sum,
    Min,
    Max,
    Mean,
    First,
    Last,
    Distinct,
    Top,
    Quantiles,
    Funnel,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Count => "count",
            Kind::Sum => "sum",
            Kind::Min => "min",
            Kind::Max => "max",
            Kind::Mean => "mean",
            Kind::First => "first",
            Kind::Last => "last",
            Kind::Distinct => "distinct",
            Kind::Top => "top",
            Kind::Quantiles => "quantiles",
            Kind::Funnel => "funnel",
        }
    }
}

table!(
    /// One of `tumbling`, `hopping` (with `every`) and `session`.
    Window {
        tumbling: Length,
        hopping: Length,
        every: Length,
        session: Length,
        /// How many of the newest windows that hold anything are kept.
        keep: i64,
    }
);

table!(
    /// Aggregates kept over all hunts too.
    Rollup {
        aggregates: Vec<String>,
    }
);
