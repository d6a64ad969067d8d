-- A step that places events of which none was there before looks for that with little: nearly all
-- are of that kind.

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

-- One step: at most `most` committed rows get their offsets, transactions in the order of their
-- ids and each whole. Without `patient` it returns at once when
-- another step is running. `first` and `accepted` are the lowest offset and the number of rows of
-- the batch `mine` that this step placed, `conflicts` are the offsets of those under another id; `more`
-- says that rows are left; `renamed` is how many rows of a followed table got another id.
--
-- An event is a duplicate if its tenant has one of the same id and content; where either has no
-- content, the id alone decides. A row of a followed table is never sent again: it is one only if
-- its table was restored (its `batch` is negative) and the same row is there.
CREATE OR REPLACE FUNCTION sequence(
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
