-- Provisioning keys of the embedded store. `document` is the key as JSON without its digest.
CREATE TABLE key (
    id          TEXT PRIMARY KEY,
    digest      BLOB NOT NULL,
    document    BLOB NOT NULL,
    revision    INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX key_revision ON key (revision);

-- `version` is the version of all roles with which each was put or deleted; the document of a
-- deleted one is empty. So whoever knows the roles of a version reads only what has changed since.
CREATE TABLE role (
    name        TEXT PRIMARY KEY,
    document    BLOB NOT NULL,
    version     INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX role_changed ON role (version);

CREATE TABLE role_version (version INTEGER NOT NULL) STRICT;
INSERT INTO role_version VALUES (0);

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
