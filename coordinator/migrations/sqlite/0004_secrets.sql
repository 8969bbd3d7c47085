-- Values of secrets, each under the key in ca/secrets.key; without a value, the secret was deleted at
-- that number, and the next value has a higher one.
CREATE TABLE secrets (
    environment TEXT    NOT NULL,
    name        TEXT    NOT NULL,
    version     INTEGER NOT NULL,
    closed      BLOB,
    set_at      INTEGER NOT NULL,
    set_by      TEXT    NOT NULL,
    PRIMARY KEY (environment, name, version)
) STRICT;
