-- The log of the embedded store. `body` is the native JSON behind its `cursor` member.
CREATE TABLE log (
    one         INTEGER PRIMARY KEY CHECK (one = 1),
    epoch       TEXT NOT NULL,
    head        INTEGER NOT NULL,
    floor       INTEGER NOT NULL,
    bytes       INTEGER NOT NULL
) STRICT;

CREATE TABLE event (
    offset      INTEGER PRIMARY KEY,
    recorded_at INTEGER NOT NULL,
    tenant      TEXT NOT NULL,
    category    TEXT NOT NULL,
    action      TEXT NOT NULL,
    outcome     TEXT NOT NULL,
    severity    INTEGER NOT NULL,
    actor       TEXT NOT NULL,
    resources   TEXT NOT NULL,
    id          TEXT NOT NULL,
    body        BLOB NOT NULL
) STRICT;

-- Deduplication, and finding by id; id first, because ids are what clients ask for.
CREATE UNIQUE INDEX event_id ON event (id, tenant);
