-- Whether this program minted the key. What others insert it did not. The first
-- default is that of the rows which are there: to write a million of them anew
-- would keep others waiting. The table is locked until the end of this file, from
-- readers too, so that what follows is short: it writes the rows that change, and
-- reads the others once for the index. A million are read in seconds at most; there
-- is no CONCURRENTLY in a transaction.
ALTER TABLE system_keys ADD COLUMN minted boolean NOT NULL DEFAULT true;
ALTER TABLE system_keys ALTER COLUMN minted SET DEFAULT false;
UPDATE system_keys SET minted = false WHERE created_by = 'sql';

CREATE INDEX system_keys_foreign ON system_keys (created_at, id) WHERE NOT minted;

-- By which digest a foreign key is found. No foreign key to system_keys, as with
-- sessions.
CREATE TABLE sidecar.adopted_key (
    digest    bytea PRIMARY KEY CHECK (octet_length(digest) = 32),
    -- Names the secret under which the digest was made.
    era       bytea NOT NULL CHECK (octet_length(era) = 32),
    key_id    uuid NOT NULL,
    -- SHA-256 of the hash that the key was verified against, as in session.
    key_proof bytea NOT NULL,
    UNIQUE (key_id, era)
);

-- An entry ends with its key, and lasts when the key is given another hash by us.
CREATE FUNCTION sidecar.end_adoption() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    gone bytea;
BEGIN
    IF NEW.op = 'f' THEN
        -- Not DELETE: it would leave what a serializable snapshot does not see.
        TRUNCATE sidecar.adopted_key;
    ELSIF NEW.op = 'h' THEN
        UPDATE sidecar.adopted_key
        SET key_proof = decode(split_part(current_setting('sidecar.rehashing', true), ':', 2), 'hex')
        WHERE key_id = NEW.key_id;
    ELSE
        FOR gone IN SELECT digest FROM sidecar.adopted_key WHERE key_id = NEW.key_id LOOP
            BEGIN
                DELETE FROM sidecar.adopted_key WHERE digest = gone;
            EXCEPTION WHEN serialization_failure THEN
                -- As in end_sessions.
                NULL;
            END;
        END LOOP;
    END IF;
    RETURN NULL;
END
$$;

REVOKE ALL ON FUNCTION sidecar.end_adoption() FROM PUBLIC;

CREATE TRIGGER sidecar_end_adoption AFTER INSERT ON sidecar.change_log FOR EACH ROW
    WHEN (NEW.op IN ('d', 'k', 'h', 'f')) EXECUTE FUNCTION sidecar.end_adoption();
ALTER TABLE sidecar.change_log ENABLE ALWAYS TRIGGER sidecar_end_adoption;

-- As in 0002, with minted: a key that is not foreign any more is not adopted. The
-- sessions that it has opened end. What is under way is looked at again, not cut.
CREATE OR REPLACE FUNCTION sidecar.key_changed() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    gone bytea;
BEGIN
    IF TG_OP = 'DELETE' THEN
        PERFORM sidecar.append(OLD.id, 'd');
    ELSIF OLD.id <> NEW.id THEN
        PERFORM sidecar.append(OLD.id, 'd');
        PERFORM sidecar.append(NEW.id, 'k');
    ELSIF OLD.key_hash = NEW.key_hash THEN
        PERFORM sidecar.append(NEW.id, 'u');
        IF OLD.minted <> NEW.minted THEN
            FOR gone IN SELECT digest FROM sidecar.session WHERE key_id = NEW.id LOOP
                BEGIN
                    DELETE FROM sidecar.session WHERE digest = gone;
                EXCEPTION WHEN serialization_failure THEN
                    -- As in end_sessions.
                    NULL;
                END;
            END LOOP;
        END IF;
    ELSIF (OLD.label, OLD.permissions, OLD.is_system, OLD.expires_at, OLD.minted)
            IS NOT DISTINCT FROM (NEW.label, NEW.permissions, NEW.is_system, NEW.expires_at, NEW.minted)
        -- What RehashKey says of itself. Who may update the table could say it too.
        AND current_setting('sidecar.rehashing', true)
            = NEW.id || ':' || encode(sha256(convert_to(NEW.key_hash, 'UTF8')), 'hex') THEN
        PERFORM sidecar.append(NEW.id, 'h');
    ELSE
        PERFORM sidecar.append(NEW.id, 'k');
    END IF;
    RETURN NULL;
END
$$;

DROP TRIGGER sidecar_log_update ON system_keys;
CREATE CONSTRAINT TRIGGER sidecar_log_update AFTER UPDATE ON system_keys
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN ((OLD.id, OLD.label, OLD.key_hash, OLD.permissions, OLD.is_system, OLD.expires_at, OLD.minted)
        IS DISTINCT FROM (NEW.id, NEW.label, NEW.key_hash, NEW.permissions, NEW.is_system, NEW.expires_at, NEW.minted))
    EXECUTE FUNCTION sidecar.key_changed();
ALTER TABLE system_keys ENABLE ALWAYS TRIGGER sidecar_log_update;
