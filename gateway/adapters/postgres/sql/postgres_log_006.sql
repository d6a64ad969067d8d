-- Deduplication by content, with keyed values (see `gateway.store.identity`).
--
-- `key` is of tenant and id as they were sent, `content` of what the producer sent; `near` brings
-- ids together that were made one after the other, so that the index is not written all over. They
-- stand beside the offset, so that they go with their events, and so that a step can look for them
-- part by part once the table is cut into partitions of offsets: no index has to be unique over
-- all of them, since one step runs at a time.
ALTER TABLE event ADD COLUMN near bigint, ADD COLUMN key bytea, ADD COLUMN content bytea;
ALTER TABLE sequenced ADD COLUMN near bigint, ADD COLUMN key bytea, ADD COLUMN content bytea;
CREATE INDEX sequenced_key ON sequenced (near, key);

-- Only what came before there were keyed values has these.
ALTER TABLE sequenced ALTER COLUMN id DROP NOT NULL, ALTER COLUMN tenant DROP NOT NULL;

-- Events that stand under another id than they were sent with.
CREATE TABLE renamed (
    "offset"        bigint PRIMARY KEY,
    id              text COLLATE "C" NOT NULL,
    tenant          text COLLATE "C" NOT NULL
);
CREATE INDEX renamed_id ON renamed (id, tenant);


-- An index of many events is kept as it is until they are gone, and gets no more of them.
DO $$
BEGIN
    IF (SELECT head FROM newest_step()) = 0 THEN
        DROP INDEX sequenced_id;
        CREATE UNIQUE INDEX sequenced_id ON sequenced (id, tenant) WHERE id IS NOT NULL;
    END IF;
END $$;

-- The id of an event whose own is taken by one with other content.
CREATE FUNCTION other_id(sent text, content bytea) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT left(sent, 100) || '~' || string_agg(
        substr('ABCDEFGHIJKLMNOPQRSTUVWXYZ234567',
               1 + ((((get_byte(content, bit / 8) << 8) | get_byte(content, bit / 8 + 1))
                     >> (11 - bit % 8)) & 31), 1), '' ORDER BY bit)
      FROM generate_series(0, 75, 5) AS bit
$$;

-- Remove rows that are duplicates.
CREATE FUNCTION remove_again(again_xid xid8[], again_seq bigint[]) RETURNS void
LANGUAGE sql
SET search_path FROM CURRENT
SET enable_seqscan = off
AS $$
    DELETE FROM event USING unnest(again_xid, again_seq) AS again (xid, seq)
     WHERE event.xid = again.xid AND event.seq = again.seq
       AND NOT EXISTS (SELECT FROM sequenced AS known
                        WHERE known.near = event.near AND known.key = event.key
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

DROP FUNCTION make_room(xid8[], bigint[]);

DROP FUNCTION sequence(boolean, bigint, integer);

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
    ), candidate AS (
        SELECT * FROM late UNION ALL SELECT * FROM recent ORDER BY xid, seq LIMIT most
    ), compared AS (
        SELECT *, row_id IS NOT NULL AS of_table,
               row_number() OVER one_id > 1 AS beside,
               row_number() OVER (PARTITION BY tenant, id, content ORDER BY xid, seq) > 1
                   AS beside_same,
               content IS NULL OR first_value(content) OVER one_id IS NULL AS by_id,
               -- Scalar, so that each is one look into an index.
               coalesce((SELECT true FROM sequenced AS known
                          WHERE known.near = candidate.near AND known.key = candidate.key LIMIT 1),
                        (SELECT true FROM renamed AS known
                          WHERE known.id = candidate.id AND known.tenant = candidate.tenant LIMIT 1),
                        (SELECT true FROM sequenced AS known
                          WHERE known.id = candidate.id AND known.tenant = candidate.tenant LIMIT 1),
                        (SELECT true FROM sequenced AS known
                          WHERE known.id = candidate.row_id AND known.tenant = candidate.tenant
                            AND batch < 0 LIMIT 1),
                        false) AS taken
          FROM candidate
        WINDOW one_id AS (PARTITION BY tenant, id ORDER BY xid, seq)
    ), judged AS (
        SELECT *, CASE
               WHEN NOT of_table AND (beside_same OR (beside AND by_id)) THEN true
               WHEN NOT taken THEN false
               ELSE coalesce(
                   (SELECT true FROM sequenced AS known
                     WHERE known.near = it.near AND known.key = it.key
                       AND CASE WHEN known.xid = it.xid AND known.seq = it.seq THEN true
                                WHEN NOT of_table THEN
                                   coalesce(known.content = it.content, true)
                                WHEN batch < 0 THEN known.content = it.content OR EXISTS (
                                   SELECT FROM event AS there
                                    WHERE there.xid = known.xid AND there.seq = known.seq
                                      AND there.row_id = it.row_id)
                                ELSE false END LIMIT 1),
                   (SELECT true FROM renamed
                      JOIN sequenced AS known ON known."offset" = renamed."offset"
                     WHERE renamed.id = it.id AND renamed.tenant = it.tenant AND NOT of_table
                       AND coalesce(known.content = it.content, true) LIMIT 1),
                   -- From before there were keyed values.
                   (SELECT true FROM sequenced AS known
                     WHERE known.tenant = it.tenant AND known.id = it.id
                       AND (NOT of_table OR (known.xid = it.xid AND known.seq = it.seq)
                            OR (batch < 0 AND EXISTS (
                                SELECT FROM event AS there
                                 WHERE there.xid = known.xid AND there.seq = known.seq
                                   AND there.row_id = it.row_id))) LIMIT 1),
                   (SELECT true FROM sequenced AS known
                      JOIN event AS there ON there.xid = known.xid AND there.seq = known.seq
                     WHERE known.tenant = it.tenant AND known.id = it.row_id AND batch < 0
                       AND there.row_id = it.row_id LIMIT 1),
                   false) END AS again
          FROM compared AS it
    ), named AS (
        SELECT *, CASE
               WHEN again OR NOT (taken OR beside) THEN id
               WHEN content IS NULL OR (of_table AND beside_same)
                    OR EXISTS (SELECT FROM renamed AS known
                                WHERE known.tenant = it.tenant
                                  AND known.id = other_id(it.id, it.content))
               THEN left(coalesce(row_id, id), 91) || '~' || gen_random_uuid()
               ELSE other_id(id, content) END AS new_id
          FROM judged AS it
    ), counted AS (
        SELECT *, row_number() OVER place AS nth,
               state.head + count(*) FILTER (WHERE NOT again) OVER place AS place,
               greatest(state.recorded_at, max(arrived_at) FILTER (WHERE NOT again) OVER place)
                   AS recorded_at,
               -- The members that are added when it is read are as long as SQLite's adapter stores.
               state.bytes + sum(length + CASE WHEN has_time THEN 44 ELSE 81 END
                                 + octet_length(new_id) - octet_length(id))
                                 FILTER (WHERE NOT again) OVER place AS bytes
          FROM named
        WINDOW place AS (ORDER BY xid, seq ROWS UNBOUNDED PRECEDING)
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

-- Go on in new partitions after a dump was restored, whose numbers of transactions mean nothing
-- any more: take along what had no offset, and never look at the old ones again.
CREATE OR REPLACE FUNCTION leave_old_transactions(visible pg_snapshot) RETURNS void
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

-- Move the floor by at most `most` offsets over what was recorded before `before_micros` and what
-- exceeds `max_bytes`; either may be null.
CREATE OR REPLACE FUNCTION trim_log(before_micros bigint, max_bytes bigint, most integer,
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
