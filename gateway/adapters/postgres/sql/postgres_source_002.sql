-- Rows of transactions before this one may be in the log already: the table was read from its
-- beginning again after it was restored. Null where that never happened.
ALTER TABLE source_step ADD COLUMN again_before xid8;
