-- The store as contract 5 shows it: times as RFC 3339 text in UTC with microseconds, JSON as text, bytes as blobs.
-- Clocks are integer microseconds since 1970. Text compares by its bytes.

CREATE TABLE identity (
    one          INTEGER PRIMARY KEY DEFAULT 1 CHECK (one = 1),
    cluster      TEXT NOT NULL,
    "group"      TEXT NOT NULL,
    definitions  TEXT NOT NULL,
    idle         INTEGER,
    lateness     INTEGER NOT NULL,
    empty_view   TEXT NOT NULL CHECK (json_valid(empty_view))
) STRICT;

CREATE TABLE topics (
    topic     TEXT PRIMARY KEY,
    topic_id  TEXT
) STRICT;

CREATE TABLE partitions (
    topic          TEXT NOT NULL,
    partition      INTEGER NOT NULL,
    position       INTEGER,
    epoch          INTEGER NOT NULL,
    owner          TEXT,
    advertise      TEXT,
    checkpoint     INTEGER NOT NULL DEFAULT 0,
    clock          INTEGER,
    records        INTEGER NOT NULL DEFAULT 0,
    applied        INTEGER NOT NULL DEFAULT 0,
    duplicate      INTEGER NOT NULL DEFAULT 0,
    dead_lettered  INTEGER NOT NULL DEFAULT 0,
    ignored        INTEGER NOT NULL DEFAULT 0,
    held           INTEGER NOT NULL DEFAULT 0,
    late           INTEGER NOT NULL DEFAULT 0,
    updated_at     TEXT NOT NULL,
    PRIMARY KEY (topic, partition)
) STRICT;

CREATE TABLE partials (
    hunt_id          TEXT NOT NULL,
    topic            TEXT NOT NULL,
    partition        INTEGER NOT NULL,
    state            BLOB,
    view             TEXT CHECK (view IS NULL OR json_valid(view)),
    events           INTEGER NOT NULL DEFAULT 0,
    first_event_at   TEXT,
    last_event_at    TEXT,
    hunt_clock       INTEGER,
    partition_clock  INTEGER,
    watermark_floor  INTEGER,
    lagging          INTEGER NOT NULL DEFAULT 0,
    position         INTEGER,
    clock            INTEGER,
    held             INTEGER NOT NULL DEFAULT 0,
    reasons          INTEGER NOT NULL DEFAULT 0,
    shared           INTEGER NOT NULL DEFAULT 0,
    born             INTEGER NOT NULL,
    updated_at       TEXT NOT NULL,
    PRIMARY KEY (hunt_id, topic, partition)
) STRICT;
CREATE INDEX partials_lagging ON partials (topic, partition, hunt_id) WHERE lagging;

CREATE TABLE shared_hunts (
    hunt_id         TEXT PRIMARY KEY,
    view            TEXT CHECK (view IS NULL OR json_valid(view)),
    events          INTEGER NOT NULL DEFAULT 0,
    first_event_at  TEXT,
    last_event_at   TEXT,
    updated_at      TEXT NOT NULL
) STRICT;

CREATE TABLE dead_letters (
    topic       TEXT NOT NULL,
    partition   INTEGER NOT NULL,
    "offset"    INTEGER NOT NULL,
    hunt_id     TEXT,
    reason      TEXT NOT NULL,
    detail      TEXT NOT NULL,
    key         BLOB,
    value       BLOB,
    headers     TEXT NOT NULL,
    record_at   TEXT,
    failed_at   TEXT NOT NULL,
    state       TEXT NOT NULL DEFAULT 'rejected' CHECK (state IN ('rejected', 'replayed', 'discarded')),
    applied_at  INTEGER,
    PRIMARY KEY (topic, partition, "offset")
) STRICT;
CREATE INDEX dead_letters_hunt ON dead_letters (hunt_id, topic, partition, "offset");
CREATE INDEX dead_letters_reason ON dead_letters (reason, topic, partition, "offset");

CREATE TABLE rollup (
    aggregate   TEXT PRIMARY KEY,
    value       TEXT,
    updated_at  TEXT NOT NULL
) STRICT;

CREATE TABLE acts (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    topic      TEXT,
    partition  INTEGER,
    position   INTEGER,
    hunt_id    TEXT,
    "offset"   INTEGER,
    act        TEXT NOT NULL CHECK (act IN ('park', 'resume', 'skip', 'replay', 'discard')),
    "by"       TEXT,
    asked_at   TEXT NOT NULL,
    done_at    TEXT,
    result     TEXT
) STRICT;

CREATE TABLE gaps (
    topic        TEXT NOT NULL,
    partition    INTEGER NOT NULL,
    hunt_id      TEXT,
    from_offset  INTEGER NOT NULL,
    to_offset    INTEGER NOT NULL,
    reason       TEXT NOT NULL,
    found_at     TEXT NOT NULL
) STRICT;
CREATE INDEX gaps_partition ON gaps (topic, partition, from_offset);

-- The watermark of every partial, in microseconds, kept within the years 1 to 9999; null before its first applied event.
-- (Integer arithmetic that passes 64 bits goes on as a float, which the bounds then catch.)
CREATE VIEW partial_watermarks AS
SELECT p.hunt_id, p.topic, p.partition,
       CAST(min(253402300799999999, max(-62135596800000000, coalesce(p.watermark_floor, -62135596800000000),
           p.hunt_clock + max(0, coalesce((CASE WHEN p.lagging THEN p.clock ELSE q.clock END) - p.partition_clock - i.idle, 0)) - i.lateness)) AS INTEGER) AS micros
  FROM partials p
  JOIN partitions q ON q.topic = p.topic AND q.partition = p.partition
 CROSS JOIN identity i;

-- One row a hunt that has applied or holds an event or is parked. Bits 1, 2, 4 and 8 of `reasons` park; 16 (store_refused) only makes it lag.
-- A shared hunt with a partial that lags before its first applied event has no watermark: what that partial holds may still
-- fall anywhere.
CREATE VIEW hunts AS
SELECT h.hunt_id, coalesce(h.view, i.empty_view) AS view, h.events, h.status, h.first_event_at, h.last_event_at,
       CASE WHEN h.micros IS NOT NULL THEN
           strftime('%Y-%m-%dT%H:%M:%S', (h.micros - ((h.micros % 1000000 + 1000000) % 1000000)) / 1000000, 'unixepoch')
               || printf('.%06dZ', (h.micros % 1000000 + 1000000) % 1000000)
       END AS watermark,
       h.updated_at
  FROM (
    SELECT p.hunt_id, p.view, p.events,
           CASE WHEN NOT p.lagging THEN 'live' WHEN p.reasons & 15 <> 0 THEN 'parked' ELSE 'lagging' END AS status,
           p.first_event_at, p.last_event_at,
           (SELECT w.micros FROM partial_watermarks w WHERE w.hunt_id = p.hunt_id) AS micros,
           p.updated_at
      FROM partials p
     WHERE NOT p.shared AND (p.events > 0 OR p.held > 0 OR (p.lagging AND p.reasons & 15 <> 0))
    UNION ALL
    SELECT s.hunt_id, s.view, s.events,
           (SELECT CASE WHEN max(p.lagging AND p.reasons & 15 <> 0) THEN 'parked' WHEN max(p.lagging) THEN 'lagging' ELSE 'live' END
              FROM partials p WHERE p.hunt_id = s.hunt_id),
           s.first_event_at, s.last_event_at,
           CASE WHEN NOT EXISTS (SELECT 1 FROM partials p WHERE p.hunt_id = s.hunt_id AND p.lagging AND p.hunt_clock IS NULL)
                THEN (SELECT min(w.micros) FROM partial_watermarks w WHERE w.hunt_id = s.hunt_id) END,
           s.updated_at
      FROM shared_hunts s
     WHERE s.events > 0 OR EXISTS (SELECT 1 FROM partials p WHERE p.hunt_id = s.hunt_id AND (p.held > 0 OR (p.lagging AND p.reasons & 15 <> 0)))
  ) h
 CROSS JOIN identity i;
