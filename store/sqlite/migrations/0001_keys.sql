CREATE TABLE schema_migrations (
    version    INTEGER PRIMARY KEY,
    name       TEXT NOT NULL,
    applied_at INTEGER NOT NULL
) STRICT;

CREATE TABLE mint_key (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    key      BLOB NOT NULL CHECK (length(key) = 32)
) STRICT;

-- Times are microseconds since the Unix epoch; 0 stands for never.
CREATE TABLE system_keys (
    rid          INTEGER PRIMARY KEY,
    id           TEXT NOT NULL UNIQUE CHECK (length(id) = 36 AND id NOT GLOB '*[^-0-9a-f]*'),
    label        TEXT NOT NULL CHECK (length(label) BETWEEN 1 AND 100 AND instr(label, char(0)) = 0),
    key_hash     TEXT NOT NULL CHECK (key_hash GLOB '$argon2id$*' AND length(key_hash) <= 512),
    permissions  TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(permissions) AND json_type(permissions) = 'array'),
    is_system    INTEGER NOT NULL DEFAULT 0 CHECK (is_system IN (0, 1)),
    created_at   INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
    created_by   TEXT NOT NULL DEFAULT 'sql',
    expires_at   INTEGER NOT NULL DEFAULT 0,
    last_used_at INTEGER NOT NULL DEFAULT 0,
    -- From where the key may be used, as a JSON array. Empty: from anywhere.
    networks     TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(networks) AND json_type(networks) = 'array'
        AND json_array_length(networks) <= 16),
    -- lower() folds ASCII letters alone. A column, as the planner does not find
    -- a place (folded, id) in an index by an expression.
    folded       TEXT GENERATED ALWAYS AS (lower(label)) VIRTUAL,
    -- After every time if the key never expires.
    ends_at      INTEGER GENERATED ALWAYS AS (CASE expires_at WHEN 0 THEN 9223372036854775807 ELSE expires_at END) VIRTUAL
) STRICT;

-- One index for each order of a list.
CREATE INDEX system_keys_by_created_at ON system_keys (created_at, id);
CREATE INDEX system_keys_by_label ON system_keys (folded, id);
CREATE INDEX system_keys_by_last_used_at ON system_keys (last_used_at, id);
CREATE INDEX system_keys_by_expires_at ON system_keys (ends_at, id);

-- The number of rows, kept so that no list has to count them.
CREATE TABLE key_count (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    n        INTEGER NOT NULL,
    -- Keys were inserted, and the change log does not say so yet. Whoever renews a
    -- lease next writes one entry for all of them.
    inserted INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO key_count VALUES (1, 0, 0);

-- An index of the labels and ids by trigrams, for substring search. It refers to
-- the rows of system_keys instead of holding a copy of them.
CREATE VIRTUAL TABLE label_search USING fts5 (
    label, id, content = 'system_keys', content_rowid = 'rid', tokenize = 'trigram'
);

CREATE TRIGGER system_keys_insert AFTER INSERT ON system_keys BEGIN
    UPDATE key_count SET n = n + 1, inserted = 1;
    INSERT INTO label_search (rowid, label, id) VALUES (new.rid, new.label, new.id);
END;

CREATE TRIGGER system_keys_delete AFTER DELETE ON system_keys BEGIN
    UPDATE key_count SET n = n - 1;
    INSERT INTO label_search (label_search, rowid, label, id) VALUES ('delete', old.rid, old.label, old.id);
END;

CREATE TRIGGER system_keys_relabel AFTER UPDATE OF label, id, rid ON system_keys BEGIN
    INSERT INTO label_search (label_search, rowid, label, id) VALUES ('delete', old.rid, old.label, old.id);
    INSERT INTO label_search (rowid, label, id) VALUES (new.rid, new.label, new.id);
END;
