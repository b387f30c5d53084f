// Package store is the domain of caddy-system-keys: what a system key is, what
// may be asked of the place that keeps them, and which errors may come back.
//
// It imports the standard library alone. The drivers beside it (sqlite,
// postgres) implement [Store]; the suite in storetest is the definition of a
// correct implementation, and every driver runs it.
//
// # What is kept of a key
//
// A row holds the key's public id, a label, its permissions and an Argon2id
// hash of the whole key in PHC string form. The key itself is shown once when
// it is minted and is kept nowhere.
//
// # Who decides
//
// The store alone says whether a key exists. Caches in front of it remember
// work that was done, never that a key is still valid.
package store
