-- Positions of readers, one row each: gateway/streaming/consumers/row.py tells what the columns
-- mean. Times are seconds since 1970.
CREATE TABLE consumer (
    owner          TEXT NOT NULL,
    name           TEXT NOT NULL,
    mode           TEXT NOT NULL,
    cursor         TEXT NOT NULL,
    sent           TEXT NOT NULL,
    generation     INTEGER NOT NULL,
    reader         TEXT NOT NULL,
    lease_until    REAL NOT NULL,
    selection      TEXT NOT NULL,
    ranges         TEXT NOT NULL,
    options        TEXT NOT NULL,
    unacknowledged INTEGER NOT NULL,
    redelivered    INTEGER NOT NULL,
    created_at     REAL NOT NULL,
    acked_at       REAL NOT NULL,
    updated_at     REAL NOT NULL,
    PRIMARY KEY (owner, name)
) STRICT, WITHOUT ROWID;
