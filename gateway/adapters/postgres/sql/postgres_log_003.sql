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
