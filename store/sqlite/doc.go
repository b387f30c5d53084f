// Package sqlite keeps system keys in one SQLite file, for a single server
// that needs no database beside it.
//
// The driver is modernc.org/sqlite, which is pure Go. The file is in WAL mode
// and never locked exclusively, so that the command line can work on it while
// the server runs. A commit is synced to disk before it is reported.
//
// In the file, times are integers: microseconds since the Unix epoch, and 0
// for never (expires_at, last_used_at). Permissions are a JSON array.
package sqlite
