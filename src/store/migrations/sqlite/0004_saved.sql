-- The number of the checkpoint that wrote a partial last, as its partition has it afterwards; null: written before this was kept.

ALTER TABLE partials ADD COLUMN saved INTEGER;
