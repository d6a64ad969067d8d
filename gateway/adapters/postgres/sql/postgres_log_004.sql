-- Which server the log lives on, and how it came there, so that a database that was restored,
-- cloned or promoted is known from one that goes on.

-- `server` is the identifier of the server's files: it survives a restart, a failover to a standby
-- and a point-in-time recovery, and no dump. `timeline` is another one after each promotion. Both
-- are null where this user may not ask.
ALTER TABLE log ADD COLUMN server text, ADD COLUMN timeline text;

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
                       outcome, actor, resources, tail)
    SELECT batch, arrived_at, severity, has_time, id, tenant, category, action,
           outcome, actor, resources, tail FROM moved ORDER BY xid, seq;
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
CREATE OR REPLACE FUNCTION begin_life(new_epoch text, anyway boolean) RETURNS text
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
