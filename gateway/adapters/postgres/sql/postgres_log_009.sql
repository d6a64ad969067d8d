-- Thousands of events with other contents may have been sent under one id: whether one of them has a
-- certain content is told by the index alone.
DROP INDEX sequenced_key;
CREATE INDEX sequenced_key ON sequenced (near, key, content);

-- Whether a row whose id is taken is there already. Functions, and no part of the step itself: that
-- would be prepared for all of this each time, and hardly ever needs it.
CREATE OR REPLACE FUNCTION is_known(
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

-- Remove rows that are duplicates.
CREATE OR REPLACE FUNCTION remove_again(again_xid xid8[], again_seq bigint[]) RETURNS void
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
