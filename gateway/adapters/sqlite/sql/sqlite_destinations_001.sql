-- Destinations of the embedded store. `document` is the destination as JSON, with sealed secrets.
CREATE TABLE destination (
    name        TEXT PRIMARY KEY,
    document    BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- Version of all destinations, which grows with every change.
CREATE TABLE destination_version (version INTEGER NOT NULL) STRICT;
INSERT INTO destination_version VALUES (0);

-- Pointers to the events that receivers did not take, as JSON.
CREATE TABLE dead_letter (
    destination TEXT NOT NULL REFERENCES destination (name) ON DELETE CASCADE,
    cursor      TEXT NOT NULL,
    document    BLOB NOT NULL,
    PRIMARY KEY (destination, cursor)
) STRICT, WITHOUT ROWID;

-- The last status of each, as its holder wrote it.
CREATE TABLE destination_status (
    destination TEXT PRIMARY KEY REFERENCES destination (name) ON DELETE CASCADE,
    document    BLOB NOT NULL
) STRICT, WITHOUT ROWID;
