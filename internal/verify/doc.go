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
// # What is remembered, and what it may decide
//
// Two kinds of memory are kept strictly apart. An L1 entry says that the key
// exists; it is believed for a short time only and is dropped by
// [Verifier.Forget]. A proof says that a key's digest belongs to a stored hash.
// That is the result of a pure function: it can be lost, stale or replayed and
// nothing wrong happens, since the row is read all the same. Proofs in Redis are
// authenticated, so that whoever writes to Redis cannot add one.
package verify
