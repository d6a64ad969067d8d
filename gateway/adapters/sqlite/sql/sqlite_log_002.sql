-- Deduplication by content, with keyed values (see `gateway.store.identity`). `event_id`, the index
-- of ids as text, is dropped once every event is in `dedup`.

-- The events by the value of tenant and id as they were sent. `near` brings ids together that
-- were made one after the other. Of events from before there is no `content`.
CREATE TABLE dedup (
    near        INTEGER NOT NULL,
    key         BLOB NOT NULL,
    offset      INTEGER NOT NULL,
    content     BLOB,
    PRIMARY KEY (near, key)
) STRICT, WITHOUT ROWID;

-- Events that stand under another id than they were sent with, since an event with other content
-- has that one. `near` and `key` are of the id that was sent.
CREATE TABLE renamed (
    offset      INTEGER PRIMARY KEY,
    id          TEXT NOT NULL,
    tenant      TEXT NOT NULL,
    near        INTEGER NOT NULL,
    key         BLOB NOT NULL,
    content     BLOB
) STRICT;

CREATE INDEX renamed_id ON renamed (id, tenant);
CREATE INDEX renamed_key ON renamed (near, key);

