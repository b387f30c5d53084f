-- The public halves of the keys that instances sign assertions with.
CREATE TABLE sidecar.signing_key (
    id         text PRIMARY KEY,
    public     bytea NOT NULL CHECK (octet_length(public) = 32),
    expires_at timestamptz NOT NULL
);
