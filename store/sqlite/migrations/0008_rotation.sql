-- The key whose successor this one is, and the newest successor. No foreign keys: rows go
-- without waiting for one another.
ALTER TABLE system_keys ADD COLUMN replaces TEXT;
ALTER TABLE system_keys ADD COLUMN replaced_by TEXT;
-- Of a key that was replaced: when it was to expire, and how long it lives on after the
-- first use of its successor.
ALTER TABLE system_keys ADD COLUMN planned_expiry INTEGER NOT NULL DEFAULT 0;
ALTER TABLE system_keys ADD COLUMN grace_ms INTEGER NOT NULL DEFAULT 0;
-- From which keys this one comes by rotations that each has made of itself, as a JSON array.
-- It ends with each of them.
ALTER TABLE system_keys ADD COLUMN ancestors TEXT NOT NULL DEFAULT '[]'
    CHECK (json_valid(ancestors) AND json_type(ancestors) = 'array');

CREATE INDEX system_keys_by_successor ON system_keys (replaced_by) WHERE replaced_by IS NOT NULL;
CREATE INDEX system_keys_replaced ON system_keys (expires_at) WHERE replaced_by IS NOT NULL;
CREATE INDEX system_keys_with_ancestors ON system_keys (id) WHERE ancestors <> '[]';

-- A key ends with those that it comes from, whoever deletes them. To delete a key that has
-- expired ends nothing. Who records the deletion has ended them before.
CREATE TRIGGER system_keys_log_heirs AFTER DELETE ON system_keys
WHEN old.ends_at > CAST((julianday('now') - 2440587.5) * 86400000 + 0.5 AS INTEGER) * 1000
    AND NOT EXISTS (SELECT 1 FROM auditing WHERE id = old.id)
    AND EXISTS (SELECT 1 FROM system_keys WHERE ancestors <> '[]')
BEGIN
    DELETE FROM system_keys WHERE ancestors <> '[]'
        AND EXISTS (SELECT 1 FROM json_each(ancestors) AS ancestor WHERE ancestor.value = old.id);
END;
