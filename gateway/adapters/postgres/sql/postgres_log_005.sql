-- Rows of followed tables keep their place in the log, whoever has taken their ids.
--
-- Ids tell an event that was sent again from a new one. A row is never sent again: how far its table
-- has been brought in is saved with it. So one whose id is taken is another event, and comes under
-- an id of its own.

-- Of a row of a followed table: the id it gets if its own is taken. Such rows have a negative
-- `batch` if they may have come before, because their table was restored.
ALTER TABLE event ADD COLUMN row_id text COLLATE "C";

-- Remove rows whose ids are taken, and bring those in again, under another id, that are of a
-- followed table and not there yet; the next step places them. Gives their number.
CREATE FUNCTION make_room(again_xid xid8[], again_seq bigint[]) RETURNS bigint
LANGUAGE sql
SET search_path FROM CURRENT
SET enable_seqscan = off
AS $$
    WITH gone AS (
        DELETE FROM event USING unnest(again_xid, again_seq) AS again (xid, seq)
         WHERE event.xid = again.xid AND event.seq = again.seq
           AND NOT EXISTS (SELECT FROM sequenced AS known
                            WHERE known.id = event.id AND known.tenant = event.tenant
                              AND known.xid = event.xid AND known.seq = event.seq)
        RETURNING event.*
    ), another AS (
        SELECT gone.*, CASE WHEN id <> row_id THEN row_id
                            -- Somebody has guessed it, or the table uses its keys again.
                            ELSE left(row_id, 91) || '~' || gen_random_uuid() END AS new_id
          FROM gone
         WHERE row_id IS NOT NULL
           AND NOT (batch < 0 AND EXISTS (
                SELECT FROM sequenced AS known
                  JOIN event AS there ON there.xid = known.xid AND there.seq = known.seq
                 WHERE known.id = gone.id AND known.tenant = gone.tenant
                   AND there.row_id = gone.row_id))
    ), placed AS (
        -- `tail` begins with the id.
        INSERT INTO event (batch, arrived_at, severity, has_time, id, tenant, category, action,
                           outcome, actor, resources, tail, row_id)
        SELECT batch, arrived_at, severity, has_time, new_id, tenant, category, action,
               outcome, actor, resources,
               convert_to('"id":' || to_json(new_id), 'UTF8')
               || substr(tail, octet_length('"id":' || to_json(id)) + 1), row_id
          FROM another ORDER BY xid, seq
        RETURNING 1
    )
    SELECT count(*) FROM placed
$$;

DROP FUNCTION sequence(boolean, bigint, integer);

-- One step: at most `most` committed rows get their offsets, transactions in the order of their
-- ids and each whole. Without `patient` it returns at once when
-- another step is running. `first` and `accepted` are the lowest offset and the number of rows of
-- the batch `mine` that this step placed; `more` says that rows are left; `renamed` is
-- how many rows of a followed table got another id.
CREATE FUNCTION sequence(
    patient boolean, mine bigint, most integer,
    OUT head bigint, OUT floor bigint, OUT epoch text,
    OUT first bigint, OUT accepted bigint, OUT more boolean, OUT renamed bigint)
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
BEGIN
    IF pg_current_xact_id_if_assigned() IS NOT NULL THEN
        -- Its snapshot does not tell a transaction's own rows from those of finished ones.
        RAISE EXCEPTION 'a step needs a transaction of its own';
    END IF;
    accepted := 0;
    more := false;
    renamed := 0;
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
            SELECT event.xid, seq, batch, arrived_at, id, tenant,
                   octet_length(tail) AS length, has_time
              FROM event
             WHERE event.xid = done.xid
               AND seq > CASE done.xid WHEN state.partial_xid THEN state.partial_seq
                                       ELSE state.least_seq - 1 END
             ORDER BY seq LIMIT most
         ) AS waiting
         ORDER BY xid, seq LIMIT most
    ), recent AS (
        SELECT xid, seq, batch, arrived_at, id, tenant, octet_length(tail) AS length, has_time
          FROM event
         WHERE xid >= beyond AND xid < pg_snapshot_xmax(visible)
           AND pg_visible_in_snapshot(xid, visible) AND seq >= state.least_seq
         ORDER BY xid, seq LIMIT most
    ), candidate AS (
        SELECT * FROM late UNION ALL SELECT * FROM recent ORDER BY xid, seq LIMIT most
    ), judged AS (
        SELECT *, row_number() OVER (PARTITION BY id, tenant ORDER BY xid, seq) = 1
               AND NOT EXISTS (SELECT FROM sequenced AS known
                                WHERE known.id = candidate.id
                                  AND known.tenant = candidate.tenant) AS fresh
          FROM candidate
    ), counted AS (
        SELECT *, row_number() OVER place AS nth,
               state.head + count(*) FILTER (WHERE fresh) OVER place AS place,
               greatest(state.recorded_at, max(arrived_at) FILTER (WHERE fresh) OVER place)
                   AS recorded_at,
               -- The members that are added when it is read are as long as SQLite's adapter stores.
               state.bytes + sum(length + CASE WHEN has_time THEN 44 ELSE 81 END)
                                 FILTER (WHERE fresh) OVER place AS bytes
          FROM judged
        WINDOW place AS (ORDER BY xid, seq ROWS UNBOUNDED PRECEDING)
    ), inserted AS (
        INSERT INTO sequenced
        SELECT place, xid, seq, counted.recorded_at, counted.bytes, id, tenant
          FROM counted WHERE fresh
    )
    SELECT count(*), count(*) FILTER (WHERE fresh), max(counted.bytes), max(counted.recorded_at),
           max(xid::text) FILTER (WHERE nth = most), max(seq) FILTER (WHERE nth = most),
           array_agg(xid) FILTER (WHERE NOT fresh), array_agg(seq) FILTER (WHERE NOT fresh),
           min(place) FILTER (WHERE fresh AND batch = mine),
           count(*) FILTER (WHERE fresh AND batch = mine)
      INTO picked, placed, bytes, recorded_at, last_xid, last_seq, again_xid, again_seq, first, accepted
      FROM counted;

    IF picked = 0 AND clock_timestamp() < state.saved_at + interval '1 second' THEN
        RETURN;
    END IF;
    IF again_xid IS NOT NULL THEN
        renamed := make_room(again_xid, again_seq);
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
                       outcome, actor, resources, tail, row_id)
    SELECT batch, arrived_at, severity, has_time, id, tenant, category, action,
           outcome, actor, resources, tail, row_id FROM moved ORDER BY xid, seq;
    state.snapshot := visible;
    state.partial_xid := NULL;
    state.partial_seq := NULL;
    PERFORM save_step(state);
    -- Tables that are followed were restored with it.
    UPDATE source_step SET source_table = 0;
END $$;
