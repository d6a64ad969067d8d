-- Thousands of events with other contents may have been sent under one id: whether one of them has a
-- certain content is told by the index alone.
DROP INDEX renamed_key;
CREATE INDEX renamed_key ON renamed (near, key, content);
