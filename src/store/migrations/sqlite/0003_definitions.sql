-- Every definitions the store was built with, and from which position of each partition they hold; none: from its start.

CREATE TABLE definitions (
    number       INTEGER PRIMARY KEY,
    definitions  TEXT NOT NULL,
    recorded_at  TEXT NOT NULL
) STRICT;

CREATE TABLE definition_positions (
    number     INTEGER NOT NULL,
    topic      TEXT NOT NULL,
    partition  INTEGER NOT NULL,
    position   INTEGER NOT NULL,
    PRIMARY KEY (number, topic, partition)
) STRICT;

INSERT INTO definitions (number, definitions, recorded_at) SELECT 1, definitions, strftime('%Y-%m-%dT%H:%M:%f000Z', 'now') FROM identity;
