package postgres

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/lumio-vision/caddy-system-keys/internal/sqlstore"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// Export implements [store.Moving].
//
// REPEATABLE READ takes one snapshot for the transaction
// (https://www.postgresql.org/docs/current/transaction-iso.html). As long as it lasts, VACUUM keeps
// the rows that it can see.
func (s *Store) Export(ctx context.Context, to store.Recipient) error {
	return sqlstore.Export(ctx, to, func(do func(from sqlstore.Source) error) error {
		// All statements see the same state of the database.
		options := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
		db, err := s.database(ctx)
		if err != nil {
			return explain("export", err)
		}
		return explain("export", pgx.BeginTxFunc(ctx, s.pool, options, func(tx pgx.Tx) error {
			if err := s.exportable(ctx, tx); err != nil {
				return err
			}
			return do(source{db.on(tx)})
		}))
	})
}

// exportable refuses a standby, and any schema but the newest. The errors are [store.ErrStandby]
// and that the schema has another version.
func (s *Store) exportable(ctx context.Context, tx pgx.Tx) error {
	var standby bool
	if err := tx.QueryRow(ctx, "SELECT pg_is_in_recovery()").Scan(&standby); err != nil {
		return err
	}
	if standby {
		return store.ErrStandby
	}
	state, err := s.state(ctx, tx)
	if err != nil {
		return err
	}
	return s.migrations.Newest(state.version)
}

// source is a [sqlstore.Source].
type source struct{ tx *database }

func (s source) MintKey(ctx context.Context) (store.MintKey, error) { return mintKey(ctx, s.tx) }

func (s source) Keys(ctx context.Context, after store.ID, limit int) ([]store.Key, error) {
	return collect(ctx, s.tx, func(row sqlstore.Row) (store.Key, error) { return sqlstore.WithHash(row, scanKey) },
		"SELECT "+keyColumns+" FROM {keys} WHERE id > $1 ORDER BY id LIMIT $2", uuid(after), limit)
}

func (s source) Chains(ctx context.Context) ([]store.AuditChain, error) {
	return auditChains(ctx, s.tx)
}

func (s source) Records(ctx context.Context, after store.ID, limit int) ([]store.AuditRecord, error) {
	return auditRecords(ctx, s.tx,
		"SELECT "+auditList+" FROM {own}.audit_log WHERE id > $1 ORDER BY id LIMIT $2", uuid(after), limit)
}

// lockForImport lets nobody else write keys or records, and no server join, until the
// transaction ends. Others can still read. SHARE ROW EXCLUSIVE conflicts with the lock of every
// INSERT, UPDATE and DELETE, and with itself.
const lockForImport = "LOCK TABLE {keys}, {own}.member, {own}.audit_chain, {own}.audit_log IN SHARE ROW EXCLUSIVE MODE"

// Import implements [store.Moving]. The role must own the tables: it must be the role that
// has migrated the schema.
//
// The triggers fire for these keys as for all others. The commit waits as that of AddKeys does.
func (s *Store) Import(ctx context.Context, fill func(to store.Recipient) error) error {
	return sqlstore.Import(fill, func(do func(to store.Recipient) error) error {
		return explain("import", s.patiently(ctx, func(tx *database) error {
			if err := importable(ctx, tx); err != nil {
				return err
			}
			return do(&recipient{tx: tx})
		}))
	})
}

// importable locks the tables, and returns [store.ErrOccupied] if they hold rows that cannot
// be joined with imported ones.
func importable(ctx context.Context, tx *database) error {
	if _, err := tx.Exec(ctx, lockForImport); err != nil {
		return err
	}
	err := sqlstore.Unoccupied("{keys}", "{own}.", func(table string) (occupied bool, err error) {
		err = tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM "+table+")").Scan(&occupied)
		return occupied, err
	})
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, "SELECT "+durable)
	return err
}

// recipient is a [store.Recipient] that writes by COPY in the transaction of an import.
type recipient struct{ tx *database }

// MintKey replaces the one that the first migration has made.
func (r *recipient) MintKey(ctx context.Context, key store.MintKey) error {
	_, err := r.tx.Exec(ctx, "INSERT INTO {own}.mint_key (key) VALUES ($1) ON CONFLICT (only_row) DO UPDATE SET key = excluded.key", key[:])
	return explain("import the mint key", err)
}

func (r *recipient) Keys(ctx context.Context, keys []store.Key) error {
	return r.copy(ctx, "import keys", pgx.Identifier{r.tx.keys, keysTable}, strings.Split(keyColumns, ", "), len(keys), func(i int) []any {
		return keyRow(&keys[i])
	})
}

func (r *recipient) Chains(ctx context.Context, chains []store.AuditChain) error {
	columns := strings.Split(sqlstore.ChainColumns, ", ")
	table := r.tx.table("audit_chain")
	return r.copy(ctx, "import chains of audit records", table, columns, len(chains), func(i int) []any {
		return values.ChainRow(&chains[i])
	})
}

func (r *recipient) Records(ctx context.Context, records []store.AuditRecord) error {
	table := r.tx.table("audit_log")
	rows := values.AuditRows(records)
	return r.copy(ctx, "import audit records", table, auditColumns, len(rows), func(i int) []any { return rows[i] })
}

// copy writes n rows in one command. A row that is there already is [store.ErrConflict].
func (r *recipient) copy(
	ctx context.Context, what string, table pgx.Identifier, columns []string, n int, row func(i int) []any,
) error {
	_, err := r.tx.CopyFrom(ctx, table, columns,
		pgx.CopyFromSlice(n, func(i int) ([]any, error) { return row(i), nil }))
	return explain(what, conflict(err))
}

var _ store.Recipient = (*recipient)(nil)
