-- Provisioning keys of the embedded store. `document` is the key as JSON without its digest.
CREATE TABLE key (
    id          TEXT PRIMARY KEY,
    digest      BLOB NOT NULL,
    document    BLOB NOT NULL,
    revision    INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX key_revision ON key (revision);
