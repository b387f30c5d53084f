// Package coherence makes a revocation hold on every instance before it is answered.
//
// The database orders everything. Each change of a key is an entry in one change log, in
// the order of the commits. Each instance follows the log and holds a lease. The lease lets
// it trust its memory for a bounded time. One statement reads the log, reports how far the
// instance has come, and renews the lease. A revocation commits, and then waits until each
// member has applied the change or cannot hold a lease any more. Nothing compares the
// clocks of two machines. docs/protocol describes the whole protocol, with a model that is
// checked.
//
// The parts, none of which knows HTTP or a driver:
//
//	Lease     whether this instance may trust its memory at a moment
//	Follower  the loop: apply the log, renew the lease, acknowledge
//	InFlight  the requests that were let through and have not ended
//	Revoker   waits for the members after a commit
//	reaper    finds members that are dead
package coherence
