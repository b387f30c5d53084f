// Package verify turns the text of a system key into an identity.
//
// The order is from the cheapest to the dearest, and each step runs only for
// what the step before let through:
//
//	parse · tag   about half a microsecond; refuses whatever was not minted here
//	memory (L1)   one map read and one comparison in constant time, no lock
//	single flight one lookup per key, however many requests wait for it
//	row ∥ proof   the store says whether the key exists, Redis whether the work
//	              of verifying it against that row's hash was done before
//	Argon2id      in slots bounded by memory, held by the work
//
// A key that another service minted has no tag and does not say whose it is. Only if
// [Config.Foreign] is set it is looked for, within bounds of its own: in memory, in an
// index by a keyed digest, and then by trying it against the rows that were not found
// yet. What comes of that is an id, with which the order above goes on.
//
// # What is remembered, and what it may decide
//
// Two kinds of memory are kept strictly apart. An L1 entry says that the key
// exists; it is believed for a short time only and is dropped by
// [Verifier.Forget]. A proof says that a key's digest belongs to a stored hash.
// That is the result of a pure function: it can be lost, stale or replayed and
// nothing wrong happens, since the row is read all the same. Proofs in Redis are
// authenticated, so that whoever writes to Redis cannot add one.
package verify
