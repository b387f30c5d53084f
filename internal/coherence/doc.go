// Package coherence makes a revocation true everywhere when it is answered.
//
// The database orders everything: every change of a key is an entry of one log,
// in the order of the commits. Each instance follows the log and holds a lease,
// which lets it trust its memory for a bounded time; it is renewed by the same
// statement that reads the log and says how far the instance has come. Whoever
// revokes a key commits, and then waits until each member has applied the change
// or cannot have a lease any more. Nothing compares the clocks of two machines.
// docs/protocol has the whole of it, with a model that is checked.
//
// The parts, none of which knows HTTP or a driver:
//
//	Lease     whether this instance may trust its memory at a moment
//	Follower  the loop: apply the log, renew the lease, acknowledge
//	Flights   the requests that were let through and have not ended
//	Revoker   waits for the members after a commit
//	reaper    removes members that are dead
package coherence
