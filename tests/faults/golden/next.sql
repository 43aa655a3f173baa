-- What a later release might do to the schema; taken by tests only, after the last migration there is.
ALTER TABLE deliveries ADD COLUMN weight INTEGER NOT NULL DEFAULT 1;

UPDATE deliveries SET weight = 2 WHERE state = 'pending';

CREATE TABLE notes (
    event_id INTEGER PRIMARY KEY,
    text     TEXT NOT NULL
) STRICT;

INSERT INTO notes (event_id, text) SELECT id, type FROM events;

CREATE INDEX deliveries_by_weight ON deliveries (weight) WHERE state = 'pending';
