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
