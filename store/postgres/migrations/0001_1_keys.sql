-- {keys} and the other words in braces stand for names: see words in schema.go.

CREATE TABLE {own}.mint_key (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    key      bytea NOT NULL CHECK (octet_length(key) = 32)
);

-- The table that other services read and write.
CREATE TABLE {keys} (
    -- The UUIDv7 that is part of the key itself. The default is for the rows of other
    -- services, whose keys do not hold their id.
    id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    label        text NOT NULL,
    -- The Argon2id hash of the whole key as a PHC string, never the key.
    key_hash     text NOT NULL,
    permissions  text[] NOT NULL DEFAULT '{}',
    is_system    boolean NOT NULL DEFAULT false,
    created_at   timestamptz NOT NULL DEFAULT now(),
    -- Who minted the key: a key id, or a word such as cli.
    created_by   text NOT NULL DEFAULT 'sql',
    -- NULL: never.
    expires_at   timestamptz,
    last_used_at timestamptz,
    -- Whether this program minted the key. What others insert it did not.
    minted       boolean NOT NULL DEFAULT false,
    -- From where the key may be used. Empty: from anywhere.
    networks     cidr[] NOT NULL DEFAULT '{}',
    -- The key whose successor this one is, and the newest successor. No foreign keys: rows
    -- go without waiting for one another.
    replaces     uuid,
    replaced_by  uuid,
    -- Of a key that was replaced: when it was to expire, and how long it lives on after the
    -- first use of its successor.
    planned_expiry timestamptz,
    grace_ms     bigint NOT NULL DEFAULT 0,
    -- From which keys this one comes by rotations that each has made of itself. It ends with
    -- each of them.
    ancestors    uuid[] NOT NULL DEFAULT '{}',

    CONSTRAINT label_is_1_to_100_characters CHECK (char_length(label) BETWEEN 1 AND 100),
    CONSTRAINT label_has_no_control_characters CHECK (label COLLATE "C" !~ '[\x01-\x1f\x7f]'),
    CONSTRAINT key_hash_is_argon2id CHECK (key_hash LIKE '$argon2id$%' AND octet_length(key_hash) <= 512),
    -- The separator, which cannot be part of a permission, keeps the elements
    -- apart: a CHECK cannot loop over an array.
    CONSTRAINT permissions_are_resource_action CHECK (
        coalesce(array_ndims(permissions), 1) = 1
        AND cardinality(permissions) <= 64
        AND array_position(permissions, NULL) IS NULL
        AND (cardinality(permissions) = 0 OR array_to_string(permissions, E'\x1f') COLLATE "C"
            ~ '^[a-z0-9-]+:[a-z0-9-]+(\x1f[a-z0-9-]+:[a-z0-9-]+)*$')
    ),
    CONSTRAINT networks_are_a_list CHECK (
        coalesce(array_ndims(networks), 1) = 1 AND cardinality(networks) <= 16 AND array_position(networks, NULL) IS NULL
    ),
    CONSTRAINT times_are_finite CHECK (
        isfinite(created_at)
        AND isfinite(coalesce(expires_at, created_at))
        AND isfinite(coalesce(last_used_at, created_at))
    )
);

-- One index for each order of a list. COLLATE "C" folds ASCII letters alone
-- and compares bytes, whatever the database's locale.
CREATE INDEX system_keys_by_created_at ON {keys} (created_at, id);
CREATE INDEX system_keys_by_label ON {keys} (lower(label COLLATE "C"), id);
-- The columns beside the expressions are what lets the planner count in the
-- index alone.
CREATE INDEX system_keys_by_last_used_at ON {keys}
    (coalesce(last_used_at, '-infinity'::timestamptz), id) INCLUDE (last_used_at);
CREATE INDEX system_keys_by_expires_at ON {keys}
    (coalesce(expires_at, 'infinity'::timestamptz), id) INCLUDE (expires_at);
CREATE INDEX system_keys_by_successor ON {keys} (replaced_by) WHERE replaced_by IS NOT NULL;
CREATE INDEX system_keys_replaced ON {keys} (expires_at) WHERE replaced_by IS NOT NULL;
-- No index by ancestor: each last use would write it anew, with an entry for each of them.
CREATE INDEX system_keys_with_ancestors ON {keys} (id) WHERE ancestors <> '{}';
CREATE INDEX system_keys_foreign ON {keys} (created_at, id) WHERE NOT minted;

-- The number of rows is the sum of these. A single counter would make every
-- writer wait for the longest transaction among them; inserts wait for nobody.
CREATE TABLE {own}.key_count (
    delta    bigint NOT NULL,
    -- The row is that of a statement which has inserted keys.
    inserted boolean NOT NULL DEFAULT false
);

-- The keys that a statement has deleted, for sidecar_log_delete. That is done when others see
-- the row, so Prune deletes all that it sees.
CREATE TABLE {own}.deletion (
    ids    uuid[] NOT NULL,
    labels text[] NOT NULL
);

-- The labels, folded, and the ids, for substring search. They are apart from system_keys
-- because every update of last_used_at writes to all indexes of its table, and
-- an index by trigrams has some twenty entries for each row.
CREATE TABLE {own}.label_search (
    id     uuid PRIMARY KEY,
    folded text COLLATE "C" NOT NULL
);

-- Without the extension, which is one of PostgreSQL's contrib modules, searches
-- scan. Other programs may use it too, so that it is made where they find it, if
-- this role may do so.
DO $$
DECLARE
    home text;
BEGIN
    BEGIN
        EXECUTE 'CREATE EXTENSION IF NOT EXISTS pg_trgm SCHEMA ' || CASE
            WHEN has_schema_privilege(current_schema(), 'CREATE') THEN quote_ident(current_schema()) ELSE '{own}' END;
    EXCEPTION
        WHEN unique_violation OR duplicate_object THEN
            NULL; -- another store of this database has just made it
    END;
    SELECT n.nspname INTO home FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE extname = 'pg_trgm';
    EXECUTE format('CREATE INDEX label_search_trigrams ON %1$s.label_search
        USING gin (folded %2$I.gin_trgm_ops, (id::text COLLATE "C") %2$I.gin_trgm_ops)', '{own}', home);
EXCEPTION
    WHEN insufficient_privilege OR undefined_file OR undefined_object OR feature_not_supported THEN
        RAISE NOTICE 'label search goes without an index: %', SQLERRM;
END
$$;

-- The triggers run with the rights of their owner, so that who may write to
-- system_keys needs no right in this schema.
CREATE FUNCTION {own}.keys_inserted() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    n bigint;
BEGIN
    INSERT INTO {own}.label_search (id, folded) SELECT id, lower(label COLLATE "C") FROM new_rows;
    GET DIAGNOSTICS n = ROW_COUNT;
    IF n > 0 THEN
        INSERT INTO {own}.key_count (delta, inserted) VALUES (n, true);
        -- The trigger sidecar_log_insert looks for it here. A savepoint that is rolled
        -- back takes both back.
        PERFORM set_config('sidecar.inserted{mark}', pg_current_xact_id()::text, true);
    END IF;
    RETURN NULL;
END
$$;

-- The keys that come from one of these. Few keys rotate themselves, and the index has those
-- alone. The planner knows that only after ANALYZE, so it is told.
CREATE FUNCTION {own}.heirs(revoked uuid[]) RETURNS uuid[]
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
    SELECT coalesce(array_agg(DISTINCT k.id), '{}')
    FROM {keys} k CROSS JOIN unnest(k.ancestors) AS a (id) JOIN unnest(revoked) AS r (id) ON r.id = a.id
    WHERE k.ancestors <> '{}'
$$;

CREATE FUNCTION {own}.keys_deleted() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    n bigint;
    revoked uuid[];
    heirs uuid[];
BEGIN
    -- A key ends with those that it comes from, whoever deletes them. To delete a key that
    -- has expired ends nothing.
    SELECT array_agg(id) INTO revoked FROM old_rows WHERE coalesce(expires_at > clock_timestamp(), true);
    heirs := {own}.heirs(revoked);
    IF cardinality(heirs) > 0 THEN
        DELETE FROM {keys} WHERE id = ANY (heirs);
    END IF;
    DELETE FROM {own}.label_search s USING old_rows o WHERE s.id = o.id;
    GET DIAGNOSTICS n = ROW_COUNT;
    IF n > 0 THEN
        INSERT INTO {own}.key_count (delta) VALUES (-n);
    END IF;
    INSERT INTO {own}.deletion (ids, labels)
    SELECT array_agg(id ORDER BY id), array_agg(label ORDER BY id) FROM old_rows HAVING count(*) > 0;
    RETURN NULL;
END
$$;

CREATE FUNCTION {own}.key_relabelled() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE {own}.label_search SET id = NEW.id, folded = lower(NEW.label COLLATE "C") WHERE id = OLD.id;
    RETURN NULL;
END
$$;

CREATE FUNCTION {own}.keys_truncated() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- A table with deferred triggers to come cannot be truncated.
    SET CONSTRAINTS {own}.sidecar_log_insert IMMEDIATE;
    -- Not DELETE: it would leave what a serializable snapshot does not see.
    TRUNCATE {own}.label_search, {own}.key_count;
    RETURN NULL;
END
$$;

REVOKE ALL ON FUNCTION
    {own}.keys_inserted(), {own}.keys_deleted(), {own}.key_relabelled(), {own}.keys_truncated() FROM PUBLIC;

CREATE TRIGGER sidecar_insert AFTER INSERT ON {keys}
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION {own}.keys_inserted();
CREATE TRIGGER sidecar_delete AFTER DELETE ON {keys}
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION {own}.keys_deleted();
-- No column list: it would miss what a BEFORE trigger changes.
CREATE TRIGGER sidecar_relabel AFTER UPDATE ON {keys} FOR EACH ROW
    WHEN (OLD.label IS DISTINCT FROM NEW.label OR OLD.id <> NEW.id) EXECUTE FUNCTION {own}.key_relabelled();
CREATE TRIGGER sidecar_truncate AFTER TRUNCATE ON {keys}
    FOR EACH STATEMENT EXECUTE FUNCTION {own}.keys_truncated();

-- Also under session_replication_role = replica.
ALTER TABLE {keys} ENABLE ALWAYS TRIGGER sidecar_insert;
ALTER TABLE {keys} ENABLE ALWAYS TRIGGER sidecar_delete;
ALTER TABLE {keys} ENABLE ALWAYS TRIGGER sidecar_relabel;
ALTER TABLE {keys} ENABLE ALWAYS TRIGGER sidecar_truncate;
