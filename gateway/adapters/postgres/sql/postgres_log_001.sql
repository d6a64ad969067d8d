-- The log of the PostgreSQL store.
--
-- Writers add rows to `event` and take no lock. `sequence` gives committed rows their offsets, in
-- steps of which one runs at a time, by comparing snapshots: a row is new when its transaction is
-- visible now and was not at the step before. Nothing here is updated in place but `partition`, so
-- a transaction that stays open for hours, and keeps dead rows from being cleaned up, costs nothing.

-- `event_table` is the identity of `event` within its database server. It outlives an upgrade of
-- the server; after a dump and restore it is another one.
CREATE TABLE log (
    one             boolean PRIMARY KEY DEFAULT true CHECK (one),
    epoch           text NOT NULL,
    event_table     oid NOT NULL
);

CREATE SEQUENCE event_seq MINVALUE 0 START 0;

-- Events in the order they came in, cut into partitions of `seq`; retention drops whole ones.
-- `xid` must not be the system column xmin: under a savepoint that is a subtransaction's.
-- `batch` tells an append its own rows from others'. `arrived_at` is in microseconds since 1970.
-- `tail` is the native JSON behind `cursor`, `recorded_at` and, unless `has_time`, `time`.
CREATE TABLE event (
    xid             xid8 NOT NULL DEFAULT pg_current_xact_id(),
    seq             bigint NOT NULL DEFAULT nextval('event_seq'),
    batch           bigint NOT NULL DEFAULT 0,
    arrived_at      bigint NOT NULL DEFAULT (extract(epoch FROM clock_timestamp()) * 1000000),
    severity        smallint NOT NULL,
    has_time        boolean NOT NULL,
    id              text COLLATE "C" NOT NULL,
    tenant          text COLLATE "C" NOT NULL,
    category        text COLLATE "C" NOT NULL,
    action          text COLLATE "C" NOT NULL,
    outcome         text COLLATE "C" NOT NULL,
    actor           text COLLATE "C" NOT NULL,
    resources       text COLLATE "C" NOT NULL,
    tail            bytea NOT NULL
) PARTITION BY RANGE (seq);

CREATE INDEX event_xid_seq ON event (xid, seq);

-- Partition n holds `seq` from n << 24. `left_*` say where the log stood at some time after `seq`
-- had passed it: whatever of it was visible in `left_snapshot` has an offset of at most `left_head`.
CREATE TABLE partition (
    number          bigint PRIMARY KEY,
    begun_at        bigint,
    begun_bytes     bigint,
    left_head       bigint,
    left_snapshot   pg_snapshot
);

-- The place of each event in the log. `recorded_at` is `arrived_at`, or that of an event before it
-- that came later by another machine's clock or was committed earlier. `bytes` is the size of all stored JSON up to it.
CREATE TABLE sequenced (
    "offset"        bigint PRIMARY KEY,
    xid             xid8 NOT NULL,
    seq             bigint NOT NULL,
    recorded_at     bigint NOT NULL,
    bytes           bigint NOT NULL,
    id              text COLLATE "C" NOT NULL,
    tenant          text COLLATE "C" NOT NULL
);

CREATE UNIQUE INDEX sequenced_id ON sequenced (id, tenant);

-- The state of the log is the newest row. `bytes` counts from the first event ever, `trimmed` is
-- its value at `floor`. Everything visible in `snapshot` has its offset; of `partial_xid`, which is
-- not, the rows up to `partial_seq` have theirs. Rows with a lower `seq` than `least_seq` are from
-- before the database was restored, when transactions had other numbers.
CREATE TABLE step (
    number          bigint PRIMARY KEY,
    head            bigint NOT NULL,
    floor           bigint NOT NULL,
    bytes           bigint NOT NULL,
    trimmed         bigint NOT NULL,
    recorded_at     bigint NOT NULL,
    snapshot        pg_snapshot NOT NULL,
    partial_xid     xid8,
    partial_seq     bigint,
    least_seq       bigint NOT NULL,
    saved_at        timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Below the oldest transaction there is nothing yet, so the first step sees every row.
INSERT INTO step VALUES (1, 0, 0, 0, 0, 0, '3:3:', NULL, NULL, 0);
