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
