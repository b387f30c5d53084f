-- CACHE 1: a session that kept some numbers back would use them out of order.
CREATE SEQUENCE {own}.rev_seq CACHE 1;

-- Every change of a key that matters to who has verified it, and where keys were
-- inserted.
CREATE TABLE {own}.change_log (
    -- In the order of the commits; see append.
    rev    bigint PRIMARY KEY,
    -- Random: (rev, tag) is a place in this history, and in no other.
    tag    bigint NOT NULL,
    key_id uuid,
    -- See ChangeKind in store/feed.go.
    op     text NOT NULL CHECK (op IN ('d', 'u', 'k', 'h', 'f', 'i', 'b')),
    at     timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX change_log_by_key ON {own}.change_log (key_id) WHERE key_id IS NOT NULL;

-- The instances. Each updates its row every few seconds, no index changes, and
-- the page has room for the next version.
CREATE TABLE {own}.member (
    id        uuid PRIMARY KEY,
    beat      bigint NOT NULL,
    applied   bigint NOT NULL DEFAULT 0,
    ttl_ms    integer NOT NULL CHECK (ttl_ms BETWEEN 500 AND 120000),
    name      text NOT NULL,
    joined_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at   timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50);

-- How many requests in flight an instance has cut because of a change.
CREATE TABLE {own}.change_cut (
    rev      bigint NOT NULL REFERENCES {own}.change_log (rev) ON DELETE CASCADE,
    member   uuid NOT NULL,
    requests bigint NOT NULL,
    PRIMARY KEY (rev, member)
);

-- 60 random bits. It has no search_path of its own, so that PostgreSQL can put the expression
-- in the place of the call: a third of the cost of a change. It has no rights of its own either.
CREATE FUNCTION {own}.random_tag() RETURNS bigint
    LANGUAGE sql VOLATILE AS $$
    SELECT ('x' || left(replace(gen_random_uuid()::text, '-', ''), 16))::bit(64)::bigint
$$;

-- append enters a change of each of these keys, and returns the rev of the last one. The
-- lock is released after the commit is visible, so
-- that who sees a rev sees all before it: a sequence alone is committed out of
-- order, and who reads on from the highest rev skips those that come late. A lock
-- and no counter in a row, which would fail in a REPEATABLE READ transaction.
CREATE FUNCTION {own}.append(keys uuid[], op text) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    last bigint;
BEGIN
    -- A revocation that others were told of must not be lost in a crash, however
    -- the service that makes it is set. Inserts are lost with their entry.
    IF op <> 'i' AND current_setting('synchronous_commit') IN ('off', 'local') THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    PERFORM pg_advisory_xact_lock({lock}, 1);
    WITH entered AS (
        INSERT INTO {own}.change_log (rev, tag, key_id, op)
        SELECT nextval('{own}.rev_seq'), {own}.random_tag(), key, append.op FROM unnest(keys) AS key
        RETURNING rev
    ) SELECT max(rev) INTO last FROM entered;
    PERFORM pg_notify('system_keys{mark}', '');
    RETURN last;
END
$$;

-- The trigger of UPDATE, deferred to the end of the transaction, so that the lock is held
-- for the length of a commit and not of a transaction.
CREATE FUNCTION {own}.key_changed() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    gone bytea;
BEGIN
    IF OLD.id <> NEW.id THEN
        PERFORM {own}.append(ARRAY[OLD.id], 'd');
        PERFORM {own}.append(ARRAY[NEW.id], 'k');
    ELSIF OLD.key_hash = NEW.key_hash THEN
        PERFORM {own}.append(ARRAY[NEW.id], 'u');
        -- A key that is not foreign any more is not adopted, and its sessions end. What
        -- is under way is looked at again, not cut.
        IF OLD.minted <> NEW.minted THEN
            FOR gone IN SELECT digest FROM {own}.session WHERE key_id = NEW.id LOOP
                BEGIN
                    DELETE FROM {own}.session WHERE digest = gone;
                EXCEPTION WHEN serialization_failure THEN
                    -- As in end_sessions, in the file about sessions.
                    NULL;
                END;
            END LOOP;
        END IF;
    ELSIF (OLD.label, OLD.permissions, OLD.is_system, OLD.expires_at, OLD.minted, OLD.networks)
            IS NOT DISTINCT FROM (NEW.label, NEW.permissions, NEW.is_system, NEW.expires_at, NEW.minted, NEW.networks)
        -- What RehashKey says of itself. Who may update the table could say it too.
        AND current_setting('sidecar.rehashing{mark}', true)
            = NEW.id || ':' || encode(sha256(convert_to(NEW.key_hash, 'UTF8')), 'hex') THEN
        PERFORM {own}.append(ARRAY[NEW.id], 'h');
    ELSE
        PERFORM {own}.append(ARRAY[NEW.id], 'k');
    END IF;
    RETURN NULL;
END
$$;

CREATE FUNCTION {own}.all_changed() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM {own}.append(ARRAY[NULL]::uuid[], 'f');
    RETURN NULL;
END
$$;

-- A transaction that inserts keys moves the place in the log, so that a store that
-- was set back to before it shows, even if nothing else was lost.
CREATE FUNCTION {own}.keys_moved() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM {own}.append(ARRAY[NULL]::uuid[], 'i');
    RETURN NULL;
END
$$;

-- On the counter, which has one row for each statement that inserts. Deferred: an
-- import of a million keys takes the log's lock for its commit alone. Only the first
-- statement of a transaction queues it, since a commit that has to run it for each
-- of a million would hold the lock for as long.
CREATE CONSTRAINT TRIGGER sidecar_log_insert AFTER INSERT ON {own}.key_count
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (NEW.inserted AND current_setting('sidecar.inserted{mark}', true) IS DISTINCT FROM pg_current_xact_id()::text)
    EXECUTE FUNCTION {own}.keys_moved();
ALTER TABLE {own}.key_count ENABLE ALWAYS TRIGGER sidecar_log_insert;

-- What was deleted, deferred too. Its row has all keys that a statement has deleted: a trigger
-- for each of 10,000 keys would hold the lock for a second.
CREATE FUNCTION {own}.keys_ended() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM {own}.append(NEW.ids, 'd');
    PERFORM {own}.audit_deletions(NEW.ids, NEW.labels);
    RETURN NULL;
END
$$;

CREATE CONSTRAINT TRIGGER sidecar_log_delete AFTER INSERT ON {own}.deletion
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION {own}.keys_ended();
ALTER TABLE {own}.deletion ENABLE ALWAYS TRIGGER sidecar_log_delete;

-- A subscriber of logical replication applies rows, and has no statements.
CREATE FUNCTION {own}.key_ended() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM {own}.append(ARRAY[OLD.id], 'd');
    PERFORM {own}.audit_deletions(ARRAY[OLD.id], ARRAY[OLD.label]);
    RETURN NULL;
END
$$;

CREATE CONSTRAINT TRIGGER sidecar_log_replicated AFTER DELETE ON {keys}
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION {own}.key_ended();
ALTER TABLE {keys} ENABLE REPLICA TRIGGER sidecar_log_replicated;

-- No column list: it would miss what a BEFORE trigger changes.
CREATE CONSTRAINT TRIGGER sidecar_log_update AFTER UPDATE ON {keys}
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN ((OLD.id, OLD.label, OLD.key_hash, OLD.permissions, OLD.is_system, OLD.expires_at, OLD.minted, OLD.networks)
        IS DISTINCT FROM (NEW.id, NEW.label, NEW.key_hash, NEW.permissions, NEW.is_system, NEW.expires_at, NEW.minted, NEW.networks))
    EXECUTE FUNCTION {own}.key_changed();
CREATE TRIGGER sidecar_log_truncate AFTER TRUNCATE ON {keys}
    FOR EACH STATEMENT EXECUTE FUNCTION {own}.all_changed();
ALTER TABLE {keys} ENABLE ALWAYS TRIGGER sidecar_log_update;
ALTER TABLE {keys} ENABLE ALWAYS TRIGGER sidecar_log_truncate;

-- The log is never empty.
SELECT {own}.append(ARRAY[NULL]::uuid[], 'b');

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

CREATE FUNCTION {own}.enter_barrier() RETURNS bigint
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT {own}.append(ARRAY[NULL]::uuid[], 'b')
$$;

-- The longest lease, in milliseconds, among the instances that have not applied
-- this change. NULL: all have.
CREATE FUNCTION {own}.longest_silent(rev bigint) RETURNS integer
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT max(ttl_ms) FROM {own}.member WHERE applied < rev
$$;

-- Time is counted in naps, not read from the server's clock, which may be set.
CREATE PROCEDURE {own}.await(rev bigint) LANGUAGE plpgsql AS $$
DECLARE
    waited integer := 0;
    longest integer;
BEGIN
    LOOP
        longest := {own}.longest_silent(rev);
        EXIT WHEN longest IS NULL OR waited >= longest;
        COMMIT; -- and look at a new state
        PERFORM pg_catalog.pg_sleep(0.005);
        waited := waited + 5;
    END LOOP;
END
$$;

-- It fails within a transaction, whose changes nobody could have seen.
CREATE PROCEDURE {own}.barrier() LANGUAGE plpgsql AS $$
DECLARE
    rev bigint := {own}.enter_barrier();
BEGIN
    COMMIT;
    CALL {own}.await(rev);
END
$$;

-- For roles that may revoke keys and nothing else: to be granted.
CREATE FUNCTION {own}.delete_key(key uuid) RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    DELETE FROM {keys} WHERE id = ANY ({own}.heirs(ARRAY[key]) || key)
$$;

-- Enters the deletion of a key whose row is not there: it was just deleted, maybe
-- without a trigger, or was gone before, maybe without an entry. Everybody may
-- call it, as they may enter a barrier: it ends nothing of a key that is there.
CREATE FUNCTION {own}.enter_deletion(key uuid) RETURNS bigint
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN EXISTS (SELECT FROM {keys} WHERE id = key)
        THEN {own}.append(ARRAY[NULL]::uuid[], 'b') ELSE {own}.append(ARRAY[key], 'd') END
$$;

CREATE PROCEDURE {own}.revoke(key uuid) LANGUAGE plpgsql AS $$
DECLARE
    rev bigint;
BEGIN
    IF pg_catalog.has_table_privilege('{keys}', 'DELETE') AND pg_catalog.has_column_privilege('{keys}', 'id', 'SELECT') THEN
        DELETE FROM {keys} WHERE id = ANY ({own}.heirs(ARRAY[key]) || key);
    ELSE
        PERFORM {own}.delete_key(key);
    END IF;
    rev := {own}.enter_deletion(key);
    COMMIT;
    CALL {own}.await(rev);
END
$$;

REVOKE ALL ON FUNCTION
    {own}.random_tag(), {own}.append(uuid[], text), {own}.key_changed(), {own}.keys_ended(), {own}.key_ended(),
    {own}.all_changed(), {own}.keys_moved(),
    {own}.enter_barrier(), {own}.enter_deletion(uuid), {own}.longest_silent(bigint), {own}.delete_key(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    {own}.enter_barrier(), {own}.enter_deletion(uuid), {own}.longest_silent(bigint) TO PUBLIC;
