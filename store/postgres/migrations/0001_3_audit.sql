-- Who did what to which key. A row may hold several records of a key: see
-- internal/sqlstore/audit_rows.go.
CREATE TABLE {own}.audit_log (
    -- A UUIDv7 that begins with at, so that its order is that of time.
    id          uuid PRIMARY KEY,
    event       text NOT NULL,
    at          timestamptz NOT NULL,
    actor_type  text NOT NULL,
    actor       text NOT NULL,
    actor_label text NOT NULL DEFAULT '',
    key_id      uuid,
    key_label   text NOT NULL DEFAULT '',
    request_id  text NOT NULL DEFAULT '',
    method      text NOT NULL DEFAULT '',
    path        text NOT NULL DEFAULT '',
    status      integer NOT NULL DEFAULT 0,
    client_ip   text NOT NULL DEFAULT '',
    -- As it was written, since it is part of what mac is over.
    details     json,
    -- The record's place in a chain, NULL until it is sealed.
    chain       uuid,
    seq         bigint,
    mac         bytea,
    first_id    uuid,
    records     integer NOT NULL DEFAULT 1,
    earlier     bytea,
    CONSTRAINT sealed_or_not CHECK ((chain IS NULL) = (seq IS NULL) AND (chain IS NULL) = (mac IS NULL)),
    UNIQUE (chain, seq)
);

-- To compress costs more than to write.
ALTER TABLE {own}.audit_log ALTER COLUMN earlier SET STORAGE EXTERNAL;

-- The event behind the column, since nearly all records are of one event, and
-- what is looked for are mostly the others.
CREATE INDEX audit_log_by_event ON {own}.audit_log (event, id);
CREATE INDEX audit_log_by_key ON {own}.audit_log (key_id, event, id);
CREATE INDEX audit_log_by_actor ON {own}.audit_log (actor, event, id);
CREATE INDEX audit_log_by_label ON {own}.audit_log (lower(key_label COLLATE "C"), event, id);
CREATE INDEX audit_log_unsealed ON {own}.audit_log (id) WHERE chain IS NULL;

-- Where each chain begins and ends. See AuditMark in store/audit_log.go.
CREATE TABLE {own}.audit_chain (
    id               uuid PRIMARY KEY,
    seq              bigint NOT NULL DEFAULT 0,
    mac              bytea NOT NULL DEFAULT '',
    signature        bytea NOT NULL DEFAULT '',
    anchor_seq       bigint NOT NULL DEFAULT 0,
    anchor_mac       bytea NOT NULL DEFAULT '',
    anchor_signature bytea NOT NULL DEFAULT ''
);

-- As NewAuditID in store/audit.go.
CREATE FUNCTION {own}.audit_id(at timestamptz) RETURNS uuid
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    SELECT (lpad(to_hex(us / 1000), 12, '0') || '7' || lpad(to_hex(us % 1000 * 4096 / 1000), 3, '0')
        || right(replace(gen_random_uuid()::text, '-', ''), 16))::uuid
    FROM (SELECT (extract(epoch FROM at) * 1000000)::bigint AS us) AS t
$$;

-- At the end of a transaction: what was deleted and not recorded in it was
-- deleted by plain SQL. There is no setting by which it could say that it was not.
CREATE FUNCTION {own}.audit_deletions(ids uuid[], labels text[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    now_at timestamptz := clock_timestamp();
BEGIN
    INSERT INTO {own}.audit_log (id, event, at, actor_type, actor, actor_label, key_id, key_label)
    SELECT {own}.audit_id(now_at), 'api_key.revoked', now_at, 'sql', 'sql', session_user, gone.id, gone.label
    FROM unnest(ids, labels) AS gone (id, label)
    WHERE NOT EXISTS (
        SELECT FROM {own}.audit_log
        -- The subquery hides the events from the planner. By statistics from before a
        -- transaction that revokes many, nothing is revoked, so the index by event looks best.
        WHERE key_id = gone.id AND event = ANY ((SELECT ARRAY['api_key.revoked', 'api_key.expired'])::text[]) AND (xmin = pg_current_xact_id()::xid
            -- In a savepoint of a service whose table is followed it has another xmin.
            OR actor_type = 'sql' AND actor = 'import' AND audit_log.at >= transaction_timestamp())
        OFFSET 0 -- keeps it apart, so that it is a search in the index for each key, and no scan of the log
    );
END
$$;

CREATE FUNCTION {own}.audit_truncation() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    now_at timestamptz := clock_timestamp();
BEGIN
    INSERT INTO {own}.audit_log (id, event, at, actor_type, actor, actor_label, details)
    VALUES ({own}.audit_id(now_at), 'api_key.revoked', now_at, 'sql', 'sql', session_user, '{"truncate":true}');
    RETURN NULL;
END
$$;

CREATE TRIGGER sidecar_audit_truncate AFTER TRUNCATE ON {keys}
    FOR EACH STATEMENT EXECUTE FUNCTION {own}.audit_truncation();
ALTER TABLE {keys} ENABLE ALWAYS TRIGGER sidecar_audit_truncate;

REVOKE ALL ON FUNCTION
    {own}.audit_id(timestamptz), {own}.audit_deletions(uuid[], text[]), {own}.audit_truncation() FROM PUBLIC;
