-- Destinations. `document` is the destination as JSON, with sealed secrets.
CREATE TABLE destination (
    name        text COLLATE "C" PRIMARY KEY,
    document    bytea NOT NULL
);

-- Version of all destinations, which grows with every change.
CREATE TABLE destination_version (version bigint NOT NULL);
INSERT INTO destination_version VALUES (0);

-- Pointers to the events that receivers did not take, as JSON.
CREATE TABLE dead_letter (
    destination text COLLATE "C" NOT NULL REFERENCES destination (name) ON DELETE CASCADE,
    cursor      text COLLATE "C" NOT NULL,
    document    bytea NOT NULL,
    PRIMARY KEY (destination, cursor)
);

-- The last status of each, as its holder wrote it.
CREATE TABLE destination_status (
    destination text COLLATE "C" PRIMARY KEY REFERENCES destination (name) ON DELETE CASCADE,
    document    bytea NOT NULL
) WITH (fillfactor = 50);
