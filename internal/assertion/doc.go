// Package assertion signs what an upstream is told about a caller, so that it need
// not trust the network between the proxy and itself.
//
// An assertion is a JWT (RFC 7519), signed with Ed25519 (RFC 8037), that says who
// called, for whom it is, until when it holds, and to which request it belongs.
//
// # Keys
//
// An instance makes its signing key when it starts, and the private half never
// leaves its memory. The public half is in the store with an expiry, which the
// instance moves on while it lives, and any instance serves those of all. So there
// is nothing to distribute, to back up or to steal from a disk, and an instance
// that has died is forgotten.
//
// Nobody may see a signature whose key cannot be read. A key is published before
// its first use, for as long as any instance may still serve what it has read
// before, and stays so until the last assertion that it has signed is over: at
// its replacement, at the end of the instance, and after a crash.
package assertion
