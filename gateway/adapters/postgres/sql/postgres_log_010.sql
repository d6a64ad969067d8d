-- The log of the PostgreSQL store.
--
-- Writers add rows to `event` and take no lock. `sequence` gives committed rows their offsets, in
-- steps of which one runs at a time, by comparing snapshots: a row is new when its transaction is
-- visible now and was not at the step before. Nothing here is updated in place but `partition` and
-- the ids of renamed events, so a transaction that stays open for hours, and keeps dead rows from
-- being cleaned up, costs nothing.

-- Which server the log lives on, and how it came there, so that a database that was restored,
-- cloned or promoted is known from one that goes on. `event_table` is the identity of `event`
-- within its database server: it outlives an upgrade of the server; after a dump and restore it is
-- another one. `server` is the identifier of the server's files: it survives a restart, a failover
-- to a standby and a point-in-time recovery, and no dump. `timeline` is another one after each
-- promotion. These two are null where this user may not ask.
CREATE TABLE log (
    one             boolean PRIMARY KEY DEFAULT true CHECK (one),
    epoch           text NOT NULL,
    event_table     oid NOT NULL,
    server          text,
    timeline        text
);

CREATE SEQUENCE event_seq MINVALUE 0 START 0;

-- Events in the order they came in, cut into partitions of `seq`; retention drops whole ones.
-- `xid` must not be the system column xmin: under a savepoint that is a subtransaction's.
-- `batch` tells an append its own rows from others'. `arrived_at` is in microseconds since 1970.
-- `tail` is the native JSON behind `cursor`, `recorded_at` and, unless `has_time`, `time`.
-- `near`, `key` and `content` are as in `sequenced`.
--
-- Rows of followed tables keep their place in the log, whoever has taken their ids. Ids tell an
-- event that was sent again from a new one. A row is never sent again: how far its table has been
-- brought in is saved with it. So one whose id is taken is another event, and comes under an id of
-- its own: that is `row_id`. Such rows have a negative `batch` if they may have come before,
-- because their table was restored.
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
    tail            bytea NOT NULL,
    row_id          text COLLATE "C",
    near            bigint,
    key             bytea,
    content         bytea
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
-- that came later by another machine's clock or was committed earlier. `bytes` is the size of all
-- stored JSON up to it.
--
-- Events are compared by keyed values (see `gateway/log/identity.py`): `key` is of tenant and id as
-- they were sent, `content` of what the producer sent; `near` brings ids together that were made
-- one after the other, so that the index is not written all over. They stand beside the offset, so
-- that they go with their events, and so that a step can look for them part by part once the table
-- is cut into partitions of offsets: no index has to be unique over all of them, since one step
-- runs at a time. Only what came before there were keyed values has `id` and `tenant` here.
CREATE TABLE sequenced (
    "offset"        bigint PRIMARY KEY,
    xid             xid8 NOT NULL,
    seq             bigint NOT NULL,
    recorded_at     bigint NOT NULL,
    bytes           bigint NOT NULL,
    id              text COLLATE "C",
    tenant          text COLLATE "C",
    near            bigint,
    key             bytea,
    content         bytea
);

CREATE UNIQUE INDEX sequenced_id ON sequenced (id, tenant) WHERE id IS NOT NULL;
-- Thousands of events with other contents may have been sent under one id: whether one of them has a
-- certain content is told by the index alone.
CREATE INDEX sequenced_key ON sequenced (near, key, content);

-- Events that stand under another id than they were sent with.
CREATE TABLE renamed (
    "offset"        bigint PRIMARY KEY,
    id              text COLLATE "C" NOT NULL,
    tenant          text COLLATE "C" NOT NULL
);

CREATE INDEX renamed_id ON renamed (id, tenant);

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

-- Sequencing: how committed rows of `event` get their offsets.
--
-- A step takes its turn by an advisory lock and runs as one statement: the server ends it whatever
-- becomes of the client, so a gateway that dies, or hangs, never holds up the others.

-- Take the right to change `step`, till the end of the transaction; false if another has it and
-- `patient` is false.
CREATE FUNCTION take_turn(patient boolean) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    turn constant bigint := hashtextextended(current_schema() || '.step', 0);
BEGIN
    IF NOT patient THEN
        RETURN pg_try_advisory_xact_lock(turn);
    END IF;
    PERFORM pg_advisory_xact_lock(turn);
    RETURN true;
END $$;

CREATE FUNCTION newest_step() RETURNS step
LANGUAGE sql STABLE AS $$
    SELECT * FROM step ORDER BY number DESC LIMIT 1
$$;

-- Save a step, and remove an old one: at a fixed distance, so that it is found without passing
-- those removed before, which a long transaction keeps from being cleaned up.
CREATE FUNCTION save_step(INOUT state step)
LANGUAGE plpgsql AS $$
BEGIN
    state.number := state.number + 1;
    state.saved_at := clock_timestamp();
    INSERT INTO step SELECT state.*;
    DELETE FROM step WHERE number = state.number - 100;
END $$;

-- What is visible now, less everything behind the row (`last_xid`, `last_seq`) where a step had to
-- stop. Only `last_xid` can be half done, so it counts as not visible.
CREATE FUNCTION cut_snapshot(before pg_snapshot, now pg_snapshot, last_xid xid8)
RETURNS pg_snapshot
LANGUAGE sql IMMUTABLE AS $$
    WITH edge AS (
        SELECT greatest(pg_snapshot_xmax(before), (last_xid::text::bigint + 1)::text::xid8) AS xid
    ), open AS (
        SELECT xid FROM pg_snapshot_xip(before) AS xid
         WHERE xid > last_xid OR NOT pg_visible_in_snapshot(xid, now)
        UNION SELECT last_xid
        UNION SELECT xip FROM pg_snapshot_xip(now) AS xip, edge
         WHERE xip >= pg_snapshot_xmax(before) AND xip < edge.xid
    )
    SELECT format('%s:%s:%s', min(xid::text::bigint), (SELECT xid FROM edge),
                  string_agg(xid::text, ',' ORDER BY xid))::pg_snapshot
      FROM open
$$;

-- The id of an event whose own is taken by one with other content. Ids that are cut are told apart
-- by what is cut off, too: thousands that begin alike may have been sent with the same content.
CREATE FUNCTION other_id(sent text, content bytea) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT left(sent, 100) || '~' || string_agg(
        substr('ABCDEFGHIJKLMNOPQRSTUVWXYZ234567',
               1 + ((((get_byte(mark, bit / 8) << 8) | get_byte(mark, bit / 8 + 1))
                     >> (11 - bit % 8)) & 31), 1), '' ORDER BY bit)
      FROM (SELECT CASE WHEN length(sent) > 100 THEN sha256(convert_to(sent, 'UTF8') || content)
                        ELSE content END AS mark) AS made,
           generate_series(0, 75, 5) AS bit
$$;

-- Whether a row whose id is taken is there already. Functions, and no part of the step itself: that
-- would be prepared for all of this each time, and hardly ever needs it.
CREATE FUNCTION is_known(
    of_xid xid8, of_seq bigint, of_batch bigint, of_near bigint, of_key bytea, of_content bytea,
    of_id text, of_tenant text, of_row_id text) RETURNS boolean
LANGUAGE sql STABLE
SET search_path FROM CURRENT
SET enable_seqscan = off SET enable_bitmapscan = off
AS $$
    SELECT coalesce(
        (SELECT true FROM sequenced AS known
          WHERE known.near = of_near AND known.key = of_key AND known.content = of_content
            AND (of_row_id IS NULL OR of_batch < 0
                 OR (known.xid = of_xid AND known.seq = of_seq)) LIMIT 1),
        (SELECT true FROM sequenced AS known
          WHERE known.near = of_near AND known.key = of_key AND known.content IS NULL
            AND (of_row_id IS NULL
                 OR (known.xid = of_xid AND known.seq = of_seq)) LIMIT 1),
        (SELECT true FROM sequenced AS known
          WHERE of_row_id IS NULL AND of_content IS NULL
            AND known.near = of_near AND known.key = of_key LIMIT 1),
        -- Of a table that was restored.
        (SELECT true FROM sequenced AS known
           JOIN event AS there ON there.xid = known.xid AND there.seq = known.seq
          WHERE of_row_id IS NOT NULL AND of_batch < 0
            AND known.near = of_near AND known.key = of_key
            AND there.row_id = of_row_id LIMIT 1),
        (SELECT true FROM renamed
           JOIN sequenced AS known ON known."offset" = renamed."offset"
          WHERE renamed.id = of_id AND renamed.tenant = of_tenant AND of_row_id IS NULL
            AND coalesce(known.content = of_content, true) LIMIT 1),
        -- From before there were keyed values.
        (SELECT true FROM sequenced AS known
          WHERE known.tenant = of_tenant AND known.id = of_id
            AND (of_row_id IS NULL OR (known.xid = of_xid AND known.seq = of_seq)
                 OR (of_batch < 0 AND EXISTS (
                     SELECT FROM event AS there
                      WHERE there.xid = known.xid AND there.seq = known.seq
                        AND there.row_id = of_row_id))) LIMIT 1),
        (SELECT true FROM sequenced AS known
           JOIN event AS there ON there.xid = known.xid AND there.seq = known.seq
          WHERE known.tenant = of_tenant AND known.id = of_row_id AND of_batch < 0
            AND there.row_id = of_row_id LIMIT 1),
        false)
$$;

-- Whether an id is taken by a row that stands under another id than it was sent with, or by one
-- from before there were keyed values.
CREATE FUNCTION is_taken(of_batch bigint, of_id text, of_tenant text, of_row_id text)
RETURNS boolean
LANGUAGE sql STABLE
SET search_path FROM CURRENT
SET enable_seqscan = off
AS $$
    SELECT EXISTS (SELECT FROM renamed WHERE id = of_id AND tenant = of_tenant)
        OR EXISTS (SELECT FROM sequenced WHERE id = of_id AND tenant = of_tenant)
        OR (of_batch < 0
            AND EXISTS (SELECT FROM sequenced WHERE id = of_row_id AND tenant = of_tenant))
$$;

-- The id under which a row goes in whose own is taken.
CREATE FUNCTION free_id(of_id text, of_tenant text, of_content bytea, of_row_id text) RETURNS text
LANGUAGE sql VOLATILE
SET search_path FROM CURRENT
SET enable_seqscan = off
AS $$
    SELECT CASE WHEN of_content IS NULL OR EXISTS (
                    SELECT FROM renamed
                     WHERE tenant = of_tenant AND id = other_id(of_id, of_content))
           THEN left(coalesce(of_row_id, of_id), 91) || '~' || gen_random_uuid()
           ELSE other_id(of_id, of_content) END
$$;

-- Whether one of these ids is taken by a row that stands under another id than it was sent with,
-- or by one from before there were keyed values.
CREATE FUNCTION any_taken(batches bigint[], ids text[], tenants text[], row_ids text[])
RETURNS boolean
LANGUAGE sql STABLE
SET search_path FROM CURRENT
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
    SELECT EXISTS (
        SELECT FROM unnest(batches, ids, tenants, row_ids) AS it (batch, id, tenant, row_id)
         WHERE EXISTS (SELECT FROM renamed AS known
                        WHERE known.id = it.id AND known.tenant = it.tenant)
            OR EXISTS (SELECT FROM sequenced AS known
                        WHERE known.id = it.id AND known.tenant = it.tenant)
            OR (batch < 0 AND EXISTS (SELECT FROM sequenced AS known
                                       WHERE known.id = it.row_id AND known.tenant = it.tenant)))
$$;

-- Remove rows that are duplicates.
CREATE FUNCTION remove_again(again_xid xid8[], again_seq bigint[]) RETURNS void
LANGUAGE sql
SET search_path FROM CURRENT
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
    DELETE FROM event USING unnest(again_xid, again_seq) AS again (xid, seq)
     WHERE event.xid = again.xid AND event.seq = again.seq
       AND NOT EXISTS (SELECT FROM sequenced AS known
                        WHERE known.near = event.near AND known.key = event.key
                          AND known.content = event.content
                          AND known.xid = event.xid AND known.seq = event.seq)
       AND NOT EXISTS (SELECT FROM sequenced AS known
                        WHERE known.near = event.near AND known.key = event.key
                          AND known.content IS NULL AND event.content IS NULL
                          AND known.xid = event.xid AND known.seq = event.seq)
       AND NOT EXISTS (SELECT FROM sequenced AS known
                        WHERE known.id = event.id AND known.tenant = event.tenant
                          AND known.xid = event.xid AND known.seq = event.seq)
$$;

-- Put rows that have just been placed under another id. Their `tail` begins with it.
CREATE FUNCTION rename_events(
    moved_xid xid8[], moved_seq bigint[], moved_id text[], moved_to bigint[]) RETURNS void
LANGUAGE sql
SET search_path FROM CURRENT
SET enable_seqscan = off
AS $$
    INSERT INTO renamed
    SELECT moved."offset", moved.id, event.tenant
      FROM unnest(moved_xid, moved_seq, moved_id, moved_to) AS moved (xid, seq, id, "offset")
      JOIN event ON event.xid = moved.xid AND event.seq = moved.seq;
    UPDATE event
       SET id = moved.id,
           tail = convert_to('"id":' || to_json(moved.id), 'UTF8')
                  || substr(tail, octet_length('"id":' || to_json(event.id)) + 1)
      FROM unnest(moved_xid, moved_seq, moved_id) AS moved (xid, seq, id)
     WHERE event.xid = moved.xid AND event.seq = moved.seq;
$$;

-- One step: at most `most` committed rows get their offsets, transactions in the order of their
-- ids and each whole. Without `patient` it returns at once when
-- another step is running. `first` and `accepted` are the lowest offset and the number of rows of
-- the batch `mine` that this step placed, `conflicts` are the offsets of those under another id; `more`
-- says that rows are left; `renamed` is how many rows of a followed table got another id.
--
-- An event is a duplicate if its tenant has one of the same id and content; where either has no
-- content, the id alone decides. A row of a followed table is never sent again: it is one only if
-- its table was restored (its `batch` is negative) and the same row is there.
CREATE FUNCTION sequence(
    patient boolean, mine bigint, most integer,
    OUT head bigint, OUT floor bigint, OUT epoch text,
    OUT first bigint, OUT accepted bigint, OUT more boolean, OUT renamed bigint,
    OUT conflicts bigint[])
LANGUAGE plpgsql
SET search_path FROM CURRENT
-- The tables are large and what is wanted of them is not: indexes always.
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off
SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    state step;
    visible pg_snapshot;
    beyond xid8;
    finished xid8[];
    picked bigint;
    placed bigint;
    bytes bigint;
    recorded_at bigint;
    last_xid text;
    last_seq bigint;
    again_xid xid8[];
    again_seq bigint[];
    moved_xid xid8[];
    moved_seq bigint[];
    moved_id text[];
    moved_to bigint[];
    -- Whether there is anything to be looked for: in nearly all logs there is not.
    has_others boolean;
    -- Whether none of the rows was there before, and none is there twice.
    all_fresh boolean;
BEGIN
    IF pg_current_xact_id_if_assigned() IS NOT NULL THEN
        -- Its snapshot does not tell a transaction's own rows from those of finished ones.
        RAISE EXCEPTION 'a step needs a transaction of its own';
    END IF;
    accepted := 0;
    more := false;
    renamed := 0;
    conflicts := '{}';
    SELECT log.epoch INTO epoch FROM log;
    IF NOT take_turn(patient) THEN
        state := newest_step();
        head := state.head;
        floor := state.floor;
        RETURN;
    END IF;
    state := newest_step();
    head := state.head;
    floor := state.floor;
    visible := pg_current_snapshot();
    beyond := pg_snapshot_xmax(state.snapshot);
    IF pg_snapshot_xmax(visible) < beyond THEN
        RAISE EXCEPTION 'the transactions placed last are yet to come: this is a restored database'
            USING ERRCODE = 'AG001';
    END IF;
    finished := ARRAY(SELECT xid FROM pg_snapshot_xip(state.snapshot) AS xid
                       WHERE pg_visible_in_snapshot(xid, visible));
    IF pg_snapshot_xmax(visible) = beyond AND finished = '{}' THEN
        RETURN;
    END IF;

    has_others := EXISTS (SELECT FROM renamed)
                  OR EXISTS (SELECT FROM sequenced WHERE id IS NOT NULL);

    -- Never a range from the oldest open transaction on: that grows for as long as it stays open.
    WITH late AS (
        SELECT waiting.* FROM unnest(finished) AS done (xid)
         CROSS JOIN LATERAL (
            SELECT event.xid, seq, batch, arrived_at, id, tenant, near, key, content, row_id,
                   octet_length(tail) AS length, has_time
              FROM event
             WHERE event.xid = done.xid
               AND seq > CASE done.xid WHEN state.partial_xid THEN state.partial_seq
                                       ELSE state.least_seq - 1 END
             ORDER BY seq LIMIT most
         ) AS waiting
         ORDER BY xid, seq LIMIT most
    ), recent AS (
        SELECT xid, seq, batch, arrived_at, id, tenant, near, key, content, row_id,
               octet_length(tail) AS length, has_time
          FROM event
         WHERE xid >= beyond AND xid < pg_snapshot_xmax(visible)
           AND pg_visible_in_snapshot(xid, visible) AND seq >= state.least_seq
         ORDER BY xid, seq LIMIT most
    ), candidate AS MATERIALIZED (
        SELECT * FROM late UNION ALL SELECT * FROM recent ORDER BY xid, seq LIMIT most
    ), judged AS MATERIALIZED (
        SELECT NOT EXISTS (SELECT FROM candidate WHERE key IS NULL)
               AND NOT EXISTS (SELECT FROM candidate GROUP BY key HAVING count(*) > 1)
               -- Most ids are greater than all before them: those need not be looked for.
               AND NOT EXISTS (
                   SELECT FROM candidate AS it
                    WHERE it.near <= (SELECT max(near) FROM sequenced
                                       WHERE near <= (SELECT max(near) FROM candidate))
                      AND EXISTS (SELECT FROM sequenced AS known
                                   WHERE known.near = it.near AND known.key = it.key))
               AND CASE WHEN has_others THEN NOT (
                   SELECT any_taken(array_agg(batch), array_agg(id), array_agg(tenant),
                                    array_agg(row_id)) FROM candidate) ELSE true END AS fresh
    ), counted AS (
        SELECT xid, seq, batch, near, key, content, row_number() OVER place AS nth,
               greatest(state.recorded_at, max(arrived_at) OVER place) AS recorded_at,
               -- The members that are added when it is read are as long as SQLite's adapter stores.
               state.bytes + sum(length + CASE WHEN has_time THEN 44 ELSE 81 END) OVER place
                   AS bytes
          FROM candidate
        WINDOW place AS (ORDER BY xid, seq ROWS UNBOUNDED PRECEDING)
    ), inserted AS (
        INSERT INTO sequenced ("offset", xid, seq, recorded_at, bytes, near, key, content)
        SELECT state.head + nth, xid, seq, counted.recorded_at, counted.bytes, near, key, content
          FROM counted WHERE (SELECT fresh FROM judged)
    )
    SELECT count(*), count(*), max(counted.bytes), max(counted.recorded_at),
           max(xid::text) FILTER (WHERE nth = most), max(seq) FILTER (WHERE nth = most),
           state.head + min(nth) FILTER (WHERE batch = mine),
           count(*) FILTER (WHERE batch = mine), (SELECT fresh FROM judged)
      INTO picked, placed, bytes, recorded_at, last_xid, last_seq, first, accepted, all_fresh
      FROM counted;

    IF NOT all_fresh THEN
        WITH late AS (
            SELECT waiting.* FROM unnest(finished) AS done (xid)
             CROSS JOIN LATERAL (
                SELECT event.xid, seq, batch, arrived_at, id, tenant, near, key, content, row_id,
                       octet_length(tail) AS length, has_time
                  FROM event
                 WHERE event.xid = done.xid
                   AND seq > CASE done.xid WHEN state.partial_xid THEN state.partial_seq
                                           ELSE state.least_seq - 1 END
                 ORDER BY seq LIMIT most
             ) AS waiting
             ORDER BY xid, seq LIMIT most
        ), recent AS (
            SELECT xid, seq, batch, arrived_at, id, tenant, near, key, content, row_id,
                   octet_length(tail) AS length, has_time
              FROM event
             WHERE xid >= beyond AND xid < pg_snapshot_xmax(visible)
               AND pg_visible_in_snapshot(xid, visible) AND seq >= state.least_seq
             ORDER BY xid, seq LIMIT most
        ), candidate AS (
            SELECT * FROM late UNION ALL SELECT * FROM recent ORDER BY xid, seq LIMIT most
        ), numbered AS (
            SELECT *, row_number() OVER (ORDER BY xid, seq) AS nth FROM candidate
        ), grouped AS (
            -- Of those with one id, and of those with one content as well, all but the first one.
            SELECT *, row_id IS NOT NULL AS of_table,
                   row_number() OVER one_id > 1 AS beside,
                   row_number() OVER (PARTITION BY tenant, id, content ORDER BY nth) > 1 AS beside_same,
                   content IS NULL OR first_value(content) OVER one_id IS NULL AS by_id
              FROM numbered
            WINDOW one_id AS (PARTITION BY tenant, id ORDER BY nth)
        ), compared AS (
            SELECT *,
                   -- Scalar, so that each is one look into an index.
                   coalesce((SELECT true FROM sequenced AS known
                              WHERE known.near = it.near AND known.key = it.key LIMIT 1),
                            CASE WHEN has_others THEN is_taken(batch, id, tenant, row_id) END,
                            false) AS taken
              FROM grouped AS it
            -- A fence: without it each mention of `taken` below would be another look.
            OFFSET 0
        ), judged AS (
            SELECT *, CASE
                   WHEN NOT of_table AND (beside_same OR (beside AND by_id)) THEN true
                   WHEN NOT taken THEN false
                   ELSE is_known(xid, seq, batch, near, key, content, id, tenant, row_id)
                   END AS again
              FROM compared AS it
            OFFSET 0
        ), named AS (
            SELECT *, CASE
                   WHEN again OR NOT (taken OR beside) THEN id
                   WHEN of_table AND beside_same THEN left(coalesce(row_id, id), 91) || '~' || gen_random_uuid()
                   ELSE free_id(id, tenant, content, row_id) END AS new_id
              FROM judged AS it
        ), counted AS (
            SELECT *, state.head + count(*) FILTER (WHERE NOT again) OVER place AS place,
                   greatest(state.recorded_at, max(arrived_at) FILTER (WHERE NOT again) OVER place)
                       AS recorded_at,
                   -- The members that are added when it is read are as long as SQLite's adapter stores.
                   state.bytes + sum(length + CASE WHEN has_time THEN 44 ELSE 81 END
                                     + octet_length(new_id) - octet_length(id))
                                     FILTER (WHERE NOT again) OVER place AS bytes
              FROM named
            WINDOW place AS (ORDER BY nth ROWS UNBOUNDED PRECEDING)
        ), inserted AS (
            INSERT INTO sequenced ("offset", xid, seq, recorded_at, bytes, id, tenant, near, key, content)
            SELECT place, xid, seq, counted.recorded_at, counted.bytes,
                   CASE WHEN key IS NULL THEN new_id END, CASE WHEN key IS NULL THEN tenant END,
                   near, key, content
              FROM counted WHERE NOT again
        )
        SELECT count(*), count(*) FILTER (WHERE NOT again), max(counted.bytes),
               max(counted.recorded_at),
               max(xid::text) FILTER (WHERE nth = most), max(seq) FILTER (WHERE nth = most),
               array_agg(xid) FILTER (WHERE again), array_agg(seq) FILTER (WHERE again),
               array_agg(xid) FILTER (WHERE new_id <> id), array_agg(seq) FILTER (WHERE new_id <> id),
               array_agg(new_id) FILTER (WHERE new_id <> id),
               array_agg(place) FILTER (WHERE new_id <> id),
               count(*) FILTER (WHERE new_id <> id AND of_table),
               coalesce(array_agg(place) FILTER (WHERE new_id <> id AND batch = mine), '{}'),
               min(place) FILTER (WHERE NOT again AND batch = mine),
               count(*) FILTER (WHERE NOT again AND batch = mine)
          INTO picked, placed, bytes, recorded_at, last_xid, last_seq, again_xid, again_seq,
               moved_xid, moved_seq, moved_id, moved_to, renamed, conflicts, first, accepted
          FROM counted;
    END IF;

    IF picked = 0 AND clock_timestamp() < state.saved_at + interval '1 second' THEN
        RETURN;
    END IF;
    IF again_xid IS NOT NULL THEN
        PERFORM remove_again(again_xid, again_seq);
    END IF;
    IF moved_xid IS NOT NULL THEN
        PERFORM rename_events(moved_xid, moved_seq, moved_id, moved_to);
    END IF;
    more := picked = most;
    IF more THEN
        state.snapshot := cut_snapshot(state.snapshot, visible, last_xid::xid8);
        state.partial_xid := last_xid::xid8;
        state.partial_seq := last_seq;
    ELSE
        state.snapshot := visible;
        state.partial_xid := NULL;
        state.partial_seq := NULL;
    END IF;
    IF placed > 0 THEN
        state.head := state.head + placed;
        state.bytes := bytes;
        state.recorded_at := recorded_at;
    END IF;
    head := state.head;
    PERFORM save_step(state);
END $$;

-- Retention: the floor moves offset by offset, and what lies below it goes partition by partition.

-- The newest offset recorded before `micros`; the floor if none is. `recorded_at` never decreases
-- with the offset, so it bisects.
CREATE FUNCTION last_before(micros bigint) RETURNS bigint
LANGUAGE plpgsql STABLE STRICT
SET search_path FROM CURRENT
AS $$
DECLARE
    state constant step := newest_step();
    low bigint := state.floor;
    high bigint := state.head;
    middle bigint;
BEGIN
    WHILE low < high LOOP
        middle := (low + high + 1) / 2;
        IF (SELECT recorded_at FROM sequenced WHERE "offset" = middle) < micros THEN
            low := middle;
        ELSE
            high := middle - 1;
        END IF;
    END LOOP;
    RETURN low;
END $$;

-- The lowest offset behind which no more than `most` bytes of stored JSON are left.
CREATE FUNCTION last_beyond(most bigint) RETURNS bigint
LANGUAGE plpgsql STABLE STRICT
SET search_path FROM CURRENT
AS $$
DECLARE
    state constant step := newest_step();
    low bigint := state.floor;
    high bigint := state.head;
    middle bigint;
BEGIN
    IF state.bytes - state.trimmed <= most THEN
        RETURN low;
    END IF;
    WHILE low < high LOOP
        middle := (low + high) / 2;
        IF middle > state.floor
           AND state.bytes - (SELECT bytes FROM sequenced WHERE "offset" = middle) <= most THEN
            high := middle;
        ELSE
            low := middle + 1;
        END IF;
    END LOOP;
    RETURN low;
END $$;

-- Move the floor by at most `most` offsets over what was recorded before `before_micros` and what
-- exceeds `max_bytes`; either may be null.
CREATE FUNCTION trim_log(before_micros bigint, max_bytes bigint, most integer,
    OUT deleted bigint, OUT floor bigint)
LANGUAGE plpgsql
SET search_path FROM CURRENT
SET enable_seqscan = off
AS $$
DECLARE
    state step;
BEGIN
    PERFORM take_turn(true);
    state := newest_step();
    floor := least(
        state.floor + most,
        -- Null for what is not asked, and passed over.
        greatest(last_before(before_micros), last_beyond(max_bytes), state.floor));
    deleted := floor - state.floor;
    IF deleted > 0 THEN
        state.trimmed := (SELECT bytes FROM sequenced WHERE "offset" = trim_log.floor);
        DELETE FROM sequenced WHERE "offset" > state.floor AND "offset" <= trim_log.floor;
        DELETE FROM renamed WHERE "offset" > state.floor AND "offset" <= trim_log.floor;
        state.floor := floor;
        PERFORM save_step(state);
    END IF;
END $$;

CREATE FUNCTION add_partition(n bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM partition WHERE number = n) THEN
        -- Made first and attached then: that keeps no writer and no reader waiting.
        EXECUTE format('CREATE TABLE event_%s (LIKE event INCLUDING DEFAULTS)', n);
        EXECUTE format('ALTER TABLE event ATTACH PARTITION event_%s FOR VALUES FROM (%s) TO (%s)',
                       n, n << 24, (n + 1) << 24);
        INSERT INTO partition (number) VALUES (n);
    END IF;
END $$;

-- See to it that there is a partition for the next rows and one more. Begins a new one early when
-- the current one is older than `most_age` microseconds or holds more than `most_bytes`; either may
-- be null.
CREATE FUNCTION tend_partitions(now bigint, most_age bigint, most_bytes bigint) RETURNS void
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
DECLARE
    state step;
    next_seq bigint;
    place bigint;
    begun partition;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended(current_schema() || '.partition', 0)) THEN
        RETURN;
    END IF;
    state := newest_step();
    SELECT last_value + is_called::int INTO next_seq FROM event_seq;
    place := next_seq >> 24;
    SELECT * INTO begun FROM partition WHERE number = place;
    IF next_seq > place << 24
       AND (now - begun.begun_at > most_age OR state.bytes - begun.begun_bytes > most_bytes) THEN
        place := place + 1;
        PERFORM setval('event_seq', place << 24, false);
    END IF;
    PERFORM add_partition(place);
    PERFORM add_partition(place + 1);
    UPDATE partition SET begun_at = now, begun_bytes = state.bytes
     WHERE number = place AND begun_at IS NULL;
    UPDATE partition SET left_head = state.head, left_snapshot = state.snapshot
     WHERE number < place AND left_head IS NULL;
END $$;

-- Drop one partition that has been passed, if everything in it lies below the floor. Whether it
-- is so is only certain while nobody else can touch it. False if it could not be dropped at once:
-- then it is emptied, if nobody uses the partition itself.
CREATE FUNCTION drop_partition(n bigint) RETURNS boolean
LANGUAGE plpgsql
SET search_path FROM CURRENT
SET lock_timeout = '100ms' SET enable_seqscan = off
AS $$
DECLARE
    state step;
    passed partition;
    late boolean;
    whole boolean := true;
BEGIN
    BEGIN
        LOCK TABLE ONLY event IN ACCESS EXCLUSIVE MODE;
    EXCEPTION WHEN lock_not_available THEN
        -- A transaction that has written events is still open.
        whole := false;
    END;
    EXECUTE format('LOCK TABLE event_%s IN ACCESS EXCLUSIVE MODE', n);
    state := newest_step();
    SELECT * INTO passed FROM partition WHERE number = n FOR UPDATE;
    IF passed.left_head IS NULL OR passed.left_head > state.floor THEN
        RETURN false;
    END IF;
    EXECUTE format(
        'SELECT EXISTS (SELECT FROM event_%1$s WHERE xid >= pg_snapshot_xmax($1))
             OR EXISTS (SELECT FROM event_%1$s WHERE xid = ANY (ARRAY(SELECT pg_snapshot_xip($1))))',
        n) INTO late USING passed.left_snapshot;
    IF late THEN
        -- Rows of a transaction that was open when the partition was passed.
        UPDATE partition SET left_head = state.head, left_snapshot = state.snapshot
         WHERE number = n;
        RETURN false;
    END IF;
    IF whole THEN
        EXECUTE format('DROP TABLE event_%s', n);
        DELETE FROM partition WHERE number = n;
    ELSE
        EXECUTE format('TRUNCATE event_%s', n);
    END IF;
    RETURN whole;
EXCEPTION WHEN lock_not_available THEN
    RETURN false;
END $$;

-- Lives of the log: another one begins where offsets or transactions may mean something else.

CREATE FUNCTION this_server() RETURNS text
LANGUAGE plpgsql AS $$
BEGIN
    RETURN (SELECT system_identifier FROM pg_control_system());
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END $$;

-- The timeline that is written now; a standby writes none. The control file would be late with it.
CREATE FUNCTION this_timeline() RETURNS text
LANGUAGE plpgsql AS $$
BEGIN
    IF pg_is_in_recovery() THEN
        RETURN NULL;
    END IF;
    RETURN left(pg_walfile_name(pg_current_wal_lsn()), 8);
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END $$;

-- Go on in new partitions after a dump was restored, whose numbers of transactions mean nothing
-- any more: take along what had no offset, and never look at the old ones again.
CREATE FUNCTION leave_old_transactions(visible pg_snapshot) RETURNS void
LANGUAGE plpgsql
SET search_path FROM CURRENT
SET enable_seqscan = off SET enable_bitmapscan = on
AS $$
DECLARE
    state step := newest_step();
    passed bigint;
BEGIN
    SELECT last_value >> 24 INTO passed FROM event_seq;
    state.least_seq := (passed + 1) << 24;
    PERFORM setval('event_seq', state.least_seq, false);
    PERFORM add_partition(passed + 1);
    UPDATE partition SET left_head = state.head, left_snapshot = NULL WHERE number <= passed;
    WITH moved AS (
        DELETE FROM event
         WHERE (xid >= pg_snapshot_xmax(state.snapshot)
                OR xid = ANY (ARRAY(SELECT pg_snapshot_xip(state.snapshot))))
           AND NOT coalesce(xid = state.partial_xid AND seq <= state.partial_seq, false)
        RETURNING *
    )
    INSERT INTO event (batch, arrived_at, severity, has_time, id, tenant, category, action,
                       outcome, actor, resources, tail, row_id, near, key, content)
    SELECT batch, arrived_at, severity, has_time, id, tenant, category, action,
           outcome, actor, resources, tail, row_id, near, key, content
      FROM moved ORDER BY xid, seq;
    state.snapshot := visible;
    state.partial_xid := NULL;
    state.partial_seq := NULL;
    PERFORM save_step(state);
    -- Tables that are followed were restored with it.
    UPDATE source_step SET source_table = 0;
END $$;

-- Begin another life of the log, under another name: if this database was restored from a dump, or
-- promoted while no gateway was there to see what became of the log, or `anyway`. Events keep their
-- offsets; what had none yet gets one. Gives the name of the life.
CREATE FUNCTION begin_life(new_epoch text, anyway boolean) RETURNS text
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
DECLARE
    -- Before this transaction has a number, so that what it writes is new to the next step.
    visible constant pg_snapshot := pg_current_snapshot();
    known log;
    server_now constant text := this_server();
    timeline_now constant text := this_timeline();
BEGIN
    PERFORM take_turn(true);
    SELECT * INTO known FROM log;
    IF known.event_table <> 'event'::regclass OR known.server <> server_now THEN
        PERFORM leave_old_transactions(visible);
    ELSIF NOT anyway AND coalesce(known.timeline = timeline_now, true) THEN
        IF (known.server IS NULL AND server_now IS NOT NULL)
           OR (known.timeline IS NULL AND timeline_now IS NOT NULL) THEN
            UPDATE log SET server = coalesce(server_now, server),
                           timeline = coalesce(timeline_now, timeline);
        END IF;
        RETURN known.epoch;
    END IF;
    UPDATE log SET epoch = new_epoch, event_table = 'event'::regclass,
                   server = coalesce(server_now, server),
                   timeline = coalesce(timeline_now, timeline);
    RETURN new_epoch;
END $$;

-- For a gateway that has lost its connections, and may have found another server than before: the
-- life goes on if the log still reaches to `head_known`, and the event at `known`, which came with
-- the batch `mine` and was acknowledged, is there; else another one begins. `known` and `mine` are
-- null where this gateway has acknowledged nothing.
CREATE FUNCTION confirm_life(new_epoch text, head_known bigint, known bigint, mine bigint)
RETURNS text
LANGUAGE plpgsql
SET search_path FROM CURRENT
SET enable_seqscan = off
AS $$
DECLARE
    state step;
    timeline_now constant text := this_timeline();
BEGIN
    IF pg_is_in_recovery() THEN
        -- It may be about to be promoted, or lag behind; there is nothing to be said of it yet.
        RETURN (SELECT epoch FROM log);
    END IF;
    PERFORM take_turn(true);
    state := newest_step();
    IF head_known > state.head
       OR (known > state.floor
           AND NOT EXISTS (SELECT FROM sequenced JOIN event USING (xid, seq)
                            WHERE "offset" = known AND batch = mine)) THEN
        RETURN begin_life(new_epoch, true);
    END IF;
    -- Where nothing may be written, not even an update of no row may be tried.
    IF (SELECT timeline <> timeline_now FROM log) THEN
        UPDATE log SET timeline = timeline_now;
    END IF;
    RETURN begin_life(new_epoch, false);
END $$;
