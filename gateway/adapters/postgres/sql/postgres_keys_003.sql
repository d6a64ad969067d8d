-- Provisioning keys and roles. `document` is the key or role as JSON, a key's without its digest.
CREATE TABLE key (
    id              text COLLATE "C" PRIMARY KEY,
    digest          bytea NOT NULL,
    document        bytea NOT NULL,
    revision        bigint NOT NULL UNIQUE
);

-- `version` is the version of all roles with which each was put or deleted; the document of a
-- deleted one is empty. So whoever knows the roles of a version reads only what has changed since.
CREATE TABLE role (
    name            text COLLATE "C" PRIMARY KEY,
    document        bytea NOT NULL,
    version         bigint NOT NULL DEFAULT 0
);

CREATE INDEX role_changed ON role (version);

CREATE TABLE role_version (version bigint NOT NULL);
INSERT INTO role_version VALUES (0);

-- Changes to keys and roles that are not yet in the log, as JSON. Numbers are never used again.
CREATE TABLE change (
    number      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    document    bytea NOT NULL
);

-- What the gateway remembers about keys beside the keys themselves: last uses, findings, baselines.
CREATE TABLE note (
    kind        text COLLATE "C" NOT NULL,
    name        text COLLATE "C" NOT NULL,
    document    bytea NOT NULL,
    PRIMARY KEY (kind, name)
);
