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

-- One step: at most `most` committed rows get their offsets, transactions in the order of their
-- ids and each whole. Without `patient` it returns at once when
-- another step is running. `first` and `accepted` are the lowest offset and the number of rows of
-- the batch `mine` that this step placed; `more` says that rows are left.
CREATE FUNCTION sequence(
    patient boolean, mine bigint, most integer,
    OUT head bigint, OUT floor bigint, OUT epoch text,
    OUT first bigint, OUT accepted bigint, OUT more boolean)
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
        DELETE FROM event USING unnest(again_xid, again_seq) AS again (xid, seq)
         WHERE event.xid = again.xid AND event.seq = again.seq
           AND NOT EXISTS (SELECT FROM sequenced AS known
                            WHERE known.id = event.id AND known.tenant = event.tenant
                              AND known.xid = event.xid AND known.seq = event.seq);
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

-- Begin another life of the log, under another name: if this database was restored from a dump, or
-- `anyway`. Events keep their offsets; what had none yet gets one. Gives the name of the life.
CREATE FUNCTION begin_life(new_epoch text, anyway boolean) RETURNS text
LANGUAGE plpgsql
SET search_path FROM CURRENT
SET enable_seqscan = off SET enable_bitmapscan = on
AS $$
DECLARE
    -- Before this transaction has a number, so that what it writes is new to the next step.
    visible constant pg_snapshot := pg_current_snapshot();
    state step;
    passed bigint;
BEGIN
    PERFORM take_turn(true);
    IF (SELECT event_table FROM log) = 'event'::regclass THEN
        IF anyway THEN
            UPDATE log SET epoch = new_epoch;
        END IF;
        RETURN (SELECT epoch FROM log);
    END IF;
    -- The numbers of transactions in here mean nothing any more. Go on in a new partition, take
    -- along what had no offset, and never look at the old ones again.
    state := newest_step();
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
                       outcome, actor, resources, tail)
    SELECT batch, arrived_at, severity, has_time, id, tenant, category, action,
           outcome, actor, resources, tail FROM moved ORDER BY xid, seq;
    state.snapshot := visible;
    state.partial_xid := NULL;
    state.partial_seq := NULL;
    PERFORM save_step(state);
    UPDATE log SET epoch = new_epoch, event_table = 'event'::regclass;
    RETURN new_epoch;
END $$;
