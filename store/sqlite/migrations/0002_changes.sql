-- Every change of a key that matters to who has verified it. There is one writer
-- at a time, so rev grows in the order of the commits. AUTOINCREMENT gives none
-- out twice, also after the newest were removed.
CREATE TABLE change_log (
    rev    INTEGER PRIMARY KEY AUTOINCREMENT,
    tag    INTEGER NOT NULL DEFAULT (random()),
    key_id TEXT,
    -- See ChangeKind in store/feed.go.
    op     TEXT NOT NULL CHECK (op IN ('d', 'u', 'k', 'h', 'f', 'i', 'b')),
    at     INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER))
) STRICT;

CREATE INDEX change_log_by_key ON change_log (key_id) WHERE key_id IS NOT NULL;

-- The log is never empty.
INSERT INTO change_log (op) VALUES ('b');

-- The instances.
CREATE TABLE member (
    id        TEXT PRIMARY KEY,
    beat      INTEGER NOT NULL DEFAULT (random()),
    applied   INTEGER NOT NULL DEFAULT 0,
    ttl_ms    INTEGER NOT NULL CHECK (ttl_ms BETWEEN 500 AND 120000),
    name      TEXT NOT NULL,
    joined_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
    seen_at   INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER))
) STRICT;

-- How many requests in flight an instance has cut because of a change.
CREATE TABLE change_cut (
    rev      INTEGER NOT NULL REFERENCES change_log (rev) ON DELETE CASCADE,
    member   TEXT NOT NULL,
    requests INTEGER NOT NULL,
    PRIMARY KEY (rev, member)
) STRICT, WITHOUT ROWID;

-- The hash that a key is being given for the one that it has, within the
-- transaction that does it. Empty outside of it.
CREATE TABLE rehashing (
    id       TEXT PRIMARY KEY,
    key_hash TEXT NOT NULL
) STRICT;

CREATE TRIGGER system_keys_log_delete AFTER DELETE ON system_keys BEGIN
    INSERT INTO change_log (key_id, op) VALUES (old.id, 'd');
END;

-- INSERT OR REPLACE fires no DELETE trigger for what it replaces
-- (https://sqlite.org/lang_conflict.html).
CREATE TRIGGER system_keys_log_replace BEFORE INSERT ON system_keys
WHEN EXISTS (SELECT 1 FROM system_keys WHERE id = new.id OR rid = new.rid)
BEGIN
    INSERT INTO change_log (key_id, op) SELECT id, 'k' FROM system_keys WHERE id = new.id OR rid = new.rid;
END;

-- No column list: it would miss what another trigger changes.
CREATE TRIGGER system_keys_log_update AFTER UPDATE ON system_keys
WHEN old.id <> new.id OR old.label <> new.label OR old.key_hash <> new.key_hash OR old.permissions <> new.permissions
    OR old.is_system <> new.is_system OR old.expires_at <> new.expires_at OR old.networks <> new.networks
BEGIN
    INSERT INTO change_log (key_id, op) SELECT old.id, 'd' WHERE old.id <> new.id;
    INSERT INTO change_log (key_id, op) VALUES (new.id, CASE
        WHEN old.id <> new.id THEN 'k'
        WHEN old.key_hash = new.key_hash THEN 'u'
        WHEN old.label = new.label AND old.permissions = new.permissions AND old.is_system = new.is_system
            AND old.expires_at = new.expires_at AND old.networks = new.networks
            AND EXISTS (SELECT 1 FROM rehashing r WHERE r.id = new.id AND r.key_hash = new.key_hash) THEN 'h'
        ELSE 'k'
    END);
END;
