-- The store as contract 5 shows it. Clocks are bigint microseconds since 1970, because a record's timestamp may lie
-- outside of what timestamptz holds; what readers see are timestamptz. Keys are in byte order (COLLATE "C").

CREATE TABLE huntline.identity (
    one          boolean PRIMARY KEY DEFAULT true CHECK (one),
    cluster      text NOT NULL,
    "group"      text NOT NULL,
    definitions  text NOT NULL,
    idle         bigint,
    lateness     bigint NOT NULL,
    empty_view   jsonb NOT NULL,
    bound_at     timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE huntline.topics (
    topic     text COLLATE "C" PRIMARY KEY,
    topic_id  text
);

CREATE TABLE huntline.partitions (
    topic          text COLLATE "C" NOT NULL,
    partition      integer NOT NULL,
    position       bigint,
    epoch          bigint NOT NULL,
    owner          text,
    advertise      text,
    checkpoint     bigint NOT NULL DEFAULT 0,
    clock          bigint,
    records        bigint NOT NULL DEFAULT 0,
    applied        bigint NOT NULL DEFAULT 0,
    duplicate      bigint NOT NULL DEFAULT 0,
    dead_lettered  bigint NOT NULL DEFAULT 0,
    ignored        bigint NOT NULL DEFAULT 0,
    held           bigint NOT NULL DEFAULT 0,
    late           bigint NOT NULL DEFAULT 0,
    updated_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, partition)
) WITH (fillfactor = 50);

-- No index may name a column that changes while a hunt is live: every update stays on its page (HOT).
CREATE TABLE huntline.partials (
    hunt_id          text COLLATE "C" NOT NULL,
    topic            text COLLATE "C" NOT NULL,
    partition        integer NOT NULL,
    state            bytea,
    view             jsonb,
    events           bigint NOT NULL DEFAULT 0,
    first_event_at   timestamptz,
    last_event_at    timestamptz,
    hunt_clock       bigint,
    partition_clock  bigint,
    watermark_floor  bigint,
    lagging          boolean NOT NULL DEFAULT false,
    position         bigint,
    clock            bigint,
    held             bigint NOT NULL DEFAULT 0,
    reasons          integer NOT NULL DEFAULT 0,
    shared           boolean NOT NULL DEFAULT false,
    born             bigint NOT NULL,
    updated_at       timestamptz NOT NULL,
    PRIMARY KEY (hunt_id, topic, partition)
) WITH (fillfactor = 50);
CREATE INDEX partials_lagging ON huntline.partials (topic, partition, hunt_id) WHERE lagging;

-- Where a hunt's first partial stands: the place where two first partials meet.
CREATE TABLE huntline.hunt_home (
    hunt_id    text COLLATE "C" PRIMARY KEY,
    topic      text COLLATE "C" NOT NULL,
    partition  integer NOT NULL
);

CREATE TABLE huntline.shared_hunts (
    hunt_id         text COLLATE "C" PRIMARY KEY,
    view            jsonb,
    events          bigint NOT NULL DEFAULT 0,
    first_event_at  timestamptz,
    last_event_at   timestamptz,
    updated_at      timestamptz NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE huntline.dead_letters (
    topic       text COLLATE "C" NOT NULL,
    partition   integer NOT NULL,
    "offset"    bigint NOT NULL,
    hunt_id     text COLLATE "C",
    reason      text NOT NULL,
    detail      text NOT NULL,
    key         bytea,
    value       bytea,
    headers     jsonb NOT NULL,
    record_at   timestamptz,
    failed_at   timestamptz NOT NULL,
    state       text NOT NULL DEFAULT 'rejected' CHECK (state IN ('rejected', 'replayed', 'discarded')),
    applied_at  bigint,
    PRIMARY KEY (topic, partition, "offset")
);
CREATE INDEX dead_letters_hunt ON huntline.dead_letters (hunt_id, topic, partition, "offset");
CREATE INDEX dead_letters_reason ON huntline.dead_letters (reason, topic, partition, "offset");

CREATE TABLE huntline.rollup (
    aggregate   text COLLATE "C" PRIMARY KEY,
    value       jsonb,
    updated_at  timestamptz NOT NULL
);

CREATE TABLE huntline.acts (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic      text COLLATE "C",
    partition  integer,
    position   bigint,
    hunt_id    text COLLATE "C",
    "offset"   bigint,
    act        text NOT NULL CHECK (act IN ('park', 'resume', 'skip', 'replay', 'discard')),
    "by"       text,
    asked_at   timestamptz NOT NULL,
    done_at    timestamptz,
    result     text
);

CREATE TABLE huntline.gaps (
    topic        text COLLATE "C" NOT NULL,
    partition    integer NOT NULL,
    hunt_id      text COLLATE "C",
    from_offset  bigint NOT NULL,
    to_offset    bigint NOT NULL,
    reason       text NOT NULL,
    found_at     timestamptz NOT NULL
);
CREATE INDEX gaps_partition ON huntline.gaps (topic, partition, from_offset);

-- The watermark of one partial; null before its first applied event. Kept within the years 1 to 9999; numeric, because the
-- sum of a far clock and a long duration passes 64 bits.
CREATE FUNCTION huntline.watermark(hunt_clock bigint, now_clock bigint, partition_clock bigint, watermark_floor bigint, idle bigint, lateness bigint)
RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN hunt_clock IS NULL THEN NULL ELSE
        timestamptz '1970-01-01 00:00:00+00' + div(m, 1000000)::bigint * interval '1 second' + mod(m, 1000000)::integer * interval '1 microsecond'
    END
    FROM (SELECT least(253402300799999999, greatest(-62135596800000000, watermark_floor,
        hunt_clock::numeric + greatest(0, now_clock::numeric - partition_clock - idle) - lateness)) AS m) AS clamped
$$;

-- One row a hunt that has applied or holds an event or is parked. Bits 1, 2, 4 and 8 of `reasons` park; 16 (store_refused) only makes it lag.
-- A shared hunt with a partial that lags before its first applied event has no watermark: what that partial holds may still
-- fall anywhere.
CREATE VIEW huntline.hunts AS
SELECT p.hunt_id,
       coalesce(p.view, i.empty_view) AS view,
       p.events,
       CASE WHEN NOT p.lagging THEN 'live' WHEN p.reasons & 15 <> 0 THEN 'parked' ELSE 'lagging' END AS status,
       p.first_event_at,
       p.last_event_at,
       huntline.watermark(p.hunt_clock, CASE WHEN p.lagging THEN p.clock ELSE q.clock END, p.partition_clock, p.watermark_floor, i.idle, i.lateness) AS watermark,
       p.updated_at
  FROM huntline.partials p
  JOIN huntline.partitions q ON q.topic = p.topic AND q.partition = p.partition
 CROSS JOIN huntline.identity i
 WHERE NOT p.shared AND (p.events > 0 OR p.held > 0 OR (p.lagging AND p.reasons & 15 <> 0))
UNION ALL
SELECT s.hunt_id,
       coalesce(s.view, i.empty_view),
       s.events,
       m.status,
       s.first_event_at,
       s.last_event_at,
       m.watermark,
       s.updated_at
  FROM huntline.shared_hunts s
 CROSS JOIN huntline.identity i
 CROSS JOIN LATERAL (
    SELECT CASE WHEN bool_or(p.lagging AND p.reasons & 15 <> 0) THEN 'parked' WHEN bool_or(p.lagging) THEN 'lagging' ELSE 'live' END AS status,
           CASE WHEN bool_or(p.lagging AND p.hunt_clock IS NULL) THEN NULL
                ELSE min(huntline.watermark(p.hunt_clock, CASE WHEN p.lagging THEN p.clock ELSE q.clock END, p.partition_clock, p.watermark_floor, i.idle, i.lateness))
           END AS watermark,
           sum(p.held) AS held
      FROM huntline.partials p
      JOIN huntline.partitions q ON q.topic = p.topic AND q.partition = p.partition
     WHERE p.hunt_id = s.hunt_id) m
 WHERE s.events > 0 OR m.held > 0 OR m.status = 'parked';
