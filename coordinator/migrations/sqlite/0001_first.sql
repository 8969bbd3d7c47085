-- Types are kept to TEXT, INTEGER and BLOB, times are milliseconds since 1970, truth values are 0 and
-- 1, structured values are JSON as TEXT: the statements in store.rs run on PostgreSQL unchanged, only
-- this file has a twin there.

CREATE TABLE installation (
    key   TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

-- One row for each input set and revision that changed it. The set's present content is its newest row.
CREATE TABLE revisions (
    number     INTEGER NOT NULL PRIMARY KEY,
    input_set  TEXT   NOT NULL,
    files      TEXT   NOT NULL,
    digest     TEXT   NOT NULL,
    changes    TEXT   NOT NULL,
    created_at INTEGER NOT NULL,
    created_by TEXT   NOT NULL
) STRICT;
CREATE INDEX revisions_by_set ON revisions (input_set, number);

CREATE TABLE configurations (
    digest TEXT NOT NULL PRIMARY KEY,
    body   TEXT NOT NULL
) STRICT;

CREATE TABLE bodies (
    digest TEXT NOT NULL PRIMARY KEY,
    bytes  BLOB NOT NULL
) STRICT;

CREATE TABLE releases (
    service    TEXT   NOT NULL,
    version    TEXT   NOT NULL,
    sequence   INTEGER NOT NULL,
    body       TEXT   NOT NULL,
    PRIMARY KEY (service, version),
    UNIQUE (service, sequence)
) STRICT;

CREATE TABLE tracks (
    service     TEXT NOT NULL,
    environment TEXT NOT NULL,
    body        TEXT NOT NULL,
    PRIMARY KEY (service, environment)
) STRICT;

CREATE TABLE removals (
    service     TEXT   NOT NULL,
    environment TEXT   NOT NULL,
    revision    INTEGER NOT NULL,
    confirmed   INTEGER NOT NULL,
    PRIMARY KEY (service, environment)
) STRICT;

-- What each target is assigned of each service. `body` is the rendered workload, or `problem` says why
-- it could not be rendered for this target.
CREATE TABLE placements (
    target      TEXT   NOT NULL,
    service     TEXT   NOT NULL,
    point       TEXT   NOT NULL,
    since       INTEGER NOT NULL,
    body        TEXT,
    problem     TEXT,
    PRIMARY KEY (target, service)
) STRICT;

CREATE TABLE deployments (
    id          INTEGER NOT NULL PRIMARY KEY,
    service     TEXT   NOT NULL,
    environment TEXT   NOT NULL,
    body        TEXT   NOT NULL
) STRICT;
CREATE INDEX deployments_by_track ON deployments (service, environment, id);
CREATE INDEX deployments_by_environment ON deployments (environment, id);

CREATE TABLE targets (
    name        TEXT   NOT NULL PRIMARY KEY,
    environment TEXT   NOT NULL,
    body        TEXT   NOT NULL
) STRICT;

CREATE TABLE certificates (
    serial      TEXT   NOT NULL PRIMARY KEY,
    target      TEXT   NOT NULL,
    environment TEXT   NOT NULL,
    not_after   INTEGER NOT NULL,
    revoked_at  INTEGER
) STRICT;
CREATE INDEX certificates_by_target ON certificates (target);

CREATE TABLE assignments (
    target    TEXT   NOT NULL PRIMARY KEY,
    bytes     BLOB   NOT NULL,
    signature BLOB   NOT NULL
) STRICT;

CREATE TABLE observed (
    target  TEXT   NOT NULL,
    service TEXT   NOT NULL,
    body    TEXT   NOT NULL,
    PRIMARY KEY (target, service)
) STRICT;

CREATE TABLE tokens (
    id   TEXT NOT NULL PRIMARY KEY,
    body TEXT NOT NULL
) STRICT;

-- Whom a token let in: a join repeated with the same key gets the same certificate.
CREATE TABLE joins (
    token      TEXT   NOT NULL,
    public_key TEXT   NOT NULL,
    body       TEXT   NOT NULL,
    PRIMARY KEY (token, public_key)
) STRICT;

CREATE TABLE artifacts (
    digest TEXT   NOT NULL PRIMARY KEY,
    size   INTEGER NOT NULL
) STRICT;

CREATE TABLE users (
    token_hash TEXT NOT NULL PRIMARY KEY,
    body       TEXT NOT NULL
) STRICT;

-- Append only; each row's hash is taken over the hash before it and its own body.
CREATE TABLE events (
    sequence INTEGER NOT NULL PRIMARY KEY,
    body     TEXT   NOT NULL,
    hash     TEXT   NOT NULL
) STRICT;

CREATE TABLE answers (
    idempotency_key TEXT   NOT NULL PRIMARY KEY,
    request         TEXT   NOT NULL,
    status          INTEGER NOT NULL,
    body            TEXT   NOT NULL,
    at              INTEGER NOT NULL
) STRICT;
