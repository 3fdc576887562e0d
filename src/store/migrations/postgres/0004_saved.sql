-- The number of the checkpoint that wrote a partial last, as its partition has it afterwards; null: written before this was kept.
-- No index names it, so updates stay on their page (HOT).

ALTER TABLE huntline.partials ADD COLUMN saved bigint;
