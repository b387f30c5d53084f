package store

import "context"

// Moving is the part of a [Store] by which everything that has to outlive it
// gets into another one, of whatever driver: the mint key, the keys with their
// hashes, and the audit log with its chains. Sessions, the change log, members
// and signing keys stay: each installation makes its own.
//
// The two ends meet in a call that holds nothing in memory but a batch:
//
//	err := to.Import(ctx, func(r store.Recipient) error { return from.Export(ctx, r) })
type Moving interface {
	// Export hands over what the store holds, as it is at one moment, and changes
	// nothing. The schema has to be up to date, and is not brought there. An error
	// of the recipient ends it and is returned. A standby's word is not taken:
	// [ErrStandby].
	Export(ctx context.Context, to Recipient) error

	// Import takes what fill hands over, in one transaction that is committed if
	// fill returns nil: the store has all of it then, durably, and nothing of it
	// after an error. An error of fill is returned as it is. [ErrOccupied], before
	// fill is called, if there are keys, audit records or members: what was minted
	// here could not be told from what was not under another mint key, and chains
	// cannot be joined. The recipient is not to be used after fill has returned.
	Import(ctx context.Context, fill func(to Recipient) error) error
}

// Recipient takes over what [Moving.Export] reads: the mint key once, then the
// others in batches. It is not safe for concurrent use, and keeps nothing that it
// is given. Its errors are final.
type Recipient interface {
	// MintKey replaces the one that the store was made with.
	MintKey(ctx context.Context, key MintKey) error
	// Keys are complete, with their hashes.
	Keys(ctx context.Context, keys []Key) error
	// Chains and Records are kept as they are, links and signatures included, so
	// that the log verifies under the same secret as before.
	Chains(ctx context.Context, chains []AuditChain) error
	Records(ctx context.Context, records []AuditRecord) error
}
