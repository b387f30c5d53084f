-- The browsers that are signed in. No foreign key to system_keys: the triggers
-- below know what ends a key, and a row that is replaced is not always gone.
CREATE TABLE session (
    -- SHA-256 of a token that is kept nowhere.
    digest     BLOB PRIMARY KEY CHECK (length(digest) = 32),
    key_id     TEXT NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX session_by_key ON session (key_id);
CREATE INDEX session_by_expiry ON session (expires_at);

-- What was good for once, and was used.
CREATE TABLE nonce (
    digest     BLOB PRIMARY KEY CHECK (length(digest) = 32),
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX nonce_by_expiry ON nonce (expires_at);

-- A session ends with its key. The log has every end of one, whoever it is by.
CREATE TRIGGER change_log_end_sessions AFTER INSERT ON change_log WHEN new.op IN ('d', 'k') BEGIN
    DELETE FROM session WHERE key_id = new.key_id;
END;

CREATE TRIGGER change_log_end_all_sessions AFTER INSERT ON change_log WHEN new.op = 'f' BEGIN
    DELETE FROM session;
END;
