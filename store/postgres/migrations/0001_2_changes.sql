-- CACHE 1: a session that kept some numbers back would use them out of order.
CREATE SEQUENCE sidecar.rev_seq CACHE 1;

-- Every change of a key that matters to who has verified it, and where keys were
-- inserted.
CREATE TABLE sidecar.change_log (
    -- In the order of the commits; see append.
    rev    bigint PRIMARY KEY,
    -- Random: (rev, tag) is a place in this history, and in no other.
    tag    bigint NOT NULL,
    key_id uuid,
    -- See ChangeKind in store/change.go.
    op     text NOT NULL CHECK (op IN ('d', 'u', 'k', 'h', 'f', 'i', 'b')),
    at     timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX change_log_by_key ON sidecar.change_log (key_id) WHERE key_id IS NOT NULL;

-- The instances. Each updates its row every few seconds, no index changes, and
-- the page has room for the next version.
CREATE TABLE sidecar.member (
    id        uuid PRIMARY KEY,
    beat      bigint NOT NULL,
    applied   bigint NOT NULL DEFAULT 0,
    ttl_ms    integer NOT NULL CHECK (ttl_ms BETWEEN 500 AND 120000),
    name      text NOT NULL,
    joined_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at   timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50);

-- How many requests in flight an instance has cut because of a change.
CREATE TABLE sidecar.change_cut (
    rev      bigint NOT NULL REFERENCES sidecar.change_log (rev) ON DELETE CASCADE,
    member   uuid NOT NULL,
    requests bigint NOT NULL,
    PRIMARY KEY (rev, member)
);

-- 60 random bits.
CREATE FUNCTION sidecar.random_tag() RETURNS bigint
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    SELECT ('x' || left(replace(gen_random_uuid()::text, '-', ''), 16))::bit(64)::bigint
$$;

-- append enters a change. The lock is released after the commit is visible, so
-- that who sees a rev sees all before it: a sequence alone is committed out of
-- order, and who reads on from the highest rev skips those that come late. A lock
-- and no counter in a row, which would fail in a REPEATABLE READ transaction.
CREATE FUNCTION sidecar.append(key uuid, op text) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    drawn bigint;
BEGIN
    -- A revocation that others were told of must not be lost in a crash, however
    -- the service that makes it is set. Inserts are lost with their entry.
    IF op <> 'i' AND current_setting('synchronous_commit') IN ('off', 'local') THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    PERFORM pg_advisory_xact_lock(1801942375, 1);
    drawn := nextval('sidecar.rev_seq');
    INSERT INTO sidecar.change_log (rev, tag, key_id, op) VALUES (drawn, sidecar.random_tag(), key, op);
    PERFORM pg_notify('system_keys', '');
    RETURN drawn;
END
$$;

-- The trigger of DELETE and UPDATE, deferred to the end of the transaction, so
-- that the lock is held for the length of a commit and not of a transaction.
CREATE FUNCTION sidecar.key_changed() RETURNS trigger
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
        -- A key that is not foreign any more is not adopted, and its sessions end. What
        -- is under way is looked at again, not cut.
        IF OLD.minted <> NEW.minted THEN
            FOR gone IN SELECT digest FROM sidecar.session WHERE key_id = NEW.id LOOP
                BEGIN
                    DELETE FROM sidecar.session WHERE digest = gone;
                EXCEPTION WHEN serialization_failure THEN
                    -- As in end_sessions, in the file about sessions.
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

CREATE FUNCTION sidecar.all_changed() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM sidecar.append(NULL, 'f');
    RETURN NULL;
END
$$;

-- A transaction that inserts keys moves the place in the log, so that a store that
-- was set back to before it shows, even if nothing else was lost.
CREATE FUNCTION sidecar.keys_moved() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM sidecar.append(NULL, 'i');
    RETURN NULL;
END
$$;

-- On the counter, which has one row for each statement that inserts. Deferred: an
-- import of a million keys takes the log's lock for its commit alone. Only the first
-- statement of a transaction queues it, since a commit that has to run it for each
-- of a million would hold the lock for as long.
CREATE CONSTRAINT TRIGGER sidecar_log_insert AFTER INSERT ON sidecar.key_count
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (NEW.inserted AND current_setting('sidecar.inserted', true) IS DISTINCT FROM pg_current_xact_id()::text)
    EXECUTE FUNCTION sidecar.keys_moved();
ALTER TABLE sidecar.key_count ENABLE ALWAYS TRIGGER sidecar_log_insert;

CREATE CONSTRAINT TRIGGER sidecar_log_delete AFTER DELETE ON system_keys
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION sidecar.key_changed();
-- No column list: it would miss what a BEFORE trigger changes.
CREATE CONSTRAINT TRIGGER sidecar_log_update AFTER UPDATE ON system_keys
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN ((OLD.id, OLD.label, OLD.key_hash, OLD.permissions, OLD.is_system, OLD.expires_at, OLD.minted)
        IS DISTINCT FROM (NEW.id, NEW.label, NEW.key_hash, NEW.permissions, NEW.is_system, NEW.expires_at, NEW.minted))
    EXECUTE FUNCTION sidecar.key_changed();
CREATE TRIGGER sidecar_log_truncate AFTER TRUNCATE ON system_keys
    FOR EACH STATEMENT EXECUTE FUNCTION sidecar.all_changed();
ALTER TABLE system_keys ENABLE ALWAYS TRIGGER sidecar_log_delete;
ALTER TABLE system_keys ENABLE ALWAYS TRIGGER sidecar_log_update;
ALTER TABLE system_keys ENABLE ALWAYS TRIGGER sidecar_log_truncate;

-- The log is never empty.
SELECT sidecar.append(NULL, 'b');

-- What other services call to revoke a key:
--
--     CALL sidecar.revoke('018f…');
--
-- When that returns no instance accepts the key, whether its row was there or not.
-- Or, after they have deleted rows, and committed:
--
--     CALL sidecar.barrier();
--
-- That is true for the rows that DELETE has found.
--
-- They are procedures with the rights of their caller, and without settings of
-- their own: others may not COMMIT.

CREATE FUNCTION sidecar.enter_barrier() RETURNS bigint
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT sidecar.append(NULL, 'b')
$$;

-- The longest lease, in milliseconds, among the instances that have not applied
-- this change. NULL: all have.
CREATE FUNCTION sidecar.longest_silent(rev bigint) RETURNS integer
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT max(ttl_ms) FROM sidecar.member WHERE applied < rev
$$;

-- Time is counted in naps, not read from the server's clock, which may be set.
CREATE PROCEDURE sidecar.await(rev bigint) LANGUAGE plpgsql AS $$
DECLARE
    waited integer := 0;
    longest integer;
BEGIN
    LOOP
        longest := sidecar.longest_silent(rev);
        EXIT WHEN longest IS NULL OR waited >= longest;
        COMMIT; -- and look at a new state
        PERFORM pg_catalog.pg_sleep(0.005);
        waited := waited + 5;
    END LOOP;
END
$$;

-- It fails within a transaction, whose changes nobody could have seen.
CREATE PROCEDURE sidecar.barrier() LANGUAGE plpgsql AS $$
DECLARE
    rev bigint := sidecar.enter_barrier();
BEGIN
    COMMIT;
    CALL sidecar.await(rev);
END
$$;

-- system_keys is in whatever schema it was made in.
DO $$
DECLARE
    keys text := (SELECT format('%I.%I', n.nspname, c.relname)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = 'system_keys'::regclass);
BEGIN
    -- For roles that may revoke keys and nothing else: to be granted.
    EXECUTE format($f$
        CREATE FUNCTION sidecar.delete_key(key uuid) RETURNS void
            LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
            DELETE FROM %s WHERE id = key
        $body$
    $f$, keys);
    -- Enters the deletion of a key whose row is not there: it was just deleted, maybe
    -- without a trigger, or was gone before, maybe without an entry. Everybody may
    -- call it, as they may enter a barrier: it ends nothing of a key that is there.
    EXECUTE format($f$
        CREATE FUNCTION sidecar.enter_deletion(key uuid) RETURNS bigint
            LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
            SELECT CASE WHEN EXISTS (SELECT FROM %s WHERE id = key)
                THEN sidecar.append(NULL, 'b') ELSE sidecar.append(key, 'd') END
        $body$
    $f$, keys);
    EXECUTE format($f$
        CREATE PROCEDURE sidecar.revoke(key uuid) LANGUAGE plpgsql AS $body$
        DECLARE
            rev bigint;
        BEGIN
            IF pg_catalog.has_table_privilege(%1$L, 'DELETE') AND pg_catalog.has_column_privilege(%1$L, 'id', 'SELECT') THEN
                DELETE FROM %1$s WHERE id = key;
            ELSE
                PERFORM sidecar.delete_key(key);
            END IF;
            rev := sidecar.enter_deletion(key);
            COMMIT;
            CALL sidecar.await(rev);
        END
        $body$
    $f$, keys);
END
$$;

REVOKE ALL ON FUNCTION
    sidecar.random_tag(), sidecar.append(uuid, text), sidecar.key_changed(), sidecar.all_changed(), sidecar.keys_moved(),
    sidecar.enter_barrier(), sidecar.enter_deletion(uuid), sidecar.longest_silent(bigint), sidecar.delete_key(uuid) FROM PUBLIC;
GRANT USAGE ON SCHEMA sidecar TO PUBLIC;
GRANT EXECUTE ON FUNCTION
    sidecar.enter_barrier(), sidecar.enter_deletion(uuid), sidecar.longest_silent(bigint) TO PUBLIC;
