-- What keys are used for: see Activities in store/activity.go. Who inserts these rows
-- holds the lock of the key's row, so that none is inserted for a key that is gone. Who
-- reports new networks only updates rows, and first locks that of key_activity instead.
CREATE TABLE {own}.key_activity (
    key_id      uuid PRIMARY KEY,
    first_at    timestamptz NOT NULL,
    -- When new networks were reported last. NULL: never.
    reported_at timestamptz
);

CREATE TABLE {own}.key_day (
    key_id   uuid NOT NULL,
    day      date NOT NULL, -- in UTC
    requests bigint NOT NULL,
    denied   bigint NOT NULL,
    PRIMARY KEY (key_id, day)
);

CREATE TABLE {own}.key_network (
    key_id     uuid NOT NULL,
    network    cidr NOT NULL,
    first_at   timestamptz NOT NULL,
    last_at    timestamptz NOT NULL,
    requests   bigint NOT NULL,
    -- It was new, and no report says so yet.
    unreported boolean NOT NULL,
    PRIMARY KEY (key_id, network)
);
CREATE INDEX key_network_unreported ON {own}.key_network (key_id) WHERE unreported;

CREATE TABLE {own}.key_asked (
    key_id     uuid NOT NULL,
    permission text COLLATE "C" NOT NULL,
    last_at    timestamptz NOT NULL,
    PRIMARY KEY (key_id, permission)
);

-- One statement for each table, however many keys are deleted at once. key_activity first:
-- who reports new networks locks its row before others of the key.
CREATE FUNCTION {own}.end_activity() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM {own}.key_activity a USING old_rows o WHERE a.key_id = o.id;
    DELETE FROM {own}.key_day a USING old_rows o WHERE a.key_id = o.id;
    DELETE FROM {own}.key_network a USING old_rows o WHERE a.key_id = o.id;
    DELETE FROM {own}.key_asked a USING old_rows o WHERE a.key_id = o.id;
    RETURN NULL;
EXCEPTION WHEN serialization_failure THEN
    -- Under REPEATABLE READ: a refusal was counted since the transaction began. That is no
    -- reason to fail the deletion of a key. What is left is of a key that nobody can ask for.
    RETURN NULL;
END
$$;

-- To another id is to end the key of the old one.
CREATE FUNCTION {own}.rename_activity() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM {own}.key_activity WHERE key_id = OLD.id;
    DELETE FROM {own}.key_day WHERE key_id = OLD.id;
    DELETE FROM {own}.key_network WHERE key_id = OLD.id;
    DELETE FROM {own}.key_asked WHERE key_id = OLD.id;
    RETURN NULL;
END
$$;

CREATE FUNCTION {own}.end_all_activity() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- Not DELETE: it would leave what a serializable snapshot does not see.
    TRUNCATE {own}.key_activity, {own}.key_day, {own}.key_network, {own}.key_asked;
    RETURN NULL;
END
$$;

REVOKE ALL ON FUNCTION {own}.end_activity(), {own}.rename_activity(), {own}.end_all_activity() FROM PUBLIC;

CREATE TRIGGER sidecar_end_activity AFTER DELETE ON {keys}
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION {own}.end_activity();
CREATE TRIGGER sidecar_rename_activity AFTER UPDATE ON {keys} FOR EACH ROW
    WHEN (OLD.id <> NEW.id) EXECUTE FUNCTION {own}.rename_activity();
CREATE TRIGGER sidecar_end_all_activity AFTER TRUNCATE ON {keys}
    FOR EACH STATEMENT EXECUTE FUNCTION {own}.end_all_activity();
ALTER TABLE {keys} ENABLE ALWAYS TRIGGER sidecar_end_activity;
ALTER TABLE {keys} ENABLE ALWAYS TRIGGER sidecar_rename_activity;
ALTER TABLE {keys} ENABLE ALWAYS TRIGGER sidecar_end_all_activity;
