package postgres

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// lackingRights finds those of these rights that the role of the connection lacks. It reads only
// the catalog, which every role may. What does not exist is not lacking. Its arguments are arrays
// of one length: the rights, the columns they are for (or an empty text), the schemas and the names
// of the tables and functions.
const lackingRights = `
SELECT w.privilege || CASE WHEN w.attribute = '' THEN '' ELSE ' (' || w.attribute || ')' END || ' ON ' || w.name
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) WITH ORDINALITY AS w (privilege, attribute, schema, name, place)
JOIN pg_catalog.pg_namespace n ON n.nspname = w.schema
LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.name AND w.privilege <> 'EXECUTE'
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = w.attribute
LEFT JOIN pg_catalog.pg_proc p ON p.pronamespace = n.oid AND p.proname = w.name AND w.privilege = 'EXECUTE'
WHERE NOT CASE
    WHEN w.privilege = 'USAGE' THEN has_schema_privilege(n.oid, w.privilege)
    WHEN w.privilege = 'EXECUTE' THEN has_function_privilege(p.oid, w.privilege)
    WHEN w.attribute <> '' THEN has_column_privilege(c.oid, a.attnum, w.privilege)
    ELSE has_table_privilege(c.oid, w.privilege)
END
ORDER BY w.place`

// missingTriggers finds those of these triggers that do not fire for everybody, or for rows of
// a replication; see [watched].
const missingTriggers = `
SELECT w.name FROM unnest($1::text[]) AS w (name) WHERE NOT EXISTS (
    SELECT FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
        JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname = $2 AND t.tgname = w.name AND t.tgenabled IN ('A', CASE w.name WHEN 'sidecar_log_replicated' THEN 'R' ELSE 'A' END)
)`

// enabling are the statements of the migrations that enable a trigger.
var enabling = regexp.MustCompile(`(?m)^ALTER TABLE \S+ ENABLE \w+ TRIGGER (\w+);$`)

// Inspect implements [store.Store].
//
// It needs no right but to connect: what the role may not read is reported as lacking, and not
// asked for. A version of -1 means that even the version cannot be read.
func (s *Store) Inspect(ctx context.Context) (_ *store.Inspection, err error) {
	ctx, end := s.call(ctx, "inspect", "inspect")
	defer end(&err)
	if err := s.checkServer(ctx); err != nil {
		return nil, err
	}
	found := &store.Inspection{Newest: len(s.migrations)}
	if err := s.pool.QueryRow(ctx, "SELECT current_user, clock_timestamp()").Scan(&found.Role, &found.Now); err != nil {
		return nil, err
	}
	// Without the trigger by which findKeys looks there is no schema.
	var keys string
	err = s.pool.QueryRow(ctx, findKeys, s.ownSchema(), keysTable).Scan(&keys)
	if errors.Is(err, pgx.ErrNoRows) {
		return found, nil
	}
	if err != nil {
		return nil, err
	}
	names := func(statement string, args ...any) ([]string, error) {
		rows, _ := s.pool.Query(ctx, statement, args...) // the rows return its error
		return pgx.CollectRows(rows, pgx.RowTo[string])
	}
	if found.Lacking, err = names(lackingRights, rightsFor(ForServer, s.ownSchema(), keys)...); err != nil {
		return nil, err
	}
	if slices.Contains(found.Lacking, "USAGE ON "+s.ownSchema()) || slices.Contains(found.Lacking, "SELECT ON schema_migrations") {
		found.Version = -1
		return found, nil
	}
	state, err := s.state(ctx, s.pool)
	if found.Version = state.version; err != nil || found.Version != found.Newest {
		return found, err
	}
	if found.Triggers, err = names(missingTriggers, s.migrations.Triggers(), s.ownSchema()); err != nil {
		return found, err
	}
	where := newInstallation(s.ownSchema(), keys, "''")
	for _, migration := range s.migrations {
		for _, statement := range enabling.FindAllStringSubmatch(migration.Script, -1) {
			if slices.Contains(found.Triggers, statement[1]) {
				found.Enable = append(found.Enable, where.sql(statement[0]))
			}
		}
	}
	if len(found.Lacking) > 0 {
		return found, nil
	}
	err = s.pool.QueryRow(ctx, where.sql("SELECT EXISTS (SELECT FROM {keys} WHERE networks <> '{}')")).Scan(&found.Bound)
	return found, err
}

// rightsFor returns the rights of [grants] and USAGE of the schemas, as the columns of
// [lackingRights]. A right on several columns, such as UPDATE (a, b), becomes one row for each.
func rightsFor(purpose, own, keys string) []any {
	var privileges, attributes, schemas, names []string
	add := func(privilege, attribute, schema, name string) {
		privileges, attributes = append(privileges, privilege), append(attributes, attribute)
		schemas, names = append(schemas, schema), append(names, name)
	}
	add("USAGE", "", own, own)
	if keys != own {
		add("USAGE", "", keys, keys)
	}
	for _, g := range grants[purpose] {
		on := strings.TrimPrefix(strings.TrimPrefix(g.on, "FUNCTION "), "PROCEDURE ")
		for _, object := range listed(on) {
			schema, name := keys, keysTable
			if inOwn, ok := strings.CutPrefix(object, "{own}."); ok {
				schema = own
				name, _, _ = strings.Cut(inOwn, "(") // the types of a function's arguments
			}
			for _, right := range listed(g.rights) {
				privilege, of, _ := strings.Cut(strings.TrimSuffix(right, ")"), " (")
				for _, attribute := range listed(of) {
					add(privilege, attribute, schema, name)
				}
			}
		}
	}
	return []any{privileges, attributes, schemas, names}
}

// listed splits a list at the commas that are not between parentheses. Of an empty text it
// returns one empty element, for a right without columns.
func listed(list string) (elements []string) {
	depth := 0
	begin := 0
	for i, r := range list + "," {
		switch {
		case r == '(':
			depth++
		case r == ')':
			depth--
		case r == ',' && depth == 0:
			elements = append(elements, strings.TrimSpace(list[begin:i]))
			begin = i + 1
		}
	}
	return elements
}
