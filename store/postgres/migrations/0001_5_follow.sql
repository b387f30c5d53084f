-- What follows the table of another service: see docs/operations/move-in.md. The triggers
-- on that table are made by import --follow.

CREATE TABLE {own}.follow (
    only_row     boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    table_schema text NOT NULL,
    table_name   text NOT NULL,
    id_column    text NOT NULL,
    -- NULL: their table has none.
    used_column  text,
    -- What the triggers were made of.
    arguments    text[] NOT NULL,
    -- The transaction that has made them. They get another xmin when somebody disables
    -- them, and do not get this one back when they are enabled again.
    made_by      xid NOT NULL DEFAULT pg_current_xact_id()::xid,
    -- Whether the rows that came before them are known to be as theirs are now.
    caught_up    boolean NOT NULL,
    -- Whether keys may be accepted until they are. They may not if the triggers were away.
    trusted      boolean NOT NULL,
    since        timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Their rows that did not fit, the last reason of each.
CREATE TABLE {own}.follow_unfit (
    id  text PRIMARY KEY,
    why text NOT NULL,
    at  timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- The functions below run in sessions of the other service, with our rights. They use
-- nothing that it could have put in the place of something else: pg_catalog comes first,
-- all other names have a schema, and its own types are read by format, which calls no cast.

-- As visible in store/key.go.
CREATE FUNCTION {own}.can_be_seen(label text) RETURNS boolean
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT label COLLATE "C" ~ '[!-~]' OR label COLLATE "C" ~ '[{visible}]'
$$;

-- What Key in internal/movein says of a row. The first problem is enough. It repeats nothing
-- of the row.
CREATE FUNCTION {own}.fit(
    id text, label text, hash text, permissions text, created_at timestamptz, last_used_at timestamptz, expires_at timestamptz,
    relabel boolean, OUT key uuid, OUT name text, OUT granted text[], OUT problem text
) LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    spaces CONSTANT text := E'\t\n\x0b\x0c\r \u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a'
        || E'\u2028\u2029\u202f\u205f\u3000';
    controls CONSTANT text := E'[\x01-\x1f\x7f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufffd]';
    repaired text COLLATE "C";
    seen text COLLATE "C";
    plain text COLLATE "C";
    parts text[];
    parsed jsonb;
    written text COLLATE "C";
    moment timestamptz;
BEGIN
    IF id COLLATE "C" !~ '^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$' OR id COLLATE "C" ~ '^[0-]*$' THEN
        problem := 'id is not a UUID';
        RETURN;
    END IF;
    key := id::uuid;

    repaired := btrim(left(btrim(regexp_replace(label COLLATE "C", controls, '', 'g'), spaces), 100), spaces);
    FOREACH seen IN ARRAY ARRAY[label, repaired] LOOP
        -- As Holds in internal/token, percent-encoded up to twice.
        plain := seen;
        FOR round IN 1..2 LOOP
            EXIT WHEN plain !~ '%[0-9A-Fa-f]{2}';
            SELECT string_agg(CASE WHEN m[1] IS NULL THEN m[2] ELSE chr(greatest(1, ('x' || m[1])::bit(8)::integer)) END, '' ORDER BY n)
            INTO plain FROM regexp_matches(plain, '%([0-9A-Fa-f]{2})|(.)', 'g') WITH ORDINALITY AS found (m, n);
        END LOOP;
        IF lower(plain) ~ 'lm_sys_(?:[a-z0-9]{20}|(?=[a-z0-9_-]{20})[a-z_-]{0,63}[0-9])' THEN
            problem := 'label must not hold a system key';
            RETURN;
        END IF;
        IF seen ~ E'[$][0-9A-Za-z-]{1,20}[$][^\t\n\x0c\r ]{20}' THEN
            problem := 'label must not hold a hash';
            RETURN;
        END IF;
    END LOOP;
    name := btrim(label, spaces);
    IF name = '' THEN
        problem := 'label must not be empty';
    ELSIF char_length(name) > 100 THEN
        problem := 'label must be at most 100 characters long';
    ELSIF name COLLATE "C" ~ controls THEN
        problem := 'label must not contain control characters';
    ELSIF NOT {own}.can_be_seen(name) THEN
        problem := 'label must have a character that can be seen';
    END IF;
    IF problem IS NOT NULL AND relabel THEN
        problem := NULL;
        name := CASE WHEN {own}.can_be_seen(repaired) THEN repaired ELSE 'imported ' || left(key::text, 8) END;
    END IF;
    IF problem IS NOT NULL THEN
        RETURN;
    END IF;

    -- As Parse in internal/phc: within the bounds, and in one spelling.
    parts := regexp_match(hash COLLATE "C",
        '^[$]argon2id[$]v=19[$]m=([1-9][0-9]{0,5}),t=(?:[1-9]|10),p=([1-8])[$]([A-Za-z0-9+/]+)[$]([A-Za-z0-9+/]+)$');
    IF parts IS NULL OR octet_length(hash) > 256 OR parts[1]::integer NOT BETWEEN 8 * parts[2]::integer AND 262144
        OR octet_length(parts[3]) % 4 = 1 OR octet_length(parts[4]) % 4 = 1 THEN
        problem := 'hash is no Argon2id PHC string within the bounds';
        RETURN;
    END IF;
    FOR n IN 3..4 LOOP
        plain := rpad(parts[n], (octet_length(parts[n]) + 3) / 4 * 4, '=');
        IF replace(encode(decode(plain, 'base64'), 'base64'), E'\n', '') <> plain
            OR octet_length(decode(plain, 'base64')) NOT BETWEEN (CASE n WHEN 3 THEN 8 ELSE 16 END) AND 64 THEN
            problem := 'hash is no Argon2id PHC string within the bounds';
            RETURN;
        END IF;
    END LOOP;

    -- JSON, whatever the type of the column. A text may hold an array too.
    problem := 'permissions is no list of texts';
    BEGIN
        parsed := coalesce(nullif(permissions, ''), 'null')::jsonb;
        IF jsonb_typeof(parsed) = 'string' THEN
            written := parsed #>> '{}';
            IF left(btrim(written, spaces), 1) = '[' THEN
                parsed := written::jsonb;
            ELSE
                parsed := to_jsonb(array_remove(regexp_split_to_array(written, '[,' || spaces || ']+'), ''));
            END IF;
        END IF;
    EXCEPTION WHEN OTHERS THEN
        RETURN; -- it is no JSON
    END;
    IF jsonb_typeof(parsed) = 'null' THEN
        parsed := '[]';
    END IF;
    IF jsonb_typeof(parsed) <> 'array' THEN
        RETURN;
    END IF;
    IF EXISTS (SELECT FROM jsonb_array_elements(parsed) AS t (p) WHERE jsonb_typeof(p) <> 'string') THEN
        RETURN;
    END IF;
    granted := ARRAY(SELECT DISTINCT p COLLATE "C" FROM jsonb_array_elements_text(parsed) AS t (p) ORDER BY 1);
    IF EXISTS (SELECT FROM unnest(granted) AS t (p) WHERE p COLLATE "C" !~ '^[a-z0-9-]+:[a-z0-9-]+$' OR octet_length(p) > 100) THEN
        problem := 'permissions has one that is not of the form resource:action (a-z, 0-9 and hyphen)';
        RETURN;
    ELSIF cardinality(granted) > 64 THEN
        problem := 'permissions a key can hold 64 permissions at most';
        RETURN;
    END IF;

    problem := NULL;
    FOREACH moment IN ARRAY ARRAY[created_at, last_used_at, expires_at] LOOP
        -- False for infinite times too.
        IF NOT moment > timestamptz '1970-01-01 00:00:00Z' OR NOT moment < timestamptz '10000-01-01 00:00:00Z' THEN
            problem := CASE moment WHEN created_at THEN 'created_at' WHEN last_used_at THEN 'last_used_at' ELSE 'expires_at' END
                || ' must lie after the beginning of 1970 and before the year 10000';
            RETURN;
        END IF;
    END LOOP;
END
$$;

-- Their own deletions do not count: what they end they may bring back.
CREATE FUNCTION {own}.revoked_here(key uuid) RETURNS boolean
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (
        SELECT FROM {own}.audit_log
        WHERE key_id = key AND event IN ('api_key.revoked', 'api_key.expired') AND NOT (actor_type = 'sql' AND actor = 'import')
    )
$$;

-- An id is shown only if it looks like one: a column that was taken for another one may
-- hold a key.
CREATE FUNCTION {own}.shown_id(id text) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN id COLLATE "C" ~ '^[0-9A-Za-z-]{1,40}$' THEN lower(id COLLATE "C") ELSE 'not a UUID' END
$$;

CREATE FUNCTION {own}.note_unfit(their_id text, why text) RETURNS void
    LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO {own}.follow_unfit AS u (id, why) VALUES ({own}.shown_id(their_id), why)
    ON CONFLICT (id) DO UPDATE SET why = excluded.why, at = excluded.at
$$;

-- Ends the key that came from their row, or all that came from their table if the id is
-- NULL. If it cannot, it fails, and their statement with it.
CREATE FUNCTION {own}.end_followed(their_id text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    now_at timestamptz := clock_timestamp();
    one uuid;
BEGIN
    IF their_id COLLATE "C" ~ '^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$' THEN
        one := their_id::uuid;
    ELSIF their_id IS NOT NULL THEN
        RETURN; -- no key can have come from that row
    END IF;
    INSERT INTO {own}.audit_log (id, event, at, actor_type, actor, actor_label, key_id, key_label)
    SELECT {own}.audit_id(now_at), 'api_key.revoked', now_at, 'sql', 'import', session_user, k.id, k.label
    FROM {keys} k WHERE (k.id = one OR their_id IS NULL) AND k.created_by = 'import' AND NOT k.minted;
    DELETE FROM {keys} k WHERE (k.id = one OR their_id IS NULL) AND k.created_by = 'import' AND NOT k.minted;
    IF EXISTS (SELECT FROM {keys} k WHERE (k.id = one OR their_id IS NULL) AND k.created_by = 'import' AND NOT k.minted) THEN
        RAISE EXCEPTION 'a key that came from this table could not be deleted';
    END IF;
    -- Of a key that has rotated itself and is gone, its row here says nothing.
    IF NOT EXISTS (SELECT FROM {keys} k WHERE k.id = one) THEN
        DELETE FROM {keys} WHERE id = ANY ({own}.heirs(ARRAY[one]));
    END IF;
    IF current_setting('transaction_isolation') IN ('read committed', 'read uncommitted') THEN
        RETURN;
    END IF;
    -- A key that came after the snapshot cannot be seen, and would be left.
    IF their_id IS NULL THEN
        RAISE EXCEPTION 'a table that is followed can be truncated at the isolation level READ COMMITTED only'
            USING ERRCODE = 'feature_not_supported';
    ELSIF NOT EXISTS (SELECT FROM {keys} k WHERE k.id = one) THEN
        BEGIN
            INSERT INTO {keys} (id, label, key_hash) VALUES (one, 'a probe', '$argon2id$');
            RAISE EXCEPTION USING ERRCODE = 'P0LM1'; -- takes the row back
        EXCEPTION
            WHEN SQLSTATE 'P0LM1' THEN
                NULL;
            WHEN unique_violation THEN
                RAISE EXCEPTION 'could not serialize access: the key came after this transaction began'
                    USING ERRCODE = 'serialization_failure';
        END;
    END IF;
END
$$;

-- Brings one of their rows over. The hash is kept if theirs is the same as before: ours may
-- have been renewed.
CREATE FUNCTION {own}.carry(
    their_id text, their_label text, their_hash text, their_permissions text, created timestamptz, used timestamptz, expires timestamptz,
    relabel boolean, keep_hash boolean
) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    r record;
    why text;
BEGIN
    SELECT * INTO r FROM {own}.fit(their_id, their_label, their_hash, their_permissions, created, used, expires, relabel);
    why := r.problem;
    -- Twice, if somebody else inserts the row in between.
    FOR attempt IN 1..2 LOOP
        EXIT WHEN r.problem IS NOT NULL;
        -- First, so that a revocation which is under way is waited for, and seen then.
        UPDATE {keys} k
        SET label = r.name, key_hash = CASE WHEN keep_hash THEN k.key_hash ELSE their_hash END, permissions = r.granted,
            created_at = coalesce(created, k.created_at),
            -- A key that was replaced ends no later than it was to.
            expires_at = CASE WHEN k.replaced_by IS NULL THEN expires ELSE least(k.expires_at, expires) END
        WHERE k.id = r.key AND k.created_by = 'import' AND NOT k.minted;
        why := NULL;
        EXIT WHEN FOUND;
        why := 'id was revoked here';
        EXIT WHEN {own}.revoked_here(r.key);
        INSERT INTO {keys} (id, label, key_hash, permissions, created_at, created_by, expires_at)
        VALUES (r.key, r.name, their_hash, r.granted, coalesce(created, now()), 'import', expires)
        ON CONFLICT (id) DO NOTHING;
        why := NULL;
        EXIT WHEN FOUND;
        why := 'id belongs to a key that did not come from this table';
    END LOOP;
    IF why IS NULL THEN
        DELETE FROM {own}.follow_unfit u WHERE u.id = {own}.shown_id(their_id);
    ELSE
        PERFORM {own}.end_followed(coalesce(their_id, ''));
        PERFORM {own}.note_unfit(coalesce(their_id, ''), why);
    END IF;
END
$$;

-- The trigger on their table. Its arguments are expressions: the id, the hash, and the row as
-- carry takes it. The last one says whether labels are repaired.
CREATE FUNCTION {own}.carry_over() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    theirs CONSTANT text := ' FROM (SELECT ($1).*) AS theirs';
    old_id text;
    old_hash text;
    new_id text;
    r record;
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        PERFORM {own}.end_followed(NULL);
        DELETE FROM {own}.follow_unfit;
        RETURN NULL;
    END IF;
    IF TG_OP <> 'INSERT' THEN
        EXECUTE 'SELECT ' || TG_ARGV[0] || theirs INTO old_id USING OLD;
        old_id := coalesce(old_id, ''); -- NULL would be all
    END IF;
    IF TG_OP = 'DELETE' THEN
        PERFORM {own}.end_followed(old_id);
        DELETE FROM {own}.follow_unfit u WHERE u.id = {own}.shown_id(old_id);
        RETURN NULL;
    END IF;
    BEGIN
        EXECUTE 'SELECT ' || TG_ARGV[0] || theirs INTO new_id USING NEW;
        EXECUTE 'SELECT ' || TG_ARGV[2] || theirs INTO r USING NEW;
        IF TG_OP = 'UPDATE' THEN
            EXECUTE 'SELECT ' || TG_ARGV[1] || theirs INTO old_hash USING OLD;
        END IF;
    EXCEPTION WHEN data_exception OR syntax_error_or_access_rule_violation THEN
        -- Somebody has changed a column. That must not keep them from writing.
        IF TG_OP = 'UPDATE' THEN
            PERFORM {own}.end_followed(old_id);
        END IF;
        PERFORM {own}.note_unfit(coalesce(new_id, ''), 'its columns are not those of the import any more');
        RETURN NULL;
    END;
    IF TG_OP = 'UPDATE' AND old_id IS DISTINCT FROM r.id THEN
        PERFORM {own}.end_followed(old_id);
        DELETE FROM {own}.follow_unfit u WHERE u.id = {own}.shown_id(old_id);
    END IF;
    PERFORM {own}.carry(r.id, r.label, r.hash, r.permissions, r.created_at, r.last_used_at, r.expires_at,
        TG_ARGV[3]::boolean, old_hash IS NOT DISTINCT FROM r.hash);
    RETURN NULL;
END
$$;

-- Moves the last use of keys on in their table, from ours. It waits for nobody for long: a row
-- that is locked has its turn at the next use. The update runs with our rights, so it must
-- run no code of theirs. LOCK TABLE keeps such code from being added in between.
CREATE FUNCTION {own}.flow_back(used uuid[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET row_security = off SET lock_timeout = '100ms' AS $$
DECLARE
    f {own}.follow;
    theirs oid;
    id_type text;
    strange text;
    ids text[];
    times timestamptz[];
BEGIN
    SELECT * INTO f FROM {own}.follow;
    SELECT array_agg(k.id::text), array_agg(k.last_used_at) INTO ids, times FROM {keys} k
    WHERE k.id = ANY (used) AND k.created_by = 'import' AND NOT k.minted AND k.last_used_at IS NOT NULL;
    IF f.used_column IS NULL OR ids IS NULL THEN
        RETURN;
    END IF;
    EXECUTE format('LOCK TABLE %I.%I IN ROW EXCLUSIVE MODE', f.table_schema, f.table_name);
    SELECT c.oid, CASE coalesce(nullif(t.typbasetype, 0), t.oid) WHEN 'uuid'::regtype THEN 'uuid[]' ELSE 'text[]' END INTO theirs, id_type
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = f.id_column JOIN pg_type t ON t.oid = a.atttypid
    WHERE n.nspname = f.table_schema AND c.relname = f.table_name;
    -- Code is ours if it belongs to this role or to a superuser. What has the rights of its
    -- owner does no harm, whoever that is.
    SELECT min(code.place) INTO strange FROM (
        SELECT 'the trigger ' || t.tgname AS place, t.tgfoid AS called FROM pg_trigger t
        WHERE t.tgrelid = theirs AND NOT t.tgisinternal AND t.tgenabled <> 'D' AND t.tgtype & 16 <> 0 -- of an UPDATE
        UNION ALL
        SELECT 'a constraint, an index or a default', coalesce(o.oprcode::oid, d.refobjid) FROM pg_depend d
        LEFT JOIN pg_operator o ON d.refclassid = 'pg_operator'::regclass AND o.oid = d.refobjid
        WHERE (d.refclassid = 'pg_proc'::regclass OR o.oid IS NOT NULL) AND (
            d.classid = 'pg_constraint'::regclass AND d.objid IN (SELECT oid FROM pg_constraint WHERE conrelid = theirs)
            OR d.classid = 'pg_class'::regclass AND d.objid IN (SELECT indexrelid FROM pg_index WHERE indrelid = theirs)
            OR d.classid = 'pg_attrdef'::regclass AND d.objid IN (SELECT oid FROM pg_attrdef WHERE adrelid = theirs))
    ) AS code JOIN pg_proc p ON p.oid = code.called JOIN pg_roles r ON r.oid = p.proowner
    WHERE NOT p.prosecdef AND NOT r.rolsuper AND r.rolname <> current_user;
    IF EXISTS (SELECT FROM pg_rewrite WHERE ev_class = theirs) THEN
        strange := 'a rule';
    ELSIF EXISTS (
        SELECT FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
        WHERE a.attrelid = theirs AND a.attname = f.used_column AND t.typtype = 'd'
    ) THEN
        strange := 'the type of the column';
    END IF;
    IF strange IS NOT NULL THEN
        RAISE EXCEPTION '% of that table would run code of its service with the rights of this one', strange
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    EXECUTE format('UPDATE %1$I.%2$I AS t SET %4$I = k.at
        FROM unnest($1, $2) AS k (id, at), (
            SELECT ctid FROM %1$I.%2$I WHERE %3$I = ANY ($3::%5$s) FOR NO KEY UPDATE SKIP LOCKED
        ) AS free
        WHERE t.ctid = free.ctid AND lower(t.%3$I::text) = k.id AND coalesce(t.%4$I < k.at, true)',
        f.table_schema, f.table_name, f.id_column, f.used_column, id_type)
    USING ids, times, ids || ARRAY(SELECT upper(u) FROM unnest(ids) AS u (u));
END
$$;

-- Whoever may call the functions could make keys: with a trigger on a table of their own.
REVOKE ALL ON FUNCTION
    {own}.can_be_seen(text), {own}.fit(text, text, text, text, timestamptz, timestamptz, timestamptz, boolean),
    {own}.revoked_here(uuid), {own}.shown_id(text), {own}.note_unfit(text, text), {own}.end_followed(text),
    {own}.carry(text, text, text, text, timestamptz, timestamptz, timestamptz, boolean, boolean), {own}.carry_over(),
    {own}.flow_back(uuid[]) FROM PUBLIC;
