package observe

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// Store is a store whose calls are observed, as far as a request may wait for
// them or what is written behind depends on them. The change log is not: its turns
// are what the age of a lease shows.
type Store struct {
	store.Store
	// System is what OpenTelemetry calls the database: "sqlite", "postgresql".
	System string
	Meter  Meter
	Now    func() time.Time
}

// begin starts the observation of one call, which the function returned ends.
func (s *Store) begin(ctx context.Context, operation string) (context.Context, func(error)) {
	began := s.Now()
	ctx, span := Start(ctx, "store "+operation,
		attribute.String("db.system.name", s.System), attribute.String("db.operation.name", operation))
	return ctx, func(err error) {
		End(span, err)
		s.Meter.StoreCalled(operation, ResultOf(err), s.Now().Sub(began))
	}
}

// Key implements [store.Store].
func (s *Store) Key(ctx context.Context, id store.ID) (*store.Key, error) {
	ctx, end := s.begin(ctx, "key")
	key, err := s.Store.Key(ctx, id)
	end(err)
	return key, err
}

// Keys implements [store.Store].
func (s *Store) Keys(ctx context.Context, query *store.KeyQuery) (*store.KeyPage, error) {
	ctx, end := s.begin(ctx, "keys")
	page, err := s.Store.Keys(ctx, query)
	end(err)
	return page, err
}

// Granted implements [store.Store].
func (s *Store) Granted(ctx context.Context, keys int) ([]string, error) {
	ctx, end := s.begin(ctx, "granted")
	permissions, err := s.Store.Granted(ctx, keys)
	end(err)
	return permissions, err
}

// CreateKey implements [store.Store].
func (s *Store) CreateKey(ctx context.Context, key *store.Key, write *store.Write) error {
	ctx, end := s.begin(ctx, "create_key")
	err := s.Store.CreateKey(ctx, key, write)
	end(err)
	return err
}

// DeleteKey implements [store.Store].
func (s *Store) DeleteKey(ctx context.Context, id store.ID, write *store.Write) (*store.Key, error) {
	ctx, end := s.begin(ctx, "delete_key")
	key, err := s.Store.DeleteKey(ctx, id, write)
	end(err)
	return key, err
}

// RehashKey implements [store.Store].
func (s *Store) RehashKey(ctx context.Context, id store.ID, old, renewed store.Hash) error {
	ctx, end := s.begin(ctx, "rehash_key")
	err := s.Store.RehashKey(ctx, id, old, renewed)
	end(err)
	return err
}

// Adopted implements [store.Adoption].
func (s *Store) Adopted(ctx context.Context, digests [][32]byte) (store.Candidate, error) {
	ctx, end := s.begin(ctx, "adopted")
	key, err := s.Store.Adopted(ctx, digests)
	end(err)
	return key, err
}

// Adopt implements [store.Adoption].
func (s *Store) Adopt(ctx context.Context, key *store.AdoptedKey) error {
	ctx, end := s.begin(ctx, "adopt")
	err := s.Store.Adopt(ctx, key)
	end(err)
	return err
}

// Unadopted implements [store.Adoption].
func (s *Store) Unadopted(
	ctx context.Context, eras [][32]byte, now time.Time, limit int,
) ([]store.Candidate, int, error) {
	ctx, end := s.begin(ctx, "unadopted")
	keys, total, err := s.Store.Unadopted(ctx, eras, now, limit)
	end(err)
	return keys, total, err
}

// RecordUse implements [store.Store].
func (s *Store) RecordUse(ctx context.Context, uses []store.Use) error {
	ctx, end := s.begin(ctx, "record_use")
	err := s.Store.RecordUse(ctx, uses)
	end(err)
	return err
}

// Progress implements [store.Store].
func (s *Store) Progress(ctx context.Context, key store.ID) (*store.Progress, error) {
	ctx, end := s.begin(ctx, "progress")
	progress, err := s.Store.Progress(ctx, key)
	end(err)
	return progress, err
}

// AppendAudit implements [store.AuditLog].
func (s *Store) AppendAudit(ctx context.Context, chain store.ID, records []store.AuditRecord, sealer store.Sealer) error {
	ctx, end := s.begin(ctx, "append_audit")
	err := s.Store.AppendAudit(ctx, chain, records, sealer)
	end(err)
	return err
}

// Audit implements [store.AuditLog].
func (s *Store) Audit(ctx context.Context, query *store.AuditQuery) (*store.AuditPage, error) {
	ctx, end := s.begin(ctx, "audit")
	page, err := s.Store.Audit(ctx, query)
	end(err)
	return page, err
}

// Session implements [store.Sessions].
func (s *Store) Session(ctx context.Context, digest [32]byte, now time.Time) (*store.Key, error) {
	ctx, end := s.begin(ctx, "session")
	key, err := s.Store.Session(ctx, digest, now)
	end(err)
	return key, err
}

var _ store.Store = (*Store)(nil)
