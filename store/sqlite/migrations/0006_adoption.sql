-- Whether this program minted the key. What others insert it did not.
ALTER TABLE system_keys ADD COLUMN minted INTEGER NOT NULL DEFAULT 0 CHECK (minted IN (0, 1));
UPDATE system_keys SET minted = 1 WHERE created_by <> 'sql';

CREATE INDEX system_keys_foreign ON system_keys (created_at, id) WHERE minted = 0;

-- By which digest a foreign key is found. No foreign key to system_keys, as with
-- sessions.
CREATE TABLE adopted_key (
    digest BLOB PRIMARY KEY CHECK (length(digest) = 32),
    -- Names the secret under which the digest was made.
    era    BLOB NOT NULL CHECK (length(era) = 32),
    key_id TEXT NOT NULL,
    -- SHA-256 of the hash that the key was verified against. No trigger sees what
    -- becomes of a row in a table that is dropped and made anew.
    key_proof BLOB NOT NULL CHECK (length(key_proof) = 32),
    UNIQUE (key_id, era)
) STRICT, WITHOUT ROWID;

-- An entry ends with its key, and lasts when the key is given another hash by us.
CREATE TRIGGER change_log_end_adoption AFTER INSERT ON change_log WHEN new.op IN ('d', 'k') BEGIN
    DELETE FROM adopted_key WHERE key_id = new.key_id;
END;

CREATE TRIGGER change_log_end_all_adoption AFTER INSERT ON change_log WHEN new.op = 'f' BEGIN
    DELETE FROM adopted_key;
END;

-- RehashKey gives the entry another proof itself: SQLite has no SHA-256.

-- The sessions of a key that is not foreign any more end, as its adoption does.
CREATE TRIGGER system_keys_end_sessions AFTER UPDATE ON system_keys WHEN old.minted <> new.minted BEGIN
    DELETE FROM session WHERE key_id = new.id;
END;

-- As in 0003, with minted: a key that is not foreign any more is not adopted.
DROP TRIGGER system_keys_log_update;
CREATE TRIGGER system_keys_log_update AFTER UPDATE ON system_keys
WHEN old.id <> new.id OR old.label <> new.label OR old.key_hash <> new.key_hash OR old.permissions <> new.permissions
    OR old.is_system <> new.is_system OR old.expires_at <> new.expires_at OR old.networks <> new.networks
    OR old.minted <> new.minted
BEGIN
    INSERT INTO change_log (key_id, op, at)
    SELECT old.id, 'd', CAST((julianday('now') - 2440587.5) * 86400000 + 0.5 AS INTEGER) * 1000 WHERE old.id <> new.id;
    INSERT INTO change_log (key_id, op, at) VALUES (new.id, CASE
        WHEN old.id <> new.id THEN 'k'
        WHEN old.key_hash = new.key_hash THEN 'u'
        WHEN old.label = new.label AND old.permissions = new.permissions AND old.is_system = new.is_system
            AND old.expires_at = new.expires_at AND old.networks = new.networks AND old.minted = new.minted
            AND EXISTS (SELECT 1 FROM rehashing r WHERE r.id = new.id AND r.key_hash = new.key_hash) THEN 'h'
        ELSE 'k'
    END, CAST((julianday('now') - 2440587.5) * 86400000 + 0.5 AS INTEGER) * 1000);
END;
