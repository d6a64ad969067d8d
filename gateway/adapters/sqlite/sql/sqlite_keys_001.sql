-- Provisioning keys of the embedded store. `document` is the key as JSON without its digest.
CREATE TABLE key (
    id          TEXT PRIMARY KEY,
    digest      BLOB NOT NULL,
    document    BLOB NOT NULL,
    revision    INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX key_revision ON key (revision);

CREATE TABLE role (
    name        TEXT PRIMARY KEY,
    document    BLOB NOT NULL
) STRICT;

CREATE TABLE role_version (version INTEGER NOT NULL) STRICT;
INSERT INTO role_version VALUES (0);
