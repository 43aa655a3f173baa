-- Times are UTC milliseconds. Ids are minted in order of time, so the primary key is also the order of acceptance.
-- There are no foreign keys: each would cost a lookup per row on the way in, and only the writer's code changes rows.

CREATE TABLE events (
    id             INTEGER PRIMARY KEY,
    type           TEXT    NOT NULL,
    tenant         TEXT    NOT NULL,
    content_type   TEXT    NOT NULL,
    accepted_at_ms INTEGER NOT NULL,
    deliver_at_ms  INTEGER,
    payload        BLOB    NOT NULL
) STRICT;

CREATE TABLE deliveries (
    id                 INTEGER PRIMARY KEY,
    event_id           INTEGER NOT NULL,
    endpoint_id        TEXT    NOT NULL,
    state              TEXT    NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'dead', 'cancelled')),
    reason             TEXT,
    trigger            TEXT    NOT NULL DEFAULT 'scheduled' CHECK (trigger IN ('scheduled', 'manual')),
    attempt_count      INTEGER NOT NULL DEFAULT 0 CHECK (attempt_count >= 0),
    retries_used       INTEGER NOT NULL DEFAULT 0 CHECK (retries_used >= 0),
    owed_since_ms      INTEGER NOT NULL,
    created_at_ms      INTEGER NOT NULL,
    due_at_ms          INTEGER,
    finished_at_ms     INTEGER,
    -- When it was delivered, for one that was delivered and is being sent again: it ends as delivered whatever happens.
    acknowledged_at_ms INTEGER,
    -- Owed again by a replay, until its next attempt: what came by itself goes first.
    replayed           INTEGER NOT NULL DEFAULT 0 CHECK (replayed IN (0, 1)),
    CHECK (state = 'pending' OR replayed = 0),
    CHECK ((state = 'pending') = (due_at_ms IS NOT NULL)),
    CHECK ((state = 'pending') = (finished_at_ms IS NULL)),
    CHECK (state IN ('dead', 'cancelled') OR reason IS NULL),
    CHECK (state NOT IN ('dead', 'cancelled') OR reason IS NOT NULL)
) STRICT;

-- The deliveries of one event: its page, its resend, and whether retention may take it. New entries append.
CREATE INDEX deliveries_by_event ON deliveries (event_id);

-- What is due next at an endpoint, every endpoint's head by skipping, and counts of what is pending: all without a
-- look at the table. An entry lives as long as the delivery is owed, so the index stays as small as the backlog. A
-- replay of a million stands apart in it, so that nobody has to look past it for what is to be sent before.
CREATE INDEX deliveries_due ON deliveries (endpoint_id, replayed, due_at_ms) WHERE state = 'pending';

-- The same in order of acceptance, for `ordered` endpoints: without it the one that stands first could only be found by
-- looking at all that wait. As small as the one above.
CREATE INDEX deliveries_in_order ON deliveries (endpoint_id) WHERE state = 'pending';

-- What ended badly, across endpoints: the first thing an operator asks for among millions that ended well. Written
-- only when a delivery does end so.
CREATE INDEX deliveries_unacknowledged ON deliveries (state) WHERE state IN ('dead', 'cancelled');

-- Every delivery of an endpoint, for its history. Not an index, since that would grow at a different page for nearly
-- every event, and those pages made up half of what a commit writes. Rows are copied here by the thousand, sorted;
-- `listed_upto` in `figures` says how far, and what is above it is few enough to be looked through.
CREATE TABLE endpoint_deliveries (
    endpoint_id TEXT    NOT NULL,
    delivery_id INTEGER NOT NULL,
    PRIMARY KEY (endpoint_id, delivery_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE attempts (
    delivery_id         INTEGER NOT NULL,
    number              INTEGER NOT NULL CHECK (number >= 1),
    trigger             TEXT    NOT NULL CHECK (trigger IN ('scheduled', 'manual')),
    started_at_ms       INTEGER NOT NULL,
    duration_ms         REAL    NOT NULL,
    status              INTEGER,
    error_class         TEXT,
    error_text          TEXT,
    dns_ms              REAL,
    connect_ms          REAL,
    tls_ms              REAL,
    first_byte_ms       REAL,
    retry_after_seconds REAL,
    excerpt             BLOB    NOT NULL,
    PRIMARY KEY (delivery_id, number),
    CHECK ((status IS NULL) = (error_class IS NOT NULL)),
    CHECK ((error_class IS NULL) = (error_text IS NULL))
) STRICT, WITHOUT ROWID;

-- Its primary key is the id of the event that a key stands for: rows append in order of time, which is the order in
-- which they expire, so that taking the expired ones needs no index of its own.
CREATE TABLE idempotency (
    event_id      INTEGER PRIMARY KEY,
    tenant        TEXT    NOT NULL,
    key           TEXT    NOT NULL,
    fingerprint   BLOB    NOT NULL,
    deliveries    INTEGER NOT NULL,
    expires_at_ms INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX idempotency_by_key ON idempotency (tenant, key);

CREATE TABLE endpoints (
    id                       TEXT    NOT NULL PRIMARY KEY,
    declared                 INTEGER NOT NULL CHECK (declared IN (0, 1)),
    created_at_ms            INTEGER NOT NULL,
    given                    TEXT    NOT NULL,
    secret                   TEXT,
    -- The secret before the last rotation, by which requests are signed as well until then.
    previous_secret          TEXT,
    previous_secret_until_ms INTEGER,
    sample                   BLOB,
    disabled_reason          TEXT CHECK (disabled_reason IN ('failing', 'gone', 'operator', 'removed')),
    disabled_at_ms           INTEGER,
    failing_days             INTEGER NOT NULL,
    last_failing_date        INTEGER NOT NULL,
    failed_attempts          INTEGER NOT NULL,
    last_success_at_ms       INTEGER,
    last_attempt_delivery_id INTEGER,
    last_attempt_number      INTEGER,
    -- JSON list of [from, to]: when it was disabled, as far as deliveries that do not age in these times may need it.
    holds                    TEXT,
    CHECK ((last_attempt_delivery_id IS NULL) = (last_attempt_number IS NULL)),
    CHECK ((previous_secret IS NULL) = (previous_secret_until_ms IS NULL))
) STRICT, WITHOUT ROWID;

-- Numbers the writer keeps up in the transaction that changes them. `events` counts those, which would otherwise read
-- every payload page; `listed_upto` is the highest delivery in `endpoint_deliveries`.
CREATE TABLE figures (
    name  TEXT    NOT NULL PRIMARY KEY,
    value INTEGER NOT NULL CHECK (value >= 0)
) STRICT, WITHOUT ROWID;

INSERT INTO figures (name, value) VALUES ('events', 0), ('listed_upto', 0);
