-- Provisioning keys and roles. `document` is the key or role as JSON, a key's without its digest.
CREATE TABLE key (
    id              text COLLATE "C" PRIMARY KEY,
    digest          bytea NOT NULL,
    document        bytea NOT NULL,
    revision        bigint NOT NULL UNIQUE
);

CREATE TABLE role (
    name            text COLLATE "C" PRIMARY KEY,
    document        bytea NOT NULL
);

CREATE TABLE role_version (version bigint NOT NULL);
INSERT INTO role_version VALUES (0);
