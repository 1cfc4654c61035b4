CREATE TABLE IF NOT EXISTS lock_fence (
    name            text        PRIMARY KEY,
    epoch           bigint      NOT NULL,
    number          bigint      NOT NULL
);
