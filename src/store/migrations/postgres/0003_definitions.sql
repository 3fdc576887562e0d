-- Every definitions the store was built with, and from which position of each partition they hold; none: from its start.

CREATE TABLE huntline.definitions (
    number       integer PRIMARY KEY,
    definitions  text NOT NULL,
    recorded_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE huntline.definition_positions (
    number     integer NOT NULL,
    topic      text COLLATE "C" NOT NULL,
    partition  integer NOT NULL,
    position   bigint NOT NULL,
    PRIMARY KEY (number, topic, partition)
);

INSERT INTO huntline.definitions (number, definitions, recorded_at) SELECT 1, definitions, bound_at FROM huntline.identity;
