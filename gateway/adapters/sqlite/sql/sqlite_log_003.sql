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
