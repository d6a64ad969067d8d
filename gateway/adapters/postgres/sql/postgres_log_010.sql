-- The id of an event whose own is taken by one with other content. Ids that are cut are told apart
-- by what is cut off, too: thousands that begin alike may have been sent with the same content.
CREATE OR REPLACE FUNCTION other_id(sent text, content bytea) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT left(sent, 100) || '~' || string_agg(
        substr('ABCDEFGHIJKLMNOPQRSTUVWXYZ234567',
               1 + ((((get_byte(mark, bit / 8) << 8) | get_byte(mark, bit / 8 + 1))
                     >> (11 - bit % 8)) & 31), 1), '' ORDER BY bit)
      FROM (SELECT CASE WHEN length(sent) > 100 THEN sha256(convert_to(sent, 'UTF8') || content)
                        ELSE content END AS mark) AS made,
           generate_series(0, 75, 5) AS bit
$$;
