-- The version of all roles with which each was put or deleted; the document of a deleted one is
-- empty. So whoever knows the roles of a version reads only what has changed since.
ALTER TABLE role ADD COLUMN version bigint NOT NULL DEFAULT 0;
CREATE INDEX role_changed ON role (version);
