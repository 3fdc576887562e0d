-- Where reading of each partition began, why its breaker stands tripped, and its share of the rollup; acts that reset a
-- breaker; the open acts of a partition at hand, however many are done.

ALTER TABLE huntline.partitions
    ADD COLUMN start bigint,
    ADD COLUMN tripped text,
    ADD COLUMN rollup bytea;

ALTER TABLE huntline.acts
    DROP CONSTRAINT acts_act_check,
    ADD CONSTRAINT acts_act_check CHECK (act IN ('park', 'resume', 'skip', 'replay', 'discard', 'reset'));
CREATE INDEX acts_open ON huntline.acts (topic, partition, id) WHERE done_at IS NULL;
