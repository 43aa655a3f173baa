PRAGMA application_id = 2003331940;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
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
INSERT INTO "attempts" VALUES(382377119029657601,1,'scheduled',1795233009410,1.97780769995006266981e+01,200,NULL,NULL,NULL,1.47034250003343913704e+01,NULL,6.98390000252402387559e-01,NULL,X'');
INSERT INTO "attempts" VALUES(382377119029657602,1,'scheduled',1795233009410,1.91543199998704949393e+01,500,NULL,NULL,NULL,1.78282259985280688852e+01,NULL,7.0238500120467506349e-01,NULL,X'6F7574206F66206F72646572');
INSERT INTO "attempts" VALUES(382377119084183553,1,'scheduled',1795233009439,2.02064350014552474021e+01,503,NULL,NULL,NULL,NULL,NULL,1.99280600008933106437e+01,NULL,X'');
INSERT INTO "attempts" VALUES(382377119084183554,1,'scheduled',1795233009439,4.99268610001308843493e+01,500,NULL,NULL,NULL,NULL,NULL,4.98042479994182940572e+01,NULL,X'6F7574206F66206F72646572');
INSERT INTO "attempts" VALUES(382377119528779777,1,'scheduled',1795233009528,6.40373100031865760684e+00,200,NULL,NULL,NULL,NULL,NULL,6.06261400025687180459e+00,NULL,X'');
INSERT INTO "attempts" VALUES(382377119528779778,1,'scheduled',1795233009530,1.04505150011391378939e+01,200,NULL,NULL,NULL,NULL,NULL,0.675565001074574,NULL,X'');
INSERT INTO "attempts" VALUES(382377119667191809,1,'scheduled',1795233009556,1.01187600012053735554e+00,200,NULL,NULL,NULL,NULL,NULL,6.59962999634444713592e-01,NULL,X'');
INSERT INTO "attempts" VALUES(382377119688163329,1,'scheduled',1795233009566,4.17031000324641354382e-01,503,NULL,NULL,NULL,NULL,NULL,2.63661999269970692694e-01,NULL,X'');
INSERT INTO "attempts" VALUES(382377119872712705,1,'scheduled',1795233009609,8.48151999889523722231e-01,503,NULL,NULL,NULL,NULL,NULL,6.25361000857083126902e-01,NULL,X'');
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
INSERT INTO "deliveries" VALUES(382377119029657601,382377119029657600,'orders','delivered',NULL,'scheduled',1,0,1795233009400,1795233009400,NULL,1795233009430,NULL,0);
INSERT INTO "deliveries" VALUES(382377119029657602,382377119029657600,'once','dead','retries_exhausted','scheduled',1,0,1795233009400,1795233009400,NULL,1795233009430,NULL,0);
INSERT INTO "deliveries" VALUES(382377119029657603,382377119029657600,'held','pending',NULL,'scheduled',0,0,1795233009400,1795233009400,1795233009400,NULL,NULL,0);
INSERT INTO "deliveries" VALUES(382377119084183553,382377119084183552,'orders','pending',NULL,'scheduled',1,1,1795233009413,1795233009413,1797825009459,NULL,NULL,0);
INSERT INTO "deliveries" VALUES(382377119084183554,382377119084183552,'once','dead','retries_exhausted','scheduled',1,0,1795233009413,1795233009413,NULL,1795233009489,NULL,0);
INSERT INTO "deliveries" VALUES(382377119084183555,382377119084183552,'held','pending',NULL,'scheduled',0,0,1795233009413,1795233009413,1795233009413,NULL,NULL,0);
INSERT INTO "deliveries" VALUES(382377119528779777,382377119528779776,'orders','delivered',NULL,'scheduled',1,0,1795233009519,1795233009519,NULL,1795233009536,NULL,0);
INSERT INTO "deliveries" VALUES(382377119528779778,382377119528779776,'made','delivered',NULL,'scheduled',1,0,1795233009519,1795233009519,NULL,1795233009540,NULL,0);
INSERT INTO "deliveries" VALUES(382377119637831681,382377119637831680,'orders','pending',NULL,'scheduled',0,0,1798689009387,1795233009545,1798689009387,NULL,NULL,0);
INSERT INTO "deliveries" VALUES(382377119667191809,382377119667191808,'orders','delivered',NULL,'scheduled',1,0,1795233009552,1795233009552,NULL,1795233009557,NULL,0);
INSERT INTO "deliveries" VALUES(382377119688163329,382377119688163328,'orders','pending',NULL,'scheduled',1,1,1795233009557,1795233009557,1797825009566,NULL,NULL,0);
INSERT INTO "deliveries" VALUES(382377119872712705,382377119872712704,'orders','cancelled','operator','scheduled',1,1,1795233009601,1795233009601,NULL,1795233009627,NULL,0);
CREATE TABLE endpoint_deliveries (
    endpoint_id TEXT    NOT NULL,
    delivery_id INTEGER NOT NULL,
    PRIMARY KEY (endpoint_id, delivery_id)
) STRICT, WITHOUT ROWID;
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
INSERT INTO "endpoints" VALUES('held',1,1795233009130,'{}',NULL,NULL,NULL,NULL,'operator',1795233009353,0,0,0,NULL,NULL,NULL,NULL);
INSERT INTO "endpoints" VALUES('made',0,1795233009371,'{"url": "http://127.0.0.1:8499/made", "types": ["invoice.*"]}','whsec_3SVaCfxqjHG9Yc3zvR9B+dNyhsg+aqxKzNiXbb8bipc=','whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw',1795319409388,NULL,NULL,NULL,0,0,0,1795233009540,382377119528779778,1,NULL);
INSERT INTO "endpoints" VALUES('once',1,1795233009130,'{}',NULL,NULL,NULL,NULL,NULL,NULL,1,20778,2,NULL,382377119084183554,1,NULL);
INSERT INTO "endpoints" VALUES('orders',1,1795233009130,'{}',NULL,NULL,NULL,NULL,NULL,NULL,1,20778,2,1795233009557,382377119872712705,1,NULL);
CREATE TABLE events (
    id             INTEGER PRIMARY KEY,
    type           TEXT    NOT NULL,
    tenant         TEXT    NOT NULL,
    content_type   TEXT    NOT NULL,
    accepted_at_ms INTEGER NOT NULL,
    deliver_at_ms  INTEGER,
    payload        BLOB    NOT NULL
) STRICT;
INSERT INTO "events" VALUES(382377119029657600,'order.completed','default','application/json',1795233009400,NULL,X'7B2266617465223A202274616B656E222C202274657874223A202267725C75303066635C753030646665205C75643833635C75646638392069742773227D');
INSERT INTO "events" VALUES(382377119084183552,'order.completed','default','application/json',1795233009413,NULL,X'7B2266617465223A202272656675736564227D');
INSERT INTO "events" VALUES(382377119528779776,'invoice.paid','default','application/json',1795233009519,NULL,X'7B2266617465223A202274616B656E227D');
INSERT INTO "events" VALUES(382377119637831680,'note.left','default','application/json',1795233009545,1798689009387,X'7B2266617465223A20226C61746572227D');
INSERT INTO "events" VALUES(382377119667191808,'note.left','default','application/json',1795233009552,NULL,X'7B2266617465223A202274616B656E227D');
INSERT INTO "events" VALUES(382377119688163328,'blob.left','default','application/octet-stream',1795233009557,NULL,X'000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F202122232425262728292A2B2C2D2E2F303132333435363738393A3B3C3D3E3F404142434445464748494A4B4C4D4E4F505152535455565758595A5B5C5D5E5F606162636465666768696A6B6C6D6E6F707172737475767778797A7B7C7D7E7F808182838485868788898A8B8C8D8E8F909192939495969798999A9B9C9D9E9FA0A1A2A3A4A5A6A7A8A9AAABACADAEAFB0B1B2B3B4B5B6B7B8B9BABBBCBDBEBFC0C1C2C3C4C5C6C7C8C9CACBCCCDCECFD0D1D2D3D4D5D6D7D8D9DADBDCDDDEDFE0E1E2E3E4E5E6E7E8E9EAEBECEDEEEFF0F1F2F3F4F5F6F7F8F9FAFBFCFDFEFF');
INSERT INTO "events" VALUES(382377119872712704,'note.left','default','application/json',1795233009601,NULL,X'7B2266617465223A202263616E63656C6C6564227D');
CREATE TABLE figures (
    name  TEXT    NOT NULL PRIMARY KEY,
    value INTEGER NOT NULL CHECK (value >= 0)
) STRICT, WITHOUT ROWID;
INSERT INTO "figures" VALUES('events',7);
INSERT INTO "figures" VALUES('listed_upto',0);
CREATE TABLE idempotency (
    event_id      INTEGER PRIMARY KEY,
    tenant        TEXT    NOT NULL,
    key           TEXT    NOT NULL,
    fingerprint   BLOB    NOT NULL,
    deliveries    INTEGER NOT NULL,
    expires_at_ms INTEGER NOT NULL
) STRICT;
INSERT INTO "idempotency" VALUES(382377119667191808,'default','golden',X'0BC6B42EC18D4D14775D13E16CD2B712',1,1797825009552);
CREATE INDEX deliveries_by_event ON deliveries (event_id);
CREATE INDEX deliveries_due ON deliveries (endpoint_id, replayed, due_at_ms) WHERE state = 'pending';
CREATE INDEX deliveries_in_order ON deliveries (endpoint_id) WHERE state = 'pending';
CREATE INDEX deliveries_unacknowledged ON deliveries (state) WHERE state IN ('dead', 'cancelled');
CREATE UNIQUE INDEX idempotency_by_key ON idempotency (tenant, key);
COMMIT;
