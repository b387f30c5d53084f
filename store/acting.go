package store

// Acting is the key on whose word a write is made. The store locks its row and
// reads it in the transaction of the write itself: until the write is committed
// the acting key cannot be deleted, and once it is deleted the write cannot be
// made any more. So a revoked admin cannot finish what it began, whatever its
// request was waiting for.
type Acting struct {
	ID ID
	// Allow decides on the acting key as it is in that transaction, without its
	// hash. Its error ends the transaction and is returned, wrapped.
	Allow func(key *Key) error
}

// Write is what goes with a change of a key, in its transaction.
type Write struct {
	// Acting is nil if nobody's word is needed: for whoever has the store in
	// hands.
	Acting *Acting
	// Record makes the audit record of the change; it may be called more than
	// once. Without it, a deletion is recorded as one by plain SQL.
	Record func(key *Key) AuditRecord
	// Sealer seals the record as the next of [SharedChain]. Nil leaves that to
	// whoever can; see [AuditLog].
	Sealer Sealer
}

// By returns the acting key's part of a write that may be nil.
func (w *Write) By() *Acting {
	if w == nil {
		return nil
	}
	return w.Acting
}

// Records returns the record of a change of the key, clean, or none.
func (w *Write) Records(key *Key) (record AuditRecord, ok bool) {
	if w == nil || w.Record == nil {
		return AuditRecord{}, false
	}
	return w.Record(key).Clean(), true
}
