package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
)

// These are the purposes for which [Store.Grants] gives a role its rights.
const (
	// ForServer is everything that a server does. The role cannot migrate.
	ForServer = "server"
	// ForRevoking is the deletion of keys by SQL, and the wait for it.
	ForRevoking = "revoke"
	// ForReading is to list and search keys, and to read and verify the audit log. The role
	// cannot read what keys are verified by.
	ForReading = "read"
)

// Purposes are all of them.
var Purposes = []string{ForServer, ForRevoking, ForReading}

// grants are the rights that each purpose needs besides USAGE of the schemas, and no others.
// A lock such as FOR UPDATE needs the right to update one column. What triggers do, they do
// with the rights of their owner.
//
// The rights are per column where a statement updates only some. A new statement of this package
// may need another right here.
var grants = map[string][]struct{ rights, on string }{
	ForServer: {
		{"SELECT, INSERT, UPDATE (key_hash, last_used_at, expires_at, replaced_by, planned_expiry, grace_ms), DELETE", "{keys}"},
		{"SELECT", "{own}.schema_migrations, {own}.mint_key, {own}.label_search, {own}.follow, {own}.follow_unfit"},
		{"SELECT, INSERT, DELETE", "{own}.key_count, {own}.adopted_key"},
		{"SELECT, DELETE", "{own}.change_log"},
		{"DELETE", "{own}.deletion"},
		{"SELECT, INSERT, UPDATE (requests)", "{own}.change_cut"},
		{"SELECT, INSERT, UPDATE (beat, applied, seen_at), DELETE", "{own}.member"},
		{"SELECT, INSERT, UPDATE (chain, seq, mac), DELETE", "{own}.audit_log"},
		{"SELECT, INSERT, UPDATE (seq, mac, signature, anchor_seq, anchor_mac, anchor_signature)", "{own}.audit_chain"},
		{"SELECT, INSERT, UPDATE (expires_at), DELETE", "{own}.session, {own}.nonce, {own}.signing_key"},
		{"SELECT, INSERT, UPDATE (first_at, reported_at)", "{own}.key_activity"},
		{"SELECT, INSERT, UPDATE (requests, denied), DELETE", "{own}.key_day"},
		{"SELECT, INSERT, UPDATE (first_at, last_at, requests, unreported), DELETE", "{own}.key_network"},
		{"SELECT, INSERT, UPDATE (last_at), DELETE", "{own}.key_asked"},
		{"EXECUTE", "FUNCTION {own}.append(uuid[], text), {own}.random_tag(), {own}.flow_back(uuid[]), {own}.heirs(uuid[])"},
	},
	ForRevoking: {
		{"SELECT (id), DELETE", "{keys}"},
		{"EXECUTE", "FUNCTION {own}.enter_deletion(uuid), {own}.enter_barrier(), {own}.longest_silent(bigint), {own}.heirs(uuid[])"},
		{"EXECUTE", "PROCEDURE {own}.revoke(uuid), {own}.barrier(), {own}.await(bigint)"},
	},
	ForReading: {
		{"SELECT (" + columns + ")", "{keys}"},
		{"SELECT", "{own}.schema_migrations, {own}.key_count, {own}.label_search, {own}.audit_log, {own}.audit_chain, " +
			"{own}.key_activity, {own}.key_day, {own}.key_network, {own}.key_asked"},
	},
}

// findKeys finds the schema of the table system_keys by its triggers. Every role may read the
// catalog, and schema_migrations only after the grants.
const findKeys = "SELECT n.nspname FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid " +
	"JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid " +
	"JOIN pg_catalog.pg_namespace o ON o.oid = p.pronamespace " +
	"WHERE o.nspname = $1 AND p.proname = 'keys_inserted' AND c.relname = $2 LIMIT 1"

// Grants returns the statements that give a role the rights for one of [Purposes]. The owner
// of the tables runs them, after [Store.Migrate]. Any role that may connect may call Grants.
//
// It changes nothing. Without a schema there is an error.
func (s *Store) Grants(ctx context.Context, role, purpose string) ([]string, error) {
	const what = "list the grants"
	if err := CheckGrant(role, purpose); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	if err := s.checkServer(ctx); err != nil {
		return nil, explain(what, err)
	}
	var keys string
	err := s.pool.QueryRow(ctx, findKeys, s.ownSchema(), keysTable).Scan(&keys)
	if errors.Is(err, pgx.ErrNoRows) {
		err = errNoSchema
	}
	if err != nil {
		return nil, explain(what, err)
	}
	names := newInstallation(s.ownSchema(), keys, "''")
	schemas := []string{pgx.Identifier{s.ownSchema()}.Sanitize()}
	if keys != s.ownSchema() {
		schemas = append(schemas, pgx.Identifier{keys}.Sanitize())
	}
	to := " TO " + pgx.Identifier{role}.Sanitize()
	statements := []string{"GRANT USAGE ON SCHEMA " + strings.Join(schemas, ", ") + to}
	for _, g := range grants[purpose] {
		statements = append(statements, "GRANT "+g.rights+" ON "+names.sql(g.on)+to)
	}
	return statements, nil
}

// CheckGrant returns what is wrong with the name of a role, or with a purpose. It asks no
// server, so it does not tell whether the role exists.
func CheckGrant(role, purpose string) error {
	switch {
	case role == "" || len(role) > maxName:
		return fmt.Errorf("the role must have 1 to %d bytes, not %d", maxName, len(role))
	case strings.ContainsRune(role, 0) || !utf8.ValidString(role):
		return errors.New("the role must be text in UTF-8, without a zero byte")
	case role == "public", role == "none":
		// PostgreSQL takes these words for themselves even in quotes (RoleSpec in
		// src/backend/parser/gram.y), and public is everybody.
		return fmt.Errorf("%q is no role", role)
	case !slices.Contains(Purposes, purpose):
		return fmt.Errorf("there are grants for %s, and not for %q", strings.Join(Purposes, ", "), purpose)
	}
	return nil
}
