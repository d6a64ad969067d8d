-- Counts per key: tier m, h or d; unit is the number of the minute, hour or day since 1970.
CREATE TABLE usage (
    key_id   TEXT NOT NULL,
    tier     TEXT NOT NULL,
    unit     INTEGER NOT NULL,
    requests INTEGER NOT NULL,
    streams  INTEGER NOT NULL,
    events   INTEGER NOT NULL,
    size     INTEGER NOT NULL,
    denials  INTEGER NOT NULL,
    PRIMARY KEY (key_id, tier, unit)
) STRICT, WITHOUT ROWID;

CREATE INDEX usage_by_age ON usage (tier, unit);

-- The last batch of each writer, so that one that is offered again is known.
CREATE TABLE writer (
    id     TEXT PRIMARY KEY,
    number INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
