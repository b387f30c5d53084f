-- What keys are used for: see Activities in store/activity.go.
CREATE TABLE key_activity (
    key_id      TEXT PRIMARY KEY,
    first_at    INTEGER NOT NULL,
    -- When new networks were reported last. NULL: never.
    reported_at INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE key_day (
    key_id   TEXT NOT NULL,
    day      INTEGER NOT NULL, -- in UTC, since the Unix epoch
    requests INTEGER NOT NULL,
    denied   INTEGER NOT NULL,
    PRIMARY KEY (key_id, day)
) STRICT, WITHOUT ROWID;

CREATE TABLE key_network (
    key_id     TEXT NOT NULL,
    network    TEXT NOT NULL,
    first_at   INTEGER NOT NULL,
    last_at    INTEGER NOT NULL,
    requests   INTEGER NOT NULL,
    -- It was new, and no report says so yet.
    unreported INTEGER NOT NULL CHECK (unreported IN (0, 1)),
    PRIMARY KEY (key_id, network)
) STRICT, WITHOUT ROWID;

CREATE INDEX key_network_unreported ON key_network (key_id) WHERE unreported = 1;

CREATE TABLE key_asked (
    key_id     TEXT NOT NULL,
    permission TEXT NOT NULL,
    last_at    INTEGER NOT NULL,
    PRIMARY KEY (key_id, permission)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER system_keys_end_activity AFTER DELETE ON system_keys BEGIN
    DELETE FROM key_activity WHERE key_id = old.id;
    DELETE FROM key_day WHERE key_id = old.id;
    DELETE FROM key_network WHERE key_id = old.id;
    DELETE FROM key_asked WHERE key_id = old.id;
END;

-- To another id is to end the key of the old one.
CREATE TRIGGER system_keys_rename_activity AFTER UPDATE ON system_keys WHEN old.id <> new.id BEGIN
    DELETE FROM key_activity WHERE key_id = old.id;
    DELETE FROM key_day WHERE key_id = old.id;
    DELETE FROM key_network WHERE key_id = old.id;
    DELETE FROM key_asked WHERE key_id = old.id;
END;
