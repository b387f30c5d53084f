-- Who did what to which key. Texts that are not known are empty. A row may hold
-- several records of a key: see internal/sqlstore/audit_rows.go.
CREATE TABLE audit_log (
    -- A UUIDv7 that begins with at, so that its order is that of time.
    id          TEXT PRIMARY KEY,
    event       TEXT NOT NULL,
    at          INTEGER NOT NULL,
    actor_type  TEXT NOT NULL,
    actor       TEXT NOT NULL,
    actor_label TEXT NOT NULL DEFAULT '',
    key_id      TEXT,
    key_label   TEXT NOT NULL DEFAULT '',
    request_id  TEXT NOT NULL DEFAULT '',
    method      TEXT NOT NULL DEFAULT '',
    path        TEXT NOT NULL DEFAULT '',
    status      INTEGER NOT NULL DEFAULT 0,
    client_ip   TEXT NOT NULL DEFAULT '',
    -- As it was written, since it is part of what mac is over.
    details     TEXT,
    -- The record's place in a chain, NULL until it is sealed.
    chain       TEXT,
    seq         INTEGER,
    mac         BLOB,
    first_id    TEXT,
    records     INTEGER NOT NULL DEFAULT 1,
    folded      TEXT GENERATED ALWAYS AS (lower(key_label)) VIRTUAL,
    earlier     BLOB,
    CHECK ((chain IS NULL) = (seq IS NULL) AND (chain IS NULL) = (mac IS NULL)),
    UNIQUE (chain, seq)
) STRICT;

-- The event behind the column, since nearly all records are of one event, and
-- what is looked for are mostly the others.
CREATE INDEX audit_log_by_event ON audit_log (event, id);
CREATE INDEX audit_log_by_key ON audit_log (key_id, event, id);
CREATE INDEX audit_log_by_actor ON audit_log (actor, event, id);
CREATE INDEX audit_log_by_label ON audit_log (folded, event, id);
CREATE INDEX audit_log_unsealed ON audit_log (id) WHERE chain IS NULL;

-- Where each chain begins and ends. See AuditMark in store/audit_log.go.
CREATE TABLE audit_chain (
    id               TEXT PRIMARY KEY,
    seq              INTEGER NOT NULL DEFAULT 0,
    mac              BLOB NOT NULL DEFAULT x'',
    signature        BLOB NOT NULL DEFAULT x'',
    anchor_seq       INTEGER NOT NULL DEFAULT 0,
    anchor_mac       BLOB NOT NULL DEFAULT x'',
    anchor_signature BLOB NOT NULL DEFAULT x''
) STRICT;

-- The key whose deletion is recorded by who deletes it, within the transaction
-- that does it. Empty outside of it.
CREATE TABLE auditing (
    id TEXT PRIMARY KEY
) STRICT;

-- The id is made as NewAuditID does in store/audit.go. julianday is exact to
-- the millisecond; unixepoch('subsec') is not in every sqlite3.
CREATE TRIGGER system_keys_audit_delete AFTER DELETE ON system_keys
WHEN NOT EXISTS (SELECT 1 FROM auditing WHERE id = old.id)
BEGIN
    INSERT INTO audit_log (id, event, at, actor_type, actor, key_id, key_label)
    SELECT substr(hex, 1, 8) || '-' || substr(hex, 9, 4) || '-' || substr(hex, 13, 4) || '-' || substr(hex, 17, 4) || '-'
        || substr(hex, 21), 'api_key.revoked', ms * 1000, 'sql', 'sql', old.id, old.label
    FROM (
        SELECT ms, printf('%012x7000%016x', ms, (random() & 0x3fffffffffffffff) | (1 << 63)) AS hex
        FROM (SELECT CAST((julianday('now') - 2440587.5) * 86400000 + 0.5 AS INTEGER) AS ms)
    );
END;

-- The triggers of 0002 with the time given: the default of the column needs
-- SQLite 3.42, and the sqlite3 of another program may be older.
DROP TRIGGER system_keys_log_delete;
CREATE TRIGGER system_keys_log_delete AFTER DELETE ON system_keys BEGIN
    INSERT INTO change_log (key_id, op, at)
    VALUES (old.id, 'd', CAST((julianday('now') - 2440587.5) * 86400000 + 0.5 AS INTEGER) * 1000);
END;

-- INSERT OR REPLACE fires no DELETE trigger for what it replaces
-- (https://sqlite.org/lang_conflict.html).
DROP TRIGGER system_keys_log_replace;
CREATE TRIGGER system_keys_log_replace BEFORE INSERT ON system_keys
WHEN EXISTS (SELECT 1 FROM system_keys WHERE id = new.id OR rid = new.rid)
BEGIN
    INSERT INTO change_log (key_id, op, at)
    SELECT id, 'k', CAST((julianday('now') - 2440587.5) * 86400000 + 0.5 AS INTEGER) * 1000
    FROM system_keys WHERE id = new.id OR rid = new.rid;
END;

-- No column list: it would miss what another trigger changes.
DROP TRIGGER system_keys_log_update;
CREATE TRIGGER system_keys_log_update AFTER UPDATE ON system_keys
WHEN old.id <> new.id OR old.label <> new.label OR old.key_hash <> new.key_hash OR old.permissions <> new.permissions
    OR old.is_system <> new.is_system OR old.expires_at <> new.expires_at OR old.networks <> new.networks
BEGIN
    INSERT INTO change_log (key_id, op, at)
    SELECT old.id, 'd', CAST((julianday('now') - 2440587.5) * 86400000 + 0.5 AS INTEGER) * 1000 WHERE old.id <> new.id;
    INSERT INTO change_log (key_id, op, at) VALUES (new.id, CASE
        WHEN old.id <> new.id THEN 'k'
        WHEN old.key_hash = new.key_hash THEN 'u'
        WHEN old.label = new.label AND old.permissions = new.permissions AND old.is_system = new.is_system
            AND old.expires_at = new.expires_at AND old.networks = new.networks
            AND EXISTS (SELECT 1 FROM rehashing r WHERE r.id = new.id AND r.key_hash = new.key_hash) THEN 'h'
        ELSE 'k'
    END, CAST((julianday('now') - 2440587.5) * 86400000 + 0.5 AS INTEGER) * 1000);
END;
