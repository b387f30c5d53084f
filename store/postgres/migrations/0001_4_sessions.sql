-- The browsers that are signed in. No foreign key to system_keys, which would
-- refuse a TRUNCATE of it alone.
CREATE TABLE {own}.session (
    -- SHA-256 of a token that is kept nowhere.
    digest     bytea PRIMARY KEY CHECK (octet_length(digest) = 32),
    key_id     uuid NOT NULL,
    -- SHA-256 of the key's hash. A session whose key has another one is over: that
    -- ends those which a transaction under REPEATABLE READ does not see, since they
    -- came after it began.
    key_proof  bytea NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX session_by_key ON {own}.session (key_id);
CREATE INDEX session_by_expiry ON {own}.session (expires_at);

-- What was good for once, and was used.
CREATE TABLE {own}.nonce (
    digest     bytea PRIMARY KEY CHECK (octet_length(digest) = 32),
    expires_at timestamptz NOT NULL
);
CREATE INDEX nonce_by_expiry ON {own}.nonce (expires_at);

-- A session ends with its key. The log has every end of one, whoever it is by.
CREATE FUNCTION {own}.end_sessions() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    gone bytea;
BEGIN
    IF NEW.op = 'f' THEN
        -- Not DELETE: it would leave what a serializable snapshot does not see.
        TRUNCATE {own}.session;
    ELSIF NEW.op = 'h' THEN
        -- The same key by another hash, of which RehashKey says what it is.
        UPDATE {own}.session
        SET key_proof = decode(split_part(current_setting('sidecar.rehashing{mark}', true), ':', 2), 'hex')
        WHERE key_id = NEW.key_id;
    ELSE
        FOR gone IN SELECT digest FROM {own}.session WHERE key_id = NEW.key_id LOOP
            BEGIN
                DELETE FROM {own}.session WHERE digest = gone;
            EXCEPTION WHEN serialization_failure THEN
                -- Under REPEATABLE READ: it ended since the transaction began. That
                -- is no reason to fail the deletion of a key.
                NULL;
            END;
        END LOOP;
    END IF;
    RETURN NULL;
END
$$;

REVOKE ALL ON FUNCTION {own}.end_sessions() FROM PUBLIC;

CREATE TRIGGER sidecar_end_sessions AFTER INSERT ON {own}.change_log FOR EACH ROW
    WHEN (NEW.op IN ('d', 'k', 'h', 'f')) EXECUTE FUNCTION {own}.end_sessions();
ALTER TABLE {own}.change_log ENABLE ALWAYS TRIGGER sidecar_end_sessions;

-- By which digest a foreign key is found. No foreign key to system_keys, as with
-- sessions.
CREATE TABLE {own}.adopted_key (
    digest    bytea PRIMARY KEY CHECK (octet_length(digest) = 32),
    -- Names the secret under which the digest was made.
    era       bytea NOT NULL CHECK (octet_length(era) = 32),
    key_id    uuid NOT NULL,
    -- SHA-256 of the hash that the key was verified against, as in session.
    key_proof bytea NOT NULL,
    UNIQUE (key_id, era)
);

-- An entry ends with its key, and lasts when the key is given another hash by us.
CREATE FUNCTION {own}.end_adoption() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    gone bytea;
BEGIN
    IF NEW.op = 'f' THEN
        -- Not DELETE: it would leave what a serializable snapshot does not see.
        TRUNCATE {own}.adopted_key;
    ELSIF NEW.op = 'h' THEN
        UPDATE {own}.adopted_key
        SET key_proof = decode(split_part(current_setting('sidecar.rehashing{mark}', true), ':', 2), 'hex')
        WHERE key_id = NEW.key_id;
    ELSE
        FOR gone IN SELECT digest FROM {own}.adopted_key WHERE key_id = NEW.key_id LOOP
            BEGIN
                DELETE FROM {own}.adopted_key WHERE digest = gone;
            EXCEPTION WHEN serialization_failure THEN
                -- As in end_sessions.
                NULL;
            END;
        END LOOP;
    END IF;
    RETURN NULL;
END
$$;

REVOKE ALL ON FUNCTION {own}.end_adoption() FROM PUBLIC;

CREATE TRIGGER sidecar_end_adoption AFTER INSERT ON {own}.change_log FOR EACH ROW
    WHEN (NEW.op IN ('d', 'k', 'h', 'f')) EXECUTE FUNCTION {own}.end_adoption();
ALTER TABLE {own}.change_log ENABLE ALWAYS TRIGGER sidecar_end_adoption;

-- The public halves of the keys that instances sign assertions with.
CREATE TABLE {own}.signing_key (
    id         text PRIMARY KEY,
    public     bytea NOT NULL CHECK (octet_length(public) = 32),
    expires_at timestamptz NOT NULL
);
