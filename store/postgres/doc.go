// Package postgres keeps system keys in a PostgreSQL database, which any number
// of instances share. It needs PostgreSQL 13 or later.
//
// The table system_keys lies in the default schema, with types that other
// services can read and write in plain SQL; its constraints refuse what would
// not work, and its triggers keep up what this package derives from it. All
// else lies in the schema sidecar, in which only the role that migrates and
// those it lets in have rights.
//
// A context that ends while a statement runs costs that statement's
// connection: pgx closes it, and the pool opens another when it is needed.
package postgres
