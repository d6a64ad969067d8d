-- Tables of others that are followed: how far, in the newest row of each. Everything visible in
-- `snapshot` is in the log; of `partial_xid`, which is not, the rows up to `partial_key` are. Where
-- only the key is there to go by, `snapshot` is null, and everything up to `partial_key` is.
-- Rows of transactions before `again_before` may be in the log already: the table was read from its
-- beginning again after it was restored. Null where that never happened.
CREATE TABLE source_step (
    source          text COLLATE "C" NOT NULL,
    number          bigint NOT NULL,
    source_table    oid NOT NULL,
    snapshot        pg_snapshot,
    partial_xid     xid8,
    partial_key     text,
    again_before    xid8,
    PRIMARY KEY (source, number)
);
