-- Counts per key: tier m, h or d; unit is the number of the minute, hour or day since 1970.
-- Rows are added to twice a second, in place where their page has room.
CREATE TABLE usage (
    key_id          text COLLATE "C" NOT NULL,
    tier            text COLLATE "C" NOT NULL,
    unit            bigint NOT NULL,
    requests        bigint NOT NULL,
    streams         bigint NOT NULL,
    events          bigint NOT NULL,
    size            bigint NOT NULL,
    denials         bigint NOT NULL,
    PRIMARY KEY (key_id, tier, unit)
) WITH (fillfactor = 70);

CREATE INDEX usage_by_age ON usage (tier, unit);

-- The last batch of each process, so that one that is offered again is known.
CREATE TABLE usage_writer (
    id              text COLLATE "C" PRIMARY KEY,
    number          bigint NOT NULL,
    seen            timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 70);
