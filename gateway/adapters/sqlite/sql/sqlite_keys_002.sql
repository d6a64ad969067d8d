-- Changes to keys and roles that are not yet in the log, as JSON. Numbers are never used again.
CREATE TABLE change (
    number      INTEGER PRIMARY KEY AUTOINCREMENT,
    document    BLOB NOT NULL
) STRICT;

-- What the gateway remembers about keys beside the keys themselves: last uses, findings, baselines.
CREATE TABLE note (
    kind        TEXT NOT NULL,
    name        TEXT NOT NULL,
    document    BLOB NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;
