-- Positions of readers, one row each: gateway/streaming/consumers/row.py tells what the columns
-- mean. Times are seconds since 1970. Rows change every few seconds, in place where their page has
-- room.
CREATE TABLE consumer (
    owner           text COLLATE "C" NOT NULL,
    name            text COLLATE "C" NOT NULL,
    mode            text NOT NULL,
    cursor          text NOT NULL,
    sent            text NOT NULL,
    generation      bigint NOT NULL,
    reader          text NOT NULL,
    lease_until     double precision NOT NULL,
    selection       text NOT NULL,
    ranges          text NOT NULL,
    options         text NOT NULL,
    unacknowledged  bigint NOT NULL,
    redelivered     bigint NOT NULL,
    created_at      double precision NOT NULL,
    acked_at        double precision NOT NULL,
    updated_at      double precision NOT NULL,
    PRIMARY KEY (owner, name)
) WITH (fillfactor = 50);
