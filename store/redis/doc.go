// Package redis is a cache of small values in Redis: a node, a cluster, or a
// master that sentinels watch over. Its user is the verifier, which remembers
// there that Argon2id work was done. This package knows nothing of that: it
// carries bytes, sealed by whoever puts them in.
//
// What the cache holds may be lost, and Redis may be away. So a call never
// waits longer than [Options.Timeout], and while Redis keeps failing a circuit
// breaker answers [ErrUnavailable] in its place, at no cost.
//
// # URLs
//
//	redis://[[user]:password@]host[:port][/db]     a node
//	rediss://...                                   the same over TLS
//	unix://[[user]:password@]/path/to.sock[?db=N]  a node's unix socket
//
// Several URLs are the seeds of a cluster. With ?master_name=NAME in the first
// they, or it alone, are sentinels; user, password and database are then those
// of the master. What the first URL says beyond its host holds for all, and
// need not be repeated.
//
// Parameters are client_name, db, pool_size (connections per server, by
// default those of the client library), master_name, sentinel_username,
// sentinel_password, and skip_verify=true, which turns off the check of the
// server's certificate. Others are refused, those for timeouts among them:
// there is one timeout, and it holds whatever the URL says.
package redis
