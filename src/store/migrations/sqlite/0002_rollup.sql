-- Where reading of each partition began, why its breaker stands tripped, and its share of the rollup; acts that reset a
-- breaker; the open acts of a partition at hand, however many are done; rollup values that are JSON.

ALTER TABLE partitions ADD COLUMN start INTEGER;
ALTER TABLE partitions ADD COLUMN tripped TEXT;
ALTER TABLE partitions ADD COLUMN rollup BLOB;

CREATE TABLE acts_with_reset (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    topic      TEXT,
    partition  INTEGER,
    position   INTEGER,
    hunt_id    TEXT,
    "offset"   INTEGER,
    act        TEXT NOT NULL CHECK (act IN ('park', 'resume', 'skip', 'replay', 'discard', 'reset')),
    "by"       TEXT,
    asked_at   TEXT NOT NULL,
    done_at    TEXT,
    result     TEXT
) STRICT;
INSERT INTO acts_with_reset SELECT id, topic, partition, position, hunt_id, "offset", act, "by", asked_at, done_at, result FROM acts;
DROP TABLE acts;
ALTER TABLE acts_with_reset RENAME TO acts;
CREATE INDEX acts_open ON acts (topic, partition, id) WHERE done_at IS NULL;

CREATE TABLE rollup_of_json (
    aggregate   TEXT PRIMARY KEY,
    value       TEXT CHECK (value IS NULL OR json_valid(value)),
    updated_at  TEXT NOT NULL
) STRICT;
INSERT INTO rollup_of_json SELECT aggregate, value, updated_at FROM rollup;
DROP TABLE rollup;
ALTER TABLE rollup_of_json RENAME TO rollup;
