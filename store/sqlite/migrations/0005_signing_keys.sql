-- The public halves of the keys that instances sign assertions with.
CREATE TABLE signing_key (
    id         TEXT PRIMARY KEY,
    public     BLOB NOT NULL CHECK (length(public) = 32),
    expires_at INTEGER NOT NULL
) STRICT;
