-- The log of the embedded store. `body` is the native JSON behind its `cursor` member.
CREATE TABLE log (
    one         INTEGER PRIMARY KEY CHECK (one = 1),
    epoch       TEXT NOT NULL,
    head        INTEGER NOT NULL,
    floor       INTEGER NOT NULL,
    bytes       INTEGER NOT NULL
) STRICT;

CREATE TABLE event (
    offset      INTEGER PRIMARY KEY,
    recorded_at INTEGER NOT NULL,
    tenant      TEXT NOT NULL,
    category    TEXT NOT NULL,
    action      TEXT NOT NULL,
    outcome     TEXT NOT NULL,
    severity    INTEGER NOT NULL,
    actor       TEXT NOT NULL,
    resources   TEXT NOT NULL,
    id          TEXT NOT NULL,
    body        BLOB NOT NULL
) STRICT;

-- Deduplication by content, with keyed values (see `gateway/log/identity.py`): the events by the
-- value of tenant and id as they were sent. `near` brings ids together that were made one after the
-- other. Events that an earlier version stored have no `content`. While they are being entered here
-- their log has an index `event_id` on `event (id, tenant)`, and loses it when all are in.
CREATE TABLE dedup (
    near        INTEGER NOT NULL,
    key         BLOB NOT NULL,
    offset      INTEGER NOT NULL,
    content     BLOB,
    PRIMARY KEY (near, key)
) STRICT, WITHOUT ROWID;

-- Events that stand under another id than they were sent with, since an event with other content
-- has that one. `near` and `key` are of the id that was sent.
CREATE TABLE renamed (
    offset      INTEGER PRIMARY KEY,
    id          TEXT NOT NULL,
    tenant      TEXT NOT NULL,
    near        INTEGER NOT NULL,
    key         BLOB NOT NULL,
    content     BLOB
) STRICT;

CREATE INDEX renamed_id ON renamed (id, tenant);
-- Thousands of events with other contents may have been sent under one id: whether one of them has a
-- certain content is told by the index alone.
CREATE INDEX renamed_key ON renamed (near, key, content);

-- Where the log was written last, so that a copy of it is known from the log itself: the inode and
-- device of its file and the boot of the machine. `ended` says that its gateway stopped in order, and
-- `copied` that this is a backup.
CREATE TABLE place (
    one         INTEGER PRIMARY KEY CHECK (one = 1),
    inode       INTEGER NOT NULL,
    device      INTEGER NOT NULL,
    boot        TEXT NOT NULL,
    ended       INTEGER NOT NULL,
    copied      INTEGER NOT NULL
) STRICT;
