CREATE TABLE IF NOT EXISTS lock_fence (
    name            text        PRIMARY KEY COLLATE "C",
    epoch           bigint      NOT NULL,
    number          bigint      NOT NULL
);
